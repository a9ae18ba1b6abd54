"""What a node adds up of its answers, and what a parent reads from that."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.kind_counts import LARGEST_COUNT, MOST_COUNTED_KINDS, REST, SWEEP_S, KindCounts, KindGrowth
from tierlb.model.load import KindTimes


def test_the_first_kinds_have_counts_of_their_own_and_all_others_one_in_common() -> None:
    counts = KindCounts()
    for key in range(2, 2 + 2 * (MOST_COUNTED_KINDS + 3), 2):
        counts.add(key, 1, 0.5)
        counts.add(key, 2, 0.25)
    value = counts.value()
    assert len(value) == MOST_COUNTED_KINDS + 1
    assert value[0] == (2, 3, 0.75)
    assert value[-1] == (REST, 9, 2.25)


def test_what_has_no_kind_is_among_the_rest() -> None:
    counts = KindCounts()
    counts.add(REST, 3, 0.5)
    assert counts.value() == ((REST, 3, 0.5),)


def test_parts_of_answers_add_up() -> None:
    counts = KindCounts()
    for _ in range(5):
        counts.add(2, 0.5, 0.25)
    assert counts.value() == ((2, 2, 1.25),)


@pytest.mark.parametrize("error", [(1.0, 5 * LARGEST_COUNT), (5 * LARGEST_COUNT, 1.0)])
def test_what_a_child_says_in_error_does_not_outlast_it(error: tuple[float, float]) -> None:
    """With a sum that is too large, or cut to what a report holds, all later growth would be lost."""
    counts, growth = KindCounts(), KindGrowth()
    counts.add(2, 10, 1.0)
    growth.take(counts.value())
    counts.add(2, *error)
    counts.add(2, 3, 0.5)
    assert growth.take(counts.value()) == []
    counts.add(2, 2, 0.25)
    assert growth.take(counts.value()) == [(2, 2, 0.25)]


def test_a_rare_kind_gives_its_place_to_one_that_waits() -> None:
    counts = KindCounts()
    for key in range(2, 2 + 2 * MOST_COUNTED_KINDS, 2):
        counts.add(key, 100, 1.0)
    counts.add(1000, 100, 1.0)
    counts.sweep(SWEEP_S)
    assert len(counts.value()) == MOST_COUNTED_KINDS + 1, "all were busy"
    for key in range(4, 2 + 2 * MOST_COUNTED_KINDS, 2):
        counts.add(key, 100, 1.0)
    counts.add(1000, 100, 1.0)
    counts.sweep(1.5 * SWEEP_S)
    assert 2 in [key for key, _, _ in counts.value()], "it is looked now and then only"
    counts.sweep(2 * SWEEP_S)
    counts.add(1000, 7, 1.0)
    assert (1000, 7, 1.0) in counts.value()
    assert 2 not in [key for key, _, _ in counts.value()]


def test_nobody_gives_way_where_nobody_waits() -> None:
    counts = KindCounts()
    counts.add(2, 1, 1.0)
    counts.add(4, 1000, 1.0)
    for look in range(1, 5):
        counts.sweep(look * SWEEP_S)
    assert [key for key, _, _ in counts.value()] == [2, 4]


def test_the_growth_is_what_came_since_the_report_before_however_many_were_lost() -> None:
    growth = KindGrowth()
    assert growth.take(((2, 10, 1.0),)) == [], "the first is a base"
    assert growth.take(((2, 14, 3.0), (4, 5, 0.5))) == [(2, 4, 2.0), (4, 5, 0.5)]
    assert growth.take(((2, 14, 3.0), (4, 5, 0.5))) == []


def test_counts_that_went_back_or_of_a_child_that_restarted_are_a_base() -> None:
    growth = KindGrowth()
    growth.take(((2, 10, 1.0), (4, 10, 1.0)))
    assert growth.take(((2, 3, 0.5), (4, 11, 1.5))) == [(4, 1, 0.5)], "the one gave up its place and returned"
    assert growth.take(((2, 5, 0.75), (4, 11, 1.5))) == [(2, 2, 0.25)]
    assert growth.take(((2, 50, 7.5), (4, 20, 1.5)), restarted=True) == []
    assert growth.take(((2, 51, 8.5), (4, 20, 1.5))) == [(2, 1, 1.0)]


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 50), st.booleans()), max_size=80))
def test_whatever_reports_are_lost_the_growth_adds_up(steps: list[tuple[int, int, bool]]) -> None:
    """`steps` are (kind, answers of a second each, whether the report arrives)."""
    counts, growth = KindCounts(), KindGrowth()
    growth.take(())
    total, heard = 0, list[KindTimes]()
    for kind, count, arrives in steps:
        counts.add(2 * kind, count, float(count))
        total += count
        if arrives:
            heard += growth.take(counts.value())
    heard += growth.take(counts.value())
    assert sum(count for _, count, _ in heard) == total
    assert sum(seconds for _, _, seconds in heard) == total
