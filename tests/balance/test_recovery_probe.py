"""When a child that is sent nothing gets an item again."""

import pytest

from tierlb.balance.recovery_probe import RecoveryProbe
from tierlb.balance.slowness_probe import FIRST_REST_S, LONGEST_REST_S

TICK_S = 0.05


def rest(trial: RecoveryProbe, longest_s: float = 60.0) -> float:
    """How long it has nothing to do until it is to get an item."""
    waited_s = 0.0
    while not trial.due:
        assert waited_s < longest_s, "it is never tried"
        trial.advance(TICK_S, busy=False)
        waited_s += TICK_S
    return waited_s


def test_trials_that_change_nothing_become_rarer_up_to_a_limit() -> None:
    trial, rests = RecoveryProbe(), []
    for _ in range(5):
        rests.append(rest(trial))
        trial.advance(TICK_S, busy=True)
        assert not trial.due
    assert rests == pytest.approx([FIRST_REST_S, 4.0, LONGEST_REST_S, LONGEST_REST_S, LONGEST_REST_S], abs=2 * TICK_S)


def test_an_item_that_comes_by_itself_is_no_trial() -> None:
    trial = RecoveryProbe()
    for _ in range(10):
        trial.advance(FIRST_REST_S / 2, busy=False)
        trial.advance(TICK_S, busy=True)
        assert not trial.due
    assert rest(trial) == pytest.approx(FIRST_REST_S, abs=2 * TICK_S)


def test_who_was_busy_for_long_is_tried_soon_when_it_is_left_again() -> None:
    trial = RecoveryProbe()
    for _ in range(5):
        rest(trial)
        trial.advance(TICK_S, busy=True)
    trial.advance(LONGEST_REST_S, busy=True)
    assert rest(trial) == pytest.approx(FIRST_REST_S, abs=2 * TICK_S)
