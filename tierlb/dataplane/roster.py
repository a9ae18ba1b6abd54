"""Membership at run time: who may be sent to, what is in flight there, and how each is doing.

`Roster` keeps one `Candidate` per member name and address across snapshots, so that counts, open connections and
what was learnt survive a change of configuration. A `Group` is one destination of the current snapshot; its
`choose` is the only thing the hot path calls. What a choice needs is worked out beforehand: who is available, and for
each the line that its score lies on (`balance.view`), both anew every tick, with a report, and after an error.
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
from tierlb.balance.member import Member as CountedMember
from tierlb.balance.member import capacities_of, draw_lines, learn_together
from tierlb.balance.outlier import Fault
from tierlb.balance.peak import PeakEwma
from tierlb.balance.under_way import ParkedCount, UnderWay
from tierlb.balance.view import MemberView
from tierlb.dataplane import recovery
from tierlb.dataplane.outliers import Outliers, Standing, watched
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
    from tierlb.dataplane.split import Split

AT_ONCE_S = 0.002
AT_ONCE_S_PER_CANDIDATE = 0.0001
"""After an error the choice is made anew at once, but not more often than this: a burst of errors is one event. It
takes some 10 µs for each candidate, and whoever asks for what fails decides how many errors there are."""
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
"""What `Candidate.cap` is where nobody has said how many items a host may have."""


class Candidate(CountedMember):
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
        "groups",
        "healthy",
        "idle",
        "member",
        "name",
        "peak",
        "port_at_risk",
        "probe",
        "recent_share",
        "retired",
        "roster",
        "said_admin",
        "said_maxconn",
        "said_up",
        "share",
        "standing",
        "started",
        "stated_part",
        "weight",
    )

    def __init__(self, member: Member, roster: "Roster", awaited_until: float = 0.0) -> None:
        super().__init__(roster.view_of(member))
        self.member = member
        self.awaited_until = awaited_until
        self.roster = roster
        self.groups: list[Group] = []
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
        first, last = self.roster.local_ports
        self.port_at_risk = member.address.port if first <= member.address.port <= last else 0
        self.view.shared_by(member.parents)
        self.weight = self.wanted_weight * self.stated_part
        self.cap = max(1, self.said_maxconn // self.view.parents) if self.said_maxconn else NO_CAP
        self.share = self.view.share.value
        self.assess(event)

    @property
    def wanted_weight(self) -> float:
        """By the file, operators and its agent."""
        return self.member.weight * self.view.factor

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
        self.moments -= self.roster.reactor.now

    def finish(self) -> None:
        """It is over, however it ended."""
        self.in_flight -= 1
        self.moments += self.roster.reactor.now

    def erred(self, fault: Fault = Fault.GATEWAY) -> None:
        """An item that is counted as done failed, or was answered with an error for which the member is to blame."""
        self.errors += 1
        self.failed += 1
        now = self.roster.reactor.now
        outliers = self.roster.outliers.get(self.member.target)
        part = 1.0 if outliers is None or self.retired else outliers.erred(self, fault, now)
        self.blamed += part
        phantom = self.view.overload if fault is Fault.OVERLOADED else self.view.phantom
        phantom.add(now, part * self.view.slots)
        self.settle_at_once(now)

    def unpark(self, item: UnderWay) -> None:
        """A parked item is over."""
        now = self.roster.reactor.now
        self.leave_parking(now, item, self.roster.kinds)
        self.settle_at_once(now)

    def tunnel_over(self, tally: ParkedCount, tunnel: object) -> None:
        """What came of a parked item of this tally is over."""
        self.end_tunnel(tally, tunnel)
        self.settle_at_once(self.roster.reactor.now)

    def settle_at_once(self, now: float) -> None:
        """Something changed that the next choice should know of."""
        for group in self.groups:
            try:
                group.settle_at_once(now)
            except Exception as error:  # the caller still has a connection to give back
                self.roster.on_error(error)

    def given(self) -> int:
        """Items that it was given in all: requests, as far as it says that it counts them."""
        view = self.view
        return view.echo.arrivals if view.by_connection and view.heard is not None else self.done + self.in_flight

    def learn(self, now: float) -> None:
        """Look at the own counts since the last tick."""
        self.learn_from_items(now, self.roster.kinds)
        self.share = self.view.share.value
        if not self.in_flight:
            self.peak.idle(now)
        if self.member.child:
            self.view.listen(now)
            if self.view.silent is not (self.availability is Availability.SILENT) or self._was_awaited(now):
                self.assess()

    def _was_awaited(self, now: float) -> bool:
        return self.availability is Availability.AWAITED and now >= self.awaited_until

    # Connects.

    def connected(self) -> None:
        """A connect (or probe) succeeded."""
        was_out = self.ejection.ejected
        self.ejection.succeeded()
        if was_out:
            now = self.view.joined = self.roster.reactor.now
            if not self.view.connected and self.roster.awaits(self.member):
                self.awaited_until = now + AWAITED_S
            self.assess("restored")

    def connect_failed(self, *, refused: bool) -> None:
        """A connect (or probe) failed; ejects the member when that is due."""
        self.failed += 1
        reactor = self.roster.reactor
        if self.ejection.failed(reactor.now, refused=refused) and not self.retired:
            self.deadline = self.ejection.until
            reactor.wheel.file(self)
            self.assess("ejected")

    def dial_failed(self, code: int) -> None:
        """A connect failed with this errno. For what this machine lacks the member is not to blame."""
        if is_own(code):
            self.roster.shortages.note(code, self.roster.reactor.now, self.member.address)
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
                self.view.joined = self.roster.reactor.now
            self.healthy = healthy
            self.assess(event if healthy is not None else "")

    def says_ready(self, ready: bool) -> None:
        """A child has leaves again, or none any more."""
        if ready:
            self.view.joined = self.roster.reactor.now
        self.assess("restored" if ready else "unhealthy")

    def agent_says(self, says: AgentSays) -> None:
        """Its agent-check answered: what is not mentioned stays as it was. A `maxconn` of 0 means no cap."""
        if says.maxconn is not None:
            self.said_maxconn = says.maxconn
            self.view.say_slots(says.maxconn)
        if says.weight is not None:
            self.view.factor = says.weight
        before = (self.said_admin, self.said_up)
        self.said_admin = says.admin or self.said_admin
        self.said_up = self.said_up if says.health is None else says.health
        changed = before != (self.said_admin, self.said_up)
        self.take(self.member, "changed by its agent" if changed else "")

    def agent_gone(self) -> None:
        """It has no agent to ask, or none any more: what one said holds no longer."""
        if (self.said_admin, self.said_up, self.said_maxconn, self.view.factor) != (Admin.READY, None, 0, 1.0):
            self.said_admin, self.said_up, self.said_maxconn, self.view.factor = Admin.READY, None, 0, 1.0
            self.view.say_slots(0)
            self.take(self.member)

    def assess(self, event: str = "") -> None:
        """Work out the availability again and let the groups know."""
        load = self.view.heard
        leaving = load is not None and self.view.connected and load.draining
        admin = self.said_admin if self.member.admin is Admin.READY else self.member.admin
        healthy = False if self.said_up is False or self.view.barren else self.healthy
        before = self.availability
        silent = self.view.silent and self.member.child
        awaited = not self.view.connected and self.roster.reactor.now < self.awaited_until
        ejected = self.ejection.ejected or self.standing.ejected
        self.availability = availability_of(healthy, admin, ejected, leaving, silent, awaited, self.wanted_weight)
        if Availability.SILENT in (before, self.availability) and before is not self.availability:
            event = event or ("speaks again" if before is Availability.SILENT else "silent")
        for group in self.groups:
            group.refresh()
        self._close_idle_unless_used()
        if event and not self.retired:
            self.roster.on_change(event, self)

    def retire(self) -> None:
        """No longer a member: kept connections close, items in flight finish."""
        self.retired, self.groups = True, []
        self.roster.reactor.wheel.forget(self)
        self._close_idle_unless_used()
        if self.probe is not None:
            self.probe.close()

    def load(self, now: float) -> MemberLoad:
        known = self.view.capacity(now, None) is not None
        return MemberLoad(
            self.name,
            self.in_flight,
            self.done,
            self.failed,
            self.availability.value,
            self.capacity if known else 0.0,
            self.recent_share,
            self.view.age_s(now),
            self.standing.reason if self.standing.ejected else "",
            self.parked,
            self.view.capacity_age_s(now),
        )


def log_change(log: Any, event: str, candidate: Candidate) -> None:
    """What an operator should see of a member, with the reason where there is one."""
    reason = {"reason": candidate.standing.reason} if event == "ejected" and candidate.standing.ejected else {}
    note = log.warning if event in TROUBLES else log.info
    note(f"member {event}", member=candidate.name, address=str(candidate.member.address), **reason)


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
    def available(self) -> tuple[Candidate, ...]: ...
    @property
    def shares(self) -> tuple[tuple[str, ...], ...]: ...
    def has_other(self, tried: Iterable[Candidate]) -> bool: ...
    def of_other_share(self, tried: Collection[Candidate]) -> "Group | None": ...
    def why_none(self) -> str: ...
    def choose(self, tried: Iterable[Candidate] = (), key: int = 0, long: bool = False) -> Candidate | None: ...


class Group:
    """The candidates of one destination and how to choose among them. `sound`: some are available without the panic
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
        "candidates",
        "chooser",
        "destination",
        "sound",
        "split",
    )

    def __init__(
        self,
        destination: Destination,
        candidates: tuple[Candidate, ...],
        chooser: Chooser[Candidate],
        now: float,
        *,
        by_statements: bool = False,
    ) -> None:
        self.by_statements = by_statements
        self.destination = destination
        self.candidates = candidates
        self.chooser = chooser
        self.available = candidates
        self.sound = False
        self.split: Split | None = None
        self._free = False
        levels = [candidate.member.level for candidate in candidates]
        self._levels = levels if any(levels) else None
        self._settled_at = 0.0
        self._guided_at = now - GUIDANCE_S
        self._guidance: dict[Candidate, Guidance] = {}
        self.settle(now)

    def choose(self, tried: Iterable[Candidate] = (), key: int = 0, long: bool = False) -> Candidate | None:
        """The candidate for the next item, or None if there is none that was not `tried` yet and has room. `long`: it
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

    def has_other(self, tried: Iterable[Candidate]) -> bool:
        """Whether `choose` would find one that was not `tried`."""
        return bool(self._left(tried))

    @property
    def shares(self) -> tuple[tuple[str, ...], ...]:
        """Where an item of this group may go: the targets of all shares of its split."""
        return (self.destination.targets,) if self.split is None else self.split.shares

    def of_other_share(self, tried: Collection[Candidate]) -> "Group | None":
        """The group of another share of the same split that has a host which was not `tried`, if there is any."""
        return None if self.split is None else self.split.other(tried)

    def why_none(self) -> str:
        """Why `choose` finds nobody, in words."""
        return why_none(", ".join(self.destination.targets), [_reason(candidate) for candidate in self.candidates])

    def _left(self, tried: Iterable[Candidate]) -> tuple[Candidate, ...]:
        """Those that are not available are no help while others are merely full."""
        left = tuple(c for c in self.available if c not in tried) or tuple(
            c for c in self.candidates if c not in tried and c.availability.usable_at_last
        )
        return tuple(c for c in left if c.in_flight < c.cap)

    def settle(self, now: float) -> None:
        """Draw the lines anew from what is known now."""
        self._settled_at = now
        views = [candidate.view for candidate in self.candidates]
        if self.by_statements:
            self._weigh(stated_parts([view.stated(now) for view in views]))
        parts = relative([candidate.weight for candidate in self.candidates])
        usable = [candidate.availability is Availability.AVAILABLE for candidate in self.candidates]
        draw_lines(self.candidates, now, capacities_of(self.candidates, now), parts, usable)
        self.refresh()

    def _weigh(self, parts: list[float] | None) -> None:
        """What endpoints say of their capacities counts in their weights."""
        for candidate, part in zip(self.candidates, parts or [1.0] * len(self.candidates), strict=True):
            candidate.stated_part = part
            candidate.weight = candidate.wanted_weight * part

    def guidance(self, candidate: Candidate, now: float) -> Guidance | None:
        """What to tell one of the candidates of the others, None if it is not heard; worked out once for all."""
        if now - self._guided_at >= GUIDANCE_S:
            self._guided_at = now
            heard = [
                (each, child) for each in self.available if (child := each.view.as_child(each.in_flight)) is not None
            ]
            said = guide([child for _, child in heard])
            self._guidance = {each: words for (each, _), words in zip(heard, said, strict=True)}
        return self._guidance.get(candidate)

    def settle_in_turn(self, now: float) -> None:
        """With a tick; a large group, whose lines cost as much as a hundred requests, not with each."""
        if now - self._settled_at >= SETTLE_S_PER_CANDIDATE * len(self.candidates):
            self.settle(now)

    def settle_at_once(self, now: float) -> None:
        if now - self._settled_at >= max(AT_ONCE_S, AT_ONCE_S_PER_CANDIDATE * len(self.candidates)):
            self.settle(now)

    def refresh(self) -> None:
        """Work out again who is available."""
        states = [candidate.availability for candidate in self.candidates]
        ready = choosable(states) if self._levels is None else choosable_by_level(states, self._levels)
        self.available = tuple(self.candidates[index] for index in ready)
        self.sound = any(each.availability is Availability.AVAILABLE for each in self.available)
        self._free = bool(self.available) and all(each.cap == NO_CAP for each in self.available)
        if self.available:
            self.chooser.rebuild(self.available)


def _reason(candidate: Candidate) -> str:
    """Why a candidate is not chosen when none is."""
    if candidate.availability.usable_at_last and candidate.in_flight >= candidate.cap:
        return "full"
    return "tried" if candidate.availability is Availability.AVAILABLE else candidate.availability.value


class Roster:
    """All candidates of a node."""

    def __init__(
        self,
        reactor: Reactor,
        rng: random.Random,
        on_change: Callable[[str, Candidate], None],
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
        self._siblings: list[list[Candidate]] = []
        self._ticked_at = reactor.now
        self.recovery: recovery.Recovery | None = None
        self.reactor = reactor
        self.rng = rng
        self.on_change = on_change
        self.on_error: Callable[[Exception], object] = reactor.report
        self.groups: list[Group] = []
        self._kind = Kind.L7
        self._candidates: dict[tuple[str, str], Candidate] = {}
        self._by_name: dict[str, list[Candidate]] = {}
        self._shares_at = 0.0
        self.requests_below = RequestsBelow()
        self.work_left_s: dict[str, float] = {}
        """Work of members that have left, by target: it stays part of the target's cumulative count."""

    def regroup(self, destinations: Iterable[Destination], snapshot: Snapshot) -> list[Group]:
        """Groups for a new snapshot, parallel to `destinations`; candidates that are in none of them retire."""
        self._kind = snapshot.kind
        self.local_ports = local_ports()
        self.connect_s = snapshot.timeouts.connect
        self.checks = {pool.name: pool.health for pool in snapshot.pools if pool.health is not None}
        kept: dict[tuple[str, str], Candidate] = {}
        now = self.reactor.now
        groups = []
        for destination in destinations:
            chosen = tuple(self._keep(member, kept) for member in destination.members)
            chooser: Chooser[Candidate] = make_chooser(snapshot.balance, self.rng)
            by_statements = snapshot.balance not in KNOW_CAPACITY
            groups.append(Group(destination, chosen, chooser, now, by_statements=by_statements))
        for key, candidate in self._candidates.items():
            if key not in kept:
                candidate.retire()
                self._lose(candidate)
                target = candidate.member.target
                self.work_left_s[target] = self.work_left_s.get(target, 0.0) + candidate.view.work_done_s
        self._candidates, self.groups = kept, groups
        by_target: dict[tuple[str, ...], list[Candidate]] = {}
        for candidate in kept.values():
            by_target.setdefault(self._doing(candidate.member, groups), []).append(candidate)
        self._siblings = list(by_target.values())
        targets = {candidate.member.target for candidate in kept.values()}
        self.work_left_s = {target: work_s for target, work_s in self.work_left_s.items() if target in targets}
        self._share_work(by_target)
        self._by_name = {}
        for candidate in kept.values():
            self._by_name.setdefault(candidate.name, []).append(candidate)
        for candidate in kept.values():
            candidate.groups = [group for group in groups if candidate in group.candidates]
        self.outliers = watched(self.outliers, kept.values(), snapshot, now)
        return groups

    def _doing(self, member: Member, groups: Iterable["Group"]) -> tuple[str, ...]:
        """What members that do the same work have in common: endpoints of a pool their target, and nodes that this one
        gives connections to all that these may go to, since each of them serves any."""
        if self._kind is Kind.L4:
            for group in groups:
                if member.target in group.destination.targets:
                    return group.destination.targets
        return (member.target,)

    def _share_work(self, siblings: Mapping[tuple[str, ...], Sequence[Candidate]]) -> None:
        """What is known of the work of members is known of all that do the same, and of no others: where those that did
        the same are parted, one part begins anew."""
        work = {key: self._work[key] for key in siblings if key in self._work}
        for key, members in siblings.items():
            if key not in work:
                known = members[0].view.work
                work[key] = Work() if any(known is each for each in work.values()) else known
        self._work = work
        for key, members in siblings.items():
            for member in members:
                member.view.work = self._work[key]

    def view_of(self, member: Member) -> MemberView:
        """What is known of a member that has just come: nothing."""
        connections = self._kind is Kind.L4
        return MemberView(
            reports=member.reports,
            parents=member.parents,
            joined=self.reactor.now,
            by_connection=connections and member.reports,
            equal=connections,
            endpoint=not member.child,
        )

    def _keep(self, member: Member, kept: dict[tuple[str, str], Candidate]) -> Candidate:
        key = (member.name, str(member.address))
        candidate = kept.get(key) or self._candidates.get(key) or self._newcomer(member)
        candidate.groups = []
        candidate.take(member)
        kept[key] = candidate
        return candidate

    def _newcomer(self, member: Member) -> Candidate:
        """At the start nobody was heard, and to wait for one would give everything to another."""
        return Candidate(member, self, self.reactor.now + AWAITED_S if self.awaits(member) else 0.0)

    def awaits(self, member: Member) -> bool:
        """Whether a node that is there (again) is to say a word first: others have."""
        return member.child and any(other.view.connected for other in self._candidates.values())

    def tick(self, now: float) -> None:
        """Learn from what happened and draw all lines anew; every `balance.view.TICK_S`. A part that fails leaves the
        others as they are."""
        dt_s, self._ticked_at = now - self._ticked_at, now
        self._try(self.shortages.tick, now)
        self._try(self._before_tick, now)
        for outliers in self.outliers.values():
            self._try(outliers.tick, now)
        for candidate in self._candidates.values():
            self._try(candidate.learn, now)
        self._try(self.kinds.learn, now)
        for siblings in self._siblings:
            self._try(learn_together, siblings, dt_s)
        for group in self.groups:
            self._try(group.settle_in_turn, now)
        if now - self._shares_at >= SHARE_S:
            self._shares_at = now
            self._share_out()

    def _try(self, part: Callable[..., object], *given: object) -> None:
        try:
            part(*given)
        except Exception as error:
            self.on_error(error)

    def _share_out(self) -> None:
        """Each candidate's part of the items of the last second."""
        given = {c: c.given() - c.started for c in self._candidates.values()}
        total = sum(count for count in given.values() if count > 0)
        for candidate, count in given.items():
            candidate.recent_share = max(0, count) / total if total else 0.0
            candidate.started = candidate.given()

    def named(self, name: str) -> list[Candidate]:
        """The candidates of one member (two while it changes its address)."""
        return self._by_name.get(name, [])

    def note_report(self, name: str, load: SubtreeLoad, echo: Echo) -> None:
        """A child reported. Who is no member is passed over.

        What a parent would act on at once makes new lines at once, anything else with the next tick: to draw a
        hundred lines for each of four hundred reports a second would be most of what reports cost.
        """
        now = self.reactor.now
        for candidate in self.named(name):
            view = candidate.view
            known, connected, barren = view.heard, view.connected, view.barren
            left = known is not None and known.draining
            if self._kind is Kind.L4:
                self.requests_below.take(view.echo, echo, first=known is None)
            view.hear(now, load, echo)
            if known is None:
                candidate.started = candidate.given()
            candidate.awaited_until = 0.0
            if left != load.draining:
                candidate.assess("drains" if load.draining else "returned")
            elif view.barren is not barren:
                candidate.says_ready(not view.barren)
            elif not connected or candidate.availability is Availability.SILENT:
                candidate.assess()
            if known is None or not connected or is_news(known, load):
                for group in candidate.groups:
                    group.settle_at_once(now)

    def guidance(self, name: str, now: float) -> Guidance | None:
        """What a child is to know of its siblings; None for who is no member."""
        for candidate in self.named(name):
            for group in candidate.groups:
                return group.guidance(candidate, now)
        return None

    def note_lost(self, name: str) -> None:
        """A child's control socket is gone; its data path may well work."""
        for candidate in self.named(name):
            self._lose(candidate)

    def _lose(self, candidate: Candidate) -> None:
        """Nobody tells any more how many requests are in flight below it."""
        self.requests_below.lose(candidate.view.lose())

    def close(self) -> None:
        """The node ends."""
        for candidate in self._candidates.values():
            candidate.retire()
        self._candidates, self._by_name = {}, {}

    @property
    def candidates(self) -> Iterable[Candidate]:
        return self._candidates.values()

    def loads(self) -> tuple[MemberLoad, ...]:
        now = self.reactor.now
        return tuple(candidate.load(now) for candidate in self._candidates.values())
