"""Membership at run time: who may be sent to, what is in flight there, and how each is doing.

`HostRegistry` keeps one `Host` per member name and address across snapshots, so that counts, open connections and
what was learnt survive a change of configuration. A `HostSet` is one destination of the current snapshot; its
`choose` is the only thing the hot path calls. What a choice needs is worked out beforehand: who is available, and for
each the line that its score lies on (`balance.load_estimate`), both anew every tick, with a report, and after an error.
"""

import errno
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from tierlb.balance.availability import Availability, availability_of, choosable, choosable_by_level, why_none
from tierlb.balance.capacity import stated_parts
from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.draws import relative
from tierlb.balance.ejection import Ejection
from tierlb.balance.guidance import guide
from tierlb.balance.kinds import Kinds, Work
from tierlb.balance.load_aware import LoadAware
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.balance.member import Member as CountedMember
from tierlb.balance.member import capacities_of, learn_together, refresh_costs
from tierlb.balance.outlier import Fault
from tierlb.balance.peak import PeakEwma
from tierlb.balance.under_way import ParkedCount, UnderWay
from tierlb.dataplane.upstream import recovery as recovery
from tierlb.dataplane.upstream.outliers import Outliers, Standing, watched
from tierlb.model.load import Echo, Guidance, MemberLoad, SubtreeLoad
from tierlb.model.snapshot import Destination, Member, Snapshot
from tierlb.model.topology import Admin, HealthCheck, Kind, Policy, Timeouts
from tierlb.net.reactor import Reactor
from tierlb.net.self_connect import local_ports
from tierlb.net.shortage import Shortages, is_own
from tierlb.net.wheel import NEVER
from tierlb.telemetry.pace import is_news
from tierlb.wire.agent_check import AgentSays

if TYPE_CHECKING:
    from tierlb.dataplane.upstream.split import Split

AT_ONCE_S = 0.002
AT_ONCE_S_PER_CANDIDATE = 0.0001
"""After an error the choice is made anew at once, but not more often than this: a burst of errors is one event. It
takes some 10 µs for each host, and whoever asks for what fails decides how many errors there are."""
AWAITED_S = 5.0
"""A node that came to others may not have found anybody to send to yet; it says so with its first report, which comes
with its connection. One from which none comes for so long is used unheard."""
SHARE_S = 1.0
TROUBLES = frozenset({"ejected", "unhealthy", "silent"})
"""What `on_change` is told of that an operator should see."""
SETTLE_S_PER_CANDIDATE = 0.001
GUIDANCE_S = 0.2
KNOW_CAPACITY = (Policy.LOAD_AWARE, Policy.MAGLEV)
"""Policies whose weights are left alone by what endpoints say of their capacities: the one goes by capacity anyway, and
at the other each change moves keys."""
NO_CAP = 1 << 62
"""What `Host.cap` is where nobody has said how many items a host may have."""


