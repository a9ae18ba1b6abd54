"""The load estimate of one host, by tables: a silent endpoint, one that states figures, one that reports."""

import math
from collections.abc import Callable

import attrs
import pytest

from tierlb.balance.capacity import ALIKE
from tierlb.balance.cost import NEW_ITEMS, NEXT_ITEM, ParentShare
from tierlb.balance.counted_host import CountedHost, learn_together
from tierlb.balance.kinds import Answers, Kinds
from tierlb.balance.load_estimate import (
    LEARN_TICK_S,
    LEAST_ITEMS_PER_CONNECTION,
    HostTraits,
    LoadEstimate,
)
from tierlb.balance.pool_slots import GUESSED_SLOTS
from tierlb.balance.received_reports import ITEMS_PER_CONNECTION_GAIN, ReceivedReports
from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.balance.slowness import Slowness
from tierlb.balance.staleness import OLD_INTERVALS
from tierlb.balance.stated_capacity import LEAST_STATED_BUSY, STATED_FOR_S
from tierlb.model.load import REPORT_INTERVAL_S, Echo, SubtreeLoad

NOW = 1000.0
LONG_AGO = NOW - 600
OLD_S = OLD_INTERVALS * REPORT_INTERVAL_S
LOAD = SubtreeLoad(capacity=300.0, in_flight=40, response_s=0.1)
USUAL_S = 0.01


def of_host(traits: HostTraits, parents: int = 1, joined: float = LONG_AGO) -> LoadEstimate:
    return LoadEstimate(traits, ReceivedReports(ParentShare(parents)), joined)


def endpoint(*, parents: int = 1, learnt: float | None = None, equal: bool = False) -> LoadEstimate:
    """One that sends no reports and has been there for long."""
    return knowing(of_host(HostTraits(reports=False, equal=equal), parents), learnt)


def reporter(
    *,
    parents: int = 1,
    learnt: float | None = None,
    by_connection: bool = False,
    equal: bool = False,
    endpoint: bool = True,
) -> LoadEstimate:
    kind = {"by_connection": by_connection, "equal": equal, "endpoint": endpoint}
    return knowing(of_host(HostTraits(reports=True, **kind), parents), learnt)


def knowing(estimate: LoadEstimate, learnt: float | None) -> LoadEstimate:
    """One of which this was learnt, in items per second."""
    if learnt is not None:
        estimate.speed.work.usual_s = GUESSED_SLOTS / learnt
        estimate.speed.slowness.seen = 100.0
    return estimate


def answers(count: int, ratio: float = 1.0, usual_s: float = USUAL_S) -> Answers:
    """So many, each of a kind that usually takes `usual_s`, and so many times slower."""
    return Answers(count, count * usual_s, count * ratio)


# Learning from own counts.

LEARNT = [
    # parents, answers per second to this one, in flight from it, ratio to the usual time -> capacity of all of it
    (1, 200, 2, 1.0, 800),
    (1, 200, 4, 2.0, 400),
    (1, 200, 1, 0.5, 1600),
    (1, 200, 40, 20.0, 40),  # what they wait in its queue counts too
    (1, 800, 8, 1.0, 800),  # just full
]


@pytest.mark.parametrize(("parents", "rate", "in_flight", "ratio", "expected"), LEARNT)
def test_what_a_silent_endpoint_can_do_is_learnt(
    parents: int, rate: float, in_flight: float, ratio: float, expected: float
) -> None:
    estimate = endpoint(parents=parents)
    assert estimate.capacity(LONG_AGO, 5.0) is None
    for tick in range(1, 401):
        passed_s = tick * LEARN_TICK_S
        estimate.advance(LONG_AGO + passed_s, in_flight * passed_s, answers(round(rate * LEARN_TICK_S), ratio))
    assert estimate.capacity(LONG_AGO + 20, 5.0) == pytest.approx(expected, rel=0.1)


