"""Which hosts get which shares, and when that is news."""

import attrs
import pytest

from tests.dataplane.registries import Harness, destination, host_spec
from tierlb.balance.slots import Selector
from tierlb.dataplane.l4.kernel.plan import KernelPlan, chosen_from, kernel_plan
from tierlb.dataplane.upstream.split import Split
from tierlb.model.topology import Admin, Kind, Policy


def shares_of(made: KernelPlan) -> dict[str, float]:
    return {host.name: round(share, 4) for host, share in zip(made.hosts, made.shares, strict=True)}


@pytest.mark.parametrize(
    ("policy", "selector"),
    [(each, Selector.TURN) for each in (Policy.ROUND_ROBIN, Policy.WEIGHTED)]
    + [(Policy.MAGLEV, Selector.SOURCE)]
    + [(each, Selector.RANDOM) for each in (Policy.LOAD_AWARE, Policy.RANDOM, Policy.LEAST_REQUESTS)],
)
def test_each_policy_has_its_way_to_choose(policy: Policy, selector: Selector) -> None:
    harness = Harness()
    host_set = harness.host_set("a", "b", kind=Kind.L4, balance=policy)
    made = kernel_plan(policy, [(host_set, 1.0)], 100)
    assert shares_of(made) == {"a": 0.5, "b": 0.5}
    assert made.slots is not None
    assert made.slots.selector is selector


def test_a_split_and_the_weights_in_it_multiply() -> None:
    harness = Harness()
    first, second = destination(host_spec("a", weight=3.0), "b"), destination("b", "c")
    sets = harness.host_sets(
        attrs.evolve(first, weight=3.0), attrs.evolve(second, weight=1.0), kind=Kind.L4, balance=Policy.RANDOM
    )
    made = kernel_plan(Policy.RANDOM, Split(sets, harness.registry.rng).parts(), 100)
    assert shares_of(made) == {"a": 0.5625, "b": 0.3125, "c": 0.125}


def test_hosts_that_are_not_to_be_used_are_in_no_plan() -> None:
    harness = Harness()
    host_set = harness.host_set("a", host_spec("b", admin=Admin.DRAIN), host_spec("c", weight=0.0), "d", kind=Kind.L4)
    (full,) = harness.registry.named("d")
    full.cap, full.in_flight = 5, 5
    parts = [(host_set, 1.0)]
    assert [host.name for host in chosen_from(parts)] == ["a"]
    assert shares_of(kernel_plan(Policy.RANDOM, parts, 100)) == {"a": 1.0}


def test_without_hosts_there_are_no_slots() -> None:
    assert KernelPlan(Policy.RANDOM).slots is None
    assert kernel_plan(Policy.RANDOM, [], 100) == KernelPlan(Policy.RANDOM)


def test_other_hosts_or_another_policy_are_news_and_small_changes_are_not() -> None:
    harness = Harness()
    host_set = harness.host_set("a", "b", kind=Kind.L4)
    one, other = host_set.hosts
    before = KernelPlan(Policy.RANDOM, (one, other), (0.5, 0.5))
    assert not KernelPlan(Policy.RANDOM, (one, other), (0.52, 0.48)).replaces(before)
    assert KernelPlan(Policy.RANDOM, (one, other), (0.6, 0.4)).replaces(before)
    assert KernelPlan(Policy.RANDOM, (one,), (1.0,)).replaces(before)
    assert KernelPlan(Policy.MAGLEV, (one, other), (0.5, 0.5)).replaces(before)


def test_the_shares_are_of_all_connections_where_other_parents_send_too() -> None:
    """Each of four parents fills a quarter of the gap."""
    harness = Harness()
    host_set = harness.host_set(host_spec("a", parents=4), host_spec("b", parents=4), kind=Kind.L4)
    host_set.hosts[0].in_flight = 40
    few = kernel_plan(Policy.LEAST_REQUESTS, [(host_set, 1.0)], 10)
    assert shares_of(few) == {"a": 0.05, "b": 0.95}
    more = kernel_plan(Policy.LEAST_REQUESTS, [(host_set, 1.0)], 20)
    assert shares_of(more) == {"a": 0.275, "b": 0.725}