class Host(CountedMember):
    """One member as this node knows it (`balance.member.Member`: its counts).

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
        "member",
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
        "standing",
        "started",
        "stated_part",
        "weight",
    )

    def __init__(self, member: Member, registry: "HostRegistry", awaited_until: float = 0.0) -> None:
        super().__init__(registry.estimate_of(member))
        self.member = member
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
        self.take(member)

    def __str__(self) -> str:
        return self.name

    def take(self, member: Member, event: str = "") -> None:
        """The member as the current snapshot has it, and what its agent makes of that."""
        self.member = member
        self.name = member.name
        first, last = self.registry.local_ports
        self.port_at_risk = member.address.port if first <= member.address.port <= last else 0
        self.estimate.shared_by(member.parents)
        self.weight = self.wanted_weight * self.stated_part
        self.cap = max(1, self.said_maxconn // self.estimate.parents) if self.said_maxconn else NO_CAP
        self.share = self.estimate.share.value
        self.assess(event)

    @property
    def wanted_weight(self) -> float:
        """By the file, operators and its agent."""
        return self.member.weight * self.estimate.factor

    def _close_idle_unless_used(self) -> None:
        """No connection is kept to a member that is to get nothing."""
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
        """An item that is counted as done failed, or was answered with an error for which the member is to blame."""
        self.errors += 1
        self.failed += 1
        now = self.registry.reactor.now
        outliers = self.registry.outliers.get(self.member.target)
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
        if self.member.child:
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
            if not self.estimate.connected and self.registry.awaits(self.member):
                self.awaited_until = now + AWAITED_S
            self.assess("restored")

    def connect_failed(self, *, refused: bool) -> None:
        """A connect (or probe) failed; ejects the member when that is due."""
        self.failed += 1
        reactor = self.registry.reactor
        if self.ejection.failed(reactor.now, refused=refused) and not self.retired:
            self.deadline = self.ejection.until
            reactor.wheel.file(self)
            self.assess("ejected")

    def dial_failed(self, code: int) -> None:
        """A connect failed with this errno. For what this machine lacks the member is not to blame."""
        if is_own(code):
            self.registry.shortages.note(code, self.registry.reactor.now, self.member.address)
        else:
            self.connect_failed(refused=code == errno.ECONNREFUSED)

    def abort(self) -> None:
        """Asking it failed by an error of ours: ask again later, or it would be left out for good."""
        recovery.ask_later(self)

    def on_deadline(self) -> None:
        """The ejection is over: ask the member itself before any client does."""
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
        self.take(self.member, "changed by its agent" if changed else "")

    def agent_gone(self) -> None:
        """It has no agent to ask, or none any more: what one said holds no longer."""
        if (self.said_admin, self.said_up, self.said_maxconn, self.estimate.factor) != (Admin.READY, None, 0, 1.0):
            self.said_admin, self.said_up, self.said_maxconn, self.estimate.factor = Admin.READY, None, 0, 1.0
            self.estimate.say_slots(0)
            self.take(self.member)

    def assess(self, event: str = "") -> None:
        """Work out the availability again and let the host sets know."""
        load = self.estimate.heard
        leaving = load is not None and self.estimate.connected and load.draining
        admin = self.said_admin if self.member.admin is Admin.READY else self.member.admin
        healthy = False if self.said_up is False or self.estimate.barren else self.healthy
        before = self.availability
        silent = self.estimate.silent and self.member.child
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
        """No longer a member: kept connections close, items in flight finish."""
        self.retired, self.host_sets = True, []
        self.registry.reactor.wheel.forget(self)
        self._close_idle_unless_used()
        if self.probe is not None:
            self.probe.close()

    def load(self, now: float) -> MemberLoad:
        known = self.estimate.capacity(now, None) is not None
        return MemberLoad(
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
    """What an operator should see of a member, with the reason where there is one."""
    reason = {"reason": host.standing.reason} if event == "ejected" and host.standing.ejected else {}
    note = log.warning if event in TROUBLES else log.info
    note(f"member {event}", member=host.name, address=str(host.member.address), **reason)


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
        one may tell of all that this node sent there before it restarted, or before the child was a member again."""
        self.counted = True
        if not first:
            self.arrivals += echo.arrivals - before.arrivals if echo.arrivals >= before.arrivals else echo.arrivals
        self.in_flight = max(0, self.in_flight + echo.in_flight - before.in_flight)
        self.parked = max(0, self.parked + echo.parked - before.parked)

    def lose(self, last: Echo) -> None:
        """What was in flight at a child that is not heard any more."""
        self.in_flight = max(0, self.in_flight - last.in_flight)
        self.parked = max(0, self.parked - last.parked)


class Choice(Protocol):
    """What an exchange needs to find a member."""

    @property
    def destination(self) -> Destination: ...
    @property
    def available(self) -> tuple[Host, ...]: ...
    @property
    def shares(self) -> tuple[tuple[str, ...], ...]: ...
    def has_other(self, tried: Iterable[Host]) -> bool: ...
    def of_other_share(self, tried: Collection[Host]) -> "HostSet | None": ...
    def why_none(self) -> str: ...
    def choose(self, tried: Iterable[Host] = (), key: int = 0, long: bool = False) -> Host | None: ...