def test_before_the_first_answer_nothing_is_known_of_it() -> None:
    estimate = endpoint()
    estimate.speed.work.add(100, 1.0)
    assert estimate.learnt_capacity is None, "items of its siblings tell nothing of it"
    estimate.advance(LONG_AGO + LEARN_TICK_S, 2 * LEARN_TICK_S)
    assert estimate.learnt_capacity is None
    estimate.advance(LONG_AGO + 2 * LEARN_TICK_S, 4 * LEARN_TICK_S, answers(1))
    assert estimate.learnt_capacity == pytest.approx(GUESSED_SLOTS / USUAL_S)


def test_an_endpoint_all_of_whose_kinds_are_unknown_has_no_capacity() -> None:
    estimate = endpoint()
    estimate.speed.slowness.seen = 100.0
    assert estimate.learnt_capacity is None


def test_when_parents_come_and_go_its_part_of_an_endpoint_is_another() -> None:
    estimate = endpoint(parents=1)
    estimate.received.share.expect(4)
    assert (estimate.received.share.parents, estimate.received.share.value) == (4, 0.25)


REST = [
    # integral of in flight in a second, parked -> something competes, so that it does not rest
    (0.0, 0, False),
    (1.0, 0, True),
    (3.0, 3, False),  # what is parked asks nothing of it
    (3.5, 3, True),
    (2.0, 3, False),  # one was parked just now
]


@pytest.mark.parametrize(("area_s", "parked", "busy"), REST)
def test_an_endpoint_where_all_that_is_in_flight_is_parked_has_nothing_to_do(
    area_s: float, parked: int, busy: bool
) -> None:
    estimate = endpoint(learnt=100.0)
    estimate.speed.slowness.value = estimate.speed.slowness.typical = 4.0
    for second in range(1, 4):
        estimate.advance(LONG_AGO + second, area_s * second, parked=parked)
    assert estimate.speed.slowness.probe.active is not busy


def test_sums_of_times_that_are_rounded_do_not_keep_it_from_its_rest() -> None:
    """With 3 parked since odd times the integral over a tick is 3 ticks but for the last digits."""
    estimate = endpoint(learnt=100.0)
    estimate.speed.slowness.value = estimate.speed.slowness.typical = 4.0
    moments = -(LONG_AGO + 0.1) - (LONG_AGO + 0.7) - (LONG_AGO + 1 / 3)
    for tick in range(100):
        now = LONG_AGO + 1 + tick * 0.0501
        estimate.advance(now, moments + 3 * now, parked=3)
    assert estimate.speed.slowness.probe.active


def test_items_that_are_late_make_it_slower_before_they_are_answered() -> None:
    estimate = endpoint(learnt=800.0)
    estimate.advance(LONG_AGO + LEARN_TICK_S, 8 * LEARN_TICK_S, overdue=400.0)
    assert estimate.learnt_capacity is not None
    assert estimate.learnt_capacity < 80


def test_a_tick_in_which_no_time_passed_does_no_harm() -> None:
    estimate = endpoint()
    for _ in range(3):
        estimate.advance(LONG_AGO, 0.0, answers(3))
    assert estimate.speed.slowness.value == pytest.approx(1.0)


# What an endpoint states.

STATED = [
    # learnt, rate, busy, seconds ago -> believed
    (800.0, 100, 0.5, 0.0, 200.0),  # the lower of the two
    (800.0, 900, 0.5, 0.0, 800.0),  # nobody gains by boasting
    (None, 100, 0.5, 0.0, 200.0),
    (800.0, 300, 1.5, 0.0, 200.0),  # more than busy
    (800.0, 100, 0.5, STATED_FOR_S, 200.0),
    (800.0, 100, 0.5, STATED_FOR_S + 0.01, 800.0),
    (None, 100, 0.5, STATED_FOR_S + 0.01, None),
    (800.0, 10, LEAST_STATED_BUSY, 0.0, 100.0),
    (800.0, 10, LEAST_STATED_BUSY - 0.001, 0.0, 800.0),  # too idle to tell
    (800.0, 0, 0.9, 0.0, 800.0),  # no rate was said
    (800.0, 100, 0.0, 0.0, 800.0),  # nor how busy it is
]


