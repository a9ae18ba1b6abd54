"""What a node's data plane is: nothing before the first snapshot (`Serving`), then a front of the tier's kind, with its
upkeep, the cap on its connections and the drain (`Runtime`).
"""

import os
import random
import socket
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

import attrs

from tierlb.balance.drain import BELOW_S, DrainState, Remainder
from tierlb.dataplane.announced import Announcements
from tierlb.dataplane.connection_cap import CappedFront, ConnectionCap
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.handoff.taker import Introduced
from tierlb.dataplane.maintenance import Maintenance
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.tier_tls import InnerTls
from tierlb.dataplane.upkeep import Served, Upkeep
from tierlb.dataplane.upstream.host import Host
from tierlb.model.address import Address, Transport
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.tls import ListenerTls
from tierlb.model.topology import Admin, Kind
from tierlb.net.datagrams import DatagramPort, OnNewcomer
from tierlb.net.meeting_place import MeetingPlace
from tierlb.net.reactor import Reactor
from tierlb.net.server_tls import ServerTls
from tierlb.net.wheel import NEVER
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.sketch import Sketch
from tierlb.wire.announcement import Origin


class Front(Served, CappedFront, Protocol):
    """What all fronts have in common. `tls`: what clients are shown that parents send; `shown`: by what it says of
    their listener, those that connect here. `inner_tls`: what parents themselves are shown, and have to show."""

    tls: ServerTls | None
    shown: Mapping[ListenerTls, ServerTls]
    inner_tls: InnerTls | None

    @property
    def drained(self) -> bool: ...
    @property
    def tunnels(self) -> Collection[Pipe]: ...
    def apply(self, snapshot: Snapshot) -> None: ...
    def drain(self) -> None: ...
    def remainder(self) -> Remainder: ...
    def cut(self) -> None: ...
    def cut_from(self, host: Host) -> Remainder: ...
    def close(self) -> None: ...
    def accept(self, fd: int, peer: tuple[str, int], listener: Listener, origin: Origin | None = None) -> None: ...
    def take(self, fd: int, introduced: Introduced) -> None: ...
    def listen(self, addresses: tuple[Address, ...]) -> None: ...
    @property
    def lacks(self) -> tuple[str, ...]: ...
    def way_to(self, host: Host) -> str: ...


DESCRIPTORS_PER_SESSION = 1
"""Clients over UDP share the socket of the port."""


def _ignore(port: DatagramPort, key: Any, data: bytes) -> None:
    """A datagram where nothing is served over UDP."""


class Serving:
    """The data plane of a node without a snapshot: it serves nothing, and what others report changes nothing.
    `newcomer` takes the datagrams of clients without a session."""

    def __init__(self, name: str, errors: InternalErrors, counters: Counters | None = None) -> None:
        self.name = name
        self.errors = errors
        self.counters = counters or Counters()
        self.drain_time = DrainState()
        self.newcomer: OnNewcomer = _ignore

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener) -> None:
        """A connection arrived."""
        os.close(fd)

    def take(self, fd: int, introduced: Introduced, *, is_last: bool) -> bool:
        """A parent handed over a connection. False if there is no room for it here, unless it is the last try."""
        return False

    def out_of_descriptors(self, listening: socket.socket, listener: Listener) -> bool:
        """One waits in the queue for which there is no descriptor; whether there is one now."""
        return False

    def tick(self, now: float, *, ends: bool) -> float:
        """Learn, and end what is due. `ends`: the process drains, and ends when that is over. Returns when to call it
        again at the latest if nothing happens until then."""
        return NEVER

    def drain(self) -> None:
        """Finish what is under way, close kept-alive connections politely."""

    @property
    def drained(self) -> bool:
        """Whether nothing is under way."""
        return True

    def cut(self) -> None:
        """End what is under way."""

    def close(self) -> None:
        """The node ends."""

    def load(self, strangers: int) -> NodeLoad:
        """The counters now. `strangers`: refused by the listeners."""
        return NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0, internal_errors=self.errors.counts.total())

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""
        return SubtreeLoad()

    def echo(self, parent: str) -> Echo:
        """What of its counts came from this parent."""
        return Echo()

    def row(self, load: NodeLoad) -> NodeRow:
        """The detail, while it is watched."""
        return NodeRow(self.name, "", 0.0, load, SubtreeLoad())

    def metrics(self, load: NodeLoad) -> Exposed:
        """Everything for a page of metrics; latencies since the start."""
        return Exposed(self.name, "", load, self.subtree(), Sketch())

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo, next_s: float) -> None:
        """A child reported its subtree, how much of that came from here, and when the next report is due."""

    def note_lost(self, child: str) -> None:
        """A child's control connection is gone; its data path may work."""

    def guide(self, child: str) -> Guidance | None:
        """The guidance for a child; None for any other name."""
        return None

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        """A parent's guidance on this node's siblings."""

    def explain(self, nonce: str, until_s: float) -> None:
        """Explain requests that carry this nonce, until then by `time.monotonic`."""

    def announce_drain(self) -> float:
        """Answer agent checks that this node drains; in how many seconds all of them have asked."""
        return 0.0


