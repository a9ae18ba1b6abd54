"""One upstream host at run time: what is in flight there, how it is doing, and whether it may be sent to.

A `Host` is one name and address. It survives changes of configuration, and with it its counts, open connections and
what was learnt (`balance.load_estimate`). Errors, connects, health checks, agents and reports all end in `assess`,
which computes its availability and notifies the host sets that it is in.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from tierlb.balance.availability import Availability
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.balance.outlier import HostFault
from tierlb.balance.peak import PeakEwma
from tierlb.dataplane.upstream.condition import AgentState, Condition, HostEvent
from tierlb.dataplane.upstream.judged_host import JudgedHost
from tierlb.dataplane.upstream.outliers import Outliers
from tierlb.dataplane.upstream.reachability import ConnectContext, Reachability
from tierlb.dataplane.upstream.recovery import Recovery
from tierlb.model.load import HostLoad
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import PoolProtocol
from tierlb.net.client_tls import ClientTls
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.wire.agent_check import AgentReply

FIRST_REPORT_S: Final = 5.0
"""A node that joins others may have no endpoint yet. Its first report, which comes with its connection, shows that. A
node that has sent none after this time is used without."""
NO_CAP: Final = 1 << 62
"""`Host.cap` where nothing limits how many items a host may have."""


class HostContext(ConnectContext):
    """What all hosts of a node share. `outliers` are by target. `on_change` is called for what an operator should see;
    `any_reports`: whether any host of the node is connected to report. `on_insecure`: a TLS handshake failed, and
    why."""

    __slots__ = ("any_reports", "kinds", "on_change", "on_error", "on_insecure", "outliers")

    def __init__(
        self,
        reactor: Reactor,
        shortages: Shortages,
        recovery: Recovery,
        on_change: Callable[[HostEvent, "Host"], object],
        on_error: Callable[[Exception], object],
        any_reports: Callable[[], bool],
    ) -> None:
        super().__init__(reactor, shortages, recovery)
        self.kinds = Kinds()
        self.outliers: Mapping[str, Outliers] = {}
        self.on_change = on_change
        self.on_error = on_error
        self.any_reports = any_reports
        self.on_insecure: Callable[[Host, str], object] = lambda host, reason: None


class Dependent:
    """What depends on a host: it has to choose anew as the host changes."""

    __slots__ = ()

    def settle_at_once(self, now: float) -> None:
        """Work out costs anew."""
        raise NotImplementedError

    def refresh(self) -> None:
        """Work out again which hosts are available."""
        raise NotImplementedError


class Host(JudgedHost):
    """`share`, `weight` and `peak` are what choosers read beside its cost. `stated_part` is what its statement of its
    capacity makes of its weight. `cap`: how many items this node may have in flight there, its part of its agent's
    `maxconn`. `idle` holds kept connections, the freshest last; none is kept while it `closes`. They are all of
    HTTP/1.1 or all of HTTP/2, by what it `speaks_http1`: where each connection agrees on it, as the last one did.
    `tls`: what its pool has speak connections that may be kept.
    """

    __slots__ = (
        "cap",
        "closes",
        "condition",
        "context",
        "dependents",
        "idle",
        "peak",
        "reach",
        "share",
        "speaks_http1",
        "stated_part",
        "tls",
        "weight",
    )

    def __init__(self, spec: HostSpec, context: HostContext, estimate: LoadEstimate) -> None:
        super().__init__(spec, estimate, context.kinds)
        self.context = context
        self.condition = Condition(self._first_report_until())
        self.reach = Reachability(context, spec, self._reach_changed)
        self.dependents: tuple[Dependent, ...] = ()
        self.idle: list[Any] = []
        self.closes = False
        self.speaks_http1 = spec.protocol is PoolProtocol.HTTP1
        self.tls: ClientTls | None = None
        self.stated_part = 1.0
        self.peak = PeakEwma()
        self.take(spec)

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def speaks(self) -> ClientTls | None:
        """The TLS of its connections, if they have it."""
        return self.context.tls.get(self.spec.target)

    def take(self, spec: HostSpec, event: HostEvent | None = None) -> None:
        """The host as the current snapshot has it, and what its agent makes of that."""
        tls = None if spec.child else self.context.tls.get(spec.target)
        old = self.spec
        if spec.protocol is not old.protocol or spec.announces is not old.announces or tls is not self.tls:
            self.tls = tls
            for connection in self.idle[:]:
                connection.close()
            self.speaks_http1 = spec.protocol is PoolProtocol.HTTP1
        self.spec = spec
        share, maxconn = self.estimate.received.share, self.condition.agent.maxconn
        share.expect(spec.parents)
        self.share = share.value
        self.cap = max(1, maxconn // share.parents) if maxconn else NO_CAP
        self.weigh(self.stated_part)
        self.assess(event)

    def agreed_on(self, *, http1: bool) -> None:
        """What it chose for a connection is expected of the next one; kept connections of the other protocol end."""
        if http1 is not self.speaks_http1:
            self.speaks_http1 = http1
            for connection in self.idle[:]:
                connection.close()

    def weigh(self, stated_part: float) -> None:
        """What it states of its capacity counts in its weight."""
        self.stated_part = stated_part
        self.weight = self.condition.weight_of(self.spec) * stated_part

    # Items.

    def blame(self, now: float, fault: HostFault) -> None:
        """An item that is counted as done failed, or was answered with an error for which the host is to blame."""
        self.errors += 1
        outliers = self.context.outliers.get(self.spec.target)
        part = 1.0 if outliers is None or self.condition.retired else outliers.erred(self, fault, now)
        penalties = self.estimate.penalties
        penalty = penalties.overload if fault is HostFault.OVERLOADED else penalties.errors
        penalty.add(now, part * self.estimate.slots.value)
        self.settle_at_once(now)

    def settle_at_once(self, now: float) -> None:
        """Something changed that the next choice should take into account."""
        for dependent in self.dependents:
            try:
                dependent.settle_at_once(now)
            except Exception as error:  # the caller still has a connection to give back
                self.context.on_error(error)

    def learn(self, now: float) -> float:
        """Look at the own counts since the last tick. Returns when to look again at the latest if nothing happens until
        then: soon while items wait here, and as a rest or a probe ends that is to show its return."""
        return_looked_at = self.estimate.return_looked_at
        self.learn_from_items(now)
        received = self.estimate.received
        self.share = received.share.value
        if not self.in_flight:
            self.peak.idle(now)
        latest = now if self.under_way else return_looked_at
        if self.spec.child:
            latest = min(latest, received.check_silence(now, self.done + self.in_flight))
            awaited = self.availability is Availability.AWAITED
            if received.silent is not (self.availability is Availability.SILENT) or (
                awaited and now >= self.condition.awaited_until
            ):
                self.assess()
            elif awaited:
                latest = min(latest, self.condition.awaited_until)
        return latest

    # Observations and reports.

    def checked(self, healthy: bool | None) -> None:
        """The result of active checks (None: it is not checked)."""
        before, self.condition.healthy = self.condition.healthy, healthy
        if healthy is before:
            return
        if healthy and before is False:
            self.estimate.joined = self.context.reactor.now
        if healthy is None:
            self.assess()
        else:
            self.assess(HostEvent.RESTORED if healthy else HostEvent.UNHEALTHY)

    def agent_replied(self, reply: AgentReply) -> None:
        """Its agent-check answered."""
        if reply.maxconn is not None:
            self.estimate.slots.declare(reply.maxconn)
        before, self.condition.agent = self.condition.agent, self.condition.agent.after(reply)
        self.take(self.spec, None if self.condition.agent.admits_as(before) else HostEvent.CHANGED_BY_AGENT)
        if self.condition.agent != before:
            self.context.reactor.beat.stir()

    def agent_gone(self) -> None:
        """It has no agent to ask, or none any more: the last answer of one holds no longer."""
        if self.condition.agent != AgentState():
            self.condition.agent = AgentState()
            self.estimate.slots.declare(0)
            self.take(self.spec)
            self.context.reactor.beat.stir()

    def _first_report_until(self) -> float:
        """At the start no node has reported, and to wait for one would give everything to another."""
        awaited = self.spec.child and not self.estimate.received.connected and self.context.any_reports()
        return self.context.reactor.now + FIRST_REPORT_S if awaited else 0.0

    def _reach_changed(self, event: HostEvent) -> None:
        if event in (HostEvent.RESTORED, HostEvent.TRIED_AGAIN):
            self.condition.awaited_until = self._first_report_until() or self.condition.awaited_until
            self.restore(self.context.reactor.now, event)
        else:
            self.assess(event)

    def restore(self, now: float, event: HostEvent = HostEvent.RESTORED) -> None:
        """It may be sent to again, and begins slowly."""
        self.estimate.joined = now
        self.assess(event)

    def assess(self, event: HostEvent | None = None) -> None:
        """Compute the availability again and notify what depends on it."""
        before, condition, received = self.availability, self.condition, self.estimate.received
        ejected = self.reach.ejection.ejected or self.standing.ejected
        self.availability = condition.availability(self.spec, received, self.context.reactor.now, ejected=ejected)
        if Availability.SILENT in (before, self.availability) and before is not self.availability:
            event = event or (HostEvent.REPORTING_AGAIN if before is Availability.SILENT else HostEvent.SILENT)
        for dependent in self.dependents:
            dependent.refresh()
        self._close_idle_unless_used()
        if self.availability is not before:
            self.context.reactor.beat.stir()
        if event is not None and not condition.retired:
            self.context.on_change(event, self)

    def retire(self) -> None:
        """It is in no snapshot any more: kept connections close, items in flight finish."""
        self.condition.retired, self.dependents = True, ()
        self.reach.close()
        self._close_idle_unless_used()

    def _close_idle_unless_used(self) -> None:
        """No connection is kept to a host that is to get nothing."""
        self.closes = self.condition.retired or not self.availability.usable_at_last
        if self.closes:
            for connection in self.idle[:]:
                connection.close()


def load_of(host: Host, now: float, share: float = 0.0, way: str = "") -> HostLoad:
    """Its row of this node's report. `share`: its part of the items of the last second."""
    estimate = host.estimate
    return HostLoad(
        host.name,
        host.in_flight,
        host.done,
        host.errors + host.reach.failures,
        host.availability.value,
        host.capacity if estimate.capacity(now, None) is not None else 0.0,
        share,
        estimate.received.age_s(now),
        host.standing.reason if host.standing.ejected else "",
        host.parked,
        estimate.capacity_age_s(now),
        way,
    )


def log_change(log: Any, event: HostEvent, host: Host) -> None:
    """What an operator should see of a host, with the reason where there is one."""
    reason = {"reason": host.standing.reason} if event is HostEvent.EJECTED and host.standing.ejected else {}
    note = log.warning if event.is_trouble else log.info
    note(f"host_{event}", host=host.name, address=str(host.spec.address), **reason)


def log_insecure(log: Any, host: Host, reason: str) -> None:
    """A TLS handshake with the host failed."""
    log.warning("endpoint_handshake_failed", host=host.name, reason=reason)