@pytest.mark.parametrize(("learnt", "rate", "busy", "ago_s", "expected"), STATED)
def test_of_what_is_stated_and_what_is_learnt_the_lower_is_believed(
    learnt: float | None, rate: float, busy: float, ago_s: float, expected: float | None
) -> None:
    estimate = endpoint(learnt=learnt)
    estimate.note_stated(NOW, rate, busy, 0)
    assert estimate.capacity(NOW + ago_s, None) == (expected if expected is None else pytest.approx(expected))


def test_the_last_statement_counts_and_one_that_says_nothing_changes_nothing() -> None:
    estimate = endpoint(learnt=800.0)
    estimate.note_stated(NOW, 100, 0.5, 0)
    estimate.note_stated(NOW + 1, 150, 0.5, 0)
    estimate.note_stated(NOW + 2, 5, 0.01, 0)
    assert estimate.capacity(NOW + 2, None) == 300
    assert estimate.capacity(NOW + 1 + STATED_FOR_S, None) == 300
    assert estimate.capacity(NOW + 2 + STATED_FOR_S, None) == 800


def test_slots_are_how_many_items_it_works_on_at_once() -> None:
    estimate = endpoint(learnt=800.0)
    assert estimate.slots.value == GUESSED_SLOTS
    estimate.note_stated(NOW, 0, 0, 3)
    assert estimate.slots.value == 3
    assert estimate.learnt_capacity == 300
    estimate.note_stated(NOW, 100, 0.5, 0)
    assert estimate.slots.value == 3
    assert estimate.cost(NOW, 100) == pytest.approx((0.01, 0.06))
    estimate.slots.declare(20)
    assert estimate.cost(NOW, 100) == pytest.approx((0.01, 0.2))
    estimate.slots.declare(0)
    assert (estimate.slots.value, estimate.learns_slots) == (20, True), "what was said is the guess for a while"


# What a reporter says.


@attrs.frozen
class Heard:
    """A reporter's past: what it said, how old that was already (`age_s`) and how long it is since."""

    capacity: float | None = None
    since_s: float = 0.0
    age_s: float = 0.0
    lost: bool = False


LADDER = [
    # learnt, past, siblings' median -> believed
    (70.0, Heard(), None, 70.0),  # not even connected yet
    (70.0, Heard(), 100.0, 100.0),
    (None, Heard(), None, None),
    (70.0, Heard(300.0), 100.0, 300.0),  # fresh
    (70.0, Heard(0.0), 100.0, 70.0),  # zero is not a capacity: it does not know it yet
    (None, Heard(0.0), 100.0, None),
    (70.0, Heard(300.0, OLD_S), 100.0, 300.0),  # late is normal
    (70.0, Heard(300.0, OLD_S + 0.01), 100.0, 100.0),  # old: no more than the others
    (70.0, Heard(50.0, OLD_S + 0.01), 100.0, 50.0),
    (70.0, Heard(300.0, OLD_S + 0.01), None, 300.0),
    (70.0, Heard(300.0, 1.0, OLD_S - 0.9), 100.0, 100.0),  # what it said was old when it came
    (70.0, Heard(300.0, lost=True), 100.0, 100.0),  # the socket is gone
    (70.0, Heard(50.0, lost=True), 100.0, 100.0),
    (70.0, Heard(300.0, lost=True), None, 70.0),
    (None, Heard(300.0, lost=True), None, None),
]


def remembering(estimate: LoadEstimate, past: Heard) -> LoadEstimate:
    """The view after that, as of NOW."""
    if past.capacity is not None:
        estimate.receive(NOW - past.since_s, attrs.evolve(LOAD, capacity=past.capacity, age_s=past.age_s), Echo(10))
    if past.lost:
        estimate.received.lose()
    return estimate


@pytest.mark.parametrize(("learnt", "past", "median", "expected"), LADDER)
def test_a_reporter_is_believed_as_far_as_the_ladder_says(
    learnt: float | None, past: Heard, median: float | None, expected: float | None
) -> None:
    assert remembering(reporter(learnt=learnt), past).capacity(NOW, median) == expected


def test_one_that_is_heard_again_is_believed_again() -> None:
    estimate = remembering(reporter(), Heard(50.0, 60.0, lost=True))
    assert estimate.capacity(NOW, 100.0) == 100.0
    estimate.receive(NOW, LOAD, Echo())
    assert estimate.capacity(NOW, 100.0) == 300.0


