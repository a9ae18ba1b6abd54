"""By how much equal hosts may seem apart: tables of variations, and what comes of them in a pool."""

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.capacity import ALIKE
from tierlb.balance.chance import ALIKE_WIDTH, FEW_TICKS, MOST_ALIKE, TickMeans, alike_within

TICK_S = 0.05


def host_of(means: list[float], count: int = 5) -> TickMeans:
    """One whose ticks had these means."""
    host = TickMeans()
    for mean in means:
        host.observe(TICK_S, count, count * mean)
    return host


@pytest.mark.parametrize(
    ("means", "variation"), [([2.0] * 400, 0.0), ([1.0, 3.0] * 200, 0.25), ([0.0, 8.0] * 200, 1.0)]
)
def test_it_is_the_variance_by_the_squared_mean(means: list[float], variation: float) -> None:
    ticks = 1 / (1 - math.exp(-TICK_S / 3))
    assert host_of(means).variation == pytest.approx(variation * ticks / (ticks + FEW_TICKS), abs=0.02)


def test_a_few_ticks_are_believed_in_part() -> None:
    assert host_of([]).variation is None
    assert host_of([1.0]).variation == pytest.approx(0.0)
    few, many = (host_of([1.0, 3.0] * count).variation for count in (1, 200))
    assert few is not None
    assert many is not None
    assert 0 < few < many / 2


def test_answers_that_took_no_time_are_no_division_by_zero() -> None:
    assert host_of([0.0] * 400).variation == 0.0
    assert host_of([1.0] + [0.0] * 100_000).variation == pytest.approx(0.0)
    assert host_of([1e-200] * 4).variation == 0.0


def test_ticks_without_answers_tell_nothing() -> None:
    steady, rare = host_of([1.0, 3.0] * 200), TickMeans()
    for mean in [1.0, 3.0] * 200:
        rare.observe(TICK_S / 2, 1, mean)
        rare.observe(TICK_S / 2, 0, 0.0)
    assert rare.variation == pytest.approx(steady.variation, rel=0.01)


def test_it_is_forgotten_in_seconds() -> None:
    host = host_of([1.0, 30.0] * 50)
    known = host.variation
    assert known is not None
    for _ in range(400):
        host.observe(TICK_S, 5, 25.0)
    assert host.variation == pytest.approx(0.0, abs=0.05 * known)


def test_equals_differ_by_more_where_times_vary() -> None:
    assert alike_within([]) == ALIKE
    assert alike_within([host_of([])]) == ALIKE
    assert alike_within([host_of([1.0] * 100)] * 3) == ALIKE
    varying = host_of([0.0, 8.0] * 200)
    assert alike_within([varying] * 3) == pytest.approx(1 + ALIKE_WIDTH, abs=0.05)
    assert alike_within([host_of([*[0.1] * 24, 200.0] * 40)] * 3) == MOST_ALIKE


def test_one_host_that_becomes_slow_does_not_hide_itself() -> None:
    slow, others = host_of([1.0] * 40 + [10.0] * 5), [host_of([1.0] * 45) for _ in range(2)]
    assert slow.variation is not None
    assert slow.variation > 1
    assert alike_within([slow, *others]) == alike_within([slow, others[0]]) == ALIKE


def test_a_hundred_items_of_a_tick_say_no_more_than_one() -> None:
    rng = random.Random(1)
    means = [rng.expovariate(1) for _ in range(400)]
    assert host_of(means, 100).variation == pytest.approx(host_of(means, 1).variation)


@given(
    st.lists(
        st.lists(st.tuples(st.floats(0, 10), st.integers(0, 500), st.floats(0, 1e12) | st.just(0.0)), max_size=20),
        max_size=5,
    )
)
def test_whatever_comes_it_is_between_its_bounds(hosts: list[list[tuple[float, int, float]]]) -> None:
    seen = []
    for ticks in hosts:
        host = TickMeans()
        for dt_s, count, ratios in ticks:
            host.observe(dt_s, count, ratios)
            assert host.variation is None or 0 <= host.variation < math.inf
        seen.append(host)
    assert ALIKE <= alike_within(seen) <= MOST_ALIKE
