"""Availability as a table, and the panic rule over a group."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.availability import Availability, availability_of, choosable
from tierlb.model.topology import Admin

A, E, U, S, W, D, M = Availability

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
]


@pytest.mark.parametrize(("group", "expected"), GROUPS)
def test_health_and_ejection_are_believed_of_at_most_half(group: list[Availability], expected: list[int]) -> None:
    assert choosable(group) == expected


@given(st.lists(st.sampled_from(Availability)))
def test_somebody_is_choosable_unless_all_are_out_on_purpose(group: list[Availability]) -> None:
    chosen = choosable(group)
    wanted = [index for index, member in enumerate(group) if member not in (D, M)]
    assert set(chosen) <= set(wanted)
    assert bool(chosen) is bool(wanted)
    assert 2 * len(chosen) >= sum(group[index] is not W for index in wanted)
    assert all(index in chosen for index in wanted if group[index] is A)