def test_how_old_what_a_capacity_was_learnt_from_is() -> None:
    estimate = of_host(HostTraits(reports=False), joined=NOW)
    assert estimate.capacity_age_s(NOW) is None
    estimate.advance(NOW + 1, 0.5, Answers(20, 0.2, 20.0))
    assert estimate.capacity_age_s(NOW + 1) == 0.0
    estimate.advance(NOW + 2, 0.5)
    assert estimate.capacity_age_s(NOW + 61) == 60.0, "at rest it grows old"
    estimate.note_stated(NOW + 61, 100.0, 0.5, 0)
    assert estimate.capacity_age_s(NOW + 62) == 1.0
    estimate = reporter()
    estimate.receive(NOW, attrs.evolve(LOAD, capacity_age_s=7.0), Echo())
    assert estimate.capacity_age_s(NOW + 1) == 8.0
    estimate.receive(NOW, attrs.evolve(LOAD, capacity=0.0), Echo())
    assert estimate.capacity_age_s(NOW + 1) is None


def test_what_is_parked_is_no_queue_of_others_and_no_item_of_a_connection() -> None:
    estimate, plain = reporter(), reporter()
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=140, parked=100), Echo(30, parked=20))
    plain.receive(NOW, attrs.evolve(LOAD, in_flight=40), Echo(10))
    assert estimate.cost(NOW, 300.0) == plain.cost(NOW, 300.0)
    for each, parked in ((estimate, 500), (plain, 0)):
        each.traits = attrs.evolve(each.traits, by_connection=True)
        each.receive(NOW, attrs.evolve(LOAD, in_flight=20 + parked, parked=parked, connections=100), Echo())
    assert estimate.received.items_per_connection == plain.received.items_per_connection < 1


def test_a_report_of_old_figures_is_no_silence() -> None:
    estimate = reporter()
    estimate.receive(NOW, attrs.evolve(LOAD, age_s=60.0), Echo())
    estimate.received.check_silence(NOW + 0.25)
    assert not estimate.received.silent


def test_the_share_of_its_traffic_is_read_from_the_echoes() -> None:
    estimate = reporter(parents=4)
    assert estimate.received.share.value == 0.25
    for hundred in range(1, 60):
        estimate.receive(NOW, attrs.evolve(LOAD, arrivals=100 * hundred), Echo(arrivals=75 * hundred))
    assert estimate.received.share.value == pytest.approx(0.75, abs=0.01)


# The line.


def test_the_line_of_a_silent_endpoint_is_its_own_queue_and_the_items_it_works_on() -> None:
    assert endpoint().cost(NOW, 100) == pytest.approx((0.01, 0.08))
    assert endpoint(parents=4).cost(NOW, 100) == pytest.approx((0.04, 0.08)), "the others send as much"
    assert endpoint().cost(NOW, 100, weight=0.25) == pytest.approx((0.04, 0.08)), "items take as long as elsewhere"
    assert math.isfinite(endpoint().cost(NOW, 100, weight=0.0)[0])


def test_an_endpoint_on_trial_gets_the_next_item_unless_it_erred_just_now() -> None:
    estimate = endpoint()
    estimate.speed.slowness.probe.active = True
    assert estimate.cost(NOW, 100) == NEXT_ITEM
    estimate.penalties.errors.add(NOW, 8)
    assert estimate.cost(NOW, 100) == pytest.approx((0.01, 0.16))
    assert estimate.cost(NOW + 60, 100) == NEXT_ITEM


@pytest.mark.parametrize("make", [endpoint, reporter])
def test_one_that_is_to_get_the_next_item_is_chosen_before_all_others(make: Callable[[], LoadEstimate]) -> None:
    slope, offset = make().cost(NOW, 100, own=3, left_out=3, probe=True)
    assert 3 * slope + offset == NEXT_ITEM[1]
    assert 4 * slope + offset == NEXT_ITEM[0], "and with that no other"
    assert make().cost(NOW, 100, own=3, left_out=3)[0] < 1


