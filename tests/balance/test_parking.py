"""When an item counts as parked, and when a host where all items are old is tried."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.parking import (
    LONGEST_STUCK_REST_S,
    OVERTAKEN_BY,
    PARKED_AFTER_S,
    StuckProbe,
    is_overtaken,
    parks_after_s,
)

TICK_S = 0.05


@pytest.mark.parametrize(("usual_s", "expected"), [(0, 0.5), (0.01, 0.5), (0.125, 0.5), (0.2, 0.8), (2, 8), (1e9, 4e9)])
def test_no_item_is_parked_that_could_still_be_a_usual_one(usual_s: float, expected: float) -> None:
    assert parks_after_s(usual_s) == pytest.approx(expected)


OVERTAKEN = [
    # over now, over or in flight when it began, of these parked -> overtaken
    (0, 5, 0, False),
    (5, 5, 0, False),  # all that were there before are over: it was served in turn
    (12, 5, 0, False),
    (13, 5, 0, True),  # eight that came later are over
    (10, 5, 3, True),  # three of those before it are parked, so that eight later ones are over
    (9, 5, 3, False),
]


@pytest.mark.parametrize(("over", "turn", "parked", "expected"), OVERTAKEN)
def test_an_item_is_overtaken_when_enough_later_ones_are_over(
    over: int, turn: int, parked: int, expected: bool
) -> None:
    assert is_overtaken(over, turn, parked, OVERTAKEN_BY) is expected


@given(st.integers(0, 1000), st.integers(0, 50), st.integers(1, 300))
def test_where_items_are_served_in_turn_none_is_overtaken(over: int, before: int, later: int) -> None:
    """The queue of a host that works on one at a time, at every moment until the item is answered."""
    turn = over + before + 1
    assert not any(is_overtaken(over + ended, turn, 0, 1) for ended in range(before + 1))
    assert is_overtaken(over + before + later, turn, 0, OVERTAKEN_BY) is (later > OVERTAKEN_BY)


def due(trial: StuckProbe, seconds: float, over: int, *, now: float = 0.0) -> list[float]:
    """The times at which one more item is to be sent to a host that stays stuck. It becomes old as the others."""
    times = []
    for tick in range(round(seconds / TICK_S)):
        at = now + tick * TICK_S
        trial.look(at, over, stuck=True)
        if trial.due:
            times.append(round(at - now, 2))
            trial.look(at, over, stuck=False)
    return times


def test_a_host_that_is_not_stuck_is_not_tried() -> None:
    trial = StuckProbe()
    trial.look(0.0, 0, stuck=False)
    assert not trial.due


def test_a_stuck_host_gets_the_next_item_until_that_has_begun() -> None:
    trial = StuckProbe()
    for at in (0.0, 1.0, 50.0):
        trial.look(at, 7, stuck=True)
        assert trial.due
    trial.look(51.0, 7, stuck=False)
    assert not trial.due
    trial.look(51.0, 7, stuck=True)
    assert trial.due, "there was one trial only, however long it took to begin"


def test_one_that_answers_nothing_is_tried_more_and_more_rarely() -> None:
    times = due(StuckProbe(), 300, 7)
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert pauses[:9] == pytest.approx([0.5, 1, 2, 4, 8, 16, 32, 60, 60], abs=0.11)
    assert LONGEST_STUCK_REST_S == 60


def test_one_that_answered_what_it_got_is_tried_again_at_once() -> None:
    trial = StuckProbe()
    due(trial, 60, 7)
    for over in range(8, 20):
        trial.look(60.0, over, stuck=True)
        assert trial.due
        trial.look(60.0, over, stuck=False)
    assert due(trial, 1.2, 20, now=60.0)[:3] == pytest.approx([0, 0.5], abs=0.11)


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(0, 3), st.booleans()), max_size=100))
def test_it_is_never_due_where_nothing_is_stuck_and_never_rests_for_longer_than_a_minute(
    looks: list[tuple[float, int, bool]],
) -> None:
    trial, now, over, waited_since = StuckProbe(), 0.0, 0, None
    for dt_s, more, stuck in looks:
        now, over = now + dt_s, over + more
        trial.look(now, over, stuck=stuck)
        assert stuck or not trial.due
        if not stuck:
            continue
        if trial.due:
            waited_since = now
        assert trial.due or (waited_since is not None and now - waited_since < LONGEST_STUCK_REST_S)


def test_half_a_second_is_what_the_first_rest_takes() -> None:
    trial = StuckProbe()
    trial.look(0.0, 0, stuck=True)
    trial.look(0.0, 0, stuck=False)
    trial.look(PARKED_AFTER_S - 0.01, 0, stuck=True)
    assert not trial.due
    trial.look(PARKED_AFTER_S, 0, stuck=True)
    assert trial.due
