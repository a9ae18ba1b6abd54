"""When a report goes out, in virtual time."""

import itertools
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import SubtreeLoad
from tierlb.telemetry.pace import Pace, is_news

CALM = SubtreeLoad(capacity=100, ready_leaves=4, leaves=4)


def at_rest(seed: int = 1) -> Pace:
    pace = Pace(random.Random(seed))
    pace.sent(10.0, CALM)
    return pace


def test_the_first_report_is_due_at_once() -> None:
    assert Pace(random.Random(1)).wait_s(10.0, CALM) == 0.0


@given(st.integers())
def test_regular_reports_are_a_quarter_of_a_second_apart_and_jittered(seed: int) -> None:
    assert 0.225 <= at_rest(seed).wait_s(10.0, CALM) <= 0.275


def test_two_children_do_not_stay_in_step() -> None:
    def times(seed: int) -> list[float]:
        pace, now, sent = Pace(random.Random(seed)), 0.0, []
        for _ in range(40):
            now += pace.wait_s(now, CALM)
            pace.sent(now, CALM)
            sent.append(now)
        return sent

    assert times(1) == times(1)
    assert all(abs(one - other) > 1e-6 for one, other in zip(times(1)[1:], times(2)[1:], strict=True))


def test_the_wait_runs_out() -> None:
    pace = at_rest()
    whole_s = pace.wait_s(10.0, CALM)
    assert pace.wait_s(10.1, CALM) == pytest.approx(whole_s - 0.1)
    assert pace.wait_s(10.0 + whole_s, CALM) == 0.0


NEWS = [
    ("capacity a little higher", {"capacity": 109.9}, False),
    ("capacity a little lower", {"capacity": 90.1}, False),
    ("capacity higher", {"capacity": 111.0}, True),
    ("capacity lower", {"capacity": 89.0}, True),
    ("capacity lost", {"capacity": 0.0}, True),
    ("draining", {"draining": True}, True),
    ("a leaf less", {"ready_leaves": 3}, True),
    ("a leaf more", {"ready_leaves": 5}, True),
    ("a pool down", {"down": ("app",)}, True),
    ("a leaf that is not ready", {"leaves": 5}, False),
    ("more traffic", {"in_flight": 99, "arrivals": 10**6, "done": 10**6, "utilisation": 0.99}, False),
]


@pytest.mark.parametrize(("change", "news"), [case[1:] for case in NEWS], ids=[case[0] for case in NEWS])
def test_news_is_told_at_once(change: dict[str, float], news: bool) -> None:
    changed = attrs.evolve(CALM, **change)
    assert is_news(CALM, changed) == news
    assert (at_rest().wait_s(10.06, changed) == 0.0) == news


def test_a_first_capacity_is_news() -> None:
    assert is_news(SubtreeLoad(), SubtreeLoad(capacity=1))
    assert not is_news(SubtreeLoad(), SubtreeLoad())


def test_capacity_that_creeps_is_compared_with_what_was_told() -> None:
    pace = at_rest()
    assert [pace.wait_s(10.06, attrs.evolve(CALM, capacity=100 + step)) == 0 for step in (4, 8, 12)] == [
        False,
        False,
        True,
    ]


@given(st.lists(st.tuples(st.floats(0.001, 0.1), st.floats(0, 1000)), max_size=80), st.integers())
def test_a_child_that_wavers_never_reports_more_than_every_fifty_milliseconds(
    steps: list[tuple[float, float]], seed: int
) -> None:
    pace, now, sent = Pace(random.Random(seed)), 0.0, []
    for pause_s, capacity in steps:
        now += pause_s
        load = attrs.evolve(CALM, capacity=capacity)
        if pace.wait_s(now, load) <= 0:
            pace.sent(now, load)
            sent.append(now)
    assert all(later - earlier >= 0.05 - 1e-9 for earlier, later in itertools.pairwise(sent))
