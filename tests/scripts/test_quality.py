import itertools
import random

import pytest

from scripts.benchmarks.quality import CAPACITY, CHANGE_S, CONNECTIONS, PER_SECOND, SCENARIOS, SECONDS, Scenario
from scripts.benchmarks.station import Mode


def test_the_stream_is_seventy_percent_of_what_the_endpoints_can_do() -> None:
    load = PER_SECOND / CAPACITY
    assert load == pytest.approx(0.7, abs=0.01)
    assert sum(each.capacity(5.0) for each in SCENARIOS["slow"].endpoints) == pytest.approx(6 * 400 + 2 * 100)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_up_to_the_change_all_scenarios_are_alike(scenario: Scenario) -> None:
    assert [each.capacity(CHANGE_S - 0.1) for each in scenario.endpoints] == pytest.approx([400] * 6 + [100] * 2)


@pytest.mark.parametrize(
    ("name", "at_s", "capacity"),
    [
        ("slow", 10.0, 40),
        ("fails-fast", 10.0, 0),
        ("hangs", 10.0, 0),
        ("square-wave", 10.0, 80),
        ("square-wave", 11.0, 400),
        ("square-wave", 18.9, 80),
        ("square-wave", 19.0, 400),
        ("step", 12.0, 400),
        ("shared", 10.0, 40),
    ],
)
def test_what_happens_happens_to_one_fast_endpoint(name: str, at_s: float, capacity: float) -> None:
    first, *others = SCENARIOS[name].endpoints
    assert first.capacity(at_s) == pytest.approx(capacity)
    assert [each.capacity(at_s) for each in others] == pytest.approx([400] * 5 + [100] * 2)


def test_the_two_scenarios_without_service_differ_in_what_the_client_sees() -> None:
    assert SCENARIOS["fails-fast"].endpoints[0].phase(12.0).mode is Mode.FAIL
    assert SCENARIOS["hangs"].endpoints[0].phase(12.0).mode is Mode.HANG


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_windows_follow_each_other_to_the_end(scenario: Scenario) -> None:
    edges = [(each.from_s, each.until_s) for each in scenario.windows]
    assert edges[0][0] == 3
    assert edges[-1][1] == SECONDS
    assert all(left[1] == right[0] for left, right in itertools.pairwise(edges))


def test_the_step_asks_for_more_than_there_is_for_five_seconds() -> None:
    requests = SCENARIOS["step"].course(random.Random(1)).requests
    assert sum(10 <= each.at_s < 15 for each in requests) == pytest.approx(5 * 1.2 * CAPACITY, rel=0.03)


def test_shared_endpoints_stand_behind_four_nodes_that_get_the_same_load() -> None:
    course = SCENARIOS["shared"].course(random.Random(1))
    lanes = course.lanes([f"127.0.0.1:{port}" for port in range(4)])
    counts = [sum(each.lane == number for each in course.requests) for number in range(4)]
    assert course.groups == (tuple(range(8)),) * 4
    assert [lane.most for lane in lanes] == [CONNECTIONS // 4] * 4
    assert max(counts) - min(counts) <= 1
