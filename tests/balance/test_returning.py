"""The way back of a slow child: what stays tells of it, else a probe does, ever more rarely."""

import pytest

from tierlb.balance.kinds import Answers
from tierlb.balance.returning import (
    CLIMB_SHARE,
    FIRST_RETURN_REST_S,
    GIVEN_OVER_S,
    LONGEST_RETURN_REST_S,
    LOT,
    PROBE_S,
    PROBE_SHARE,
    WELL_S,
    Returning,
    given_per_s,
    wanted,
)

TICK_S = 0.125
NOTHING = Answers()


def answers(count: int, ratio: float) -> Answers:
    return Answers(count, ratios=count * ratio)


def rests(child: Returning, slowness: float = 10.0, longest_s: float = 60.0) -> float:
    """How long it takes until it is probed, without any answer."""
    waited_s = 0.0
    while not child.probing and waited_s < longest_s:
        child.look(TICK_S, NOTHING, 0.0, slowness, 1.0)
        waited_s += TICK_S
    return waited_s


def test_a_child_as_fast_as_its_siblings_is_neither_probed_nor_watched() -> None:
    child = Returning()
    assert rests(child, slowness=3.0) == 60.0
    assert child.look(TICK_S, answers(100, 0.01), 0.0, 2.0, 1.0) is None


def test_a_slow_child_without_answers_is_probed_after_a_rest() -> None:
    child = Returning()
    assert rests(child) == FIRST_RETURN_REST_S
    assert child.probing


def test_a_lot_of_answers_that_is_much_faster_is_a_return_without_any_probe() -> None:
    child = Returning()
    assert child.look(TICK_S, answers(LOT - 1, 1.0), 0.0, 10.0, 1.0) is None
    assert child.look(TICK_S, answers(1, 1.0), 0.0, 10.0, 1.0) == pytest.approx(1.0)
    assert not child.probing
    assert child.climbs_s > 0


def test_items_that_wait_for_long_count_against_a_return() -> None:
    assert Returning().look(TICK_S, answers(LOT, 1.0), 100.0, 10.0, 1.0) is None


def test_answers_that_show_it_slow_begin_the_rest_anew() -> None:
    child = Returning()
    for _ in range(20):
        assert child.look(FIRST_RETURN_REST_S / 2, answers(LOT, 9.0), 0.0, 10.0, 1.0) is None
        assert not child.probing


def test_each_probe_that_finds_it_slow_doubles_the_rest_up_to_a_bound() -> None:
    child, seen = Returning(), []
    for _ in range(5):
        seen.append(rests(child))
        child.look(TICK_S, answers(LOT, 9.0), 0.0, 10.0, 1.0)
        assert not child.probing
    assert seen == [min(LONGEST_RETURN_REST_S, FIRST_RETURN_REST_S * 2**probe) for probe in range(5)]


def test_a_probe_that_finds_it_faster_ends_as_a_return() -> None:
    child = Returning()
    rests(child)
    assert child.look(TICK_S, answers(LOT, 2.0), 0.0, 10.0, 1.0) == pytest.approx(2.0)
    assert not child.probing


def test_a_lot_that_may_be_of_before_and_after_a_recovery_is_followed_by_another() -> None:
    for probed in (False, True):
        child = Returning()
        if probed:
            rests(child)
        assert child.look(TICK_S, answers(LOT, 3.0), 0.0, 10.0, 1.0) == pytest.approx(3.0)
        assert child.probing
        assert not child.climbs_s
        assert child.look(TICK_S, answers(LOT, 1.0), 0.0, 3.0, 1.0) == pytest.approx(1.0)
        assert not child.probing
        assert child.climbs_s


def test_a_probe_that_nobody_answers_ends_and_has_shown_nothing() -> None:
    child = Returning()
    rests(child)
    child.look(PROBE_S, answers(1, 9.0), 0.0, 10.0, 1.0)
    assert not child.probing
    assert rests(child) == FIRST_RETURN_REST_S


def test_a_probe_waits_for_answers_that_are_told_of_four_seconds_later() -> None:
    child = Returning()
    rests(child)
    child.look(4.0, answers(1, 1.0), 0.0, 10.0, 1.0)
    assert child.look(TICK_S, answers(LOT, 1.0), 0.0, 10.0, 1.0) is not None


def test_after_a_probe_that_was_asked_and_hangs_it_rests_longer() -> None:
    child = Returning()
    rests(child)
    child.look(PROBE_S, answers(0, 1.0), 20.0, 10.0, 1.0)
    assert not child.probing
    assert rests(child) == pytest.approx(2 * FIRST_RETURN_REST_S)


def test_who_was_well_for_long_starts_with_the_first_rest_again() -> None:
    child = Returning()
    rests(child)
    child.look(TICK_S, answers(LOT, 9.0), 0.0, 10.0, 1.0)
    child.look(WELL_S - 1, NOTHING, 0.0, 1.0, 1.0)
    assert rests(child) == 2 * FIRST_RETURN_REST_S
    child.look(TICK_S, answers(LOT, 1.0), 0.0, 10.0, 1.0)
    child.look(WELL_S, NOTHING, 0.0, 1.0, 1.0)
    assert rests(child) == FIRST_RETURN_REST_S


@pytest.mark.parametrize(
    ("everything", "fair", "part", "probing", "expected"),
    [
        (1000, 300.0, 0.1, True, 1000 * PROBE_SHARE),
        (10, 3.0, 0.1, True, 1.0),
        (1000, 300.0, 0.1, False, CLIMB_SHARE * 30.0),
        (1000, 300.0, 1.0, False, CLIMB_SHARE * 300.0),
    ],
)
def test_how_many_connections_it_is_to_have(
    everything: int, fair: float, part: float, probing: bool, expected: float
) -> None:
    assert wanted(everything, fair, part, probing=probing) == pytest.approx(expected)


def test_it_is_given_what_it_lacks() -> None:
    assert given_per_s(20.0, 5) == 15 / GIVEN_OVER_S
    assert given_per_s(20.0, 25) == 0.0
