"""Errors as queue, against the recurrence of a fading sum (BALANCING.md §3)."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.error_penalty import FORGOTTEN, MOST_ERRORS, PENALTY_DECAY_S, ErrorPenalty


def test_no_error_is_no_queue() -> None:
    assert ErrorPenalty().value(5) == 0


def test_an_error_is_as_much_as_the_endpoint_can_work_on_and_fades() -> None:
    penalty = ErrorPenalty()
    penalty.add(10, 8)
    assert [penalty.value(10 + after) for after in (0, PENALTY_DECAY_S, 2 * PENALTY_DECAY_S)] == pytest.approx(
        [8, 8 / math.e, 8 / math.e**2]
    )


def test_an_old_error_is_forgotten() -> None:
    penalty = ErrorPenalty()
    penalty.add(0, 8)
    assert penalty.value(20) == 0


def test_what_is_left_can_be_limited() -> None:
    penalty = ErrorPenalty()
    penalty.add(10, 8)
    penalty.limit(10, 9)
    assert penalty.value(10) == 8
    penalty.limit(10 + PENALTY_DECAY_S, 2)
    assert [penalty.value(10 + after) for after in (PENALTY_DECAY_S, 2 * PENALTY_DECAY_S)] == pytest.approx(
        [2, 2 / math.e]
    )


def test_time_that_goes_back_adds_nothing() -> None:
    penalty = ErrorPenalty()
    penalty.add(10, 8)
    assert penalty.value(9) == 8


@given(st.lists(st.floats(0, 5), max_size=300), st.floats(1, 64))
def test_errors_add_up_to_a_bound(pauses_s: list[float], concurrency: float) -> None:
    penalty, expected, now = ErrorPenalty(), 0.0, 0.0
    for pause_s in pauses_s:
        now += pause_s
        kept = expected * math.exp(-pause_s / PENALTY_DECAY_S)
        expected = min(MOST_ERRORS * concurrency, (kept if kept > FORGOTTEN else 0.0) + concurrency)
        penalty.add(now, concurrency)
        assert penalty.value(now) == pytest.approx(expected)
