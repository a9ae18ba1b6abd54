"""Items in flight from the integral of their count."""

import math

import pytest

from tierlb.balance.mean_in_flight import MEAN_OVER_S, MeanInFlight


@pytest.mark.parametrize(
    ("area_s", "parked", "expected"),
    [(0.0, 0, 0.0), (3.0, 0, 3.0), (3.0, 2, 1.0), (2.0, 3, -1.0)],  # the last: one item was parked just now
)
def test_the_count_of_a_tick_leaves_parked_items_out(area_s: float, parked: int, expected: float) -> None:
    assert MeanInFlight(10.0).advance(11.0, area_s, parked) == (1.0, expected)


def test_the_mean_follows_over_two_seconds_and_is_never_below_zero() -> None:
    mean = MeanInFlight(0.0)
    for tick in range(1, 201):
        mean.advance(tick * 0.05, 4.0 * tick * 0.05, 0)
    assert mean.value == pytest.approx(4.0, rel=0.01)
    mean.advance(10.0 + MEAN_OVER_S, 40.0, 3)
    assert mean.value == pytest.approx(4.0 / math.e, rel=0.01)


def test_one_long_step_is_as_good_as_many_short_ones() -> None:
    one, many = MeanInFlight(0.0, 5.0), MeanInFlight(0.0, 5.0)
    one.advance(3.0, 0.0, 0)
    for tick in range(1, 61):
        many.advance(tick * 0.05, 0.0, 0)
    assert one.value == pytest.approx(many.value)


def test_a_tick_in_which_no_time_passed_changes_nothing() -> None:
    mean = MeanInFlight(5.0)
    assert mean.advance(5.0, 0.0, 0) == (0.0, 0.0)
    assert mean.value == 0.0
