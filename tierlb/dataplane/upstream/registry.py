"""All upstream hosts of a node, across snapshots: who comes, stays and leaves, and what children report.

`HostRegistry` keeps one `Host` per host name and address, builds the host sets of each snapshot, and has all hosts
learn from what happened in every tick.
"""

import random
from collections.abc import Callable, Iterable, Mapping, Sequence

import attrs

from tierlb.balance.availability import Availability
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.counted_host import learn_together
from tierlb.balance.kinds import Kinds, Work
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.dataplane.upstream import recovery as recovery
from tierlb.dataplane.upstream.host import AWAITED_S, Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.outliers import Outliers, watched
from tierlb.model.load import Echo, Guidance, HostLoad, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Snapshot
from tierlb.model.topology import HealthCheck, Kind, Policy, Timeouts
from tierlb.net.reactor import Reactor
from tierlb.net.self_connect import local_ports
from tierlb.net.shortage import Shortages
from tierlb.telemetry.pace import is_news

SHARE_S = 1.0
KNOW_CAPACITY = (Policy.LOAD_AWARE, Policy.MAGLEV)
"""Policies whose weights are left alone by what endpoints say of their capacities: the one goes by capacity anyway, and
at the other each change moves keys."""


@attrs.define
class RequestsBelow:
    """Requests that this node's children, which count them, had from it: what an l4 node knows of requests.

    `counted` is false where nobody below counts requests. `arrivals` only grows. `parked`: of those in flight.
    """

    counted: bool = False
    in_flight: int = 0
    arrivals: int = 0
    parked: int = 0

    def take(self, before: Echo, echo: Echo, *, first: bool) -> None:
        """A child's echo after that of its last report. Counters that went back mean that it has restarted. The `first`
        one may tell of all that this node sent there before it restarted, or before the child was a host again."""
        self.counted = True
        if not first:
            self.arrivals += echo.arrivals - before.arrivals if echo.arrivals >= before.arrivals else echo.arrivals
        self.in_flight = max(0, self.in_flight + echo.in_flight - before.in_flight)
        self.parked = max(0, self.parked + echo.parked - before.parked)

    def lose(self, last: Echo) -> None:
        """What was in flight at a child that is not heard any more."""
        self.in_flight = max(0, self.in_flight - last.in_flight)
        self.parked = max(0, self.parked - last.parked)