class HostSet:
    """The hosts of one destination and how to choose among them. `sound`: some are available without the panic
    rule. `by_statements`: endpoints' own statements of capacity count in their weights. `_free`: there is somebody to
    choose from, and none of them has a cap. `split`: what it is a share of, if of any."""

    __slots__ = (
        "_free",
        "_guidance",
        "_guided_at",
        "_levels",
        "_settled_at",
        "available",
        "by_statements",
        "chooser",
        "destination",
        "hosts",
        "sound",
        "split",
    )

    def __init__(
        self,
        destination: Destination,
        hosts: tuple[Host, ...],
        chooser: Chooser[Host],
        now: float,
        *,
        by_statements: bool = False,
    ) -> None:
        self.by_statements = by_statements
        self.destination = destination
        self.hosts = hosts
        self.chooser = chooser
        self.available = hosts
        self.sound = False
        self.split: Split | None = None
        self._free = False
        levels = [host.member.level for host in hosts]
        self._levels = levels if any(levels) else None
        self._settled_at = 0.0
        self._guided_at = now - GUIDANCE_S
        self._guidance: dict[Host, Guidance] = {}
        self.settle(now)

    def choose(self, tried: Iterable[Host] = (), key: int = 0, long: bool = False) -> Host | None:
        """The host for the next item, or None if there is none that was not `tried` yet and has room. `long`: it
        will be parked soon, as most of its kind."""
        if self._free and not tried and not long:
            return self.chooser.pick(key)
        if long and isinstance(self.chooser, LoadAware):
            return self.chooser.for_long(self._left(tried))
        if not tried and self.available:
            chosen = self.chooser.pick(key)
            if chosen.in_flight < chosen.cap:
                return chosen
        left = self._left(tried)
        return self.chooser.among(left, key) if left else None

    def has_other(self, tried: Iterable[Host]) -> bool:
        """Whether `choose` would find one that was not `tried`."""
        return bool(self._left(tried))

    @property
    def shares(self) -> tuple[tuple[str, ...], ...]:
        """Where an item of this host set may go: the targets of all shares of its split."""
        return (self.destination.targets,) if self.split is None else self.split.shares

    def of_other_share(self, tried: Collection[Host]) -> "HostSet | None":
        """The host set of another share of the same split that has a host which was not `tried`, if there is any."""
        return None if self.split is None else self.split.other(tried)

    def why_none(self) -> str:
        """Why `choose` finds nobody, in words."""
        return why_none(", ".join(self.destination.targets), [_reason(host) for host in self.hosts])

    def _left(self, tried: Iterable[Host]) -> tuple[Host, ...]:
        """Those that are not available are no help while others are merely full."""
        left = tuple(c for c in self.available if c not in tried) or tuple(
            c for c in self.hosts if c not in tried and c.availability.usable_at_last
        )
        return tuple(c for c in left if c.in_flight < c.cap)

    def settle(self, now: float) -> None:
        """Draw the lines anew from what is known now."""
        self._settled_at = now
        estimates = [host.estimate for host in self.hosts]
        if self.by_statements:
            self._weigh(stated_parts([estimate.stated(now) for estimate in estimates]))
        parts = relative([host.weight for host in self.hosts])
        usable = [host.availability is Availability.AVAILABLE for host in self.hosts]
        refresh_costs(self.hosts, now, capacities_of(self.hosts, now), parts, usable)
        self.refresh()

    def _weigh(self, parts: list[float] | None) -> None:
        """What endpoints say of their capacities counts in their weights."""
        for host, part in zip(self.hosts, parts or [1.0] * len(self.hosts), strict=True):
            host.stated_part = part
            host.weight = host.wanted_weight * part

    def guidance(self, host: Host, now: float) -> Guidance | None:
        """What to tell one of the hosts of the others, None if it is not heard; worked out once for all."""
        if now - self._guided_at >= GUIDANCE_S:
            self._guided_at = now
            heard = [
                (each, child)
                for each in self.available
                if (child := each.estimate.as_child(each.in_flight)) is not None
            ]
            said = guide([child for _, child in heard])
            self._guidance = {each: words for (each, _), words in zip(heard, said, strict=True)}
        return self._guidance.get(host)

    def settle_in_turn(self, now: float) -> None:
        """With a tick; a large host set, whose lines cost as much as a hundred requests, not with each."""
        if now - self._settled_at >= SETTLE_S_PER_CANDIDATE * len(self.hosts):
            self.settle(now)

    def settle_at_once(self, now: float) -> None:
        if now - self._settled_at >= max(AT_ONCE_S, AT_ONCE_S_PER_CANDIDATE * len(self.hosts)):
            self.settle(now)

    def refresh(self) -> None:
        """Work out again who is available."""
        states = [host.availability for host in self.hosts]
        ready = choosable(states) if self._levels is None else choosable_by_level(states, self._levels)
        self.available = tuple(self.hosts[index] for index in ready)
        self.sound = any(each.availability is Availability.AVAILABLE for each in self.available)
        self._free = bool(self.available) and all(each.cap == NO_CAP for each in self.available)
        if self.available:
            self.chooser.rebuild(self.available)


