"""One upstream host: what is learnt of it, and what checks, agents and operators make of it."""

import pytest

from tests.dataplane.registries import Harness, Rebuilds, available, by_name, child, chosen, host_spec
from tierlb.balance.outlier import HostFault
from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.dataplane.upstream.host import NO_CAP
from tierlb.dataplane.upstream.host_set import AT_ONCE_S
from tierlb.dataplane.upstream.registry import SHARE_S
from tierlb.model.load import Echo
from tierlb.model.topology import Admin, Policy
from tierlb.wire.agent_check import parse_reply


@pytest.fixture
def harness() -> Harness:
    return Harness()


# What is learnt of an endpoint.


def test_a_members_capacity_is_learnt_from_what_it_completes(harness: Harness) -> None:
    a, b = harness.host_set("a", "b").hosts
    for _ in range(100):
        harness.serve(a, 5, 0.01)
        harness.serve(b, 1, 0.1)
        harness.tick(0.0)
    assert a.capacity == pytest.approx(8 / 0.01, rel=0.1)
    assert b.capacity == pytest.approx(8 / 0.1, rel=0.1)


def test_an_item_under_way_counts_as_time_spent_at_every_look(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    harness.serve(a, 100, 0.01)
    harness.tick(0.0)
    harness.begins(a)
    harness.tick(times=40)
    assert a.capacity < 0.2 * 8 / 0.01, "it takes two seconds over one item"


def test_errors_say_nothing_of_how_fast_a_member_is(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    for _ in range(20):
        harness.serve(a, 5, 0.01)
        for _ in range(4):
            harness.errs(a)
        harness.tick(0.0)
    assert a.capacity == pytest.approx(8 / 0.01, rel=0.01)


def test_a_member_that_errs_is_passed_over_at_once(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    a, b = host_set.hosts
    for each in (a, b):
        harness.serve(each, 20, 0.01)
    harness.tick(FULL_AFTER_S)
    assert set(chosen(host_set, 10)) == {"a", "b"}
    harness.pass_time(2 * AT_ONCE_S)
    harness.errs(a)
    assert chosen(host_set, 10) == ["b"] * 10
    assert harness.registry.loads()[0].failed == 1


def test_a_burst_of_errors_is_one_event(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    host_set.settle(harness.reactor.now)
    drawn = Rebuilds(harness, host_set).times
    for _ in range(100):
        harness.errs(host_set.hosts[0], HostFault.OVERLOADED)
    assert drawn == []
    harness.pass_time(2 * AT_ONCE_S)
    harness.errs(host_set.hosts[0], HostFault.OVERLOADED)
    assert len(drawn) == 1


def test_after_errors_the_choice_of_a_large_host_set_is_made_anew_less_often(harness: Harness) -> None:
    host_set = harness.host_set(*map(str, range(200)), balance=Policy.LOAD_AWARE)
    host_set.settle(harness.reactor.now)
    drawn = Rebuilds(harness, host_set).times
    harness.pass_time(9 * AT_ONCE_S)
    harness.errs(host_set.hosts[0])
    assert drawn == []
    harness.pass_time(2 * AT_ONCE_S)
    harness.errs(host_set.hosts[0])
    assert len(drawn) == 1


def test_a_bad_memory_of_response_times_fades_while_nothing_is_in_flight(harness: Harness) -> None:
    a = harness.host_set("a", balance=Policy.PEAK_EWMA).hosts[0]
    a.peak.observe(harness.reactor.now, 2.0)
    a.in_flight = 1
    harness.tick(10.0)
    assert a.peak.cost == 2.0
    a.in_flight = 0
    harness.tick(10.0)
    assert a.peak.cost < 1.0


def test_shares_are_of_the_items_of_the_last_second(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, b = host_set.hosts
    a.done, b.done, b.in_flight = 30, 9, 1
    harness.tick(SHARE_S)
    assert [load.share for load in harness.registry.loads()] == [0.75, 0.25]
    b.done += 5
    harness.tick(SHARE_S)
    assert [load.share for load in harness.registry.loads()] == [0.0, 1.0]
    harness.tick(SHARE_S)
    assert [load.share for load in harness.registry.loads()] == [0.0, 0.0]


def test_a_capacity_is_told_when_there_is_one(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    assert harness.registry.loads()[0].capacity == 0.0
    harness.serve(a, 10, 0.01)
    harness.tick(0.0)
    assert harness.registry.loads()[0].capacity == a.capacity > 1


def test_how_many_parents_share_a_member_is_what_the_snapshot_says_last(harness: Harness) -> None:
    a, _ = harness.host_set("a", child("c")).hosts
    assert a.share == 1.0
    one, reporter = harness.host_set(host_spec("a", parents=4), child("c", parents=4)).hosts
    assert one is a
    assert (a.estimate.received.share.parents, a.estimate.received.share.parents, a.share) == (4, 4, 0.25)
    harness.report("c", Echo(0, 0), arrivals=0)
    harness.report("c", Echo(0, 100), arrivals=100)
    harness.tick()
    learnt = reporter.share
    assert learnt > 0.25
    harness.host_set(child("c", parents=8))
    assert reporter.share == learnt, "what reports tell is nearer to the truth"


# What checks, agents and operators say.


def test_an_unhealthy_member_is_out_and_starts_slowly_when_it_is_back(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    harness.tick(FULL_AFTER_S)
    a, b = host_set.hosts
    for each in (a, b):
        harness.serve(each, 20, 0.01)
    a.checked(False)
    assert available(host_set) == ["b"]
    a.checked(True)
    harness.tick(0.0)
    assert available(host_set) == ["a", "b"]
    assert a.slope == pytest.approx(10 * b.slope)
    assert harness.changes == [("unhealthy", "a"), ("restored", "a")]


def test_who_is_checked_no_more_is_taken_for_healthy(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    host_set.hosts[0].checked(False)
    host_set.hosts[0].checked(None)
    assert available(host_set) == ["a", "b"]


@pytest.mark.parametrize("admin", [Admin.DRAIN, Admin.MAINTENANCE])
def test_what_operators_want_holds_even_when_nobody_is_left(harness: Harness, admin: Admin) -> None:
    host_set = harness.host_set(host_spec("a", admin=admin), host_spec("b", admin=admin))
    assert host_set.choose() is None
    again = harness.host_set(host_spec("a", admin=admin), "b")
    assert again.choose() is by_name(again)["b"]
    assert again.choose((by_name(again)["b"],)) is None


WORDS = [
    # lines, one after the other -> availability, part of its weight
    (["up"], "available", 1.0),
    (["down"], "unhealthy", 1.0),
    (["fail"], "unhealthy", 1.0),
    (["stopped # for the day"], "unhealthy", 1.0),
    (["drain"], "draining", 1.0),
    (["maint"], "maintenance", 1.0),
    (["50%"], "available", 0.5),
    (["200%"], "available", 2.0),
    (["0%"], "weight 0", 0.0),
    (["drain 0%"], "draining", 0.0),
    (["down 0%"], "weight 0", 0.0),
    (["weight:25%"], "available", 0.25),
    (["drain 50%", "up"], "draining", 0.5),
    (["drain 50%", "ready"], "available", 0.5),
    (["down", "100%"], "unhealthy", 1.0),
    (["down", "up"], "available", 1.0),
    (["0%", "100%"], "available", 1.0),
    (["maint", "down", "ready"], "unhealthy", 1.0),
    (["nonsense"], "available", 1.0),
]


@pytest.mark.parametrize(("lines", "availability", "part"), WORDS)
def test_an_agents_words_take_effect_until_it_takes_them_back(
    harness: Harness, lines: list[str], availability: str, part: float
) -> None:
    a = harness.host_set(host_spec("a", weight=3.0), "b").hosts[0]
    for line in lines:
        a.agent_replied(parse_reply(line.encode() + b"\n"))
    assert (a.availability.value, a.weight) == (availability, pytest.approx(3.0 * part))
    again = harness.host_set(host_spec("a", weight=5.0), "b").hosts[0]
    assert (again.availability.value, again.weight) == (availability, pytest.approx(5.0 * part))


def test_maxconn_is_how_many_items_a_member_works_on_at_a_time(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    a.agent_replied(parse_reply(b"maxconn:3\n"))
    assert (a.estimate.slots.value, a.cap) == (3, 3)
    a.agent_replied(parse_reply(b"up\n"))
    assert (a.estimate.slots.value, a.cap) == (3, 3)
    a.agent_replied(parse_reply(b"maxconn:0\n"))
    assert (a.estimate.slots.value, a.cap) == (3, NO_CAP)


CAPS = [(9, 1, 9), (9, 2, 4), (9, 4, 2), (9, 20, 1), (1, 1, 1)]


@pytest.mark.parametrize(("maxconn", "parents", "cap"), CAPS)
def test_parents_share_what_an_agent_allows(harness: Harness, maxconn: int, parents: int, cap: int) -> None:
    a = harness.host_set("a").hosts[0]
    a.agent_replied(parse_reply(b"maxconn:%d\n" % maxconn))
    again = harness.host_set(host_spec("a", parents=parents)).hosts[0]
    assert (again is a, a.cap) == (True, cap)


def test_an_operators_word_is_above_an_agents(harness: Harness) -> None:
    a = harness.host_set(host_spec("a", admin=Admin.DRAIN), "b").hosts[0]
    a.agent_replied(parse_reply(b"ready up 100%\n"))
    assert a.availability.value == "draining"


def test_changes_by_an_agent_are_told_once(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    for line in (b"drain\n", b"drain\n", b"drain 40%\n"):
        a.agent_replied(parse_reply(line))
    assert harness.changes == [("changed_by_agent", "a")]


def test_what_an_agent_said_is_forgotten_with_the_agent(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.agent_replied(parse_reply(b"down drain 10%\n"))
    a.agent_gone()
    assert available(host_set) == ["a", "b"]
    assert a.weight == 1.0
