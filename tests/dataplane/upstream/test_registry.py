"""All hosts of a node: across snapshots, by what children report, and as endpoints leave."""

import itertools
import math
from typing import Any

import pytest

from tests.dataplane.registries import Harness, Rebuilds, available, by_name, child, chosen, host_spec
from tierlb.balance.ejection import FAILURES_TO_EJECT, FIRST_EJECTION_S
from tierlb.balance.load_estimate import LEARN_TICK_S
from tierlb.balance.outlier import HostFault
from tierlb.balance.returning import FIRST_RETURN_REST_S, PROBE_S
from tierlb.balance.slow_start import FULL_AFTER_S
from tierlb.dataplane.upstream.host import FIRST_REPORT_S
from tierlb.dataplane.upstream.host_set import AT_ONCE_S, HostSet
from tierlb.dataplane.upstream.registry import SHARE_S
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec
from tierlb.model.topology import Kind, Policy
from tierlb.wire.agent_check import parse_reply


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_an_ejection_survives_a_new_snapshot(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.reach.connect_failed(refused=True)
    a.done = 7
    again = harness.host_set("b", "a", "c")
    assert available(again) == ["b", "c"]
    assert by_name(again)["a"] is a
    a.reach.connected()
    assert available(again) == ["b", "a", "c"]


def test_the_same_name_at_another_address_is_another_member(harness: Harness) -> None:
    host_set = harness.host_set("a")
    moved = Destination(1, ("app",), (HostSpec("a", "app", Address("127.0.0.1", 2)),))
    (again,) = harness.host_sets(moved)
    assert again.hosts[0] is not host_set.hosts[0]
    assert host_set.hosts[0].condition.retired


def test_a_member_that_left_is_not_probed(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a = host_set.hosts[0]
    a.reach.connect_failed(refused=True)
    harness.host_set("b")
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.reach.question is None
    assert len(harness.reactor.wheel) == 0


def test_a_restored_member_is_not_probed(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    a.reach.connect_failed(refused=True)
    a.reach.connected()
    harness.pass_time(FIRST_EJECTION_S * 2)
    assert a.reach.question is None
    assert not a.reach.ejection.ejected


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
    harness: Harness, said: dict[str, Any], at_once: bool
) -> None:
    drawn = Rebuilds(harness, reported_on(harness)).times
    harness.pass_time(2 * AT_ONCE_S)
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
        harness.connects(host)
    assert by_name(host_set)["a"].in_flight == pytest.approx(200, abs=3)


@pytest.mark.parametrize("kind", Kind)
def test_a_slow_child_that_is_sent_nothing_gets_one_item_after_a_while(harness: Harness, kind: Kind) -> None:
    host_set = reported_on(harness, kind)
    a, b = host_set.hosts
    harness.connects(b)
    for _ in range(4):
        harness.report("a", capacity=10.0)
        harness.report("b", capacity=1000.0, in_flight=1, connections=1, response_s=0.001)
        assert host_set.choose() is b
        harness.tick(times=10)
    harness.tick()
    assert host_set.choose() is a
    harness.connects(a)
    assert host_set.choose() is b


def test_a_slow_child_that_others_send_to_is_not_tried(harness: Harness) -> None:
    host_set = reported_on(harness)
    _, b = host_set.hosts
    harness.connects(b)
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
    assert harness.changes == [("drain_started", "a"), ("drain_ended", "a")]


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
        harness.connects(host)
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
        harness.connects(host)
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
    harness.tick(FIRST_REPORT_S)
    assert available(host_set)[-1] == "e", "its data path may work"


def test_a_child_whose_process_is_another_one_gets_nothing_before_that_has_said_a_word(harness: Harness) -> None:
    host_set = reported_on(harness)
    a = by_name(host_set)["a"]
    a.reach.connect_failed(refused=True)
    harness.registry.note_lost("a")
    a.reach.connected()
    assert (available(host_set), a.availability.value) == (["b"], "awaited")
    harness.report("a", capacity=100.0)
    harness.registry.note_lost("a")
    assert available(host_set) == ["a", "b"], "its data path works without the connection"


def test_a_child_that_could_not_be_reached_but_reports_is_back_at_once(harness: Harness) -> None:
    host_set = reported_on(harness)
    a = by_name(host_set)["a"]
    a.reach.connect_failed(refused=True)
    a.reach.connected()
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
    assert available(harness.host_set(child("a"), child("b"), host_spec("c", reports=True))) == ["a", "b", "c"]


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


# Endpoints that leave.


def test_a_member_that_left_is_not_asked_for_when_its_last_connect_fails(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    harness.host_set("b")
    for _ in range(FAILURES_TO_EJECT):
        a.reach.connect_failed(refused=False)
    a.reach.connect_failed(refused=True)
    a.checked(False)
    assert len(harness.reactor.wheel) == 0
    assert harness.changes == []


def test_what_ends_at_a_member_that_left_changes_no_lines_of_those_that_stay(harness: Harness) -> None:
    """They would be in units of the host set that it was in, and not comparable with those of newcomers."""
    a, _ = harness.host_set(host_spec("a", weight=10), "b", balance=Policy.LOAD_AWARE).hosts
    item = harness.begins(a, long=True)
    b, c = harness.host_set("b", "c", balance=Policy.LOAD_AWARE).hosts
    harness.tick(FULL_AFTER_S)
    assert b.slope == c.slope
    harness.pass_time(1.0)
    item.done(harness.reactor.now)
    assert b.slope == c.slope


def test_a_member_that_comes_again_begins_anew(harness: Harness) -> None:
    a = harness.host_set("a", "b").hosts[0]
    a.done = 7
    harness.host_set("b")
    again = harness.host_set("a", "b").hosts[0]
    assert again is not a
    assert (again.done, again.condition.retired, a.condition.retired) == (0, False, True)


@pytest.mark.parametrize("part", ["learn_together", "Kinds.learn", "Host.learn"])
def test_lines_are_drawn_though_a_part_of_the_tick_fails(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    host_set = harness.host_set("a", "b", balance=Policy.LOAD_AWARE)
    errors: list[Exception] = []
    harness.registry.context.on_error = errors.append

    def fails(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(f"tierlb.dataplane.upstream.registry.{part}", fails)
    a, b = host_set.hosts
    a.weight = 0.1
    harness.tick()
    assert errors
    assert a.slope == pytest.approx(10 * b.slope)


def test_an_error_as_lines_are_drawn_does_not_keep_a_parked_item_from_ending(harness: Harness) -> None:
    host_set = harness.host_set("a")
    a = host_set.hosts[0]
    item = harness.begins(a, long=True)
    errors: list[Exception] = []
    harness.registry.context.on_error = errors.append
    Rebuilds(harness, host_set, fails=True)
    harness.pass_time(2 * AT_ONCE_S)
    item.done(harness.reactor.now)
    assert (a.parked, len(errors)) == (0, 1)


# When it is to be looked at again.


def latest(harness: Harness) -> float:
    """After a tick: in how many seconds another one is needed if nothing happens."""
    harness.pass_time(0.05)
    return harness.registry.tick(harness.reactor.now) - harness.reactor.now


def test_a_node_without_items_needs_no_tick(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    assert latest(harness) == math.inf
    item = harness.begins(host_set.hosts[0])
    assert latest(harness) == 0, "an item that waits may be late, or be parked"
    item.park()
    assert latest(harness) == math.inf
    item.done(harness.reactor.now)
    assert latest(harness) == math.inf


def test_a_child_that_is_awaited_or_may_fall_silent_is_looked_at_in_time(harness: Harness) -> None:
    harness.host_set(child("a"))
    harness.registry.note_report("a", SubtreeLoad(capacity=1.0), Echo(), 2.0)
    silent_in_s = latest(harness)
    assert 2.0 < silent_in_s < 5.0
    harness.host_set(child("a"), child("b"))
    assert latest(harness) == pytest.approx(silent_in_s - 0.05)
    harness.tick(silent_in_s)
    assert [event for event, name in harness.changes if name == "a"] == ["silent"]
    assert 0 < latest(harness) < FIRST_REPORT_S, "the other one is still awaited"


def test_a_host_that_has_failed_is_looked_at_until_that_is_forgotten(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    (a, _) = host_set.hosts
    harness.begins(a).failed(harness.reactor.now, HostFault.ANSWER)
    assert latest(harness) == 0
    harness.tick(60.0)
    assert latest(harness) == math.inf


def test_what_changes_a_choice_ends_a_rest(harness: Harness) -> None:
    """A report that holds what the last one held does not."""
    beat = harness.reactor.beat
    (host,) = harness.host_set(child("a")).hosts
    beat.stirred = False

    def stirs(load: SubtreeLoad) -> bool:
        beat.stirred = False
        harness.registry.note_report("a", load, Echo(), 2.0)
        return beat.stirred

    assert [stirs(SubtreeLoad(arrivals=arrivals)) for arrivals in (1, 1, 2, 2)] == [True, False, True, False]
    beat.stirred = False
    host.checked(False)
    assert beat.stirred


def test_what_an_agent_changes_ends_a_rest(harness: Harness) -> None:
    """An answer that says what the last one said does not."""
    beat = harness.reactor.beat
    (host,) = harness.host_set("b").hosts
    for line, ends in ((b"maxconn:3\n", True), (b"maxconn:3 up\n", True), (b"maxconn:3\n", False)):
        beat.stirred = False
        host.agent_replied(parse_reply(line))
        assert beat.stirred is ends
    host.agent_gone()
    assert beat.stirred


def test_a_slow_child_is_looked_at_as_its_rests_and_probes_end_and_no_more_often(harness: Harness) -> None:
    slow, *_ = harness.host_set(child("a"), child("b"), child("c"), kind=Kind.L4).hosts
    for host in harness.registry.hosts:
        host.estimate.speed.slowness.believe(10.0 if host is slow else 1.0, 100.0)
    harness.tick()
    began = harness.reactor.now
    turns: list[float] = []
    for _ in range(20):
        before = slow.estimate.returning.probing
        wait_s = max(LEARN_TICK_S, latest(harness))
        if slow.estimate.returning.probing is not before:
            turns.append(harness.reactor.now - began)
        harness.pass_time(wait_s - LEARN_TICK_S)
    lasted = [after - before for before, after in itertools.pairwise([0.0, *turns])]
    assert len(lasted) >= 6
    assert lasted == pytest.approx([FIRST_RETURN_REST_S, PROBE_S] * (len(lasted) // 2), abs=2 * LEARN_TICK_S)
