"""Siblings' capacities as the pick takes them."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.capacity import ALIKE, FLOOR, evened, settle

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


@pytest.mark.parametrize(
    ("likeness", "expected"),
    [
        ((1.5, 1.5), [100.0, 50.0]),
        ((1.5, 2.0), [75.0, 75.0]),
        ((2.0, 1.5), [75.0, 75.0]),
        (None, [100.0, 50.0]),
    ],
)
def test_of_two_equals_either_may_be_the_one_of_which_little_is_known(
    likeness: tuple[float, ...] | None, expected: list[float]
) -> None:
    assert evened([100.0, 50.0], likeness) == expected
    assert settle([100.0, 50.0], likeness) == expected


def test_one_that_is_well_known_between_others_that_are_not_stays_apart() -> None:
    assert evened([100.0, 60.0, 50.0], [1.5, 1.5, 2.0]) == [75.0, 60.0, 75.0]