@pytest.mark.parametrize("make", [endpoint, reporter])
def test_what_is_left_out_is_no_queue(make: Callable[[], LoadEstimate]) -> None:
    slope, offset = make().cost(NOW, 100)
    out_slope, out_offset = make().cost(NOW, 100, own=10, left_out=6.5)
    assert 10 * out_slope + out_offset == pytest.approx(3.5 * slope + offset)


LINES = [
    # others' items are 30 of 40, the share is a quarter, tau half a second
    ("fresh", Heard(300.0), (0.01, 0.31)),
    ("one tau old", Heard(300.0, 0.5), ((math.exp(-1) + (1 - math.exp(-1)) * 4) / 100, (30 * math.exp(-1) + 1) / 100)),
    ("old as it came", Heard(300.0, 0, 0.5), (0.01 * (4 - 3 * math.exp(-1)), (30 * math.exp(-1) + 1) / 100)),
    ("ancient", Heard(300.0, 60.0), (0.04, 0.01)),
    ("never heard", Heard(), (0.04, 0.01)),
    ("lost", Heard(300.0, lost=True), (0.04, 0.01)),
]


@pytest.mark.parametrize(("past", "expected"), [row[1:] for row in LINES], ids=[row[0] for row in LINES])
def test_the_line_of_a_reporter_fades_from_everybodys_items_to_its_own(
    past: Heard, expected: tuple[float, float]
) -> None:
    assert remembering(reporter(parents=4), past).cost(NOW, 100) == pytest.approx(expected)


def test_others_are_never_less_than_none() -> None:
    estimate = reporter()
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=3), Echo(in_flight=10))
    assert estimate.cost(NOW, 100) == pytest.approx((0.01, 0.01))


@pytest.mark.parametrize("make", [endpoint, reporter])
def test_errors_lie_in_the_queue_and_a_newcomer_starts_slowly(make: Callable[[], LoadEstimate]) -> None:
    usual = make().cost(NOW, 100)
    failed = make()
    failed.penalties.errors.add(NOW, 8)
    assert failed.cost(NOW, 100) == pytest.approx((usual[0], usual[1] + 0.08))
    newcomer = make()
    newcomer.joined = NOW
    assert newcomer.cost(NOW, 100) == pytest.approx((10 * usual[0], usual[1]))
    assert newcomer.cost(NOW + FULL_AFTER_S, 100) == pytest.approx(usual)


# Where connections are given.


def test_items_per_connection_follow_what_is_reported() -> None:
    estimate = reporter(by_connection=True)
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=30, connections=10), Echo())
    assert estimate.received.items_per_connection == 1 + ITEMS_PER_CONNECTION_GAIN * 2
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=30, connections=0), Echo())
    assert estimate.received.items_per_connection == 1 + ITEMS_PER_CONNECTION_GAIN * 2
    for _ in range(60):
        estimate.receive(NOW, attrs.evolve(LOAD, in_flight=2, connections=10), Echo())
    assert estimate.received.items_per_connection == pytest.approx(0.2)


def test_a_connection_weighs_as_many_items_as_it_carries_and_fades_with_its_life() -> None:
    estimate = reporter(by_connection=True, parents=2)
    estimate.received.items_per_connection = 3.0
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=40, connection_s=8.0), Echo(in_flight=10))
    assert estimate.cost(NOW, 100) == pytest.approx((0.03, 0.31))
    faded = math.exp(-1)
    assert estimate.cost(NOW + 2, 100) == pytest.approx((0.03 * (faded + (1 - faded) * 2), (30 * faded + 1) / 100))
    estimate.received.lose()
    assert estimate.cost(NOW, 100) == pytest.approx((0.06, 0.01)), "what it carries is known still"
    estimate.speed.work.usual_s = 0.5
    assert estimate.cost(NOW, 100) == pytest.approx((0.06, 0.5)), "its items are taken to be as long as elsewhere"


def test_many_connections_that_come_at_once_are_not_taken_for_as_quiet_as_those_that_are_there() -> None:
    estimate = reporter(by_connection=True)
    for _ in range(60):
        estimate.receive(NOW, attrs.evolve(LOAD, in_flight=1, connections=10, response_s=0.0), Echo(1, connections=10))
    slope, offset = estimate.cost(NOW, 100, own=10)
    assert 10 * slope + offset == pytest.approx((10 * 0.1 + 1) / 100)
    assert 60 * slope + offset == pytest.approx((10 * 0.1 + 50 * NEW_ITEMS + 1) / 100)


