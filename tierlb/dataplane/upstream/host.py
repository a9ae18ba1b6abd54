"""One upstream host at run time: what is in flight there, how it is doing, and whether it may be sent to.

A `Host` is one host name and address. It survives changes of configuration, and with it its counts, open connections
and what was learnt (`balance.load_estimate`). Errors, connects, health checks, agents and reports all end in `assess`,
which works out its availability and tells the host sets that it is in.
"""

import errno
from typing import TYPE_CHECKING, Any

from tierlb.balance.availability import Availability, availability_of
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.ejection import Ejection
from tierlb.balance.outlier import Fault
from tierlb.balance.peak import PeakEwma
from tierlb.balance.under_way import ParkedCount, UnderWay
from tierlb.dataplane.upstream import recovery
from tierlb.dataplane.upstream.outliers import Standing
from tierlb.model.load import HostLoad
from tierlb.model.snapshot import HostSpec
from tierlb.model.topology import Admin
from tierlb.net.shortage import is_own
from tierlb.net.wheel import NEVER
from tierlb.wire.agent_check import AgentSays

if TYPE_CHECKING:
    from tierlb.dataplane.upstream.host_set import HostSet
    from tierlb.dataplane.upstream.registry import HostRegistry

AWAITED_S = 5.0
"""A node that came to others may not have found anybody to send to yet; it says so with its first report, which comes
with its connection. One from which none comes for so long is used unheard."""
NO_CAP = 1 << 62
"""What `Host.cap` is where nobody has said how many items a host may have."""
TROUBLES = frozenset({"ejected", "unhealthy", "silent"})
"""Changes that are logged as warnings."""


