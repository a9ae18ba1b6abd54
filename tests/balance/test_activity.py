"""What a kept connection counts, by when something moved on it."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.activity import (
    ACTIVITY_MEMORY_S,
    ACTIVITY_WAITS,
    GRAIN,
    LATER_S,
    LEAST_ACTIVITY,
    QUIET_CONNECTION_S,
    RECENT_S,
    Activity,
    in_whole,
    owes,
)


def looked_at(for_s: float, moved_every_s: float, *, waits: bool = False, seed: int = 1) -> Activity:
    """A connection on which something moves at this pace, looked at twice a second or so."""
    rng, now = random.Random(seed), 0.0
    activity = Activity(now)
    while now < for_s:
        now += rng.uniform(0.25, 0.75)
        activity.look(now, now - now % moved_every_s, waits=waits)
    return activity


def test_a_new_connection_counts_as_a_whole_one() -> None:
    assert (Activity(5.0).weight, Activity(5.0).parked) == (1.0, False)


def test_one_on_which_nothing_moves_is_parked_and_counts_little() -> None:
    activity = looked_at(40.0, 1e9)
    assert (activity.weight, activity.parked) == (LEAST_ACTIVITY, True)


def test_one_on_which_something_moves_all_the_time_counts_as_a_whole_one() -> None:
    activity = looked_at(40.0, 0.01)
    assert (activity.weight, activity.parked) == (pytest.approx(1.0, abs=0.01), False)


def test_one_that_is_used_now_and_then_counts_by_how_often() -> None:
    weights = [
        sum(looked_at(60.0 + seed / 5, every_s, seed=seed).weight for seed in range(40)) / 40
        for every_s in (2.0, 4.0, 8.0)
    ]
    assert weights == pytest.approx([RECENT_S / 2.0, RECENT_S / 4.0, RECENT_S / 8.0], rel=0.25)


def test_one_that_waits_for_its_host_counts_most_and_is_not_parked() -> None:
    activity = looked_at(40.0, 1e9, waits=True)
    assert (activity.weight, activity.parked) == (pytest.approx(1 + ACTIVITY_WAITS, abs=0.01), False)


def test_what_it_was_is_forgotten_as_fast_however_often_it_is_looked_at() -> None:
    often, seldom = Activity(0.0), Activity(0.0)
    for step in range(1, 51):
        often.look(step * ACTIVITY_MEMORY_S / 50, -10.0, waits=False)
    seldom.look(ACTIVITY_MEMORY_S, -10.0, waits=False)
    assert often.weight == pytest.approx(seldom.weight, abs=2 / GRAIN)


def test_it_is_parked_after_a_while_without_a_byte_and_back_with_the_next() -> None:
    activity = Activity(0.0)
    activity.look(QUIET_CONNECTION_S - 0.01, 0.0, waits=False)
    assert not activity.parked
    activity.look(QUIET_CONNECTION_S, 0.0, waits=False)
    assert activity.parked
    activity.look(QUIET_CONNECTION_S + 1, QUIET_CONNECTION_S + 0.9, waits=False)
    assert not activity.parked


@given(st.lists(st.tuples(st.floats(0.05, 10), st.floats(0, 20), st.booleans()), max_size=40))
def test_a_weight_is_bounded_and_a_multiple_of_the_grain(looks: list[tuple[float, float, bool]]) -> None:
    activity, now = Activity(0.0), 0.0
    for after_s, quiet_s, waits in looks:
        now += after_s
        activity.look(now, now - quiet_s, waits=waits)
        assert LEAST_ACTIVITY <= activity.weight <= 1 + ACTIVITY_WAITS
        assert activity.weight == LEAST_ACTIVITY or (activity.weight * GRAIN).is_integer()


def test_nothing_is_owed_after_the_answer_or_before_the_first_ask() -> None:
    assert not owes(10.0, asked=5.0, answered=5.1, host_served=5.0, pool_served=5.0)
    assert not owes(10.0, asked=0.0, answered=0.0, host_served=5.0, pool_served=5.0)
    assert not owes(10.0, asked=0.0, answered=9.0, host_served=5.0, pool_served=5.0)


def test_a_fresh_ask_is_owed_an_answer() -> None:
    assert owes(10.0, asked=9.9, answered=9.8, host_served=0.0, pool_served=0.0)


@pytest.mark.parametrize(
    ("host_served", "pool_served", "owed"),
    [
        pytest.param(5.0, 8.0, True, id="siblings answer later asks and this host does not"),
        pytest.param(8.0, 8.0, False, id="its host answers others: it waits for something else"),
        pytest.param(5.0, 5.0, False, id="nobody answers: a protocol of one direction, or nobody else asks"),
        pytest.param(5.0 + LATER_S / 2, 8.0, True, id="overtaken by next to nothing"),
    ],
)
def test_an_old_ask_is_owed_an_answer_while_siblings_serve_and_its_host_does_not(
    host_served: float, pool_served: float, owed: bool
) -> None:
    assert owes(10.0, asked=5.0, answered=4.0, host_served=host_served, pool_served=pool_served) is owed


def test_loads_above_the_lowest_count_in_whole_connections() -> None:
    assert in_whole([7.3, 7.9, 8.2, 8.3, 9.4], [1.0] * 5, [True] * 5) == pytest.approx([7.3, 7.3, 7.3, 8.3, 9.3])


def test_of_who_is_out_nobody_takes_an_example() -> None:
    assert in_whole([0.0, 7.9, 8.2], [1.0] * 3, [False, True, True]) == pytest.approx([-0.1, 7.9, 7.9])
    assert in_whole([0.5, 7.9], [1.0, 1.0], [False, False]) == [0.0, 7.0]


def test_a_lighter_host_is_level_with_less() -> None:
    assert in_whole([5.9, 2.5, 4.2], [1.0, 0.5, 0.5], [True] * 3) == pytest.approx([5.0, 2.5, 3.5])