def test_of_connections_that_have_ended_since_the_report_nothing_is_counted() -> None:
    estimate = reporter(by_connection=True)
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=5, connections=10, response_s=0.0), Echo(5, connections=10))
    slope, offset = estimate.cost(NOW, 100, own=4)
    assert 4 * slope + offset == pytest.approx((4 * estimate.received.items_per_connection + 1) / 100)


def test_connections_that_ask_nothing_weigh_something() -> None:
    estimate = reporter(by_connection=True)
    for _ in range(200):
        estimate.receive(NOW, attrs.evolve(LOAD, in_flight=0, connections=1000, response_s=0.0), Echo(connections=1000))
    slope, offset = estimate.cost(NOW, 100, own=1000)
    assert 1000 * slope + offset == pytest.approx((1000 * LEAST_ITEMS_PER_CONNECTION + 1) / 100)


@pytest.mark.parametrize(
    ("slowness", "standard", "usual_s", "ahead"),
    [
        (0.2, 1.0, 0.1, 10),
        (1.0, 1.0, 0.1, 10),
        (3.0, 1.0, 0.1, 10),
        (3.1, 1.0, 0.1, 31),
        (6.0, 2.0, 0.1, 20),
        (0.5, 1.0, 0.002, 1),
        (9.0, 1.0, 0.0, 1),
    ],
    ids=["faster", "as fast", "not far slower", "far slower", "as all", "fast anyway", "nobody knows"],
)
def test_the_time_of_an_item_lies_ahead_of_a_connection_where_it_is_far_longer_than_elsewhere(
    slowness: float, standard: float, usual_s: float, ahead: float
) -> None:
    load = SubtreeLoad(capacity=300.0, connections=10)
    for by_connection, expected in ((True, ahead), (False, 1)):
        estimate = reporter(by_connection=by_connection)
        estimate.receive(NOW, load, Echo())
        estimate.speed.slowness.believe(slowness, 10.0)
        estimate.speed.usual_slowness, estimate.speed.work.usual_s = standard, usual_s
        assert estimate.cost(NOW, 100)[1] == pytest.approx(expected / 100), "a request after it can be placed elsewhere"


def told(estimate: LoadEstimate, at: float, count: int, mean_s: float, **more: float) -> Answers:
    """A report of so many answers more has come by then; what they tell."""
    kinds = ((2, count, count * mean_s),)
    slots, own_capacity = more.get("slots", 12.0), more.get("own", 0.0)
    load = SubtreeLoad(arrivals=count, done=count, kinds=kinds, slots=slots, own_capacity=own_capacity)
    estimate.receive(at, load, Echo())
    found = KINDS.judge_reported(estimate.received.take_answers(), estimate.speed.slowness.typical)
    estimate.advance(at, 0.0, found)
    return found


KINDS = Kinds()


def test_the_capacity_of_a_child_follows_from_its_answers_and_slots() -> None:
    estimate = reporter(by_connection=True, equal=True, endpoint=False)
    told(estimate, NOW, 10, 0.01)
    assert estimate.capacity(NOW, None) is None, "the first report is a base"
    for second in range(1, 4):
        told(estimate, NOW + second, 10 + 200 * second, 0.01)
    estimate.slots.declare(12.0)
    assert estimate.capacity(NOW + 3, None) == pytest.approx(12 / 0.01)
    told(estimate, NOW + 4, 900, 0.01, own=700.0)
    assert estimate.capacity(NOW + 4, None) == 700.0, "the node itself can do no more"
    estimate.returning.probing = True
    assert estimate.capacity(NOW + 4, None) is None, "it is to be found out"


def test_next_to_no_slots_are_no_figure_to_divide_by() -> None:
    estimate = reporter(by_connection=True, equal=True, endpoint=False)
    for second in range(1, 25):
        told(estimate, NOW + second, 200 * second, 0.01, slots=5e-324 if second < 5 else 12.0)
    assert estimate.speed.slowness.value == pytest.approx(1.0, rel=0.2)


