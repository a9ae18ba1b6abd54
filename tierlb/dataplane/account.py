"""What a node reports of itself and of all below it, from its own counts and its children's reports.

The formulas are telemetry's; here the live numbers are gathered for them. An l4 node over children that count requests
reports how many requests pass it, which it learns from their echoes: so all tiers above an l7 tier count the same
thing.
"""

import math
from collections.abc import Iterable, Mapping

import attrs

from tierlb.balance.availability import Availability
from tierlb.balance.counted_host import CountedHost
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.telemetry import aggregate
from tierlb.telemetry.aggregate import HostFigures, RecentRates, TargetFigures, TrafficMix, WorkRates, pools_down
from tierlb.telemetry.sketch import RecentSketch, Sketch
from tierlb.telemetry.utilisation import LoopUse, OwnCapacity, effort

UNFOUND = TargetFigures(0.0, (HostFigures(None, ready=False),))
"""Counts as a leaf that is not ready: a node that has no other gets nothing from parents that have a better choice."""


class Account:
    """`sample` every tick; the rest is worked out when it is asked for."""

    def __init__(self, counters: Counters, registry: HostRegistry, latencies: Sketch, now: float) -> None:
        self._counters = counters
        self._registry = registry
        self._rates = RecentRates()
        self._use = LoopUse()
        self._own = OwnCapacity()
        self._mix = TrafficMix()
        self._work = WorkRates()
        self._requests_s = 0.0
        self._counts_requests = False
        self._shared = 0
        self._sampled_at = now
        self.latencies = RecentSketch(latencies, now)

    @property
    def recent(self) -> aggregate.RecentRate:
        """Rates of the last second or so."""
        return self._rates.value

    @property
    def busy(self) -> float:
        """The event loop's share of the last second or so."""
        return self._use.busy

    def sample(self, now: float, waited_s: float) -> None:
        """Look at everything once; `waited_s` is how long the event loop has waited since the start."""
        below = self._registry.requests_below
        self._requests_s += max(0, below.in_flight - below.parked) * (now - self._sampled_at)
        self._sampled_at = now
        self._share_requests()
        if below.counted is not self._counts_requests:
            self._counts_requests = True
            self._rates, self._own = RecentRates(), OwnCapacity()  # it was connections that were counted until now
        counts = self._counts()
        self._rates.sample(now, counts)
        self._use.sample(now, waited_s)
        self._own.sample(now, waited_s, counts.done - counts.waited, self._effort(), parked=counts.parked > 0)
        self._work.sample(now, self._registry.work.done_s())
        self.latencies.turn(now)

    def subtree(self, now: float, *, draining: bool, unfound: int = 0) -> SubtreeLoad:
        """What is reported to all parents. `unfound`: pools with endpoints somewhere, of which none is known yet."""
        by_target: dict[str, list[Host]] = {}
        for host in self._registry.hosts:
            by_target.setdefault(host.spec.target, []).append(host)
        shares = self._mix.sample(now, {name: _given(hosts) for name, hosts in by_target.items()})
        targets = [
            TargetFigures(shares[name], _children(hosts, now), self._items_per_s(name, hosts[0]))
            for name, hosts in by_target.items()
        ]
        targets += [UNFOUND] * unfound
        return aggregate.aggregate(
            self._counts(),
            self._rates.value,
            self._use.busy,
            self._own.capacity,
            targets,
            own_age_s=self._own.age_s(now),
            draining=draining,
            down=_down(by_target),
            kinds=self._registry.kinds.counts.value(),
        )

    def _items_per_s(self, target: str, one: Host) -> float | None:
        """The work done lately, in standard items. Children count their own items, and of those of connections nothing
        is known."""
        rate, standard_s = self._work.rate(target), one.estimate.speed.work.standard_s
        return None if not one.estimate.traits.endpoint or rate is None or not standard_s else rate / standard_s

    def echo(self, parent: str) -> Echo:
        """What is reported to this one parent of its own part."""
        echo = self._counters.tallies.echo(parent)
        below = self._registry.requests_below
        if not below.counted:
            return echo
        total = self._counters.tallies.total()
        here = echo.connections / total.connections if total.connections else 0.0
        in_flight, parked = round(below.in_flight * here), round(below.parked * here)
        self._share_requests()
        return Echo(in_flight, self._counters.tallies.requests(parent), echo.connections, parked)

    def _share_requests(self) -> None:
        """Attribute the requests that came below since the last time to the parents, by their connections now."""
        arrivals = self._registry.requests_below.arrivals
        if arrivals > self._shared:
            self._counters.tallies.share_out(arrivals - self._shared)
            self._shared = arrivals

    def _counts(self) -> aggregate.NodeCounters:
        c, total, below = self._counters, self._counters.tallies.total(), self._registry.requests_below
        in_flight, arrivals, done, parked, waited = total.in_flight, total.arrivals, total.done, total.parked, c.waited
        kinds = self._registry.kinds
        timed, timed_s = c.timed + kinds.heads.count, c.seconds + kinds.heads.seconds
        if below.counted:
            in_flight, arrivals, parked, waited = below.in_flight, below.arrivals, below.parked, 0
            timed = done = max(0, arrivals - in_flight)
            timed_s = self._requests_s
        return aggregate.NodeCounters(
            in_flight,
            arrivals,
            done,
            c.errors,
            c.rejected,
            c.connections + c.forwarded,
            c.ended,
            timed,
            timed_s,
            c.lived_s,
            parked,
            waited,
            kinds.heads.count,
            kinds.heads.usual_s,
            kinds.heads.ratios,
        )

    def _effort(self) -> float:
        """What the event loop has done so far (telemetry.utilisation)."""
        c, reactor = self._counters, self._registry.context.reactor
        moved = c.bytes_in + c.bytes_out - c.piped_bytes + reactor.bulk.moved
        return effort(reactor.events, moved)


