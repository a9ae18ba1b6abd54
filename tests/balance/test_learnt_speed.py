"""The capacity that follows from answers and slots."""

import pytest

from tierlb.balance.kinds import Answers
from tierlb.balance.learnt_speed import LearntSpeed
from tierlb.balance.pool_slots import HostSlots
from tierlb.balance.returning import SLOW_MARGIN

USUAL_S = 0.01


def known(slowness: float = 1.0, usual_slowness: float = 1.0) -> LearntSpeed:
    """A host whose items usually take 10 ms."""
    speed = LearntSpeed(usual_slowness=usual_slowness)
    speed.work.add(100, 100 * USUAL_S)
    speed.slowness.believe(slowness, 50.0)
    return speed


@pytest.mark.parametrize(
    ("slots", "slowness", "expected"), [(8, 1.0, 800), (4, 1.0, 400), (8, 2.0, 400), (1, 0.5, 200)]
)
def test_capacity_is_slots_by_the_time_of_a_standard_item(slots: float, slowness: float, expected: float) -> None:
    speed = known(slowness)
    assert speed.capacity(slots) == pytest.approx(expected)
    assert speed.slots_of(expected) == pytest.approx(slots)
    assert speed.capacity_without_waits(HostSlots(slots)) == pytest.approx(expected), "no window has been judged"


def test_before_the_first_answer_nothing_is_known() -> None:
    speed = LearntSpeed()
    assert (speed.known, speed.capacity(8.0), speed.slots_of(100.0)) == (False, None, None)
    speed.work.add(100, 1.0)
    assert speed.capacity(8.0) is None, "answers of siblings show nothing of this host"


def test_timed_answers_count_as_work_of_this_node_and_reported_ones_do_not() -> None:
    timed, reported = LearntSpeed(), LearntSpeed()
    answers = Answers(10, 10 * USUAL_S, 10.0)
    timed.learn_timed(0.05, answers, 0.0, busy=True)
    reported.learn_reported(0.05, answers, 0.0)
    assert (timed.work_done_s, reported.work_done_s) == (10 * USUAL_S, 0.0)
    assert timed.known
    assert reported.known


@pytest.mark.parametrize(("slowness", "forgets"), [(SLOW_MARGIN, True), (SLOW_MARGIN + 0.1, False)])
def test_a_child_that_reports_no_answers_is_forgotten_unless_it_is_slow(slowness: float, forgets: bool) -> None:
    speed = known(slowness)
    speed.learn_reported(1.0, Answers(), 0.0)
    assert (speed.slowness.seen < 50.0) is forgets


@pytest.mark.parametrize(
    ("slowness", "usual_slowness", "probing", "expected"),
    [(1.0, 1.0, False, 10), (0.2, 1.0, False, 10), (3.1, 1.0, False, 31), (3.1, 1.0, True, 10), (6.0, 2.0, False, 20)],
)
def test_the_time_of_an_item_counts_as_more_at_hosts_that_are_far_slower(
    slowness: float, usual_slowness: float, probing: bool, expected: float
) -> None:
    assert known(slowness, usual_slowness).items_in_item_time(1000.0, probing=probing) == pytest.approx(expected)


def test_a_capacity_in_items_of_its_own_mix_is_converted() -> None:
    speed = LearntSpeed()
    assert speed.in_standard_items(100.0) == 100.0, "nothing is known of either mix"
    speed.work.add(1000, 1000 * USUAL_S)
    speed.own_work.add(100, 100 * 4 * USUAL_S)
    assert speed.in_standard_items(100.0) == pytest.approx(400)
