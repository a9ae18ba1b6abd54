"""When a report goes out, in virtual time."""

import itertools
import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import SubtreeLoad
from tierlb.telemetry.pace import LEAST_GAP_S, REPORT_JITTER, Pace, is_alike, is_news

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


def intervals(pace: Pace, loads: list[SubtreeLoad], now: float = 10.0) -> list[float]:
    """From each report to the next one, of loads that do not change between reports."""
    found = []
    for load in loads:
        found.append(pace.wait_s(now, load))
        now += found[-1]
        pace.sent(now, load)
    return found


def test_reports_of_the_same_are_ever_more_seldom() -> None:
    found = intervals(at_rest(), [CALM] * 8)
    for interval_s, expected_s in zip(found, [0.25, 0.5, 1.0, 2.0, 2.0, 2.0, 2.0, 2.0], strict=True):
        assert interval_s == pytest.approx(expected_s, rel=REPORT_JITTER + 1e-6)


def test_the_promise_is_kept() -> None:
    pace = at_rest()
    for now in range(11, 60, 3):
        pace.sent(now, CALM)
        assert pace.wait_s(now, CALM) == pytest.approx(pace.next_s)


@pytest.mark.parametrize(
    "change", [{"arrivals": 1}, {"in_flight": 1}, {"utilisation": 0.5}, {"capacity": 103.0}, {"kinds": ((1, 2, 3.0),)}]
)
def test_whatever_changes_at_rest_is_reported_at_once_and_ends_the_stretch(change: dict[str, object]) -> None:
    pace = at_rest()
    intervals(pace, [CALM] * 8)
    changed = attrs.evolve(CALM, **change)
    assert not is_news(CALM, changed)
    now = 10.0 + 40.0
    pace.sent(now, CALM)
    assert pace.wait_s(now, CALM) > 1.0
    assert pace.wait_s(now, changed) == pytest.approx(LEAST_GAP_S)
    pace.sent(now, changed)
    assert pace.wait_s(now, attrs.evolve(changed, arrivals=7)) <= 0.275


def test_noise_and_age_are_no_change() -> None:
    rest = attrs.evolve(CALM, utilisation=0.003, age_s=0.1, capacity_age_s=5.0)
    later = attrs.evolve(CALM, utilisation=0.02, age_s=2.0, capacity_age_s=7.0, capacity=101.0)
    assert is_alike(rest, later)


def test_small_changes_add_up_to_one() -> None:
    """What is compared is what was reported last, so that a capacity which creeps is reported."""
    pace = at_rest()
    intervals(pace, [CALM] * 8)
    now = 50.0
    pace.sent(now, CALM)
    assert [pace.wait_s(now, attrs.evolve(CALM, capacity=100 + step)) > 1 for step in (1, 2, 3)] == [True, True, False]


def test_nothing_is_stretched_where_it_may_not_be() -> None:
    pace = at_rest()
    for now in range(11, 30):
        pace.sent(now, CALM, may_stretch=False)
        assert pace.next_s <= 0.275


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
