"""A burst passes, and then so many a second."""

import pytest

from tierlb.wire.allowance import MAX_UNITS, UNITS_PER_S, Allowance


def taken(allowance: Allowance, count: int, now: float) -> int:
    return sum(allowance.take(1.0, now) for _ in range(count))


def test_a_burst_passes_and_no_more() -> None:
    assert taken(Allowance(), 1000, 5.0) == MAX_UNITS


@pytest.mark.parametrize("now", [0.0, 1e9])
def test_it_fills_with_time_up_to_the_burst(now: float) -> None:
    allowance = Allowance()
    assert taken(allowance, int(MAX_UNITS), now) == MAX_UNITS
    assert taken(allowance, int(UNITS_PER_S) + 50, now + 1.0) == UNITS_PER_S
    allowance = Allowance()
    allowance.take(1.0, now)
    assert taken(allowance, 1000, now + 1000.0) == MAX_UNITS


def test_a_clock_that_goes_back_gives_and_takes_nothing() -> None:
    allowance = Allowance()
    allowance.take(100.0, 50.0)
    assert taken(allowance, 1000, 1.0) == MAX_UNITS - 100
