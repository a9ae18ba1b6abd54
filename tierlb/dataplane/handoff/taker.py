"""The child's end of what one parent hands over.

The parent connects to the node's socket in the meeting place (`listener`) and identifies itself as in the PROXY header
of a relayed connection. With that it sends the reading end of a second socket, the queue, of which it keeps a copy.

A message in the queue is read once, by this node or by the parent. That is the acknowledgement: what this node has read
is its own, and what it has not read the parent can read itself, however long this process has been stopped, and give it
to another node. Nothing is taken twice, nothing has to be asked, and no process but the one that serves a connection
holds its socket.

When the parent's process is gone, this node reads the rest of its queue and serves it. When this node drains, it closes
its end of the queue and the parent takes back the rest. The ends of connections are reported together, once a stint.
"""

import os
import socket
from collections.abc import Callable
from typing import Any, Final, Protocol

from tierlb.dataplane.connection_cap import held
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.handoff.lent import Lent
from tierlb.dataplane.parent_identity import ParentIdentity, process_of, processes_of
from tierlb.net.packets import close_all, has_room_for, receive_packet, send_packet
from tierlb.net.reactor import READ, WRITE, Reactor
from tierlb.net.wheel import NEVER, Timed
from tierlb.telemetry.tally import Tally
from tierlb.wire.announcement import origin_in
from tierlb.wire.handoff import (
    DRAINS,
    MAX_ENTRIES,
    SHORTAGE,
    UNWELCOME,
    WELCOME,
    WELCOME_APART,
    BadMessage,
    Entry,
    back_message,
    decode_entries,
    ended_messages,
)
from tierlb.wire.proxy_protocol import NETWORK, BadProxyHeader, ProxyHeader, parse_v2

INTRODUCTION_S: Final = 5.0
"""How long a parent may take to identify itself, which it does at once."""
MESSAGES_PER_TURN: Final = 4
"""Then other connections get their turn, as after 64 connections that are accepted."""
MOST_UNREPORTED: Final = 65_536
"""Ends that wait because the parent does not read. One that has been stopped for so long gets a new beginning."""
ROOMY_PART: Final = 8
"""A client's connection needs two descriptors at most, and connections to hosts are kept for a while. With fewer
clients than an eighth of the limit of descriptors some are free, even if all others have only just gone."""
SHORT_S: Final = 0.25
"""After a message that there was no room for, until the next one is read."""


class Handed:
    """A connection that was handed over, for as long as it lasts. `tally` counts what comes from that parent."""

    __slots__ = ("number", "taker")

    def __init__(self, taker: "Taker", number: int) -> None:
        self.taker, self.number = taker, number

    @property
    def tally(self) -> Tally:
        return self.taker.tally

    def over(self) -> None:
        """It has ended."""
        self.taker.ended(self.number)


class Introduced:
    """What is known of a client whose connection was handed over: `processes` of the cluster that it passed, the
    nearest first, `explained`, their lines on how they chose, and `destination`, if the socket's is another one.
    `secured`: the client speaks TLS with one of them; `told`: what of that. `origin`: what a balancer above told."""

    __slots__ = ("arrived", "destination", "explained", "handed", "origin", "processes", "secured", "source", "told")

    def __init__(self, entry: Entry, taker: "Taker") -> None:
        self.handed = Handed(taker, entry.number)
        self.source, self.arrived = entry.source, entry.arrived
        self.processes = taker.processes
        self.explained: tuple[bytes, ...] = ()
        self.destination: tuple[str, int] | None = None
        self.secured, self.told = False, b""
        self.origin = origin_in(entry.source, entry.tlvs)
        if entry.tlvs:
            self.processes, self.explained = (*taker.processes, *entry.via), entry.explained
            self.destination, self.secured, self.told = entry.destination, entry.secured, entry.told


class TakesHanded(Protocol):
    """The node's data plane."""

    counters: Counters

    def take(self, fd: int, introduced: Introduced, *, is_last: bool) -> bool:
        """Take a connection; false if there is no room for it, unless it is the last try."""


