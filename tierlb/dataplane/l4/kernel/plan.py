"""What the rules of the kernel are to be: the hosts that may be sent to now, and the share of each."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

import attrs

from tierlb.balance.coming_shares import are_news, coming_shares, in_all
from tierlb.balance.slots import Slots, drawn, hashed, in_turn
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Policy

IN_TURN: Final = (Policy.ROUND_ROBIN, Policy.WEIGHTED)


@attrs.frozen
class KernelPlan:
    """`shares` are parallel to `hosts`, all together 1."""

    policy: Policy
    hosts: tuple[Host, ...] = ()
    shares: tuple[float, ...] = ()

    def replaces(self, before: "KernelPlan") -> bool:
        """Whether it differs enough from the one that is in force."""
        same = (self.policy, self.hosts) == (before.policy, before.hosts)
        return not same or are_news(before.shares, self.shares)

    @cached_property
    def slots(self) -> Slots | None:
        """Which numbers lead to which of the hosts; None without any."""
        if not self.hosts:
            return None
        if self.policy is Policy.MAGLEV:
            return hashed({host.name: share for host, share in zip(self.hosts, self.shares, strict=True)})
        return in_turn(self.shares) if self.policy in IN_TURN else drawn(self.shares)


def chosen_from(parts: Sequence[tuple[HostSet, float]]) -> tuple[Host, ...]:
    """The hosts that a plan is made of now, each once."""
    hosts = (host for host_set, _ in parts for host in host_set.available if host.in_flight < host.cap)
    return tuple(dict.fromkeys(hosts))


def kernel_plan(policy: Policy, parts: Sequence[tuple[HostSet, float]], expected: float) -> KernelPlan:
    """The shares of the connections that are `expected` from this node, over the host sets of a split."""
    shares: dict[Host, float] = {}
    for host_set, part in parts:
        hosts = [host for host in host_set.available if host.in_flight < host.cap]
        own = sum(host.share for host in hosts) / len(hosts) if hosts else 1.0
        for host, share in zip(hosts, coming_shares(policy, hosts, expected * part / own), strict=True):
            shares[host] = shares.get(host, 0.0) + part * share
    return _in_order(policy, shares)


def _in_order(policy: Policy, shares: Mapping[Host, float]) -> KernelPlan:
    given = {host: share for host, share in shares.items() if share > 0}
    return KernelPlan(policy, tuple(given), tuple(in_all(list(given.values()))) if given else ())
