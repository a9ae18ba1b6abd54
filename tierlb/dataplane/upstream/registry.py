"""All upstream hosts of a node, across snapshots: which come, stay and leave, and what children report.

`HostRegistry` keeps one `Host` per host name and address, builds the host sets of each snapshot, and has all hosts
learn from what happened in every tick.
"""

import random
from collections.abc import Callable, Iterable

import attrs

from tierlb.balance.availability import Availability
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import learn_together
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import HostTraits, LoadEstimate
from tierlb.balance.received_reports import ReceivedReports
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.host import Host, HostContext, load_of
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.dataplane.upstream.outliers import outliers_of
from tierlb.dataplane.upstream.recovery import Recovery
from tierlb.dataplane.upstream.shared_work import SharedWork
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, HostLoad, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Snapshot
from tierlb.model.topology import Kind, Policy
from tierlb.net.reactor import Reactor
from tierlb.net.self_connect import local_ports
from tierlb.net.shortage import Shortages
from tierlb.net.wheel import NEVER
from tierlb.telemetry.pace import is_alike, is_news

SHARE_S = 1.0
KNOW_CAPACITY = (Policy.LOAD_AWARE, Policy.MAGLEV)
"""Policies whose weights ignore the capacities that endpoints report: the one uses capacity anyway, and at the other
each change moves keys."""


@attrs.define
class RequestsBelow:
    """Requests that this node's children, which count them, got from it: an l4 node sees no requests itself.

    `counted` is false where no child counts requests. `arrivals` only grows. `parked`: of those in flight.
    """

    counted: bool = False
    in_flight: int = 0
    arrivals: int = 0
    parked: int = 0

    def take(self, before: Echo, echo: Echo, *, first: bool) -> None:
        """A child's echo after that of its last report. Counters that went back mean that it has restarted. The `first`
        one may count items that this node sent there before it restarted, or before the child was a host again."""
        self.counted = True
        if not first:
            self.arrivals += echo.arrivals - before.arrivals if echo.arrivals >= before.arrivals else echo.arrivals
        self.in_flight = max(0, self.in_flight + echo.in_flight - before.in_flight)
        self.parked = max(0, self.parked + echo.parked - before.parked)

    def lose(self, last: Echo) -> None:
        """What was in flight at a child that reports no more."""
        self.in_flight = max(0, self.in_flight - last.in_flight)
        self.parked = max(0, self.parked - last.parked)


@attrs.define
class RecentShares:
    """Each host's part of the items of the last second. `_given` is how many it had been given when that began."""

    _at: float = 0.0
    _given: dict[Host, int] = attrs.field(factory=dict)
    _parts: dict[Host, float] = attrs.field(factory=dict)

    def begin(self, host: Host) -> None:
        """Its count is another one from now on: the child's, which reported for the first time."""
        self._given[host] = _given_to(host)

    def tick(self, now: float, hosts: Iterable[Host]) -> None:
        """Work them out anew once a second."""
        if now - self._at < SHARE_S:
            return
        self._at = now
        given = {host: _given_to(host) for host in hosts}
        more = {host: max(0, count - self._given.get(host, 0)) for host, count in given.items()}
        total = sum(more.values())
        self._given = given
        self._parts = {host: count / total for host, count in more.items()} if total else {}

    def of(self, host: Host) -> float:
        """From 0 to 1."""
        return self._parts.get(host, 0.0)


def _no_way(host: Host) -> str:
    return ""


def _given_to(host: Host) -> int:
    """Items that it was given in all: requests, as far as it reports that it counts them."""
    received = host.estimate.received
    if host.estimate.traits.by_connection and received.latest is not None:
        return received.echo.arrivals
    return host.done + host.in_flight


