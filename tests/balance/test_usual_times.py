"""Usual times: the first answers set the scale, later ones only change how kinds compare."""

import pytest

from tierlb.balance.kind_places import KIND_NUMBERS
from tierlb.balance.usual_times import KNOWN_FROM, MOST_CHANGE, UsualTimes

FIRST, SECOND = 2, 4


def known(first_s: float = 0.01, second_s: float = 0.1) -> tuple[UsualTimes, list[int]]:
    """The usual times of two kinds, and how often each was answered; the first one more often."""
    usual, answered = UsualTimes(), [0] * KIND_NUMBERS
    for number, time_s, count in ((FIRST, first_s, 100), (SECOND, second_s, 50)):
        usual.observe(number, count, count * time_s)
        answered[number] = count
    return usual, answered


def test_a_kind_is_known_after_enough_answers() -> None:
    usual = UsualTimes()
    assert usual.observe(FIRST, KNOWN_FROM - 1, (KNOWN_FROM - 1) * 0.01) == pytest.approx(0.01)
    assert not usual.is_known(FIRST)
    usual.observe(FIRST, 1, 0.01)
    assert usual.is_known(FIRST)
    usual.forget(FIRST)
    assert (usual.is_known(FIRST), usual.value[FIRST]) == (False, 0.0)


def test_when_all_become_slower_alike_nothing_changes() -> None:
    usual, answered = known()
    for _ in range(200):
        usual.observe(FIRST, 10, 10 * 0.03)
        usual.observe(SECOND, 10, 10 * 0.3)
        usual.learn(answered)
    assert (usual.value[FIRST], usual.value[SECOND]) == (pytest.approx(0.01), pytest.approx(0.1))


def test_a_kind_that_becomes_longer_than_the_others_is_followed() -> None:
    usual, answered = known()
    for _ in range(400):
        usual.observe(FIRST, 10, 10 * 0.01)
        usual.observe(SECOND, 10, 10 * 0.4)
        usual.learn(answered)
    assert usual.value[FIRST] == pytest.approx(0.01)
    assert usual.value[SECOND] == pytest.approx(0.4, rel=0.01)


def test_one_tick_changes_little() -> None:
    usual, answered = known()
    usual.observe(FIRST, 10, 10 * 0.01)
    usual.observe(SECOND, 10**6, 10**6 * 100.0)
    usual.learn(answered)
    assert usual.value[SECOND] == pytest.approx(0.1 * MOST_CHANGE)