class Takers:
    """What the ends of all parents share. `node` is the data plane that there is then. `descriptors`: how many this
    process may hold. With fewer than `roomy_below` clients these cannot run out with the next message. `network`: the
    namespace of this process, empty if it is not known."""

    def __init__(
        self,
        reactor: Reactor,
        identity: ParentIdentity,
        node: Callable[[], TakesHanded],
        log: Any,
        descriptors: int,
        network: bytes,
    ) -> None:
        self.reactor = reactor
        self.identity = identity
        self.node = node
        self.log = log
        self.network = network
        self.open: set[Taker] = set()
        self.roomy_below = descriptors // ROOMY_PART

    @property
    def are_roomy(self) -> bool:
        """Whether descriptors cannot run out with the next message."""
        return held(self.node().counters) < self.roomy_below


class Taker(Timed):
    """One parent. `control` is None when the parent is gone, `queue` before it has identified itself and after the last
    message. `rests`: descriptors are short, and the queue is not watched. `drains`: that is still to be said.
    `unreported`: connections whose end is to be reported. `lent`: those of a parent whose network is another one."""

    __slots__ = (
        "_context",
        "control",
        "drains",
        "lent",
        "parent",
        "processes",
        "queue",
        "rests",
        "tally",
        "unreported",
    )

    def __init__(self, context: Takers, control: socket.socket) -> None:
        self._context = context
        self.control: socket.socket | None = control
        self.queue: socket.socket | None = None
        self.drains = self.rests = False
        self.lent: Lent | None = None
        self.parent = ""
        self.processes: tuple[str, ...] = ()
        self.tally = Tally()
        self.unreported: list[int] = []
        self.filed = NEVER
        self.deadline = context.reactor.now + INTRODUCTION_S
        context.open.add(self)
        context.reactor.wheel.file(self)
        context.reactor.add(control.fileno(), READ, self._on_control)

    def ended(self, number: int) -> None:
        """One of its connections has ended here."""
        if self.lent is not None:
            self.lent.over(number)
        if self.control is None:
            return
        if not self.unreported:
            self._context.reactor.later(self.report)
        self.unreported.append(number)
        if len(self.unreported) > MOST_UNREPORTED:
            self._part()

    def report(self) -> None:
        """Report the ends so far. What does not fit now is reported when there is room."""
        control, numbers = self.control, self.unreported
        if control is None:
            return
        sent = 0
        try:
            if self.drains:
                send_packet(control, DRAINS)
                self.drains = False
            for message, count in ended_messages(numbers):
                send_packet(control, message)
                sent += count
        except BlockingIOError:
            self._context.reactor.modify(control.fileno(), READ | WRITE)
        except OSError:
            self._part()
            return
        del numbers[:sent]

    def drain(self) -> None:
        """Take nothing more. What is in the queue is the parent's."""
        if self.control is None:
            self._take_all()
            return
        self.drains = True
        if self.parent:  # another one is answered so when it identifies itself
            self._end_queue()
            self.report()

    def close(self) -> None:
        """The node ends."""
        if self.unreported:
            self.report()
        self._end_queue()
        self._part()

    def on_deadline(self) -> None:
        """It has not identified itself in time, or there may be room again."""
        if self.queue is not None:
            self.rests = False
            self._context.reactor.add(self.queue.fileno(), READ, self._on_queue)
        elif not self.parent:
            self._part()

    def abort(self) -> None:
        """A handler failed: the parent takes back what is left and begins anew."""
        self.close()

    def _on_control(self, mask: int) -> None:
        control = self.control
        if control is None:
            return
        if mask & WRITE:
            self._context.reactor.modify(control.fileno(), READ)
            self.report()
        if not mask & ~WRITE:
            return
        try:
            packet = receive_packet(control, 1)
        except BlockingIOError:
            return
        except OSError:
            self._part()
            return
        if not packet.data or self.parent:
            close_all(packet.descriptors)
            self._part()
            return
        try:
            self._introduce(packet.data, packet.descriptors)
        except Exception:
            if self.queue is None:
                close_all(packet.descriptors)
            raise

    def _introduce(self, data: bytes, descriptors: list[int]) -> None:
        try:
            header = parse_v2(data)
            parent = None if header is None else self._context.identity.parent(header)
        except BadProxyHeader:
            header = parent = None
        if header is None or parent is None or len(descriptors) != 1:
            reason = "it does not know the key of this cluster" if header is not None else "it sent no PROXY header"
            self._context.log.warning("handoff_refused", reason=reason)
            answer = UNWELCOME + reason.encode()
        elif self.drains:
            answer = DRAINS
        else:
            self._begin(parent, header, descriptors[0])
            return
        close_all(descriptors)
        self._say(answer)
        self._part()

    def _begin(self, parent: str, header: ProxyHeader, descriptor: int) -> None:
        context = self._context
        context.reactor.wheel.forget(self)
        self.parent = parent
        self.processes = processes_of(parent, header)
        self.tally = context.node().counters.tallies.of(parent)
        self.queue = queue = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, descriptor)
        queue.setblocking(False)
        context.reactor.add(descriptor, READ, self._on_queue)
        if header.tlvs.get(NETWORK, context.network) == context.network:
            self._say(WELCOME)
        else:
            self.lent = Lent()
            self._say(WELCOME_APART)
        context.log.info("handoff_began", parent=parent, process=process_of(parent, header))

    def _say(self, message: bytes, descriptors: tuple[int, ...] = ()) -> bool:
        """Whether it was said. A parent that does not read learns by the end of the connection."""
        if self.control is None:
            return False
        try:
            send_packet(self.control, message, descriptors)
        except OSError:
            return False
        return True

    def _part(self) -> None:
        """The parent is gone, or is to begin anew. What it handed over goes on, but for what is lent: nothing
        else would tell when its network goes."""
        context, control = self._context, self.control
        self.unreported.clear()
        if control is not None:
            self.control = None
            context.reactor.close(control.detach())
            if self.parent:
                context.log.info("handoff_ended", parent=self.parent)
        if self.lent is not None:
            self.lent.end()
        if self.queue is None:
            context.reactor.wheel.forget(self)
            context.open.discard(self)

    def _on_queue(self, mask: int) -> None:
        for _ in range(MESSAGES_PER_TURN):
            if self._take_next() < MAX_ENTRIES:
                return

    def _take_next(self) -> int:
        """Take one message of connections; how many they were."""
        context, queue = self._context, self.queue
        if queue is None:
            return 0
        if not (context.are_roomy or has_room_for(MAX_ENTRIES, queue.fileno())):
            self._stand_back()
            return 0
        try:
            packet = receive_packet(queue, MAX_ENTRIES)
        except BlockingIOError:
            return 0
        except OSError:
            packet = None
        if packet is None or not packet.data:
            self._end_queue()
            return 0
        try:
            entries = decode_entries(packet.data)
        except BadMessage as error:
            context.log.warning("handoff_refused", parent=self.parent, reason=error.reason)
            close_all(packet.descriptors)
            self.close()
            return 0
        self._take(entries, packet.descriptors)
        return len(entries)

    def _take(self, entries: list[Entry], descriptors: list[int]) -> None:
        for entry in entries[len(descriptors) :]:
            self.ended(entry.number)  # without its socket, which is lost
        back: list[tuple[Entry, int]] = []
        node = self._context.node()
        for entry, descriptor in zip(entries, descriptors, strict=False):
            if self.lent is not None:
                self.lent.begin(entry.number, descriptor)
            try:
                if not node.take(descriptor, Introduced(entry, self), is_last=entry.is_last):
                    back.append((entry, descriptor))
            except Exception as error:  # those behind it are to be taken all the same
                self._context.reactor.close(descriptor)
                self.ended(entry.number)
                self._context.reactor.report(error)
        if back:
            self._give_back(back)

    def _give_back(self, back: list[tuple[Entry, int]]) -> None:
        """There is no room. What the parent cannot be given is closed."""
        message = back_message(entry.raw for entry, _ in back)
        said = self._say(message, tuple(descriptor for _, descriptor in back))
        for entry, descriptor in back:
            os.close(descriptor)
            if self.lent is not None:
                self.lent.over(entry.number)
            if not said:
                self.ended(entry.number)

    def _stand_back(self) -> None:
        """No descriptor is free: the parent takes back what waits. An end of the queue would be told under every mask,
        so it is not watched at all."""
        if not self.rests and self.queue is not None:
            self.rests = True
            self._context.reactor.remove(self.queue.fileno())
        self._say(SHORTAGE)
        self.deadline = self._context.reactor.now + SHORT_S
        self._context.reactor.wheel.file(self)

    def _take_all(self) -> None:
        """The parent's process has ended, so this node is the only reader of the queue."""
        while self._take_next():
            pass

    def _end_queue(self) -> None:
        """The parent may hold the same socket, so closing it does not take it out of the epoll set."""
        queue = self.queue
        if queue is not None:
            self.queue = None
            self._context.reactor.wheel.forget(self)
            if not self.rests:
                self._context.reactor.remove(queue.fileno())
            self._context.reactor.close(queue.detach())
            if self.control is None:
                self._context.open.discard(self)
