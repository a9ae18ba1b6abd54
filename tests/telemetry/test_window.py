"""Windows against a list of everything that was ever sampled."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.telemetry.window import APART_S, SAMPLES, Window

STEPS = st.lists(st.tuples(st.integers(1, 40), st.integers(0, 50)), min_size=1, max_size=80)
"""Pauses in 128ths of a second (exact in binary) and growth."""


def test_nothing_is_said_before_a_whole_window() -> None:
    window = Window(1.0)
    assert window.growth() is None
    window.sample(10.0, 5)
    window.sample(10.9, 50)
    assert window.growth() is None
    window.sample(11.0, 55)
    assert window.growth() == (1.0, (50,))


def test_several_figures_come_from_the_same_window() -> None:
    window = Window(1.0)
    window.sample(0.0, 1, 100.0)
    window.sample(0.5, 2, 100.5)
    window.sample(1.5, 7, 101.0)
    assert window.growth() == (1.0, (5, 0.5))


def test_growth_within_a_rest_is_even() -> None:
    window = Window(1.0)
    window.sample(0.0, 0)
    window.sample(0.5, 5)
    window.sample(30.5, 95)
    assert window.growth() == (1.0, (3.0,))


def test_what_came_before_a_rest_does_not_count_after_it_nor_does_the_rest() -> None:
    window = Window(1.0)
    for tick in range(30):
        window.sample(tick / 20, 10.0 * tick)
    window.sample(31.45, 290.0)
    for tick in range(1, 11):
        window.sample(31.45 + tick / 20, 290.0 + 10 * tick)
    assert window.growth() == (1.0, (100.0,)), "half a second with 200 per second and half of a rest"


@given(STEPS)
def test_the_window_is_at_least_as_long_as_asked_and_begins_as_late_as_it_can(steps: list[tuple[int, int]]) -> None:
    """Sampled no closer than a twentieth of the span, nothing is thinned out, so the slow way agrees exactly."""
    window, history = Window(1.0), []
    now, figure = 0.0, 0
    for pause, growth in steps:
        now, figure = now + max(pause, 7) / 128, figure + growth
        window.sample(now, figure)
        history.append((now, figure))
    old_enough = [entry for entry in history if now - entry[0] >= 1.0]
    if not old_enough:
        assert window.growth() is None
        return
    seconds, (grown,) = window.growth() or (0.0, (0.0,))
    begun, before = old_enough[-1]
    later, after = history[len(old_enough)]
    if later - begun > APART_S:
        before += (after - before) * (now - 1.0 - begun) / (later - begun)
        begun = now - 1.0
    assert (seconds, grown) == (now - begun, pytest.approx(figure - before))


@given(STEPS)
def test_however_often_it_is_sampled_it_stays_small_and_is_never_too_short(steps: list[tuple[int, int]]) -> None:
    window = Window(1.0)
    now, figure = 0.0, 0
    for pause, growth in steps:
        now, figure = now + pause / 1000, figure + growth
        window.sample(now, figure)
        assert window.samples <= SAMPLES + 3
    window.sample(now + 1.01, figure)
    seconds, _ = window.growth() or (0.0, ())
    assert 1.0 <= seconds <= 1.01 + now
