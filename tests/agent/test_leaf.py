"""The leaf against apps whose true capacity is known, simulated in virtual time with the real reporter's counters."""

import heapq
import random

import pytest

from tierlb.agent.cpu import ProcessorTime
from tierlb.agent.figures import AppFigures
from tierlb.agent.leaf import Leaf, SlotCapacity, SlotUse, Smoothed, Totals
from tierlb.agent.reporter import Counts
from tierlb.wire.orca_report import OrcaReport


class Clock:
    now_s = 0.0

    def __call__(self):
        return self.now_s


def figures_of(counts, cpu_s=0.0, boot="a"):
    said = dict(counts.figures(), cpu_s=cpu_s, boot=boot)
    return AppFigures(**{name: value for name, value in said.items() if name != "area_s"})


def simulate(leaf, slots, service_s, rate_per_s, seconds=10.0, cpu_per_request_s=0.0, cores=None, seed=1):
    """An M/M/slots queue that a leaf reads four times a second, with jitter; its last report."""
    rng, clock = random.Random(seed), Clock()
    counts = Counts(slots, clock)
    ends, waiting, cpu_s, next_read = [], [], 0.0, 0.0
    next_arrival = rng.expovariate(rate_per_s)
    while clock.now_s < seconds:
        clock.now_s = min(next_arrival, next_read, ends[0][0] if ends else seconds)
        if ends and ends[0][0] <= clock.now_s:
            counts.end(heapq.heappop(ends)[1], failed=False)
            cpu_s += cpu_per_request_s
            if waiting:
                heapq.heappush(ends, (clock.now_s + rng.expovariate(1 / service_s), waiting.pop(0)))
        elif next_arrival <= clock.now_s:
            next_arrival += rng.expovariate(rate_per_s)
            began_s = counts.begin()
            if len(ends) < slots:
                heapq.heappush(ends, (clock.now_s + rng.expovariate(1 / service_s), began_s))
            else:
                waiting.append(began_s)
        elif next_read <= clock.now_s:
            next_read += rng.uniform(0.2, 0.3)
            leaf.note_answer(clock.now_s, figures_of(counts, cpu_s if cores is None else 0.0))
            if cores is not None:
                leaf.note_processor_time(clock.now_s, ProcessorTime(cpu_s, cores))
    return leaf.subtree(clock.now_s)


@pytest.mark.parametrize("load", [0.1, 0.5, 0.9, 1.5])
@pytest.mark.parametrize("seed", [1, 2])
def test_capacity_by_slots_is_right_whatever_the_load(load, seed):
    true = 4 / 0.010
    report = simulate(Leaf(), 4, 0.010, load * true, seed=seed)
    assert report.capacity == pytest.approx(true, rel=0.25)
    assert report.utilisation == pytest.approx(min(1.0, load), abs=0.15)


@pytest.mark.parametrize("rate_per_s", [60.0, 150.0, 240.0])
@pytest.mark.parametrize("cores", [None, 1.0, 2.0])
def test_capacity_by_processor_time_is_right_whatever_the_load(rate_per_s, cores):
    leaf = Leaf(metered=cores is not None)
    report = simulate(leaf, 100, 0.010, rate_per_s, cpu_per_request_s=0.003, cores=cores)
    assert report.capacity == pytest.approx(0.9 * (cores or 1.0) / 0.003, rel=0.05)
    assert report.utilisation == pytest.approx(rate_per_s * 0.003 / (cores or 1.0), rel=0.25)


def test_the_least_of_what_is_known_is_the_capacity():
    by_both = simulate(Leaf(), 4, 0.010, 200.0, cpu_per_request_s=0.004)
    assert by_both.capacity == pytest.approx(0.9 / 0.004, rel=0.05)


def test_a_few_requests_make_no_estimate_by_processor_time():
    assert simulate(Leaf(), 100, 0.010, 5.0, cpu_per_request_s=0.001).capacity == pytest.approx(100 / 0.010, rel=0.5)


def test_the_counts_and_the_echo_of_one_parent_are_everything_and_of_more_an_equal_part():
    leaf = Leaf()
    leaf.note_answer(1.0, AppFigures(7, 107, 100, 3, response_s=0.02))
    report = leaf.subtree(1.0)
    assert (report.in_flight, report.arrivals, report.done, report.errors) == (7, 107, 100, 3)
    assert (report.response_s, report.leaves, report.ready_leaves) == (0.02, 1, 1)
    assert (leaf.echo(1).in_flight, leaf.echo(1).arrivals) == (7, 107)
    assert (leaf.echo(4).in_flight, leaf.echo(4).arrivals) == (2, 26)
    assert leaf.echo(0) == leaf.echo(1)


