"""Thresholds as a table and against a slow oracle; pauses that keep nodes out of step."""

import random
from collections import Counter
from itertools import accumulate, islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.health import CHECK_JITTER, FIRST_WITHIN_S, Health, pauses_s


def after_each(results: str, healthy_after: int = 2, unhealthy_after: int = 3) -> str:
    """What is known after each result: + good, - bad."""
    health = Health(healthy_after, unhealthy_after)
    known = ""
    for result in results:
        health.result(result == "+")
        known += "+" if health.healthy else "-"
    return known


@pytest.mark.parametrize(
    ("results", "known"),
    [
        ("", ""),
        ("+", "+"),
        ("-", "-"),
        ("+--", "+++"),
        ("+---", "+++-"),
        ("+--+--", "++++++"),
        ("+--+---", "++++++-"),
        ("-+", "--"),
        ("-++", "--+"),
        ("-+-+-+", "------"),
        ("-++--+---", "--++++++-"),
    ],
)
def test_the_first_result_decides_and_later_ones_need_a_row(results: str, known: str) -> None:
    assert after_each(results) == known


def test_nothing_known_counts_as_healthy() -> None:
    assert Health(1, 1).healthy
    assert not Health(1, 1).known


def by_looking_back(results: str, healthy_after: int, unhealthy_after: int) -> str:
    """The oracle: what is known changes where the last results of the needed number are all against it."""
    known = ""
    for end in range(1, len(results) + 1):
        before = known[-1:] or "+"
        against = "-" if before == "+" else "+"
        needed = 1 if end == 1 else {"+": healthy_after, "-": unhealthy_after}[against]
        known += against if results[:end].endswith(against * needed) else before
    return known


@given(st.text("+-", max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_what_is_known_is_what_looking_back_gives(results: str, healthy_after: int, unhealthy_after: int) -> None:
    assert after_each(results, healthy_after, unhealthy_after) == by_looking_back(
        results, healthy_after, unhealthy_after
    )


@given(st.lists(st.booleans(), max_size=40), st.integers(1, 5), st.integers(1, 5))
def test_a_change_is_told_exactly_when_it_happens(
    results: list[bool], healthy_after: int, unhealthy_after: int
) -> None:
    health = Health(healthy_after, unhealthy_after)
    for result in results:
        before = health.healthy
        assert health.result(result) == (health.healthy != before)


@pytest.mark.parametrize("interval_s", [0.1, 2.0, 60.0])
def test_the_first_check_is_soon_and_the_mean_is_the_interval(interval_s: float) -> None:
    first, second, *others = islice(pauses_s(interval_s, random.Random(1)), 2002)
    assert 0 <= first <= min(FIRST_WITHIN_S, interval_s)
    assert 0.5 * interval_s <= second <= interval_s
    assert all((1 - CHECK_JITTER) * interval_s <= pause <= (1 + CHECK_JITTER) * interval_s for pause in others)
    assert sum(others) / len(others) == pytest.approx(interval_s, rel=0.01)


def test_a_hundred_nodes_that_start_together_do_not_check_in_step() -> None:
    """In no tenth of an interval of 10 s do more than three times as many checks fall as would be even."""
    starts = [accumulate(islice(pauses_s(10.0, random.Random(seed)), 20)) for seed in range(100)]
    per_second = Counter(int(at_s) for node in starts for at_s in node if at_s >= 20)
    assert max(per_second.values()) <= 30
