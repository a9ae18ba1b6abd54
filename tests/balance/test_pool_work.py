"""The mean work of a pool's items, and the standard item."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.pool_work import FIRST_ANSWERS, STANDARD_OVER_S, WORK_MEMORY, Work
from tierlb.balance.usual_times import SHORTEST_USUAL_S


def test_nothing_is_known_of_the_work_before_the_first_answer() -> None:
    work = Work()
    work.add(0, 0.0)
    assert work.usual_s == 0
    work.add(1, 0.02)
    assert work.usual_s == pytest.approx(0.02)


def test_the_work_is_the_mean_of_the_first_and_follows_the_mix() -> None:
    work = Work()
    for usual_s in (0.1, 0.2, 0.3):
        work.add(1, usual_s)
    assert work.usual_s == pytest.approx(0.2)
    for _ in range(100):
        work.add(WORK_MEMORY // 10, WORK_MEMORY // 10 * 0.01)
    assert work.usual_s == pytest.approx(0.01, rel=0.01)


def test_few_answers_of_another_kind_hardly_move_the_work() -> None:
    work = Work()
    work.add(WORK_MEMORY, WORK_MEMORY * 0.01)
    work.add(1, 1.0)
    assert work.usual_s == pytest.approx(0.01 + 0.99 / WORK_MEMORY)


@given(st.lists(st.tuples(st.integers(0, 10_000), st.floats(SHORTEST_USUAL_S, 1e4)), min_size=1))
def test_the_work_stays_within_what_came(ticks: list[tuple[int, float]]) -> None:
    work = Work()
    for count, usual_s in ticks:
        work.add(count, count * usual_s)
    times = [usual_s for count, usual_s in ticks if count]
    assert not times or min(times) * 0.999999 <= work.usual_s <= max(times) * 1.000001


def test_the_standard_item_is_the_mean_of_the_first_answers_and_then_follows_slowly() -> None:
    work = Work()
    work.add(int(FIRST_ANSWERS) // 2, FIRST_ANSWERS / 2 * 0.01)
    work.follow(3600.0)
    work.add(int(FIRST_ANSWERS) // 2, FIRST_ANSWERS / 2 * 0.03)
    assert work.standard_s == pytest.approx(0.02)
    work.add(10 * WORK_MEMORY, 10 * WORK_MEMORY * 0.05)
    assert work.standard_s == pytest.approx(0.02), "a burst changes the mix, not the standard"
    work.follow(0.1 * STANDARD_OVER_S)
    assert work.standard_s == pytest.approx(0.05 - 0.03 * math.exp(-0.1))
