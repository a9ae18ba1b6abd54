"""Membership at run time: who may be sent to, what is in flight there, and who is passed over.

`Roster` keeps one `Candidate` per member name and address across snapshots, so that counts, open connections and
ejections survive a change of configuration. A `Group` is one destination of the current snapshot; its `choose` is
the only thing the hot path calls. Groups keep a ready-made tuple of the candidates that are available; it is made
anew only when an ejection begins or ends.
"""

import errno
import random
import socket
from collections.abc import Callable, Iterable
from itertools import accumulate
from operator import attrgetter
from typing import Any

from tierlb.balance.choosers import Chooser, make_chooser
from tierlb.balance.ejection import Ejection, available
from tierlb.model.load import MemberLoad
from tierlb.model.snapshot import Destination, Member
from tierlb.model.topology import Policy
from tierlb.net.reactor import WRITE, Reactor
from tierlb.net.stream import Stream, dial
from tierlb.net.wheel import NEVER

in_flight: Callable[["Candidate"], float] = attrgetter("in_flight")
"""The load metric of this version: items this node has sent there that are not finished."""


class Candidate:
    """One member as this node knows it. `idle` holds kept connections, the freshest last."""

    __slots__ = (
        "deadline",
        "done",
        "ejection",
        "failed",
        "filed",
        "groups",
        "idle",
        "in_flight",
        "member",
        "probe",
        "retired",
        "roster",
    )

    def __init__(self, member: Member, roster: "Roster") -> None:
        self.member = member
        self.roster = roster
        self.groups: list[Group] = []
        self.in_flight = 0
        self.done = 0
        self.failed = 0
        self.idle: list[Any] = []
        self.ejection = Ejection()
        self.probe: Probe | None = None
        self.retired = False
        self.deadline = NEVER
        self.filed = NEVER

    def connected(self) -> None:
        """A connect (or probe) succeeded."""
        was_out = self.ejection.ejected
        self.ejection.succeeded()
        if was_out:
            self._regroup("restored")

    def connect_failed(self, *, refused: bool) -> None:
        """A connect (or probe) failed; ejects the member when that is due."""
        self.failed += 1
        reactor = self.roster.reactor
        if self.ejection.failed(reactor.now, refused=refused):
            self.deadline = self.ejection.until
            reactor.wheel.file(self)
            self._regroup("ejected")

    def on_deadline(self) -> None:
        """The ejection is over: ask the member itself before any client does."""
        if self.ejection.ejected and self.probe is None:
            Probe.start(self)

    def _regroup(self, event: str) -> None:
        for group in self.groups:
            group.refresh()
        self.roster.on_change(event, self)

    def retire(self) -> None:
        """No longer a member: kept connections close, items in flight finish."""
        self.retired = True
        self.roster.reactor.wheel.forget(self)
        for connection in self.idle[:]:
            connection.close()
        if self.probe is not None:
            self.probe.close()

    def load(self) -> MemberLoad:
        return MemberLoad(self.member.name, self.in_flight, self.done, self.failed, self.ejection.ejected)


class Group:
    """The candidates of one destination and how to choose among them."""

    __slots__ = ("available", "candidates", "chooser", "destination")

    def __init__(
        self, destination: Destination, candidates: tuple[Candidate, ...], chooser: Chooser[Candidate]
    ) -> None:
        self.destination = destination
        self.candidates = candidates
        self.chooser = chooser
        self.available = candidates
        self.refresh()

    def choose(self, tried: Iterable[Candidate] = ()) -> Candidate | None:
        """The candidate for the next item, or None if there is none that was not `tried` yet."""
        candidates = self.available
        if tried:
            candidates = tuple(c for c in candidates if c not in tried) or tuple(
                c for c in self.candidates if c not in tried
            )
        return self.chooser(candidates) if candidates else None

    def first_choice(self) -> Candidate | None:
        """`choose` for an item that was not tried anywhere yet."""
        return self.chooser(self.available) if self.available else None

    def refresh(self) -> None:
        """Work out again who is available."""
        ready = available(candidate.ejection.ejected for candidate in self.candidates)
        self.available = tuple(self.candidates[index] for index in ready)


class Split:
    """The groups of one `Send` and their fixed shares."""

    __slots__ = ("_cumulative", "_groups", "_rng")

    def __init__(self, groups: list[Group], rng: random.Random) -> None:
        self._groups = groups
        self._cumulative = list(accumulate(group.destination.weight for group in groups))
        self._rng = rng

    def pick(self) -> Group:
        """The group for the next item."""
        if len(self._groups) == 1:
            return self._groups[0]
        return self._rng.choices(self._groups, cum_weights=self._cumulative)[0]


class Roster:
    """All candidates of a node."""

    def __init__(self, reactor: Reactor, rng: random.Random, on_change: Callable[[str, Candidate], None]) -> None:
        self.reactor = reactor
        self.rng = rng
        self.on_change = on_change
        self._candidates: dict[tuple[str, str], Candidate] = {}

    def regroup(self, destinations: Iterable[Destination], policy: Policy) -> list[Group]:
        """Groups for a new snapshot, parallel to `destinations`; candidates that are in none of them retire."""
        kept: dict[tuple[str, str], Candidate] = {}
        groups = []
        for destination in destinations:
            chosen = tuple(self._keep(member, kept) for member in destination.members)
            groups.append(Group(destination, chosen, make_chooser(policy, in_flight, self.rng)))
        for key, candidate in self._candidates.items():
            if key not in kept:
                candidate.retire()
        self._candidates = kept
        for candidate in kept.values():
            candidate.groups = [group for group in groups if candidate in group.candidates]
        return groups

    def _keep(self, member: Member, kept: dict[tuple[str, str], Candidate]) -> Candidate:
        key = (member.name, str(member.address))
        candidate = kept.get(key) or self._candidates.get(key) or Candidate(member, self)
        candidate.member = member
        kept[key] = candidate
        return candidate

    def close(self) -> None:
        """The node ends."""
        for candidate in self._candidates.values():
            candidate.retire()
        self._candidates = {}

    def loads(self) -> tuple[MemberLoad, ...]:
        return tuple(candidate.load() for candidate in self._candidates.values())


class Probe(Stream):
    """One connect to an ejected member, closed as soon as it is made."""

    __slots__ = ("candidate",)

    candidate: Candidate
    PROBE_S = 1.0

    @classmethod
    def start(cls, candidate: Candidate) -> None:
        try:
            sock, code = dial(candidate.member.address)
        except OSError:
            candidate.connect_failed(refused=False)
            return
        probe = candidate.probe = cls(candidate.roster.reactor, sock)
        probe.candidate = candidate
        if code:
            probe._finish(code)
        else:
            probe.arm(cls.PROBE_S)
            probe.watch(WRITE)

    def on_ready(self, mask: int) -> None:
        self._finish(self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def on_deadline(self) -> None:
        self._finish(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self._finish(error.errno or errno.EIO)

    def _finish(self, code: int) -> None:
        if self.closed:
            return
        self.close()
        if code:
            self.candidate.connect_failed(refused=code == errno.ECONNREFUSED)
        else:
            self.candidate.connected()

    def close(self) -> None:
        self.candidate.probe = None
        super().close()