def _reason(host: Host) -> str:
    """Why a host is not chosen when none is."""
    if host.availability.usable_at_last and host.in_flight >= host.cap:
        return "full"
    return "tried" if host.availability is Availability.AVAILABLE else host.availability.value


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
        """Work of members that have left, by target: it stays part of the target's cumulative count."""

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
            chosen = tuple(self._keep(member, kept) for member in destination.members)
            chooser: Chooser[Host] = make_chooser(snapshot.balance, self.rng)
            by_statements = snapshot.balance not in KNOW_CAPACITY
            host_sets.append(HostSet(destination, chosen, chooser, now, by_statements=by_statements))
        for key, host in self._hosts.items():
            if key not in kept:
                host.retire()
                self._lose(host)
                target = host.member.target
                self.work_left_s[target] = self.work_left_s.get(target, 0.0) + host.estimate.work_done_s
        self._hosts, self.host_sets = kept, host_sets
        by_target: dict[tuple[str, ...], list[Host]] = {}
        for host in kept.values():
            by_target.setdefault(self._doing(host.member, host_sets), []).append(host)
        self._siblings = list(by_target.values())
        targets = {host.member.target for host in kept.values()}
        self.work_left_s = {target: work_s for target, work_s in self.work_left_s.items() if target in targets}
        self._share_work(by_target)
        self._by_name = {}
        for host in kept.values():
            self._by_name.setdefault(host.name, []).append(host)
        for host in kept.values():
            host.host_sets = [host_set for host_set in host_sets if host in host_set.hosts]
        self.outliers = watched(self.outliers, kept.values(), snapshot, now)
        return host_sets

    def _doing(self, member: Member, host_sets: Iterable["HostSet"]) -> tuple[str, ...]:
        """What members that do the same work have in common: endpoints of a pool their target, and nodes that this one
        gives connections to all that these may go to, since each of them serves any."""
        if self._kind is Kind.L4:
            for host_set in host_sets:
                if member.target in host_set.destination.targets:
                    return host_set.destination.targets
        return (member.target,)

    def _share_work(self, siblings: Mapping[tuple[str, ...], Sequence[Host]]) -> None:
        """What is known of the work of members is known of all that do the same, and of no others: where those that did
        the same are parted, one part begins anew."""
        work = {key: self._work[key] for key in siblings if key in self._work}
        for key, members in siblings.items():
            if key not in work:
                known = members[0].estimate.work
                work[key] = Work() if any(known is each for each in work.values()) else known
        self._work = work
        for key, members in siblings.items():
            for member in members:
                member.estimate.work = self._work[key]

    def estimate_of(self, member: Member) -> LoadEstimate:
        """What is known of a member that has just come: nothing."""
        connections = self._kind is Kind.L4
        return LoadEstimate(
            reports=member.reports,
            parents=member.parents,
            joined=self.reactor.now,
            by_connection=connections and member.reports,
            equal=connections,
            endpoint=not member.child,
        )

    def _keep(self, member: Member, kept: dict[tuple[str, str], Host]) -> Host:
        key = (member.name, str(member.address))
        host = kept.get(key) or self._hosts.get(key) or self._newcomer(member)
        host.host_sets = []
        host.take(member)
        kept[key] = host
        return host

    def _newcomer(self, member: Member) -> Host:
        """At the start nobody was heard, and to wait for one would give everything to another."""
        return Host(member, self, self.reactor.now + AWAITED_S if self.awaits(member) else 0.0)

    def awaits(self, member: Member) -> bool:
        """Whether a node that is there (again) is to say a word first: others have."""
        return member.child and any(other.estimate.connected for other in self._hosts.values())

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
        """The hosts of one member (two while it changes its address)."""
        return self._by_name.get(name, [])

    def note_report(self, name: str, load: SubtreeLoad, echo: Echo) -> None:
        """A child reported. Who is no member is passed over.

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
        """What a child is to know of its siblings; None for who is no member."""
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

    def loads(self) -> tuple[MemberLoad, ...]:
        now = self.reactor.now
        return tuple(host.load(now) for host in self._hosts.values())
