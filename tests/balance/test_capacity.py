"""What is learnt of a leaf: tables of steady loads, a slow oracle, trials of starved endpoints, and settling."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.capacity import (
    ALIKE,
    BELIEF_S,
    FLOOR,
    LONGEST_REST_S,
    PRIOR_S,
    TRIAL_ITEMS,
    LeafCapacity,
    evened,
    settle,
    window_s,
)

TICK_S = 0.05


def steady(leaf: LeafCapacity, seconds: float, rate_per_s: float, in_flight: float) -> LeafCapacity:
    """A steady load: completions evenly in time, always so many in flight."""
    done = 0
    for tick in range(1, round(seconds / TICK_S) + 1):
        now_done = int(tick * TICK_S * rate_per_s)
        leaf.advance(TICK_S, now_done - done, in_flight * TICK_S)
        done = now_done
    return leaf


def idle(leaf: LeafCapacity, seconds: float) -> LeafCapacity:
    return steady(leaf, seconds, 0, 0)


STEADY = [
    # guess, rate, in flight -> capacity
    (8, 200, 2, 800),  # 10 ms each, eight at once would be 800/s
    (8, 200, 8, 200),  # fully busy: what it completes is what it can
    (8, 200, 40, 200),  # a queue makes it no slower than it is
    (4, 200, 2, 400),
    (8, 50, 2, 200),
    (8, 2, 4, 4),  # two seconds each
]


@pytest.mark.parametrize(("guess", "rate", "in_flight", "expected"), STEADY)
def test_capacity_is_what_full_use_would_complete(guess: float, rate: float, in_flight: float, expected: float) -> None:
    leaf = steady(LeafCapacity(guess), 20, rate, in_flight)
    assert leaf.capacity == pytest.approx(expected, rel=0.08)


SHARED = [
    # parents, guess, rate and in flight of all of them -> capacity, as each of them learns it
    (3, 8, 200, 12, 200),  # full, though each has but four items there and sees no others
    (3, 8, 200, 60, 200),
    (3, 8, 200, 8, 200),  # just full
    (3, 8, 150, 1.5, 800),  # 10 ms each
    (3, 8, 200, 4, 400),  # half full
    (2, 8, 200, 12, 200),
    (1, 8, 200, 12, 200),
]


@pytest.mark.parametrize(("parents", "guess", "rate", "in_flight", "expected"), SHARED)
def test_parents_that_share_an_endpoint_each_learn_what_all_of_it_completes(
    parents: int, guess: float, rate: float, in_flight: float, expected: float
) -> None:
    leaf = steady(LeafCapacity(guess, parents), 20, rate / parents, in_flight / parents)
    assert leaf.capacity == pytest.approx(expected, rel=0.08)


def test_a_parent_that_knew_of_no_others_would_take_a_full_endpoint_for_less() -> None:
    """Four of the twelve items there are its own, so it would take the endpoint for half idle."""
    leaf = steady(LeafCapacity(8, parents=1), 20, 200 / 3, 4)
    assert leaf.capacity == pytest.approx(200 * 2 / 3, rel=0.08)


@pytest.mark.parametrize("parents", [4, 5, 8, 1000])
@pytest.mark.parametrize("in_flight", [1, 2, 30])
def test_the_part_of_a_parent_is_no_less_than_one_item(parents: int, in_flight: float) -> None:
    """50 items a second with one of them there all the time: 20 ms each, of which the endpoint works on four."""
    assert steady(LeafCapacity(4, parents), 20, 50, in_flight).capacity == pytest.approx(200, rel=0.08)


def test_nothing_is_known_before_the_first_completion() -> None:
    leaf = steady(LeafCapacity(), 5, 0, 3)
    assert leaf.capacity is None
    leaf.advance(TICK_S, 1, 3 * TICK_S)
    assert leaf.capacity is not None


def test_what_was_learnt_holds_while_idle() -> None:
    leaf = steady(LeafCapacity(), 5, 200, 2)
    known = leaf.capacity
    assert idle(leaf, 3600).capacity == known


def test_a_slowdown_is_seen_within_two_seconds() -> None:
    leaf = steady(LeafCapacity(), 10, 300, 3)
    assert leaf.capacity == pytest.approx(800, rel=0.08)
    steady(leaf, 2.0, 40, 4)
    assert leaf.capacity is not None
    assert leaf.capacity < 200


def test_an_endpoint_that_hangs_loses_its_capacity_within_two_seconds() -> None:
    leaf = steady(steady(LeafCapacity(), 10, 300, 3), 2.0, 0, 8)
    assert leaf.capacity is not None
    assert leaf.capacity < 120


def test_slow_items_do_not_make_capacity_swing_between_completions() -> None:
    leaf, seen = LeafCapacity(), []
    for tick in range(1, 1200):
        leaf.advance(TICK_S, int(tick % 20 == 0), 2 * TICK_S)
        seen.append(leaf.capacity)
    late = [capacity for capacity in seen[600:] if capacity is not None]
    assert max(late) < 1.5 * min(late)


@pytest.mark.parametrize(("capacity", "expected"), [(0, 1), (800, 1), (24, 1), (12, 2), (4, 6), (1, 10), (0.001, 10)])
def test_the_window_holds_a_few_response_times(capacity: float, expected: float) -> None:
    assert window_s(8, capacity) == expected


@given(st.lists(st.tuples(st.integers(10, 40), st.floats(0.01, 12)), min_size=1, max_size=30), st.integers(1, 12))
def test_the_value_is_that_of_the_definition(ticks: list[tuple[int, float]], parents: int) -> None:
    """Completions and busy time weighed by age, all summed anew at each tick; loads under which the window is 1 s."""
    leaf, believed, full, told_s = LeafCapacity(8, parents), 0.0, max(1.0, 8 / parents), 0.0
    for count in range(1, len(ticks) + 1):
        done, in_flight = ticks[count - 1]
        leaf.advance(TICK_S, done, in_flight * TICK_S)
        weights = [math.exp(-TICK_S * (count - 1 - index)) for index in range(count)]
        successes = sum(weight * tick[0] for weight, tick in zip(weights, ticks, strict=False))
        busy_s = sum(weight * min(full, tick[1]) * TICK_S for weight, tick in zip(weights, ticks, strict=False))
        if count == 1:
            expected = believed = 8 * successes / busy_s
        else:
            prior_s = min(PRIOR_S, told_s)
            expected = 8 * (successes + prior_s * believed / 8) / (busy_s + prior_s)
            believed += (expected - believed) * max(1 / count, 1 - math.exp(-TICK_S / BELIEF_S))
        told_s += min(full, in_flight) * TICK_S
        assert leaf.capacity == pytest.approx(expected)


def test_a_few_items_outweigh_what_the_first_one_showed() -> None:
    """The first one of a fresh process takes 50 ms, the others 2 ms; there are two each second."""
    leaf = LeafCapacity()
    leaf.advance(TICK_S, 1, 0.05)
    assert leaf.capacity == pytest.approx(8 / 0.05)
    for tick in range(50):
        leaf.advance(TICK_S, int(tick % 10 == 0), 0.002 * (tick % 10 == 0))
    assert leaf.capacity > 3 * 8 / 0.05


@given(st.lists(st.tuples(st.floats(0.001, 5), st.integers(0, 500), st.floats(0, 50)), max_size=60), st.floats(1, 64))
def test_whatever_happens_capacity_is_a_finite_number(ticks: list[tuple[float, int, float]], guess: float) -> None:
    leaf = LeafCapacity(guess)
    for dt_s, completions, busy_area_s in ticks:
        leaf.advance(dt_s, completions, busy_area_s)
        assert leaf.capacity is None or (math.isfinite(leaf.capacity) and leaf.capacity >= 0)


def test_a_starved_endpoint_comes_on_trial() -> None:
    leaf = steady(LeafCapacity(), 5, 40, 4)
    assert not leaf.trial
    idle(leaf, 1.9)
    assert not leaf.trial
    idle(leaf, 0.2)
    assert leaf.trial


def tried(leaf: LeafCapacity, response_s: float, most: int = 50) -> int:
    """The trial as the data plane carries it out: one item at a time. Returns how many it took."""
    for items in range(most):
        if not leaf.trial:
            return items
        for _ in range(round(response_s / TICK_S) - 1):
            leaf.advance(TICK_S, 0, TICK_S)
        leaf.advance(TICK_S, 1, min(response_s, TICK_S))
    return most


def test_a_trial_costs_one_item_if_nothing_has_changed() -> None:
    leaf = steady(LeafCapacity(), 5, 40, 4)
    idle(leaf, 2.1)
    assert tried(leaf, 0.1) == 1
    assert leaf.capacity == pytest.approx(80, rel=0.2)


def test_a_trial_finds_that_an_endpoint_has_recovered() -> None:
    leaf = steady(LeafCapacity(), 5, 40, 4)
    idle(leaf, 2.1)
    assert tried(leaf, 0.01) == TRIAL_ITEMS
    assert leaf.capacity is not None
    assert leaf.capacity > 600


def test_an_item_that_hangs_on_trial_is_the_only_one() -> None:
    leaf = idle(steady(LeafCapacity(), 5, 40, 4), 2.1)
    steady(leaf, 60, 0, 1)
    assert leaf.trial
    assert leaf.capacity is not None
    assert leaf.capacity < 10


def rests(leaf: LeafCapacity, response_s: float, trials: int) -> list[float]:
    """How long it rests before each trial that changes nothing."""
    pauses = []
    for _ in range(trials):
        for tick in itertools.count(1):
            leaf.advance(TICK_S, 0, 0.0)
            if leaf.trial:
                pauses.append(round(tick * TICK_S, 1))
                break
        tried(leaf, response_s)
    return pauses


def test_trials_of_one_that_was_better_go_on_so_that_a_recovery_is_seen_within_ten_seconds() -> None:
    leaf = steady(steady(LeafCapacity(), 5, 300, 3), 3, 40, 4)
    assert rests(leaf, 0.1, 6) == pytest.approx([2, 4, 8, 8, 8, 8], abs=0.11)
    assert LONGEST_REST_S < 10


def test_trials_of_one_that_always_was_slow_become_rare() -> None:
    leaf = steady(LeafCapacity(), 5, 40, 4)
    assert rests(leaf, 0.1, 7) == pytest.approx([2, 4, 8, 16, 32, 60, 60], abs=0.11)


def test_an_endpoint_never_sent_to_comes_on_trial_too() -> None:
    leaf = idle(LeafCapacity(), 2.1)
    assert leaf.trial
    leaf.advance(TICK_S, 1, 0.01)
    assert not leaf.trial
    assert leaf.capacity == pytest.approx(800)


SETTLED = [
    ([], []),
    ([None, None], [1, 1]),
    ([100, None], [100, 100]),
    ([300, 100, None], [250, 100, 250]),  # the unknown one counts as the mean, 200, and is evened with 300
    ([800, 790, 810], [800, 800, 800]),
    ([800, 200], [800, 200]),
    ([800, 0], [800, 16]),
    ([1000, 700, 600], [850, 850, 600]),
    ([0, 0], [1, 1]),
]


@pytest.mark.parametrize(("capacities", "expected"), SETTLED)
def test_siblings_settle_as_a_table(capacities: list[float | None], expected: list[float]) -> None:
    assert settle(capacities) == pytest.approx(expected)


@given(st.lists(st.none() | st.floats(0, 1e9), min_size=1, max_size=40))
def test_settled_capacities_can_be_divided_by(capacities: list[float | None]) -> None:
    settled = settle(capacities)
    assert len(settled) == len(capacities)
    assert all(math.isfinite(capacity) and capacity > 0 for capacity in settled)
    assert min(settled) >= FLOOR * max(settled) * 0.99


@given(st.lists(st.floats(1, 1e6), min_size=1, max_size=20))
def test_evening_keeps_the_order_and_the_sum_and_moves_nobody_far(capacities: list[float]) -> None:
    result = evened(capacities)
    assert sum(result) == pytest.approx(sum(capacities))
    for one, other in itertools.product(range(len(capacities)), repeat=2):
        if capacities[one] >= capacities[other]:
            assert result[one] >= result[other] * 0.999999
    assert all(0.6666 < after / before < 1.5001 for before, after in zip(capacities, result, strict=True))


def test_equal_endpoints_tie_exactly_under_the_noise_of_measurement() -> None:
    rng = random.Random(1)
    noisy = [800 * rng.gauss(1, 0.05) for _ in range(6)] + [200 * rng.gauss(1, 0.05) for _ in range(2)]
    result = evened(noisy)
    assert len(set(result[:6])) == len(set(result[6:])) == 1
    assert result[0] > 2 * ALIKE * result[7]
