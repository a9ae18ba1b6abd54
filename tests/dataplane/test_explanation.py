"""One choice as a line of JSON, and when anybody may ask for it."""

import json
from typing import Any

import pytest

from tests.dataplane.registries import Harness, by_name, child, host_spec
from tierlb.dataplane.explanation import MOST_HOSTS, Explaining, explain_choice
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Admin, Policy

WINDOW = [
    # nonce, seconds after the start -> whether it is covered, whether anything is
    (b"n1", 0.0, True, True),
    (b"n1", 9.9, True, True),
    (b"n1", 10.0, False, False),
    (b"n2", 0.0, False, True),
    (b"", 0.0, False, True),
    (b"N1", 0.0, False, True),
]


@pytest.mark.parametrize(("nonce", "after_s", "covered", "active"), WINDOW)
def test_only_the_nonce_and_only_for_its_time(nonce: bytes, after_s: float, covered: bool, active: bool) -> None:
    explaining = Explaining()
    explaining.begin(b"n1", 110.0)
    assert explaining.covers(nonce, 100.0 + after_s) is covered
    assert explaining.active(100.0 + after_s) is active


def test_nobody_asks_at_first() -> None:
    assert not Explaining().active(0.0)
    assert not Explaining().covers(b"", 0.0)


def test_the_last_nonce_counts() -> None:
    explaining = Explaining()
    explaining.begin(b"n1", 110.0)
    explaining.begin(b"n2", 120.0)
    assert not explaining.covers(b"n1", 100.0)
    assert explaining.covers(b"n2", 115.0)


@pytest.fixture
def harness() -> Harness:
    return Harness()


def told(host_set: HostSet, chosen: Host | None, policy: Policy = Policy.LEAST_REQUESTS) -> dict[str, Any]:
    line = explain_choice("web-1", policy, host_set.hosts, chosen)
    assert line.isascii()
    assert b"\n" not in line
    return json.loads(line)


def names(line: dict[str, Any]) -> list[str]:
    return [each["member"] for each in line["members"]]


def test_the_chosen_comes_first_and_the_others_from_the_best_on(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", "c", "d")
    for name, in_flight in (("a", 3), ("b", 1), ("c", 2), ("d", 0)):
        by_name(host_set)[name].in_flight = in_flight
    line = told(host_set, by_name(host_set)["c"])
    assert (line["node"], line["policy"], line["chose"]) == ("web-1", "least-requests", "c")
    assert names(line) == ["c", "d", "b", "a"]
    assert [(each["in_flight"], each["score"]) for each in line["members"]] == [(2, 2), (0, 0), (1, 1), (3, 3)]


def test_of_many_members_the_best_are_told_and_how_many_more_there_are(harness: Harness) -> None:
    host_set = harness.host_set(*(f"m{number}" for number in range(MOST_HOSTS + 3)))
    for number, host in enumerate(host_set.hosts):
        host.in_flight = number
    line = told(host_set, host_set.hosts[-1])
    assert names(line) == [f"m{MOST_HOSTS + 2}", *(f"m{number}" for number in range(MOST_HOSTS - 1))]
    assert line["more"] == 3


def test_nobody_chosen_is_told_too(harness: Harness) -> None:
    host_set = harness.host_set(host_spec("a", admin=Admin.DRAIN))
    assert told(host_set, None) == {
        "node": "web-1",
        "policy": "least-requests",
        "chose": None,
        "members": [{"member": "a", "in_flight": 0, "score": 0.0, "availability": "draining"}],
    }
    assert told(harness.host_set(), None)["members"] == []


def test_what_is_known_of_a_member_is_told(harness: Harness) -> None:
    host_set = harness.host_set(child("a"), child("b"), balance=Policy.LOAD_AWARE)
    harness.report("a", capacity=123.456, in_flight=5)
    harness.tick(0.125)
    line = told(host_set, by_name(host_set)["a"], Policy.LOAD_AWARE)
    a, b = line["members"]
    assert (a["capacity"], a["report_age_s"]) == (123.5, 0.125)
    assert a["score"] > 0
    assert "capacity" not in b
    assert "report_age_s" not in b


def test_what_is_parked_there_and_how_old_a_capacity_is_are_told(harness: Harness) -> None:
    host_set = harness.host_set(child("a"), "b", balance=Policy.LOAD_AWARE)
    harness.report("a", capacity=100.0, capacity_age_s=30.0)
    harness.begins(by_name(host_set)["b"], long=True)
    a, b = told(host_set, by_name(host_set)["a"], Policy.LOAD_AWARE)["members"]
    assert (a["capacity_age_s"], "parked" in a) == (30.0, False)
    assert (b["in_flight"], b["parked"]) == (1, 1)
    harness.report("a", capacity=100.0)
    assert "capacity_age_s" not in told(host_set, by_name(host_set)["a"], Policy.LOAD_AWARE)["members"][0]


@pytest.mark.parametrize("policy", Policy)
def test_a_choice_by_any_policy_can_be_told(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    for _ in range(5):
        host = host_set.choose()
        line = told(host_set, host, policy)
        assert line["chose"] == names(line)[0]
        goes_by_something = policy not in (Policy.ROUND_ROBIN, Policy.RANDOM)
        assert all(("score" in each) is goes_by_something for each in line["members"])
