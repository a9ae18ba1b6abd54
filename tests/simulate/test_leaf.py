"""Queues against what is known of them."""

import random
import statistics

import pytest

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.leaf import Service, SimulatedLeaf


@pytest.mark.parametrize("variation", [0, 0.3, 1, 2])
def test_service_times_have_the_mean_and_the_variation_that_was_asked(variation: float) -> None:
    draw = Service(0.02, variation).drawn_by(random.Random(1))
    times = [draw() for _ in range(40_000)]
    assert statistics.mean(times) == pytest.approx(0.02, rel=0.03)
    assert statistics.pstdev(times) == pytest.approx(0.02 * variation, rel=0.1, abs=1e-12)


def served(slots: int, arrivals: list[float], slow: float = 1.0) -> list[tuple[int, float]]:
    """(number, end) of items that take a second each."""
    agenda, ends = Agenda(), []
    leaf = SimulatedLeaf("leaf", agenda, slots)
    leaf.slow = slow
    for number, at in enumerate(arrivals):
        agenda.at(at, lambda n: leaf.serve(lambda item: ends.append((item, agenda.now)), n, 1.0), number)
    agenda.run(100.0)
    assert (leaf.in_flight, leaf.arrivals) == (0, len(arrivals))
    return ends


@pytest.mark.parametrize(
    ("slots", "arrivals", "expected"),
    [
        (1, [0.0, 0.0, 0.5], [(0, 1.0), (1, 2.0), (2, 3.0)]),
        (2, [0.0, 0.0, 0.5], [(0, 1.0), (1, 1.0), (2, 2.0)]),
        (3, [0.0, 0.0, 0.5], [(0, 1.0), (1, 1.0), (2, 1.5)]),
        (1, [0.0, 5.0], [(0, 1.0), (1, 6.0)]),
    ],
)
def test_items_wait_in_line_for_a_slot(slots: int, arrivals: list[float], expected: list[tuple[int, float]]) -> None:
    assert served(slots, arrivals) == expected


def test_a_slow_leaf_takes_longer_for_each() -> None:
    assert served(1, [0.0, 0.0], slow=10.0) == [(0, 10.0), (1, 20.0)]


def test_the_queue_is_as_long_as_theory_says() -> None:
    """M/M/1 at 70 %: ρ/(1 − ρ) in the mean."""
    agenda, rng = Agenda(), random.Random(1)
    leaf, draw = SimulatedLeaf("leaf", agenda, 1), Service(0.01).drawn_by(rng)
    seen = []

    def arrive(_: object) -> None:
        seen.append(leaf.in_flight)
        leaf.serve(lambda _: None, None, draw())
        agenda.at(agenda.now + rng.expovariate(70), arrive)

    arrive(None)
    agenda.run(1500.0)
    assert statistics.mean(seen) == pytest.approx(0.7 / 0.3, rel=0.1)


def test_what_is_to_be_expected_counts_the_slots_and_the_speed() -> None:
    agenda = Agenda()
    leaf, seen = SimulatedLeaf("leaf", agenda, 2), []
    for _ in range(4):
        seen.append(leaf.expected)
        leaf.serve(lambda _: None, None, 1.0)
    leaf.slow = 10.0
    assert seen == [(1.0, 0.5), (1.0, 1.0), (1.5, 1.5), (2.0, 2.0)]
    assert leaf.expected == (25.0, 2.5)


def test_a_slot_is_held_until_it_is_released_and_then_goes_to_the_first_in_the_queue() -> None:
    leaf, begun = SimulatedLeaf("leaf", Agenda(), 1), []
    for number in range(3):
        leaf.occupy(begun.append, number)
    assert (begun, leaf.in_flight, leaf.arrivals) == ([0], 3, 0)
    leaf.release()
    leaf.release()
    assert (begun, leaf.in_flight) == ([0, 1, 2], 1)
    leaf.release()
    assert leaf.in_flight == 0
