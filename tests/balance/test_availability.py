"""Availability as a table, and the panic rule over a group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.availability import Availability, availability_of, choosable, choosable_by_level, why_none
from tierlb.model.topology import Admin

A, E, U, S, W, D, M, Z = Availability

TABLE = [
    (None, Admin.READY, False, False, A),
    (True, Admin.READY, False, False, A),
    (False, Admin.READY, False, False, U),
    (True, Admin.READY, True, False, E),
    (False, Admin.READY, True, False, U),
    (False, Admin.DRAIN, True, False, D),
    (True, Admin.READY, False, True, D),
    (True, Admin.MAINTENANCE, False, True, M),
]


@pytest.mark.parametrize(("healthy", "admin", "ejected", "leaving", "expected"), TABLE)
def test_intent_comes_before_observation(
    healthy: bool | None, admin: Admin, ejected: bool, leaving: bool, expected: Availability
) -> None:
    assert availability_of(healthy, admin, ejected, leaving) is expected
    silent = availability_of(healthy, admin, ejected, leaving, silent=True)
    assert silent is (S if expected is A else expected)
    awaited = availability_of(healthy, admin, ejected, leaving, awaited=True)
    assert awaited is (W if expected is A else expected)
    weightless = availability_of(healthy, admin, ejected, leaving, weight=0.0)
    assert weightless is (expected if expected in (D, M) else Z)


@pytest.mark.parametrize(("weight", "expected"), [(0.0, Z), (-1.0, Z), (float("nan"), Z), (5e-324, A), (1e6, A)])
def test_what_weighs_nothing_is_out_and_what_weighs_little_is_not(weight: float, expected: Availability) -> None:
    assert availability_of(None, Admin.READY, False, weight=weight) is expected


GROUPS = [
    ([], []),
    ([A], [0]),
    ([E], [0]),
    ([A, E], [0]),
    ([A, U], [0]),
    ([A, S], [0]),
    ([S, S, A], [0, 1, 2]),
    ([E, U], [0, 1]),
    ([W, W], [0, 1]),
    ([A, W, W, W], [0]),
    ([A, A, W, W, W], [0, 1]),
    ([A, E, W], [0]),
    ([A, E, E, W], [0, 1, 2]),
    ([E, W], [0, 1]),
    ([D, W], [1]),
    ([A, E, U], [0, 1, 2]),
    ([E, E, A, A], [2, 3]),
    ([D], []),
    ([M, D], []),
    ([A, D, D, D], [0]),
    ([A, E, M, M], [0]),
    ([A, E, E, M, D], [0, 1, 2]),
    ([Z], []),
    ([Z, D, M], []),
    ([E, Z], [0]),
    ([U, E, Z, Z], [0, 1]),
    ([A, Z, Z, Z], [0]),
    ([A, E, Z, Z], [0]),
]


@pytest.mark.parametrize(("group", "expected"), GROUPS)
def test_health_and_ejection_are_believed_of_at_most_half(group: list[Availability], expected: list[int]) -> None:
    assert choosable(group) == expected


@given(st.lists(st.sampled_from(Availability)))
def test_somebody_is_choosable_unless_all_are_out_on_purpose(group: list[Availability]) -> None:
    chosen = choosable(group)
    wanted = [index for index, host in enumerate(group) if host not in (D, M, Z)]
    assert set(chosen) <= set(wanted)
    assert bool(chosen) is bool(wanted)
    assert 2 * len(chosen) >= sum(group[index] is not W for index in wanted)
    assert all(index in chosen for index in wanted if group[index] is A)


REASONS = [
    ([], "app has no member"),
    (["weight 0", "weight 0"], "every host of app has weight 0"),
    (["draining"], "every host of app is draining"),
    (["full", "full"], "every host of app is at the maxconn that its agent set"),
    (["ejected"], "every host of app is ejected"),
    (
        ["weight 0", "full", "weight 0", "tried", "silent"],
        "no host of app can be used: 2 weight 0, 1 full, 1 tried, 1 silent",
    ),
]


@pytest.mark.parametrize(("reasons", "expected"), REASONS)
def test_it_is_said_why_there_is_no_host_to_choose(reasons: list[str], expected: str) -> None:
    assert why_none("app", reasons) == expected


LEVELS = [
    ([A, A, A], [0, 0, 1], [0, 1]),
    ([E, A, A], [0, 0, 1], [1]),
    ([E, U, A], [0, 0, 1], [2]),
    ([E, E, A, A], [0, 0, 0, 1], [0, 1, 2]),
    ([D, Z, A], [0, 0, 1], [2]),
    ([E, U, E], [0, 0, 1], [0, 1]),
    ([D, E, A], [0, 1, 2], [2]),
    ([D, E, M], [0, 1, 2], [1]),
    ([D, M], [0, 1], []),
    ([A, E], [3, 1], [0]),
    ([], [], []),
]


@pytest.mark.parametrize(("group", "levels", "expected"), LEVELS)
def test_a_reserve_is_used_while_nothing_before_it_is_available(
    group: list[Availability], levels: list[int], expected: list[int]
) -> None:
    assert choosable_by_level(group, levels) == expected


@given(st.lists(st.sampled_from(Availability)))
def test_without_a_reserve_levels_change_nothing(group: list[Availability]) -> None:
    assert choosable_by_level(group, [0] * len(group)) == choosable(group)