class Runtime(Serving):
    """`snapshot` is the current one. `descriptors`: how many this process may hold."""

    def __init__(
        self,
        snapshot: Snapshot,
        reactor: Reactor,
        rng: random.Random,
        log: Any,
        identity: ParentIdentity,
        errors: InternalErrors,
        descriptors: int,
        meeting_place: MeetingPlace | None,
        why_none: str,
    ) -> None:
        front = _front_class(snapshot)
        over_tcp = snapshot.kind is Kind.L4 and not _is_over_udp(snapshot)
        more: dict[str, Any] = {"meeting_place": meeting_place, "why_none": why_none} if over_tcp else {}
        self.front: Front = front(identity.name, reactor, rng, log, identity, **more)
        super().__init__(identity.name, errors, self.front.counters)
        self.snapshot = snapshot
        self.upkeep = Upkeep(self.front, reactor, rng, log, errors)
        if _is_over_udp(snapshot):
            from tierlb.dataplane.l4.udp_front import UdpFront

            assert isinstance(self.front, UdpFront)
            self.cap = self.front.cap = ConnectionCap(self.front, log, descriptors, DESCRIPTORS_PER_SESSION)
            self.newcomer = self.front.newcomer
        else:
            self.cap = ConnectionCap(self.front, log, descriptors)
        self._reactor = reactor
        self._log = log
        self._maintenance = Maintenance()
        self._announcements = Announcements(reactor, log, self.front.counters, self.front.accept)
        self.cap.waiting = self._announcements.pending

    def apply(self, found: Snapshot, *, ends: bool) -> None:
        """Serve the current snapshot, with the endpoints that are found by now. The drain time runs from the first
        snapshot that is not ready, or from when the process was asked to end (`ends`)."""
        now = self._reactor.look()
        self.cap.configure(found.limits.connections)
        self.front.apply(found)
        self.upkeep.apply(found)
        self._maintenance.note(self.front.registry.hosts, now)
        if ends or self.snapshot.admin is not Admin.READY:
            self.drain_time.begin(now, _drain_s(self.snapshot))
        else:
            self.drain_time.stop()

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener) -> None:
        now = self._reactor.now
        if not self.cap.admit(now):
            self.cap.turn_away(fd, now, secured=self._is_secured(listener))
        elif not listener.announced_from or not self._awaits_announcement(fd, peer, listener):
            self.front.accept(fd, peer, listener)

    def _awaits_announcement(self, fd: int, peer: tuple[str, int], listener: Listener) -> bool:
        return self._announcements.begin(fd, peer, listener, self.snapshot.timeouts.head)

    def take(self, fd: int, introduced: Introduced, *, is_last: bool) -> bool:
        now = self._reactor.now
        if self.cap.admit(now):
            self.front.take(fd, introduced)
        elif not is_last:
            return False
        else:
            self.cap.turn_away(fd, now, secured=self.front.tls is not None and not introduced.secured)
            introduced.handed.over()
        return True

    def out_of_descriptors(self, listening: socket.socket, listener: Listener) -> bool:
        return self.cap.out_of_descriptors(listening, self._reactor.now, secured=self._is_secured(listener))

    def _is_secured(self, listener: Listener) -> bool:
        """Whether what comes there may begin with a handshake."""
        if listener.inner:
            return self.front.tls is not None or self.front.inner_tls is not None
        return listener.tls is not None

    def drain(self) -> None:
        self.drain_time.begin(self._reactor.look(), _drain_s(self.snapshot))
        self.front.drain()

    @property
    def drained(self) -> bool:
        return self.front.drained and not self._announcements.pending

    def tick(self, now: float, *, ends: bool) -> float:
        """What stayed too long ends: at a node that stays drained, and at hosts in maintenance."""
        latest = min(self.upkeep.tick(now), self.cap.tick(now))
        if self.drain_time.is_over(now) and not ends:
            self.cut()
            self.drain_time.repeat(now)
        for host in self._maintenance.due(now, self.snapshot.drain_s):
            left = self.front.cut_from(host)
            if left:
                self._log.warning("maintenance_deadline_reached", host=host.name, **attrs.asdict(left))
        cut_at = NEVER if ends else self.drain_time.deadline
        return min(latest, cut_at, self._maintenance.deadline(self.snapshot.drain_s))

    def cut(self) -> None:
        left = self.front.remainder()
        left = attrs.evolve(left, connections=left.connections + len(self._announcements.pending))
        self._announcements.cut()
        if left:
            self._log.warning("drain_deadline_reached", **attrs.asdict(left))
            self.front.cut()

    def close(self) -> None:
        self._announcements.cut()
        self.front.close()
        self.cap.close()

    def load(self, strangers: int) -> NodeLoad:
        """`busy` is of the last second or so."""
        counters, registry = self.counters, self.front.registry
        total, shortages = counters.tallies.total(), registry.context.shortages
        return NodeLoad(
            counters.connections + counters.forwarded,
            total.in_flight,
            total.arrivals,
            counters.errors,
            counters.rejected + strangers,
            counters.bytes_in,
            counters.bytes_out,
            self.upkeep.account.busy,
            self.upkeep.checks.with_problems(registry.loads(self.front.way_to)),
            counters.turned_away,
            counters.gave_way,
            (*self.cap.shortages(), *shortages.current(), *self.front.lacks),
            shortages.count,
            len(self.front.tunnels),
            self.errors.counts.total(),
            total.parked,
            counters.lost_datagrams,
        )

    def subtree(self) -> SubtreeLoad:
        return self.upkeep.subtree(self._reactor.look())

    def echo(self, parent: str) -> Echo:
        return self.upkeep.account.echo(parent)

    def row(self, load: NodeLoad) -> NodeRow:
        latency = self.upkeep.account.latencies.value().encode()
        return NodeRow(self.name, self.snapshot.tier, 0.0, load, self.subtree(), latency)

    def metrics(self, load: NodeLoad) -> Exposed:
        return Exposed(self.name, self.snapshot.tier, load, self.subtree(), self.front.latencies)

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo, next_s: float) -> None:
        self.front.registry.note_report(child, load, echo, next_s)

    def note_lost(self, child: str) -> None:
        self.front.registry.note_lost(child)

    def guide(self, child: str) -> Guidance | None:
        return self.front.registry.guidance(child, self._reactor.look())

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        if self.upkeep.note_guidance(self._reactor.look(), parent, guidance):
            self._reactor.beat.stir()

    def explain(self, nonce: str, until_s: float) -> None:
        self.front.explaining.begin(nonce.encode(), until_s)

    def announce_drain(self) -> float:
        return self.upkeep.announce_drain(self._reactor.look())


def _front_class(snapshot: Snapshot) -> Callable[..., Front]:
    """A node imports only what it serves with. A kind takes about 1 MiB."""
    if snapshot.kind is Kind.L7:
        from tierlb.dataplane.l7.front import L7Front

        return L7Front
    if _is_over_udp(snapshot):
        from tierlb.dataplane.l4.udp_front import UdpFront

        return UdpFront
    from tierlb.dataplane.l4.front import L4Front

    return L4Front


def _is_over_udp(snapshot: Snapshot) -> bool:
    return snapshot.kind is Kind.L4 and snapshot.protocol is Transport.UDP


def _drain_s(snapshot: Snapshot) -> float:
    sends = (rule.action for rule in snapshot.rules if isinstance(rule.action, Send))
    relays = snapshot.kind is Kind.L4 and any(
        host.child for send in sends for each in send.destinations for host in each.hosts
    )
    return snapshot.drain_s + (BELOW_S if relays else 0.0)
