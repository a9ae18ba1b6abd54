"""What the policies are measured against does what its name says."""

import random

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.cost import ParentShare
from tierlb.balance.load_estimate import HostTraits, LoadEstimate
from tierlb.balance.received_reports import ReceivedReports
from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Policy
from tierlb.simulate.rules import MEAN_OF, ComparedRule, RecentMean, chooser_for


@attrs.define(eq=False)
class Below:
    in_flight: int
    expected: tuple[float, float] = (1.0, 0.25)


@attrs.define(eq=False)
class Known:
    """A host with everything that a rule may read."""

    name: str
    below: Below
    estimate: LoadEstimate
    in_flight: int = 0
    slope: float = 1.0
    offset: float = 1.0
    capacity: float = 1.0
    share: float = 1.0
    weight: float = 1.0
    peak: None = None
    times_to_head: RecentMean = attrs.field(factory=RecentMean)


def known(name: str, truth: int, reported: SubtreeLoad | None, capacity: float = 1.0, own: int = 0) -> Known:
    estimate = LoadEstimate(HostTraits(reports=True), ReceivedReports(ParentShare(1)), 0.0)
    estimate.received.latest = reported
    return Known(name, Below(truth), estimate, own, capacity=capacity)


HOSTS = [
    known("idle in truth", 0, SubtreeLoad(in_flight=9, utilisation=0.98)),
    known("idle by report", 9, SubtreeLoad(in_flight=0, utilisation=0.5)),
    known("large", 6, SubtreeLoad(in_flight=6, utilisation=0.9), capacity=10.0),
]


@pytest.mark.parametrize(
    ("rule", "chosen"),
    [
        (ComparedRule.PERFECT, {"large"}),
        (ComparedRule.SHORTEST_BY_REPORT, {"large"}),
        (ComparedRule.TWO_BY_REPORT, {"large", "idle by report"}),
    ],
)
def test_the_queue_counts_over_capacity(rule: ComparedRule, chosen: set[str]) -> None:
    chooser = chooser_for(rule, random.Random(1))
    chooser.rebuild(HOSTS)
    assert {chooser.pick(0).name for _ in range(200)} == chosen


def test_the_truth_and_the_report_are_told_apart() -> None:
    for rule, name in ((ComparedRule.PERFECT, "idle in truth"), (ComparedRule.SHORTEST_BY_REPORT, "idle by report")):
        chooser = chooser_for(rule, random.Random(1))
        assert {chooser.among(HOSTS[:2], 0).name for _ in range(20)} == {name}


def test_weights_by_headroom_follow_what_is_left() -> None:
    chooser = chooser_for(ComparedRule.HEADROOM, random.Random(1))
    chooser.rebuild(HOSTS)
    picks = [chooser.pick(0).name for _ in range(4000)]
    assert picks.count("idle in truth") / 4000 == pytest.approx(0.02 / 1.52, abs=0.01)
    assert picks.count("idle by report") / 4000 == pytest.approx(0.5 / 1.52, abs=0.03)
    assert picks.count("large") / 4000 == pytest.approx(1.0 / 1.52, abs=0.03)


@pytest.mark.parametrize("rule", [ComparedRule.SHORTEST_BY_REPORT, ComparedRule.TWO_BY_REPORT, ComparedRule.HEADROOM])
def test_without_a_report_the_own_count_decides(rule: ComparedRule) -> None:
    chooser = chooser_for(rule, random.Random(1))
    chooser.rebuild([known("full", 0, None, own=1000), known("free", 0, None)])
    picks = [chooser.pick(0).name for _ in range(200)]
    assert picks.count("free") > 180


def test_a_policy_is_the_products_own() -> None:
    chooser = chooser_for(Policy.LEAST_REQUESTS, random.Random(1))
    chooser.rebuild([known("one", 0, None, own=1), known("other", 0, None)])
    assert chooser.pick(0).name == "other"


@given(st.lists(st.floats(0, 100), max_size=3 * MEAN_OF))
def test_the_recent_mean_is_of_the_last_hundred(values: list[float]) -> None:
    mean = RecentMean()
    for value in values:
        mean.add(value)
    last = values[-MEAN_OF:]
    assert mean.value == pytest.approx(sum(last) / len(last) if last else 0.0, abs=1e-9)


def test_least_time_multiplies_the_mean_by_what_would_be_in_flight_and_takes_turns() -> None:
    slow, fast, unknown = (known(name, 0, None, own=own) for name, own in (("slow", 0), ("fast", 8), ("unknown", 5)))
    slow.times_to_head.add(0.1)
    fast.times_to_head.add(0.01)
    chooser = chooser_for(ComparedRule.LEAST_TIME, random.Random(1))
    chooser.rebuild([slow, fast])
    assert {chooser.pick(0).name for _ in range(20)} == {"fast"}
    fast.in_flight = 10
    assert {chooser.pick(0).name for _ in range(20)} == {"slow"}
    chooser.rebuild([slow, fast, unknown])
    assert {chooser.pick(0).name for _ in range(20)} == {"unknown"}
    chooser.rebuild([known(str(number), 0, None) for number in range(3)])
    assert sorted(chooser.pick(0).name for _ in range(6)) == ["0", "0", "1", "1", "2", "2"]


def test_knowledge_of_slots_goes_by_what_is_to_be_expected() -> None:
    busy, free = known("busy", 0, None), known("free", 9, None, own=9)
    busy.below.expected = (1.0, 0.75)
    chooser = chooser_for(ComparedRule.SLOTS, random.Random(1))
    chooser.rebuild([busy, free])
    assert {chooser.pick(0).name for _ in range(20)} == {"free"}
