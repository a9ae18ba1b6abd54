"""Membership at run time: who is chosen from, who is passed over, what survives a change."""

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.registries import Harness, Underway, available, by_name, child, chosen, destination, member
from tierlb.balance.ejection import FAILURES_TO_EJECT, FIRST_EJECTION_S
from tierlb.balance.load_estimate import STATED_FOR_S
from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.dataplane.upstream.registry import AT_ONCE_S, AWAITED_S, NO_CAP, SHARE_S, HostSet
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.snapshot import Destination, Member
from tierlb.model.topology import Admin, Kind, Policy
from tierlb.wire.agent_check import parse


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_a_host_set_without_hosts_chooses_none(harness: Harness) -> None:
    assert harness.host_set().choose() is None


def test_least_requests_looks_at_what_is_in_flight(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", "c")
    for name, in_flight in (("a", 3), ("b", 1), ("c", 2)):
        by_name(host_set)[name].in_flight = in_flight
    assert host_set.choose() is by_name(host_set)["b"]


def test_who_was_tried_is_not_chosen_again(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, b = host_set.hosts
    assert host_set.choose((a,)) is b
    assert host_set.choose((a, b)) is None


def test_an_ejected_member_is_still_better_than_none(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", "c")
    a, b, c = host_set.hosts
    a.connect_failed(refused=True)
    assert available(host_set) == ["b", "c"]
    assert host_set.choose((b, c)) is a


def test_more_than_half_ejected_is_not_believed(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", "c")
    a, b, _ = host_set.hosts
    a.connect_failed(refused=True)
    b.connect_failed(refused=True)
    assert available(host_set) == ["a", "b", "c"]
    assert [load.availability for load in harness.registry.loads()] == ["ejected", "ejected", "available"]


def test_a_success_restores_a_member(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, _ = host_set.hosts
    a.connect_failed(refused=True)
    a.connected()
    assert available(host_set) == ["a", "b"]
    assert harness.changes == [("ejected", "a"), ("restored", "a")]


def test_an_ejection_counts_in_every_host_set_of_the_host(harness: Harness) -> None:
    one, two = harness.host_sets(destination("a", "b"), destination("a", "c"))
    assert one.hosts[0] is two.hosts[0]
    one.hosts[0].connect_failed(refused=True)
    assert (available(one), available(two)) == (["b"], ["c"])


def test_an_ejection_survives_a_new_snapshot(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.connect_failed(refused=True)
    a.done = 7
    again = harness.host_set("b", "a", "c")
    assert available(again) == ["b", "c"]
    assert by_name(again)["a"] is a
    a.connected()
    assert available(again) == ["b", "a", "c"]


def test_the_same_name_at_another_address_is_another_member(harness: Harness) -> None:
    host_set = harness.host_set("a")
    moved = Destination(1, ("app",), (Member("a", "app", Address("127.0.0.1", 2)),))
    (again,) = harness.host_sets(moved)
    assert again.hosts[0] is not host_set.hosts[0]
    assert host_set.hosts[0].retired


def test_a_member_that_left_is_not_probed(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.connect_failed(refused=True)
    harness.host_set("b")
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.probe is None
    assert len(harness.reactor.wheel) == 0


def test_a_restored_member_is_not_probed(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    a.connect_failed(refused=True)
    a.connected()
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.probe is None
    assert not a.ejection.ejected


def test_choosing_another_is_possible_as_long_as_somebody_is_left(harness: Harness) -> None:
    a, b, c = harness.host_set("a", member("b", admin=Admin.DRAIN), "c").hosts
    host_set = a.host_sets[0]
    a.connect_failed(refused=True)
    for tried, expected in [((), True), ((c,), True), ((a, c), False), ((a,), True), ((a, b, c), False)]:
        assert host_set.has_other(tried) is expected
        assert (host_set.choose(tried) is not None) is expected


# What is learnt of a member.


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
    a.begin_item(harness.reactor.now, Underway(harness.reactor.now))
    harness.tick(times=40)
    assert a.capacity < 0.2 * 8 / 0.01, "it takes two seconds over one item"


def test_errors_say_nothing_of_how_fast_a_member_is(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    for _ in range(20):
        harness.serve(a, 5, 0.01)
        for _ in range(4):
            a.erred()
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
    a.erred()
    assert chosen(host_set, 10) == ["b"] * 10
    assert harness.registry.loads()[0].failed == 1


def test_a_burst_of_errors_is_one_event(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    drawn: list[float] = []
    monkeypatch.setattr(HostSet, "settle", lambda self, now: drawn.append(now))
    host_set._settled_at = harness.reactor.now
    for _ in range(100):
        host_set.hosts[0].erred()
    assert drawn == []
    harness.pass_time(2 * AT_ONCE_S)
    host_set.hosts[0].erred()
    assert len(drawn) == 1


def test_after_errors_the_choice_of_a_large_host_set_is_made_anew_less_often(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    host_set = harness.host_set(*map(str, range(200)), balance=Policy.LOAD_AWARE)
    drawn: list[float] = []
    monkeypatch.setattr(HostSet, "settle", lambda self, now: drawn.append(now))
    host_set._settled_at = harness.reactor.now
    harness.pass_time(9 * AT_ONCE_S)
    host_set.hosts[0].erred()
    assert drawn == []
    harness.pass_time(2 * AT_ONCE_S)
    host_set.hosts[0].erred()
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
    one, reporter = harness.host_set(member("a", parents=4), child("c", parents=4)).hosts
    assert one is a
    assert (a.estimate.parents, a.estimate.parents, a.share) == (4, 4, 0.25)
    harness.report("c", Echo(0, 0), arrivals=0)
    harness.report("c", Echo(0, 100), arrivals=100)
    harness.tick()
    learnt = reporter.share
    assert learnt > 0.25
    harness.host_set(child("c", parents=8))
    assert reporter.share == learnt, "what reports tell is nearer to the truth"


# What children report.


def reported_on(harness: Harness, kind: Kind = Kind.L7) -> HostSet:
    """Two children of equal capacity, of which nothing else is known."""
    host_set = harness.host_set(child("a"), child("b"), kind=kind, balance=Policy.LOAD_AWARE)
    harness.tick(FULL_AFTER_S)
    for name in ("a", "b"):
        harness.report(name, capacity=100.0, response_s=1.0)
    return host_set


def test_a_report_moves_the_choice(harness: Harness) -> None:
    host_set = reported_on(harness)
    assert set(chosen(host_set, 10)) == {"a", "b"}
    harness.report("a", capacity=100.0, in_flight=30, response_s=1.0)
    assert chosen(host_set, 10) == ["b"] * 10
    harness.report("b", capacity=100.0, in_flight=60, response_s=1.0)
    assert chosen(host_set, 10) == ["a"] * 10


NEWS = [({"capacity": 50.0}, True), ({"ready_leaves": 1}, True), ({}, False), ({"in_flight": 30}, False)]


@pytest.mark.parametrize(("said", "at_once"), NEWS)
def test_what_a_parent_acts_on_at_once_does_not_wait_for_the_next_tick(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, said: dict[str, Any], at_once: bool
) -> None:
    reported_on(harness)
    harness.pass_time(2 * AT_ONCE_S)
    drawn: list[float] = []
    monkeypatch.setattr(HostSet, "settle", lambda self, now: drawn.append(now))
    harness.registry.note_report("a", SubtreeLoad(**{"capacity": 100.0, "response_s": 1.0, **said}), Echo())
    assert bool(drawn) is at_once
    harness.tick()
    assert drawn


def test_the_own_items_in_a_report_are_not_counted_twice(harness: Harness) -> None:
    host_set = reported_on(harness)
    harness.report("a", Echo(in_flight=30), capacity=100.0, in_flight=30, response_s=1.0)
    assert set(chosen(host_set, 10)) == {"a", "b"}


def test_twice_the_capacity_gets_twice_the_items(harness: Harness) -> None:
    host_set = reported_on(harness)
    harness.report("a", capacity=200.0, response_s=1.0)
    for _ in range(300):
        host = host_set.choose()
        assert host is not None
        host.begin()
    assert by_name(host_set)["a"].in_flight == pytest.approx(200, abs=3)


@pytest.mark.parametrize("kind", Kind)
def test_a_slow_child_that_is_sent_nothing_gets_one_item_after_a_while(harness: Harness, kind: Kind) -> None:
    host_set = reported_on(harness, kind)
    a, b = host_set.hosts
    b.begin()
    for _ in range(4):
        harness.report("a", capacity=10.0)
        harness.report("b", capacity=1000.0, in_flight=1, connections=1, response_s=0.001)
        assert host_set.choose() is b
        harness.tick(times=10)
    harness.tick()
    assert host_set.choose() is a
    a.begin()
    assert host_set.choose() is b


def test_a_slow_child_that_others_send_to_is_not_tried(harness: Harness) -> None:
    host_set = reported_on(harness)
    _, b = host_set.hosts
    b.begin()
    for _ in range(10):
        harness.report("a", capacity=10.0, in_flight=1)
        harness.report("b", capacity=1000.0, in_flight=1)
        harness.tick(times=10)
        assert host_set.choose() is b


def test_a_report_of_a_stranger_is_passed_over(harness: Harness) -> None:
    reported_on(harness)
    harness.registry.note_report("c", SubtreeLoad(capacity=1e9), Echo(5, 5, 5))
    harness.registry.note_lost("c")
    assert harness.registry.guidance("c", harness.reactor.now) is None
    assert [load.name for load in harness.registry.loads()] == ["a", "b"]


def test_a_child_that_drains_gets_nothing_new_and_comes_back(harness: Harness) -> None:
    host_set = reported_on(harness)
    harness.report("a", draining=True)
    assert available(host_set) == ["b"]
    assert harness.registry.loads()[0].availability == "draining"
    harness.report("a", draining=True)
    harness.report("a")
    assert available(host_set) == ["a", "b"]
    assert harness.changes == [("drains", "a"), ("returned", "a")]


def test_a_child_with_nothing_ready_below_it_gets_nothing_and_starts_slowly_when_it_is_back(harness: Harness) -> None:
    host_set = reported_on(harness)
    harness.report("a", ready_leaves=0, leaves=2)
    assert (available(host_set), harness.registry.loads()[0].availability) == (["b"], "unhealthy")
    harness.report("a", ready_leaves=0, leaves=2)
    harness.report("a", ready_leaves=1, leaves=2)
    assert available(host_set) == ["a", "b"]
    assert harness.changes == [("unhealthy", "a"), ("restored", "a")]
    assert by_name(host_set)["a"].estimate.joined == harness.reactor.now


def test_children_with_nothing_ready_below_all_of_them_are_all_asked(harness: Harness) -> None:
    host_set = reported_on(harness)
    for name in ("a", "b"):
        harness.report(name, ready_leaves=0, leaves=2)
    assert available(host_set) == ["a", "b"]


def test_what_a_lost_child_said_of_its_leaves_holds_no_longer_when_it_is_heard_again(harness: Harness) -> None:
    host_set = reported_on(harness)
    harness.report("a", ready_leaves=0, leaves=2)
    harness.registry.note_lost("a")
    harness.report("a", ready_leaves=2, leaves=2)
    assert available(host_set) == ["a", "b"]


def test_when_all_children_drain_nobody_is_chosen(harness: Harness) -> None:
    host_set = reported_on(harness)
    for name in ("a", "b"):
        harness.report(name, draining=True)
    assert host_set.choose() is None


def test_a_child_that_still_drains_when_it_is_heard_again_gets_nothing(harness: Harness) -> None:
    reported_on(harness)
    harness.report("a", draining=True)
    harness.registry.note_lost("a")
    host_set = harness.host_set(child("a"), child("b"))
    harness.report("a", draining=True)
    assert available(host_set) == ["b"]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("response_s", [0.05, 1.0])
def test_a_child_whose_control_connection_is_lost_keeps_its_part(
    harness: Harness, kind: Kind, response_s: float
) -> None:
    host_set = reported_on(harness, kind)
    a, _ = host_set.hosts
    for _ in range(20):
        for name in ("a", "b"):
            harness.report(name, Echo(5, 100, 50), capacity=100.0, in_flight=5, connections=50, response_s=response_s)
    harness.registry.note_lost("a")
    harness.tick()
    for _ in range(100):
        host = host_set.choose()
        assert host is not None
        host.begin()
    assert available(host_set) == ["a", "b"]
    assert 25 <= a.in_flight <= 75


@pytest.mark.parametrize(
    ("response_s", "capacity", "least", "most"),
    [(0.002, 3000.0, 40, 60), (0.02, 300.0, 0, 5)],
    ids=["chance", "far slower"],
)
def test_connections_that_come_at_once_are_shared_unless_one_child_is_far_slower(
    harness: Harness, response_s: float, capacity: float, least: int, most: int
) -> None:
    """Those that are there ask next to nothing, so no report tells what the new ones will ask."""
    host_set = reported_on(harness, Kind.L4)
    a, _ = host_set.hosts
    for _ in range(40):
        harness.report("a", Echo(0, 100, 50), capacity=capacity, connections=50, response_s=response_s)
        harness.report("b", Echo(0, 100, 50), capacity=3000.0, connections=50, response_s=0.001)
    harness.tick()
    for _ in range(100):
        host = host_set.choose()
        assert host is not None
        host.begin()
    assert least <= a.in_flight <= most


def test_a_child_that_came_to_others_gets_nothing_before_it_has_said_a_word(harness: Harness) -> None:
    """It may have nobody to send to yet."""
    reported_on(harness)
    host_set = harness.host_set(*(child(name) for name in "abcde"), balance=Policy.LOAD_AWARE)
    harness.tick()
    assert available(host_set) == ["a", "b"]
    harness.report("c", capacity=100.0)
    harness.report("d", leaves=1, ready_leaves=0)
    assert available(host_set) == ["a", "b", "c"]
    assert [load.availability for load in harness.registry.loads()][2:] == ["available", "unhealthy", "awaited"]
    harness.tick(AWAITED_S)
    assert available(host_set)[-1] == "e", "its data path may work"


def test_a_child_whose_process_is_another_one_gets_nothing_before_that_has_said_a_word(harness: Harness) -> None:
    host_set = reported_on(harness)
    a = by_name(host_set)["a"]
    a.connect_failed(refused=True)
    harness.registry.note_lost("a")
    a.connected()
    assert (available(host_set), a.availability.value) == (["b"], "awaited")
    harness.report("a", capacity=100.0)
    harness.registry.note_lost("a")
    assert available(host_set) == ["a", "b"], "its data path works without the connection"


def test_a_child_that_could_not_be_reached_but_reports_is_back_at_once(harness: Harness) -> None:
    host_set = reported_on(harness)
    a = by_name(host_set)["a"]
    a.connect_failed(refused=True)
    a.connected()
    assert available(host_set) == ["a", "b"]


def test_children_that_came_with_the_first_configuration_need_not_have_said_anything(harness: Harness) -> None:
    host_set = harness.host_set(child("a"), child("b"))
    assert available(host_set) == ["a", "b"]
    harness.report("a")
    assert available(host_set) == ["a", "b"], "the one that is first would get everything"


def test_where_all_children_are_new_they_are_used_unheard(harness: Harness) -> None:
    reported_on(harness)
    assert available(harness.host_set(child("c"), child("d"))) == ["c", "d"]


def test_an_endpoint_that_comes_to_others_is_not_waited_for(harness: Harness) -> None:
    reported_on(harness)
    assert available(harness.host_set(child("a"), child("b"), member("c", reports=True))) == ["a", "b", "c"]


def test_a_child_that_falls_silent_on_an_open_connection_is_passed_over_until_it_speaks(harness: Harness) -> None:
    host_set = reported_on(harness)
    for _ in range(5):
        harness.tick(1.0)
        harness.report("b", capacity=100.0)
    assert available(host_set) == ["b"]
    harness.report("a", capacity=100.0)
    assert available(host_set) == ["a", "b"]


def test_children_are_compared_once_for_all_of_them_for_a_while(harness: Harness) -> None:
    reported_on(harness)
    harness.report("a", capacity=100.0, utilisation=0.2)
    harness.report("b", capacity=100.0, utilisation=0.6)
    now = harness.reactor.now
    first = harness.registry.guidance("a", now)
    assert first is not None
    assert first.target == pytest.approx(0.4)
    harness.report("b", capacity=100.0, utilisation=1.0)
    assert harness.registry.guidance("a", now) is first
    assert harness.registry.guidance("b", now) == first
    later = harness.registry.guidance("b", now + 1)
    assert later is not None
    assert later.target == pytest.approx(0.6)


def test_who_is_lost_or_leaving_is_no_sibling(harness: Harness) -> None:
    reported_on(harness)
    harness.report("a", capacity=100.0, utilisation=0.2)
    harness.report("b", capacity=100.0, utilisation=0.6, draining=True)
    guidance = harness.registry.guidance("a", harness.reactor.now)
    assert guidance is not None
    assert guidance.target == pytest.approx(0.2)
    harness.registry.note_lost("a")
    assert harness.registry.guidance("a", harness.reactor.now + 1) is None


# What an l4 node knows of requests.


def requests_below(harness: Harness) -> tuple[bool, int, int]:
    below = harness.registry.requests_below
    return below.counted, below.in_flight, below.arrivals


def test_requests_are_counted_by_the_echoes_of_children(harness: Harness) -> None:
    reported_on(harness, Kind.L4)
    harness.report("a", Echo(3, 10, 1))
    harness.report("b", Echo(2, 20, 1))
    harness.report("a", Echo(1, 15, 1))
    assert requests_below(harness) == (True, 3, 35)


def test_a_child_that_has_restarted_counts_anew(harness: Harness) -> None:
    reported_on(harness, Kind.L4)
    harness.report("a", Echo(3, 10, 1))
    harness.registry.note_lost("a")
    assert requests_below(harness) == (True, 0, 10)
    harness.report("a", Echo(1, 4, 1))
    assert requests_below(harness) == (True, 1, 14)


def test_requests_of_before_a_child_was_a_member_do_not_count(harness: Harness) -> None:
    """It goes on counting while it is none, or while this node is started again."""
    harness.host_set(child("a"), child("b"), kind=Kind.L4)
    harness.report("a", Echo(3, 1000, 1))
    assert requests_below(harness) == (True, 3, 0)
    harness.report("a", Echo(1, 1010, 1, 1))
    harness.host_set(child("b"), kind=Kind.L4)
    harness.host_set(child("a"), child("b"), kind=Kind.L4)
    harness.report("a", Echo(2, 1030, 1, 1))
    harness.report("a", Echo(1, 1034, 1))
    assert requests_below(harness) == (True, 1, 14)
    assert harness.registry.requests_below.parked == 0


def test_what_was_in_flight_at_a_child_that_left_is_in_flight_no_more(harness: Harness) -> None:
    reported_on(harness, Kind.L4)
    harness.report("a", Echo(3, 10, 1))
    harness.report("b", Echo(2, 20, 1))
    harness.host_set(child("b"), kind=Kind.L4)
    assert requests_below(harness) == (True, 2, 30)


def test_an_l7_node_counts_for_itself(harness: Harness) -> None:
    reported_on(harness)
    harness.report("a", Echo(3, 10, 1))
    assert requests_below(harness) == (False, 0, 0)


def test_shares_at_l4_are_of_requests_where_children_count_them(harness: Harness) -> None:
    host_set = reported_on(harness, Kind.L4)
    for host in host_set.hosts:
        host.done = 10
    harness.tick(SHARE_S)
    harness.report("a", Echo(0, 100, 10))
    harness.report("b", Echo(0, 300, 10))
    harness.tick(SHARE_S)
    harness.report("a", Echo(0, 200, 10))
    harness.report("b", Echo(0, 600, 10))
    harness.tick(SHARE_S)
    assert [load.share for load in harness.registry.loads()] == [0.25, 0.75]


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
    host_set = harness.host_set(member("a", admin=admin), member("b", admin=admin))
    assert host_set.choose() is None
    again = harness.host_set(member("a", admin=admin), "b")
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
    a = harness.host_set(member("a", weight=3.0), "b").hosts[0]
    for line in lines:
        a.agent_says(parse(line.encode() + b"\n"))
    assert (a.availability.value, a.weight) == (availability, pytest.approx(3.0 * part))
    again = harness.host_set(member("a", weight=5.0), "b").hosts[0]
    assert (again.availability.value, again.weight) == (availability, pytest.approx(5.0 * part))


def test_maxconn_is_how_many_items_a_member_works_on_at_a_time(harness: Harness) -> None:
    a = harness.host_set("a").hosts[0]
    a.agent_says(parse(b"maxconn:3\n"))
    assert (a.estimate.slots, a.cap) == (3, 3)
    a.agent_says(parse(b"up\n"))
    assert (a.estimate.slots, a.cap) == (3, 3)
    a.agent_says(parse(b"maxconn:0\n"))
    assert (a.estimate.slots, a.cap) == (3, NO_CAP)


CAPS = [(9, 1, 9), (9, 2, 4), (9, 4, 2), (9, 20, 1), (1, 1, 1)]


@pytest.mark.parametrize(("maxconn", "parents", "cap"), CAPS)
def test_parents_share_what_an_agent_allows(harness: Harness, maxconn: int, parents: int, cap: int) -> None:
    a = harness.host_set("a").hosts[0]
    a.agent_says(parse(b"maxconn:%d\n" % maxconn))
    again = harness.host_set(member("a", parents=parents)).hosts[0]
    assert (again is a, a.cap) == (True, cap)


@pytest.mark.parametrize("policy", Policy)
def test_no_policy_sends_more_than_a_members_agent_allows(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    a, b = host_set.hosts
    a.agent_says(parse(b"maxconn:2\n"))
    b.agent_says(parse(b"maxconn:3\n"))
    for number in range(5):
        host = host_set.choose(key=number * 7919)
        assert host is not None
        host.begin()
    assert (a.in_flight, b.in_flight) == (2, 3)
    assert host_set.choose() is None
    assert not host_set.has_other(())
    assert host_set.why_none() == "every host of app is at the maxconn that its agent set"
    a.finish()
    assert host_set.choose() is a
    assert host_set.choose((a,)) is None
    b.agent_gone()
    assert host_set.choose((a,)) is b


def test_one_that_is_down_is_no_help_while_others_are_merely_full(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, b = host_set.hosts
    b.checked(False)
    a.agent_says(parse(b"maxconn:1\n"))
    a.begin()
    assert host_set.choose() is None
    assert host_set.why_none() == "no host of app can be used: 1 full, 1 unhealthy"
    a.finish()
    assert host_set.choose((a,)) is b, "it was tried, so what is left is"


@pytest.mark.parametrize("policy", Policy)
def test_a_reserve_gets_items_only_while_nobody_before_it_is_available(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", member("c", level=1), member("d", level=1, weight=3.0), balance=policy)
    a, b, _, _ = host_set.hosts

    def used() -> set[str]:
        rng = random.Random(1)
        found = {host_set.choose((), rng.getrandbits(64)) for _ in range(200)}
        return {host.name for host in found if host is not None}

    assert used() == {"a", "b"}
    a.checked(False)
    assert used() == {"b"}
    b.agent_says(parse(b"0%\n"))
    assert used() == {"c", "d"}
    a.checked(True)
    assert used() == {"a"}
    found = host_set.choose((a,))
    assert found is not None
    assert found.member.level == 1, "who is tried again may go to the reserve"


NON_HASH = [policy for policy in Policy if policy is not Policy.MAGLEV]


def share_of(host_set: HostSet, name: str, count: int = 2000) -> float:
    """Of one item after the other, all answered alike fast; the clock goes on and the registry ticks."""
    rng = random.Random(4)
    picked = 0
    for number in range(count):
        host = host_set.choose((), rng.getrandbits(64))
        assert host is not None
        picked += host.name == name
        host.peak.observe(host.registry.reactor.now, 0.01)
        if number % 20 == 0:
            host.registry.reactor.now += 0.05
            host.registry.tick(host.registry.reactor.now)
    return picked / count


@pytest.mark.parametrize("policy", Policy)
def test_a_snapshot_with_other_weights_takes_effect_at_once(harness: Harness, policy: Policy) -> None:
    def share(a: float, b: float) -> float:
        return share_of(harness.host_set(member("a", weight=a), member("b", weight=b), balance=policy), "a")

    assert share(1, 1) == pytest.approx(0.5, abs=0.05)
    assert share(4, 1) == pytest.approx(0.8, abs=0.04)
    assert share(0, 1) == 0
    assert share(1, 3) == pytest.approx(0.25, abs=0.04)
    assert share(1, 0) == 1


@pytest.mark.parametrize("policy", Policy)
def test_an_agents_percentage_takes_effect_under_every_policy(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    a = host_set.hosts[0]
    a.agent_says(parse(b"weight:25%\n"))
    assert share_of(host_set, "a") == pytest.approx(0.2, abs=0.04)
    a.agent_says(parse(b"0%\n"))
    assert share_of(host_set, "a") == 0
    a.agent_says(parse(b"100%\n"))
    assert share_of(host_set, "a") == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("policy", [policy for policy in NON_HASH if policy is not Policy.LOAD_AWARE])
def test_what_endpoints_say_of_their_capacity_counts_in_their_weights(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", member("c", weight=0.5), balance=policy)

    def says(*rates: float) -> None:
        for host, rate in zip(host_set.hosts, rates, strict=True):
            host.estimate.state(harness.reactor.now, rate, 0.5, 0)
        host_set.settle(harness.reactor.now)

    says(400.0, 100.0, 400.0)
    assert [host.weight for host in host_set.hosts] == [1.0, 0.25, 0.5]
    assert share_of(host_set, "a", 1000) == pytest.approx(1 / 1.75, abs=0.05)
    says(120.0, 100.0, 100.0)
    assert [host.weight for host in host_set.hosts] == [1.0, 1.0, 0.5], "nearly the same is the same"
    says(400.0, 100.0, 400.0)
    host_set.hosts[1].agent_says(parse(b"50%\n"))
    assert host_set.hosts[1].weight == 0.125
    harness.pass_time(STATED_FOR_S + 0.1)
    host_set.settle(harness.reactor.now)
    assert [host.weight for host in host_set.hosts] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("policy", [Policy.LOAD_AWARE, Policy.MAGLEV])
def test_policies_that_know_capacity_or_keep_keys_leave_weights_alone(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    host_set.hosts[0].estimate.state(harness.reactor.now, 400.0, 0.5, 0)
    host_set.hosts[1].estimate.state(harness.reactor.now, 10.0, 0.5, 0)
    host_set.settle(harness.reactor.now)
    assert [host.weight for host in host_set.hosts] == [1.0, 1.0]
    assert host_set.hosts[0].capacity > 10 * host_set.hosts[1].capacity


WEIGHTS = st.sampled_from([0.0, 0.0, 1.0, 3.0, 1e-300, 1e6, 5e-324])
STATES = st.sampled_from(["ready", "drain", "maintenance", "ejected", "unhealthy", "agent 0%", "full", "said"])


@pytest.mark.parametrize("policy", [policy for policy in Policy if policy is not Policy.MAGLEV])
@given(hosts=st.lists(st.tuples(WEIGHTS, STATES), max_size=6), key=st.integers(0, 1 << 64), tried=st.integers(0, 3))
def test_any_weights_in_any_state_give_a_host_that_may_be_used_or_none(
    policy: Policy, hosts: list[tuple[float, str]], key: int, tried: int
) -> None:
    check_choice(policy, hosts, key, tried)


@given(hosts=st.lists(st.tuples(WEIGHTS, STATES), max_size=6), key=st.integers(0, 1 << 64), tried=st.integers(0, 3))
@settings(max_examples=10)
def test_tables_give_a_host_that_may_be_used_or_none_as_well(
    hosts: list[tuple[float, str]], key: int, tried: int
) -> None:
    check_choice(Policy.MAGLEV, hosts, key, tried)


def check_choice(policy: Policy, hosts: list[tuple[float, str]], key: int, tried: int) -> None:
    harness = Harness()
    admins = {"drain": Admin.DRAIN, "maintenance": Admin.MAINTENANCE}
    members = [
        member(f"m{number}", weight=weight, admin=admins.get(state, Admin.READY))
        for number, (weight, state) in enumerate(hosts)
    ]
    host_set = harness.host_set(*members, balance=policy)
    for host, (_, state) in zip(host_set.hosts, hosts, strict=True):
        if state == "ejected":
            host.connect_failed(refused=True)
        elif state == "unhealthy":
            host.checked(False)
        elif state == "agent 0%":
            host.agent_says(parse(b"0%\n"))
        elif state == "full":
            host.agent_says(parse(b"maxconn:1\n"))
            host.begin()
        elif state == "said":
            host.estimate.state(harness.reactor.now, 1e12, 0.1, 10**6)
    may = [
        host
        for host, (weight, state) in zip(host_set.hosts, hosts, strict=True)
        if weight > 0 and state not in ("drain", "maintenance", "agent 0%", "full")
    ]
    before = host_set.hosts[:tried]
    for _ in range(4):
        host = host_set.choose(before, key)
        assert host is None or (host in may and host not in before)
        assert host_set.has_other(before) is (host is not None)
        assert host is not None or host_set.why_none()
        harness.tick()
    if host_set.sound and any(each.availability.value == "available" for each in may if each not in before):
        assert host is not None


def test_an_operators_word_is_above_an_agents(harness: Harness) -> None:
    a = harness.host_set(member("a", admin=Admin.DRAIN), "b").hosts[0]
    a.agent_says(parse(b"ready up 100%\n"))
    assert a.availability.value == "draining"


def test_changes_by_an_agent_are_told_once(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    for line in (b"drain\n", b"drain\n", b"drain 40%\n"):
        a.agent_says(parse(line))
    assert harness.changes == [("changed by its agent", "a")]


def test_what_an_agent_said_is_forgotten_with_the_agent(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.agent_says(parse(b"down drain 10%\n"))
    a.agent_gone()
    assert available(host_set) == ["a", "b"]
    assert a.weight == 1.0


# Members that leave.


def test_a_member_that_left_is_not_asked_for_when_its_last_connect_fails(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    harness.host_set("b")
    for _ in range(FAILURES_TO_EJECT):
        a.connect_failed(refused=False)
    a.connect_failed(refused=True)
    a.checked(False)
    assert len(harness.reactor.wheel) == 0
    assert harness.changes == []


def test_what_ends_at_a_member_that_left_changes_no_lines_of_those_that_stay(harness: Harness) -> None:
    """They would be in units of the host set that it was in, and not comparable with those of newcomers."""
    a, _ = harness.host_set(member("a", weight=10), "b", balance=Policy.LOAD_AWARE).hosts
    item = Underway(harness.reactor.now)
    a.begin_item(harness.reactor.now, item, long=True)
    b, c = harness.host_set("b", "c", balance=Policy.LOAD_AWARE).hosts
    harness.tick(FULL_AFTER_S)
    assert b.slope == c.slope
    harness.pass_time(1.0)
    a.in_flight -= 1
    a.unpark(item)
    assert b.slope == c.slope


def test_nodes_that_are_no_longer_given_the_same_connections_do_not_share_what_is_known_of_their_work(
    harness: Harness,
) -> None:
    a, b = child("a", "web"), child("b", "api")
    (host_set,) = harness.host_sets(Destination(1, ("web", "api"), (a, b)), kind=Kind.L4)
    common = host_set.hosts[0].estimate.work
    assert host_set.hosts[1].estimate.work is common
    first, second = harness.host_sets(Destination(1, ("api",), (b,)), Destination(1, ("web",), (a,)), kind=Kind.L4)
    assert first.hosts[0].estimate.work is common
    assert second.hosts[0].estimate.work is not common
    harness.host_sets(Destination(1, ("web",), (a,)), Destination(1, ("api",), (b,)), kind=Kind.L4)
    assert first.hosts[0].estimate.work is common


def test_a_member_that_comes_again_begins_anew(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    a.done = 7
    harness.host_set("b")
    again = harness.host_set("a", "b").hosts[0]
    assert again is not a
    assert (again.done, again.retired, a.retired) == (0, False, True)


@pytest.mark.parametrize("part", ["learn_together", "Kinds.learn", "Host.learn"])
def test_lines_are_drawn_though_a_part_of_the_tick_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    errors: list[Exception] = []
    harness.registry.on_error = errors.append

    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(f"tierlb.dataplane.upstream.registry.{part}", fails)
    a, b = host_set.hosts
    a.weight = 0.1
    harness.tick()
    assert errors
    assert a.slope == pytest.approx(10 * b.slope)


def test_an_error_as_lines_are_drawn_does_not_keep_a_parked_item_from_ending(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = harness.host_set("a").hosts[0]
    item = Underway(harness.reactor.now)
    a.begin_item(harness.reactor.now, item, long=True)
    errors: list[Exception] = []
    harness.registry.on_error = errors.append

    def fails(_: HostSet, __: float) -> None:
        raise ValueError

    monkeypatch.setattr(HostSet, "settle_at_once", fails)
    a.unpark(item)
    assert (a.parked, len(errors)) == (0, 1)