def test_slots_of_leaves_that_differ_little_from_those_of_siblings_are_taken_to_be_theirs() -> None:
    for said, expected in ((8.0, 12.0), (25.0, 12.0), (40.0, 40.0), (2.0, 2.0)):
        estimate = reporter(by_connection=True, equal=True, endpoint=False)
        estimate.receive(NOW, SubtreeLoad(slots=said, ready_leaves=3, leaves=3), Echo())
        assert estimate.received.leaf_slots == said / 3
        estimate.compare(0.05, Answers(), 1.0, 4.0)
        assert estimate.slots.value == expected


def test_nodes_that_know_no_slots_of_their_leaves_are_taken_to_have_those_of_their_siblings() -> None:
    silent, tells = (CountedHost(reporter(endpoint=False), Kinds()) for _ in range(2))
    silent.estimate.receive(NOW, SubtreeLoad(ready_leaves=3, leaves=3), Echo())
    tells.estimate.receive(NOW, SubtreeLoad(slots=8.0, ready_leaves=2, leaves=2), Echo())
    learn_together([silent, tells], 0.05)
    assert (silent.estimate.slots.value, tells.estimate.slots.value) == (12.0, 8.0)


def test_a_node_is_as_able_as_its_answers_show_here_whatever_it_reports() -> None:
    estimate = reporter(endpoint=False)
    estimate.receive(NOW, SubtreeLoad(capacity=100.0, slots=8.0, ready_leaves=2, leaves=2), Echo())
    assert (estimate.capacity(NOW, None), estimate.likeness(NOW)) == (100.0, ALIKE), "nothing was asked yet"
    for tick in range(100):
        taken = KINDS.judge({2: [0.01] * 10}, estimate.speed.slowness.typical, estimate.speed.slowness.highest)
        estimate.advance(NOW + tick * 0.05, 0.1 * tick, taken)
    assert estimate.capacity(NOW + 0.1, None) == pytest.approx(8 / 0.01, rel=0.01)
    assert estimate.likeness(NOW) == estimate.speed.slowness.likeness > ALIKE, "it is known from few answers"
    agent = reporter(endpoint=True)
    agent.receive(NOW, SubtreeLoad(capacity=100.0, slots=8.0, ready_leaves=1, leaves=1), Echo())
    assert agent.likeness(NOW) == ALIKE


def learnt_node(slots: float, *, said: float) -> CountedHost:
    """Two leaves, and a belief of 100 answers of usual times, which are 10 ms."""
    host = CountedHost(reporter(endpoint=False), Kinds())
    host.estimate.speed.work.usual_s, host.estimate.speed.slowness.seen = 0.01, 100.0
    host.estimate.receive(NOW, SubtreeLoad(capacity=said, slots=slots, ready_leaves=2, leaves=2), Echo())
    return host


def test_nodes_none_of_which_knows_its_slots_can_do_together_what_they_report() -> None:
    """Three nodes share their leaves: each guesses 8 slots for a leaf and reports a third of them."""
    nodes = [learnt_node(0.0, said=1600 / 3) for _ in range(3)]
    learn_together(nodes, 0.05)
    assert [each.estimate.capacity(NOW, None) for each in nodes] == pytest.approx([1600 / 3] * 3)


def test_a_report_does_not_change_the_slots_that_nodes_have_in_common() -> None:
    nodes = [learnt_node(8.0, said=0.0), learnt_node(12.0, said=0.0)]
    learn_together(nodes, 0.05)
    common = [each.estimate.slots.value for each in nodes]
    nodes[1].estimate.receive(NOW, SubtreeLoad(slots=12.0, ready_leaves=2, leaves=2), Echo())
    assert [each.estimate.slots.value for each in nodes] == common == [8.0, 8.0]


def test_use_is_compared_by_the_capacity_that_this_node_believes_in() -> None:
    estimate = reporter(by_connection=True, equal=True, endpoint=False)
    for second in range(5):
        told(estimate, NOW + second, 10 + 200 * second, 0.01)
    estimate.slots.declare(12.0)
    assert estimate.received.latest is not None
    estimate.received.latest = attrs.evolve(estimate.received.latest, capacity=600.0, utilisation=0.5)
    child = estimate.as_child(7)
    assert child is not None
    assert (child.utilisation, child.own_scale, child.connections) == (pytest.approx(0.25), pytest.approx(2.0), 7)


