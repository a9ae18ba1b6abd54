"""Figures of runs, against slow ways and known series."""

import math
import random
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.simulate.measure import autocorrelation, quantile, shares, swings


@pytest.mark.parametrize(("q", "expected"), [(0, 1), (0.5, 3), (0.99, 4), (1, 5)])
def test_a_quantile_is_a_value_that_occurred(q: float, expected: float) -> None:
    assert quantile([5, 3, 1, 4, 2], q) == expected


def test_nothing_has_no_quantile() -> None:
    assert quantile([], 0.99) == 0


def test_shares_are_parts_of_the_growth() -> None:
    assert shares([[0, 0], [3, 1], [3, 1], [4, 4]]) == [[0.75, 0.25], [0.25, 0.75]]


@given(st.lists(st.integers(0, 9), min_size=2, max_size=40), st.integers(1, 38))
def test_autocorrelation_is_the_products_over_the_squares(series: list[int], lag: int) -> None:
    off = [value - statistics.fmean(series) for value in series]
    squares = sum(value**2 for value in off)
    products = sum(off[at] * off[at + lag] for at in range(len(off) - lag))
    assert autocorrelation(series, lag) == pytest.approx(products / squares if squares > 1e-9 else 0.0, abs=1e-9)


def test_a_wave_swings_and_noise_does_not() -> None:
    rng, lags = random.Random(1), range(5, 100)
    noise = [rng.gauss(0, 1) for _ in range(2000)]
    wave = [math.sin(step / 8) + 0.5 * each for step, each in enumerate(noise)]
    assert swings(noise, lags) < 0.1
    assert swings(wave, lags) > 0.6
    assert swings([1.0] * 50, lags) == 0