def _down(by_target: Mapping[str, list[Host]]) -> tuple[str, ...]:
    """The pools without an available endpoint, here and below."""
    pools = {name: hosts for name, hosts in by_target.items() if not hosts[0].spec.child}
    tiers = {name: hosts for name, hosts in by_target.items() if hosts[0].spec.child}
    return pools_down(
        {name: any(each.availability is Availability.AVAILABLE for each in hosts) for name, hosts in pools.items()},
        {
            name: [
                each.estimate.received.latest.down
                for each in hosts
                if each.estimate.received.latest is not None and each.estimate.received.connected
            ]
            for name, hosts in tiers.items()
        },
    )


def _given(hosts: Iterable[Host]) -> int:
    return sum(host.done + host.in_flight for host in hosts)


def _children(hosts: Iterable[Host], now: float) -> list[HostFigures]:
    """What stands in reserve while others are available adds nothing to what can be done now."""
    known = list(hosts)
    levels = [each.spec.level for each in known if each.availability is Availability.AVAILABLE]
    in_use = min(levels, default=math.inf)
    return [_child(host, now) for host in known if host.spec.level <= in_use]


def _child(host: Host, now: float) -> HostFigures:
    return child_of(host, now, ready=host.availability is Availability.AVAILABLE)


def child_of(host: CountedHost, now: float, *, ready: bool = True) -> HostFigures:
    """This node's part of the host: what several parents share is not counted several times."""
    estimate, load = host.estimate, host.estimate.received.latest
    known = estimate.capacity_to_report(now)
    slots = load.slots if load is not None else estimate.slots.value if estimate.knows_slots else 0.0
    child = HostFigures(
        None if known is None else known / estimate.received.share.parents,
        ready,
        capacity_age_s=estimate.capacity_age_s(now),
        slots=slots / estimate.received.share.parents,
        slowness=estimate.speed.slowness.value,
        answers=estimate.speed.slowness.recent,
        overdue=host.overdue / estimate.received.share.parents,
    )
    if load is None:
        return child
    age_s = (
        (estimate.received.age_s(now) or 0.0) if estimate.received.connected else 0.0
    )  # else its capacity is not from a report
    return attrs.evolve(child, hottest=load.hottest, age_s=age_s, ready_leaves=load.ready_leaves, leaves=load.leaves)