def test_counts_of_a_child_that_restarted_are_a_base() -> None:
    estimate = reporter(by_connection=True)
    assert told(estimate, NOW, 1000, 0.01).count == 0
    assert told(estimate, NOW + 1, 1100, 0.01).count == 100
    assert told(estimate, NOW + 2, 50, 0.5).count == 0
    assert told(estimate, NOW + 3, 60, 0.5).count == 10


def test_a_child_that_tells_no_kinds_is_judged_by_its_mean() -> None:
    estimate = reporter(by_connection=True)
    for done in (5, 25):
        estimate.receive(NOW, SubtreeLoad(arrivals=done, done=done, response_s=0.1), Echo())
    assert estimate.received.answers == [(0, 20, pytest.approx(2.0))]


def test_where_requests_are_counted_a_connection_has_no_weight() -> None:
    estimate = reporter()
    estimate.receive(NOW, attrs.evolve(LOAD, in_flight=30, connections=10), Echo(in_flight=30))
    assert estimate.received.items_per_connection == 1.0
    assert estimate.cost(NOW, 100) == pytest.approx((0.01, 0.01))


def test_of_endpoints_that_are_given_connections_nothing_is_learnt() -> None:
    estimate = endpoint(equal=True)
    for tick in range(1, 100):
        estimate.advance(LONG_AGO + tick, float(tick), answers(tick, 5.0), overdue=9.0)
    assert (estimate.speed.slowness, estimate.speed.work.usual_s, estimate.learnt_capacity) == (Slowness(), 0.0, None)
    estimate.note_stated(NOW, 100, 0.5, 0)
    assert estimate.capacity(NOW, 50.0) is None


@pytest.mark.parametrize(("past", "expected"), [(Heard(300.0), 300.0), (Heard(0.0), None), (Heard(), 100.0)])
def test_a_reporter_that_is_given_connections_is_believed_but_nothing_is_learnt_of_it(
    past: Heard, expected: float | None
) -> None:
    estimate = remembering(reporter(learnt=70.0, equal=True), past)
    assert estimate.capacity(NOW, 100.0) == expected


# Capacity in standard items.


def test_what_an_endpoint_states_of_its_own_mix_is_converted() -> None:
    """It had items four times as long as those of its pool, and did a quarter as many."""
    estimate = endpoint()
    estimate.speed.work.add(1000, 1000 * USUAL_S)
    estimate.speed.own_work.add(100, 100 * 4 * USUAL_S)
    estimate.note_stated(NOW, 50.0, 0.5, 0)
    assert estimate.stated.value(NOW) == pytest.approx(400)


def test_what_an_agent_reports_is_converted_and_what_a_node_reports_is_not() -> None:
    agent, node = reporter(), reporter(endpoint=False)
    for estimate in (agent, node):
        estimate.speed.work.add(1000, 1000 * USUAL_S)
        estimate.speed.own_work.add(100, 100 * 4 * USUAL_S)
        estimate.receive(NOW, LOAD, Echo())
    assert agent.capacity(NOW, None) == pytest.approx(1200)
    assert node.capacity(NOW, None) == 300


def test_what_is_told_of_an_endpoint_leaves_out_what_items_wait_for_one_another() -> None:
    estimate = endpoint()
    estimate.slots.declare(4)
    for tick in range(1, 101):
        now = LONG_AGO + tick * LEARN_TICK_S
        for here in (4, 5, 6, 7):
            estimate.learn_slots(USUAL_S, here, USUAL_S * here / 4)
        estimate.advance(now, 3.5 * tick * LEARN_TICK_S, answers(10, 1.375))
        estimate.speed.work.slots.advance(LEARN_TICK_S, [estimate.slots])
    told, chosen_by = estimate.capacity_to_report(NOW), estimate.capacity(NOW, None)
    assert told == pytest.approx(400, rel=0.05)
    assert chosen_by == pytest.approx(400 / 1.375, rel=0.05)