def test_counters_never_go_back_when_the_app_starts_again():
    leaf = Leaf()
    for said in (
        AppFigures(1, 101, 100, 2, boot="a"),
        AppFigures(0, 5, 5, 1, boot="b"),
        AppFigures(0, 9, 9, 1, boot="b"),
    ):
        leaf.note_answer(1.0, said)
    report = leaf.subtree(1.6)
    assert (report.arrivals, report.done, report.errors, report.in_flight) == (110, 109, 3, 0)


def test_a_restart_that_gives_no_name_to_its_start_is_seen_by_its_counters():
    leaf = Leaf()
    leaf.note_answer(1.0, AppFigures(0, 100, 100))
    leaf.note_answer(1.3, AppFigures(0, 4, 4))
    assert leaf.subtree(1.3).done == 104


def test_an_app_with_a_url_is_ready_once_it_answers_and_until_nobody_listens():
    leaf = Leaf(asked=True)
    ready = [leaf.subtree(0.0).ready_leaves]
    leaf.note_processor_time(0.5, ProcessorTime(1.0, 1.0))
    ready.append(leaf.subtree(0.5).ready_leaves)
    leaf.note_answer(1.0, AppFigures(0))
    ready.append(leaf.subtree(1.0).ready_leaves)
    leaf.note_down()
    ready.append(leaf.subtree(1.2).ready_leaves)
    leaf.note_answer(1.4, AppFigures(0))
    ready.append(leaf.subtree(1.4).ready_leaves)
    assert ready == [0, 0, 1, 0, 1]


def test_an_app_without_a_url_is_ready_from_the_start():
    leaf = Leaf(metered=True)
    assert leaf.subtree(0.0).ready_leaves == 1
    leaf.note_down()
    assert leaf.subtree(0.0).ready_leaves == 0
    leaf.note_processor_time(0.1, ProcessorTime(1.0, 1.0))
    assert leaf.subtree(0.1).ready_leaves == 1


def test_what_an_app_said_grows_old_while_it_does_not_answer():
    leaf = Leaf(asked=True)
    leaf.note_answer(1.0, AppFigures(3))
    assert (leaf.subtree(1.0).age_s, leaf.subtree(3.5).age_s) == (0.0, 2.5)
    assert leaf.subtree(3.5).in_flight == 3
    assert not leaf.idle


def test_an_orca_report_gives_capacity_counts_and_use():
    leaf = Leaf(asked=True)
    for step in range(41):
        leaf.note_answer(step * 0.25, OrcaReport(application=0.6, rps=300.0, eps=2.0, named={"in_flight": 5.0}))
    report = leaf.subtree(10.0)
    assert report.capacity == pytest.approx(0.9 * 300 / 0.6)
    assert (report.utilisation, report.in_flight, report.done, report.errors) == (0.6, 5, 3000, 20)


def test_of_an_app_that_says_only_what_is_in_flight_no_capacity_is_claimed():
    leaf = Leaf(slots=4)
    for step in range(20):
        leaf.note_answer(step * 0.25, AppFigures(3))
    report = leaf.subtree(5.0)
    assert (report.capacity, report.utilisation) == (0.0, 0.75)


def test_the_row_is_the_report_with_a_name():
    leaf = Leaf()
    leaf.note_answer(1.0, AppFigures(2, 12, 10, 1))
    row = leaf.row(1.5, "app-1", "app")
    assert (row.node, row.tier, row.age_s, row.subtree) == ("app-1", "app", 0.5, leaf.subtree(1.5))
    assert (row.own.in_flight, row.own.items, row.own.errors) == (2, 10, 1)


def test_the_parts_start_with_nothing():
    assert (SlotCapacity().value, Smoothed().value, Totals().done, SlotUse().share) == (None, 0.0, 0.0, 0.0)


def test_idle_slots_leave_the_capacity_as_it_was():
    slots = SlotCapacity()
    slots.advance(1.0, 100, 2.0, 4)
    before = slots.value
    for _ in range(100):
        slots.advance(1.0, 0, 0.0, 4)
    assert slots.value == before == 200.0