class HostRegistry:
    """All hosts of a node."""

    def __init__(
        self,
        reactor: Reactor,
        rng: random.Random,
        on_change: Callable[[HostEvent, Host], object],
        shortages: Shortages | None = None,
        before_tick: Callable[[float], float] = lambda now: NEVER,
    ) -> None:
        recovery = Recovery(reactor, self._report_error)
        self.context = HostContext(
            reactor, shortages or Shortages(), recovery, on_change, reactor.report, self._any_reports
        )
        self.rng = rng
        self.host_sets: list[HostSet] = []
        self.requests_below = RequestsBelow()
        self.work = SharedWork()
        self._before_tick = before_tick
        self._kind = Kind.L7
        self._hosts: dict[tuple[str, str], Host] = {}
        self._by_name: dict[str, list[Host]] = {}
        self._sets_of: dict[Host, tuple[HostSet, ...]] = {}
        self._shares = RecentShares()
        self._ticked_at = reactor.now

    @property
    def kinds(self) -> Kinds:
        return self.context.kinds

    @property
    def hosts(self) -> Iterable[Host]:
        return self._hosts.values()

    def rebuild_host_sets(self, destinations: Iterable[Destination], snapshot: Snapshot) -> list[HostSet]:
        """Host sets for a new snapshot, parallel to `destinations`; hosts that are in none of them retire."""
        context, now = self.context, self.context.reactor.now
        self._kind = snapshot.kind
        context.local_ports = local_ports()
        context.recovery.configure(snapshot)
        kept: dict[tuple[str, str], Host] = {}
        host_sets = []
        for destination in destinations:
            hosts = tuple(self._keep(spec, kept) for spec in destination.hosts)
            chooser: Chooser[Host] = make_chooser(snapshot.balance, self.rng)
            by_statements = snapshot.balance not in KNOW_CAPACITY
            host_sets.append(HostSet(destination, hosts, chooser, now, by_statements=by_statements))
        for key, host in self._hosts.items():
            if key not in kept:
                host.retire()
                self._lose(host)
                self.work.leave(host)
        self._hosts, self.host_sets = kept, host_sets
        self.work.regroup(kept.values(), host_sets, snapshot.kind)
        self._sets_of = {
            host: tuple(host_set for host_set in host_sets if host in host_set.hosts) for host in kept.values()
        }
        self._by_name = {}
        for host, sets in self._sets_of.items():
            host.dependents = sets
            self._by_name.setdefault(host.name, []).append(host)
        context.outliers = outliers_of(context.outliers, kept.values(), snapshot, now)
        return host_sets

    def _keep(self, spec: HostSpec, kept: dict[tuple[str, str], Host]) -> Host:
        key = (spec.name, str(spec.address))
        host = kept.get(key) or self._hosts.get(key) or Host(spec, self.context, self._estimate_of(spec))
        host.dependents = ()
        host.take(spec)
        kept[key] = host
        return host

    def _estimate_of(self, spec: HostSpec) -> LoadEstimate:
        """What is known of a host that has just come: nothing."""
        connections = self._kind is Kind.L4
        traits = HostTraits(
            reports=spec.reports,
            endpoint=not spec.child,
            by_connection=connections and spec.reports,
            equal=connections,
        )
        return LoadEstimate(traits, ReceivedReports(ParentShare(spec.parents)), self.context.reactor.now)

    def _any_reports(self) -> bool:
        return any(host.estimate.received.connected for host in self._hosts.values())

    def tick(self, now: float) -> float:
        """Learn from what happened and work out all costs anew; every `balance.load_estimate.LEARN_TICK_S` while
        something happens. A part that fails leaves the others as they are. Returns when to call it again at the latest
        if nothing happens until then; `now` if that is with the next tick."""
        dt_s, self._ticked_at = now - self._ticked_at, now
        latest = min(self._latest_of(self.context.shortages.tick, now), self._latest_of(self._before_tick, now))
        for outliers in self.context.outliers.values():
            latest = min(latest, self._latest_of(outliers.tick, now))
        for host in self.hosts:
            latest = min(latest, self._latest_of(host.learn, now))
        self._try(self.kinds.learn, now)
        for siblings in self.work.siblings:
            self._try(learn_together, siblings, dt_s)
        for host_set in self.host_sets:
            self._try(host_set.settle_in_turn, now)
        self._try(self._shares.tick, now, self.hosts)
        return latest

    def _latest_of(self, part: Callable[[float], float], now: float) -> float:
        try:
            return part(now)
        except Exception as error:
            self._report_error(error)
            return now

    def _try(self, part: Callable[..., object], *given: object) -> None:
        try:
            part(*given)
        except Exception as error:
            self._report_error(error)

    def _report_error(self, error: Exception) -> None:
        self.context.on_error(error)

    def named(self, name: str) -> list[Host]:
        """The hosts of this name (two while one changes its address)."""
        return self._by_name.get(name, [])

    def note_report(self, name: str, load: SubtreeLoad, echo: Echo, next_s: float = REPORT_INTERVAL_S) -> None:
        """A child reported, and will again after `next_s` or when something changes. Others than hosts are passed over.

        What a parent would act on at once leads to new costs at once, anything else with the next tick: to work out a
        hundred costs for each of four hundred reports a second would be most of what reports cost.
        """
        now = self.context.reactor.now
        for host in self.named(name):
            received = host.estimate.received
            known, connected, barren = received.latest, received.connected, received.no_leaf_ready
            if self._kind is Kind.L4:
                self.requests_below.take(received.echo, echo, first=known is None)
            host.estimate.receive(now, load, echo, next_s)
            if known is None:
                self._shares.begin(host)
            host.condition.awaited_until = 0.0
            if load.draining is not (known is not None and known.draining):
                host.assess(HostEvent.DRAIN_STARTED if load.draining else HostEvent.DRAIN_ENDED)
            elif received.no_leaf_ready and not barren:
                host.assess(HostEvent.UNHEALTHY)
            elif barren and not received.no_leaf_ready:
                host.restore(now)
            elif not connected or host.availability is Availability.SILENT:
                host.assess()
            if known is None or not connected or is_news(known, load):
                host.settle_at_once(now)
            if known is None or not connected or not is_alike(known, load):
                self.context.reactor.beat.stir()

    def guidance(self, name: str, now: float) -> Guidance | None:
        """The guidance for a child; None for one that is no host."""
        for host in self.named(name):
            for host_set in self._sets_of[host]:
                return host_set.guidance(host, now)
        return None

    def note_lost(self, name: str) -> None:
        """A child's control connection is gone; its data path may well work."""
        for host in self.named(name):
            self._lose(host)

    def _lose(self, host: Host) -> None:
        """How many requests are in flight below it is not reported any more."""
        self.requests_below.lose(host.estimate.received.lose())

    def close(self) -> None:
        """The node ends."""
        for host in self.hosts:
            host.retire()
        self._hosts, self._by_name, self._sets_of = {}, {}, {}

    def loads(self, way_to: Callable[[Host], str] = _no_way) -> tuple[HostLoad, ...]:
        """The rows of this node's report. `way_to`: how items get to a host."""
        now = self.context.reactor.now
        return tuple(load_of(host, now, self._shares.of(host), way_to(host)) for host in self.hosts)
