"""What an endpoint states of its capacity, and for how long that counts."""

import pytest

from tierlb.balance.stated_capacity import STATED_FOR_S, StatedCapacity, stated_items_per_s

NOW = 1000.0


@pytest.mark.parametrize(
    ("rate", "busy", "expected"),
    [
        (100, 0.5, 200.0),
        (300, 1.5, 200.0),
        (10, 0.1, 100.0),
        (10, 0.099, None),
        (0, 0.9, None),
    ],
)
def test_rate_by_utilisation_is_the_capacity(rate: float, busy: float, expected: float | None) -> None:
    assert stated_items_per_s(rate, busy) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("ago_s", "learnt", "expected"),
    [
        (0.0, 800.0, 200.0),
        (0.0, 100.0, 100.0),
        (0.0, None, 200.0),
        (STATED_FOR_S, 800.0, 200.0),
        (STATED_FOR_S + 0.01, 800.0, 800.0),
        (STATED_FOR_S + 0.01, None, None),
    ],
)
def test_the_lower_of_statement_and_learnt_capacity_is_used(
    ago_s: float, learnt: float | None, expected: float | None
) -> None:
    stated = StatedCapacity()
    stated.note(NOW, 200.0)
    assert stated.at_most(NOW + ago_s, learnt) == expected


def test_without_a_statement_there_is_no_age() -> None:
    stated = StatedCapacity()
    assert (stated.value(NOW), stated.age_s(NOW)) == (None, None)
    stated.note(NOW, 200.0)
    assert (stated.value(NOW + 1), stated.age_s(NOW + 1)) == (200.0, 1.0)