class HostRegistry:
    """All hosts of a node."""

    def __init__(
        self,
        reactor: Reactor,
        rng: random.Random,
        on_change: Callable[[str, Host], None],
        shortages: Shortages | None = None,
        before_tick: Callable[[float], object] = lambda now: None,
    ) -> None:
        self._before_tick = before_tick
        self.shortages = shortages or Shortages()
        self.local_ports = local_ports()
        self.connect_s = Timeouts().connect
        self.checks: dict[str, HealthCheck] = {}
        self.outliers: dict[str, Outliers] = {}
        self.kinds = Kinds()
        self._work: dict[tuple[str, ...], Work] = {}
        self._siblings: list[list[Host]] = []
        self._ticked_at = reactor.now
        self.recovery: recovery.Recovery | None = None
        self.reactor = reactor
        self.rng = rng
        self.on_change = on_change
        self.on_error: Callable[[Exception], object] = reactor.report
        self.host_sets: list[HostSet] = []
        self._kind = Kind.L7
        self._hosts: dict[tuple[str, str], Host] = {}
        self._by_name: dict[str, list[Host]] = {}
        self._shares_at = 0.0
        self.requests_below = RequestsBelow()
        self.work_left_s: dict[str, float] = {}
        """Work of hosts that have left, by target: it stays part of the target's cumulative count."""

    def rebuild_host_sets(self, destinations: Iterable[Destination], snapshot: Snapshot) -> list[HostSet]:
        """Host sets for a new snapshot, parallel to `destinations`; hosts that are in none of them retire."""
        self._kind = snapshot.kind
        self.local_ports = local_ports()
        self.connect_s = snapshot.timeouts.connect
        self.checks = {pool.name: pool.health for pool in snapshot.pools if pool.health is not None}
        kept: dict[tuple[str, str], Host] = {}
        now = self.reactor.now
        host_sets = []
        for destination in destinations:
            chosen = tuple(self._keep(spec, kept) for spec in destination.hosts)
            chooser: Chooser[Host] = make_chooser(snapshot.balance, self.rng)
            by_statements = snapshot.balance not in KNOW_CAPACITY
            host_sets.append(HostSet(destination, chosen, chooser, now, by_statements=by_statements))
        for key, host in self._hosts.items():
            if key not in kept:
                host.retire()
                self._lose(host)
                target = host.spec.target
                self.work_left_s[target] = self.work_left_s.get(target, 0.0) + host.estimate.work_done_s
        self._hosts, self.host_sets = kept, host_sets
        by_target: dict[tuple[str, ...], list[Host]] = {}
        for host in kept.values():
            by_target.setdefault(self._doing(host.spec, host_sets), []).append(host)
        self._siblings = list(by_target.values())
        targets = {host.spec.target for host in kept.values()}
        self.work_left_s = {target: work_s for target, work_s in self.work_left_s.items() if target in targets}
        self._share_work(by_target)
        self._by_name = {}
        for host in kept.values():
            self._by_name.setdefault(host.name, []).append(host)
        for host in kept.values():
            host.host_sets = [host_set for host_set in host_sets if host in host_set.hosts]
        self.outliers = watched(self.outliers, kept.values(), snapshot, now)
        return host_sets

    def _doing(self, spec: HostSpec, host_sets: Iterable["HostSet"]) -> tuple[str, ...]:
        """What hosts that do the same work have in common: endpoints of a pool their target, and nodes that this one
        gives connections to all that these may go to, since each of them serves any."""
        if self._kind is Kind.L4:
            for host_set in host_sets:
                if spec.target in host_set.destination.targets:
                    return host_set.destination.targets
        return (spec.target,)

    def _share_work(self, siblings: Mapping[tuple[str, ...], Sequence[Host]]) -> None:
        """What is known of the work of hosts is known of all that do the same, and of no others: where those that did
        the same are parted, one part begins anew."""
        work = {key: self._work[key] for key in siblings if key in self._work}
        for key, hosts in siblings.items():
            if key not in work:
                known = hosts[0].estimate.work
                work[key] = Work() if any(known is each for each in work.values()) else known
        self._work = work
        for key, hosts in siblings.items():
            for spec in hosts:
                spec.estimate.work = self._work[key]

    def estimate_of(self, spec: HostSpec) -> LoadEstimate:
        """What is known of a host that has just come: nothing."""
        connections = self._kind is Kind.L4
        return LoadEstimate(
            reports=spec.reports,
            parents=spec.parents,
            joined=self.reactor.now,
            by_connection=connections and spec.reports,
            equal=connections,
            endpoint=not spec.child,
        )

    def _keep(self, spec: HostSpec, kept: dict[tuple[str, str], Host]) -> Host:
        key = (spec.name, str(spec.address))
        host = kept.get(key) or self._hosts.get(key) or self._newcomer(spec)
        host.host_sets = []
        host.take(spec)
        kept[key] = host
        return host

    def _newcomer(self, spec: HostSpec) -> Host:
        """At the start nobody was heard, and to wait for one would give everything to another."""
        return Host(spec, self, self.reactor.now + AWAITED_S if self.awaits(spec) else 0.0)

    def awaits(self, spec: HostSpec) -> bool:
        """Whether a node that is there (again) is to say a word first: others have."""
        return spec.child and any(other.estimate.connected for other in self._hosts.values())

    def tick(self, now: float) -> None:
        """Learn from what happened and work out all costs anew; every `balance.load_estimate.TICK_S`. A part that fails
        leaves the others as they are."""
        dt_s, self._ticked_at = now - self._ticked_at, now
        self._try(self.shortages.tick, now)
        self._try(self._before_tick, now)
        for outliers in self.outliers.values():
            self._try(outliers.tick, now)
        for host in self._hosts.values():
            self._try(host.learn, now)
        self._try(self.kinds.learn, now)
        for siblings in self._siblings:
            self._try(learn_together, siblings, dt_s)
        for host_set in self.host_sets:
            self._try(host_set.settle_in_turn, now)
        if now - self._shares_at >= SHARE_S:
            self._shares_at = now
            self._share_out()

    def _try(self, part: Callable[..., object], *given: object) -> None:
        try:
            part(*given)
        except Exception as error:
            self.on_error(error)

    def _share_out(self) -> None:
        """Each host's part of the items of the last second."""
        given = {c: c.given() - c.started for c in self._hosts.values()}
        total = sum(count for count in given.values() if count > 0)
        for host, count in given.items():
            host.recent_share = max(0, count) / total if total else 0.0
            host.started = host.given()

    def named(self, name: str) -> list[Host]:
        """The hosts of one host (two while it changes its address)."""
        return self._by_name.get(name, [])

    def note_report(self, name: str, load: SubtreeLoad, echo: Echo) -> None:
        """A child reported. Who is no host is passed over.

        What a parent would act on at once makes new lines at once, anything else with the next tick: to draw a
        hundred lines for each of four hundred reports a second would be most of what reports cost.
        """
        now = self.reactor.now
        for host in self.named(name):
            estimate = host.estimate
            known, connected, barren = estimate.heard, estimate.connected, estimate.barren
            left = known is not None and known.draining
            if self._kind is Kind.L4:
                self.requests_below.take(estimate.echo, echo, first=known is None)
            estimate.hear(now, load, echo)
            if known is None:
                host.started = host.given()
            host.awaited_until = 0.0
            if left != load.draining:
                host.assess("drains" if load.draining else "returned")
            elif estimate.barren is not barren:
                host.says_ready(not estimate.barren)
            elif not connected or host.availability is Availability.SILENT:
                host.assess()
            if known is None or not connected or is_news(known, load):
                for host_set in host.host_sets:
                    host_set.settle_at_once(now)

    def guidance(self, name: str, now: float) -> Guidance | None:
        """What a child is to know of its siblings; None for who is no host."""
        for host in self.named(name):
            for host_set in host.host_sets:
                return host_set.guidance(host, now)
        return None

    def note_lost(self, name: str) -> None:
        """A child's control socket is gone; its data path may well work."""
        for host in self.named(name):
            self._lose(host)

    def _lose(self, host: Host) -> None:
        """Nobody tells any more how many requests are in flight below it."""
        self.requests_below.lose(host.estimate.lose())

    def close(self) -> None:
        """The node ends."""
        for host in self._hosts.values():
            host.retire()
        self._hosts, self._by_name = {}, {}

    @property
    def hosts(self) -> Iterable[Host]:
        return self._hosts.values()

    def loads(self) -> tuple[HostLoad, ...]:
        now = self.reactor.now
        return tuple(host.load(now) for host in self._hosts.values())
