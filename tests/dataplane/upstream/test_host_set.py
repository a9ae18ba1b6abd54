"""One destination: who is chosen, by which policy and weights, and who is not."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dataplane.registries import Harness, available, by_name, destination, host_spec
from tierlb.balance.stated_capacity import STATED_FOR_S
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Admin, Policy
from tierlb.wire.agent_check import parse_reply


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
    a.reach.connect_failed(refused=True)
    assert available(host_set) == ["b", "c"]
    assert host_set.choose((b, c)) is a


def test_more_than_half_ejected_is_not_believed(harness: Harness) -> None:
    host_set = harness.host_set("a", "b", "c")
    a, b, _ = host_set.hosts
    a.reach.connect_failed(refused=True)
    b.reach.connect_failed(refused=True)
    assert available(host_set) == ["a", "b", "c"]
    assert [load.availability for load in harness.registry.loads()] == ["ejected", "ejected", "available"]


def test_a_success_restores_a_member(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, _ = host_set.hosts
    a.reach.connect_failed(refused=True)
    a.reach.connected()
    assert available(host_set) == ["a", "b"]
    assert harness.changes == [("ejected", "a"), ("restored", "a")]


def test_an_ejection_counts_in_every_host_set_of_the_host(harness: Harness) -> None:
    one, two = harness.host_sets(destination("a", "b"), destination("a", "c"))
    assert one.hosts[0] is two.hosts[0]
    one.hosts[0].reach.connect_failed(refused=True)
    assert (available(one), available(two)) == (["b"], ["c"])


def test_choosing_another_is_possible_as_long_as_somebody_is_left(harness: Harness) -> None:
    host_set = harness.host_set("a", host_spec("b", admin=Admin.DRAIN), "c")
    a, b, c = host_set.hosts
    a.reach.connect_failed(refused=True)
    for tried, expected in [((), True), ((c,), True), ((a, c), False), ((a,), True), ((a, b, c), False)]:
        assert host_set.has_other(tried) is expected
        assert (host_set.choose(tried) is not None) is expected


@pytest.mark.parametrize("policy", Policy)
def test_no_policy_sends_more_than_a_members_agent_allows(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    a, b = host_set.hosts
    a.agent_replied(parse_reply(b"maxconn:2\n"))
    b.agent_replied(parse_reply(b"maxconn:3\n"))
    items: list[ConnectionTicket[Host]] = []
    for number in range(5):
        host = host_set.choose(key=number * 7919)
        assert host is not None
        items = [*items, harness.connects(host)]
    assert (a.in_flight, b.in_flight) == (2, 3)
    assert host_set.choose() is None
    assert not host_set.has_other(())
    assert host_set.why_none() == "every host of app is at the maxconn that its agent set"
    next(item for item in items if item.host is a).done(harness.reactor.now)
    assert host_set.choose() is a
    assert host_set.choose((a,)) is None
    b.agent_gone()
    assert host_set.choose((a,)) is b


def test_one_that_is_down_is_no_help_while_others_are_merely_full(harness: Harness) -> None:
    host_set = harness.host_set("a", "b")
    a, b = host_set.hosts
    b.checked(False)
    a.agent_replied(parse_reply(b"maxconn:1\n"))
    item = harness.connects(a)
    assert host_set.choose() is None
    assert host_set.why_none() == "no host of app can be used: 1 full, 1 unhealthy"
    item.done(harness.reactor.now)
    assert host_set.choose((a,)) is b, "it was tried, so what is left is"


@pytest.mark.parametrize("policy", Policy)
def test_a_reserve_gets_items_only_while_nobody_before_it_is_available(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", host_spec("c", level=1), host_spec("d", level=1, weight=3.0), balance=policy)
    a, b, _, _ = host_set.hosts

    def used() -> set[str]:
        rng = random.Random(1)
        found = {host_set.choose((), rng.getrandbits(64)) for _ in range(200)}
        return {host.name for host in found if host is not None}

    assert used() == {"a", "b"}
    a.checked(False)
    assert used() == {"b"}
    b.agent_replied(parse_reply(b"0%\n"))
    assert used() == {"c", "d"}
    a.checked(True)
    assert used() == {"a"}
    found = host_set.choose((a,))
    assert found is not None
    assert found.spec.level == 1, "who is tried again may go to the reserve"


NON_HASH = [policy for policy in Policy if policy is not Policy.MAGLEV]


def share_of(harness: Harness, host_set: HostSet, name: str, count: int = 2000) -> float:
    """Of one item after the other, all answered alike fast; the clock goes on and the registry ticks."""
    rng = random.Random(4)
    picked = 0
    for number in range(count):
        host = host_set.choose((), rng.getrandbits(64))
        assert host is not None
        picked += host.name == name
        host.peak.observe(harness.reactor.now, 0.01)
        if number % 20 == 0:
            harness.reactor.now += 0.05
            harness.registry.tick(harness.reactor.now)
    return picked / count


@pytest.mark.parametrize("policy", Policy)
def test_a_snapshot_with_other_weights_takes_effect_at_once(harness: Harness, policy: Policy) -> None:
    def share(a: float, b: float) -> float:
        return share_of(
            harness, harness.host_set(host_spec("a", weight=a), host_spec("b", weight=b), balance=policy), "a"
        )

    assert share(1, 1) == pytest.approx(0.5, abs=0.05)
    assert share(4, 1) == pytest.approx(0.8, abs=0.04)
    assert share(0, 1) == 0
    assert share(1, 3) == pytest.approx(0.25, abs=0.04)
    assert share(1, 0) == 1


@pytest.mark.parametrize("policy", Policy)
def test_an_agents_percentage_takes_effect_under_every_policy(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    a = host_set.hosts[0]
    a.agent_replied(parse_reply(b"weight:25%\n"))
    assert share_of(harness, host_set, "a") == pytest.approx(0.2, abs=0.04)
    a.agent_replied(parse_reply(b"0%\n"))
    assert share_of(harness, host_set, "a") == 0
    a.agent_replied(parse_reply(b"100%\n"))
    assert share_of(harness, host_set, "a") == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("policy", [policy for policy in NON_HASH if policy is not Policy.LOAD_AWARE])
def test_what_endpoints_say_of_their_capacity_counts_in_their_weights(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", host_spec("c", weight=0.5), balance=policy)

    def says(*rates: float) -> None:
        for host, rate in zip(host_set.hosts, rates, strict=True):
            host.estimate.note_stated(harness.reactor.now, rate, 0.5, 0)
        host_set.settle(harness.reactor.now)

    says(400.0, 100.0, 400.0)
    assert [host.weight for host in host_set.hosts] == [1.0, 0.25, 0.5]
    assert share_of(harness, host_set, "a", 1000) == pytest.approx(1 / 1.75, abs=0.05)
    says(120.0, 100.0, 100.0)
    assert [host.weight for host in host_set.hosts] == [1.0, 1.0, 0.5], "nearly the same is the same"
    says(400.0, 100.0, 400.0)
    host_set.hosts[1].agent_replied(parse_reply(b"50%\n"))
    assert host_set.hosts[1].weight == 0.125
    harness.pass_time(STATED_FOR_S + 0.1)
    host_set.settle(harness.reactor.now)
    assert [host.weight for host in host_set.hosts] == [1.0, 0.5, 0.5]


@pytest.mark.parametrize("policy", [Policy.LOAD_AWARE, Policy.MAGLEV])
def test_policies_that_know_capacity_or_keep_keys_leave_weights_alone(harness: Harness, policy: Policy) -> None:
    host_set = harness.host_set("a", "b", balance=policy)
    host_set.hosts[0].estimate.note_stated(harness.reactor.now, 400.0, 0.5, 0)
    host_set.hosts[1].estimate.note_stated(harness.reactor.now, 10.0, 0.5, 0)
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
    endpoints = [
        host_spec(f"m{number}", weight=weight, admin=admins.get(state, Admin.READY))
        for number, (weight, state) in enumerate(hosts)
    ]
    host_set = harness.host_set(*endpoints, balance=policy)
    for host, (_, state) in zip(host_set.hosts, hosts, strict=True):
        if state == "ejected":
            host.reach.connect_failed(refused=True)
        elif state == "unhealthy":
            host.checked(False)
        elif state == "agent 0%":
            host.agent_replied(parse_reply(b"0%\n"))
        elif state == "full":
            host.agent_replied(parse_reply(b"maxconn:1\n"))
            harness.connects(host)
        elif state == "said":
            host.estimate.note_stated(harness.reactor.now, 1e12, 0.1, 10**6)
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