class Host(CountedHost):
    """One host as this node knows it (`balance.spec.HostSpec`: its counts).

    `in_flight`, `slope`, `offset`, `capacity`, `share`, `weight` and `peak` are what choosers read. `moments` is the
    sum of the times at which items ended less that of the times at which they began, from which the integral of
    `in_flight` over time follows exactly at the cost of one addition per event. `idle` holds kept connections,
    the freshest last. `done` counts items that are over, `errors` those of them that were errors, `blamed` the part of
    these that siblings do not have too. `cap`: how many items this node may have in flight there, its part of its
    agent's `maxconn`. `closes`: connections to it are not kept.
    """

    __slots__ = (
        "availability",
        "awaited_until",
        "blamed",
        "cap",
        "closes",
        "deadline",
        "ejection",
        "errors",
        "failed",
        "filed",
        "healthy",
        "host_sets",
        "idle",
        "name",
        "peak",
        "port_at_risk",
        "probe",
        "recent_share",
        "registry",
        "retired",
        "said_admin",
        "said_maxconn",
        "said_up",
        "share",
        "spec",
        "standing",
        "started",
        "stated_part",
        "weight",
    )

    def __init__(self, spec: HostSpec, registry: "HostRegistry", awaited_until: float = 0.0) -> None:
        super().__init__(registry.estimate_of(spec))
        self.spec = spec
        self.awaited_until = awaited_until
        self.registry = registry
        self.host_sets: list[HostSet] = []
        self.errors = 0
        self.blamed = 0.0
        self.failed = 0
        self.started = 0
        self.recent_share = 0.0
        self.idle: list[Any] = []
        self.ejection = Ejection()
        self.standing = Standing()
        self.healthy: bool | None = None
        self.said_admin = Admin.READY
        self.said_maxconn = 0
        self.said_up: bool | None = None
        self.probe: recovery.Probe | recovery.CheckedRecovery | None = None
        self.retired = self.closes = False
        self.deadline = NEVER
        self.filed = NEVER
        self.stated_part = 1.0
        self.peak = PeakEwma()
        self.availability = Availability.AVAILABLE
        self.take(spec)

    def __str__(self) -> str:
        return self.name

    def take(self, spec: HostSpec, event: str = "") -> None:
        """The host as the current snapshot has it, and what its agent makes of that."""
        self.spec = spec
        self.name = spec.name
        first, last = self.registry.local_ports
        self.port_at_risk = spec.address.port if first <= spec.address.port <= last else 0
        self.estimate.shared_by(spec.parents)
        self.weight = self.wanted_weight * self.stated_part
        self.cap = max(1, self.said_maxconn // self.estimate.parents) if self.said_maxconn else NO_CAP
        self.share = self.estimate.share.value
        self.assess(event)

    @property
    def wanted_weight(self) -> float:
        """By the file, operators and its agent."""
        return self.spec.weight * self.estimate.factor

    def _close_idle_unless_used(self) -> None:
        """No connection is kept to a host that is to get nothing."""
        self.closes = self.retired or not self.availability.usable_at_last
        if self.closes:
            for connection in self.idle[:]:
                connection.close()

    # Items.

    def begin(self) -> None:
        """A connection is on its way: nothing is learnt from when it ends."""
        self.in_flight += 1
        self.moments -= self.registry.reactor.now

    def finish(self) -> None:
        """It is over, however it ended."""
        self.in_flight -= 1
        self.moments += self.registry.reactor.now

    def erred(self, fault: Fault = Fault.GATEWAY) -> None:
        """An item that is counted as done failed, or was answered with an error for which the host is to blame."""
        self.errors += 1
        self.failed += 1
        now = self.registry.reactor.now
        outliers = self.registry.outliers.get(self.spec.target)
        part = 1.0 if outliers is None or self.retired else outliers.erred(self, fault, now)
        self.blamed += part
        penalty = self.estimate.overload if fault is Fault.OVERLOADED else self.estimate.penalty
        penalty.add(now, part * self.estimate.slots)
        self.settle_at_once(now)

    def unpark(self, item: UnderWay) -> None:
        """A parked item is over."""
        now = self.registry.reactor.now
        self.leave_parking(now, item, self.registry.kinds)
        self.settle_at_once(now)

    def tunnel_over(self, tally: ParkedCount, tunnel: object) -> None:
        """What came of a parked item of this tally is over."""
        self.end_tunnel(tally, tunnel)
        self.settle_at_once(self.registry.reactor.now)

    def settle_at_once(self, now: float) -> None:
        """Something changed that the next choice should know of."""
        for host_set in self.host_sets:
            try:
                host_set.settle_at_once(now)
            except Exception as error:  # the caller still has a connection to give back
                self.registry.on_error(error)

    def given(self) -> int:
        """Items that it was given in all: requests, as far as it says that it counts them."""
        estimate = self.estimate
        return (
            estimate.echo.arrivals
            if estimate.by_connection and estimate.heard is not None
            else self.done + self.in_flight
        )

    def learn(self, now: float) -> None:
        """Look at the own counts since the last tick."""
        self.learn_from_items(now, self.registry.kinds)
        self.share = self.estimate.share.value
        if not self.in_flight:
            self.peak.idle(now)
        if self.spec.child:
            self.estimate.listen(now)
            if self.estimate.silent is not (self.availability is Availability.SILENT) or self._was_awaited(now):
                self.assess()

    def _was_awaited(self, now: float) -> bool:
        return self.availability is Availability.AWAITED and now >= self.awaited_until

    # Connects.

    def connected(self) -> None:
        """A connect (or probe) succeeded."""
        was_out = self.ejection.ejected
        self.ejection.succeeded()
        if was_out:
            now = self.estimate.joined = self.registry.reactor.now
            if not self.estimate.connected and self.registry.awaits(self.spec):
                self.awaited_until = now + AWAITED_S
            self.assess("restored")

    def connect_failed(self, *, refused: bool) -> None:
        """A connect (or probe) failed; ejects the host when that is due."""
        self.failed += 1
        reactor = self.registry.reactor
        if self.ejection.failed(reactor.now, refused=refused) and not self.retired:
            self.deadline = self.ejection.until
            reactor.wheel.file(self)
            self.assess("ejected")

    def dial_failed(self, code: int) -> None:
        """A connect failed with this errno. For what this machine lacks the host is not to blame."""
        if is_own(code):
            self.registry.shortages.note(code, self.registry.reactor.now, self.spec.address)
        else:
            self.connect_failed(refused=code == errno.ECONNREFUSED)

    def abort(self) -> None:
        """Asking it failed by an error of ours: ask again later, or it would be left out for good."""
        recovery.ask_later(self)

    def on_deadline(self) -> None:
        """The ejection is over: ask the host itself before any client does."""
        if self.ejection.ejected and self.probe is None:
            recovery.ask(self)

    # What others observe or say.

    def checked(self, healthy: bool | None) -> None:
        """The result of active checks (None: it is not checked)."""
        if healthy is not self.healthy:
            event = "restored" if healthy else "unhealthy"
            if healthy and self.healthy is False:
                self.estimate.joined = self.registry.reactor.now
            self.healthy = healthy
            self.assess(event if healthy is not None else "")

    def says_ready(self, ready: bool) -> None:
        """A child has leaves again, or none any more."""
        if ready:
            self.estimate.joined = self.registry.reactor.now
        self.assess("restored" if ready else "unhealthy")

    def agent_says(self, says: AgentSays) -> None:
        """Its agent-check answered: what is not mentioned stays as it was. A `maxconn` of 0 means no cap."""
        if says.maxconn is not None:
            self.said_maxconn = says.maxconn
            self.estimate.say_slots(says.maxconn)
        if says.weight is not None:
            self.estimate.factor = says.weight
        before = (self.said_admin, self.said_up)
        self.said_admin = says.admin or self.said_admin
        self.said_up = self.said_up if says.health is None else says.health
        changed = before != (self.said_admin, self.said_up)
        self.take(self.spec, "changed by its agent" if changed else "")

    def agent_gone(self) -> None:
        """It has no agent to ask, or none any more: what one said holds no longer."""
        if (self.said_admin, self.said_up, self.said_maxconn, self.estimate.factor) != (Admin.READY, None, 0, 1.0):
            self.said_admin, self.said_up, self.said_maxconn, self.estimate.factor = Admin.READY, None, 0, 1.0
            self.estimate.say_slots(0)
            self.take(self.spec)

    def assess(self, event: str = "") -> None:
        """Work out the availability again and let the host sets know."""
        load = self.estimate.heard
        leaving = load is not None and self.estimate.connected and load.draining
        admin = self.said_admin if self.spec.admin is Admin.READY else self.spec.admin
        healthy = False if self.said_up is False or self.estimate.barren else self.healthy
        before = self.availability
        silent = self.estimate.silent and self.spec.child
        awaited = not self.estimate.connected and self.registry.reactor.now < self.awaited_until
        ejected = self.ejection.ejected or self.standing.ejected
        self.availability = availability_of(healthy, admin, ejected, leaving, silent, awaited, self.wanted_weight)
        if Availability.SILENT in (before, self.availability) and before is not self.availability:
            event = event or ("speaks again" if before is Availability.SILENT else "silent")
        for host_set in self.host_sets:
            host_set.refresh()
        self._close_idle_unless_used()
        if event and not self.retired:
            self.registry.on_change(event, self)

    def retire(self) -> None:
        """No longer a host: kept connections close, items in flight finish."""
        self.retired, self.host_sets = True, []
        self.registry.reactor.wheel.forget(self)
        self._close_idle_unless_used()
        if self.probe is not None:
            self.probe.close()

    def load(self, now: float) -> HostLoad:
        known = self.estimate.capacity(now, None) is not None
        return HostLoad(
            self.name,
            self.in_flight,
            self.done,
            self.failed,
            self.availability.value,
            self.capacity if known else 0.0,
            self.recent_share,
            self.estimate.age_s(now),
            self.standing.reason if self.standing.ejected else "",
            self.parked,
            self.estimate.capacity_age_s(now),
        )


def log_change(log: Any, event: str, host: Host) -> None:
    """What an operator should see of a host, with the reason where there is one."""
    reason = {"reason": host.standing.reason} if event == "ejected" and host.standing.ejected else {}
    note = log.warning if event in TROUBLES else log.info
    note(f"member {event}", host=host.name, address=str(host.spec.address), **reason)
