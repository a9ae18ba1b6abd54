"""The parent's end of what is handed over to one process of a child (dataplane/handoff/taker.py has the child's).

Connections of one turn travel in messages of up to MAX_ENTRIES. As soon as a message is in the queue, the sockets in it
are closed here. Until the child reads it, it can be read here as well: when the child's process has gone, drains, lacks
descriptors or has read nothing for as long as a connect may take, what it has not read is taken back, and goes to
another host as after a connect that failed.

Which process has a connection never depends on a message that may be late: the kernel gives each to one reader.
"""

import enum
import errno
import os
import socket
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.given import Given, Waiting
from tierlb.dataplane.l4.shared_queue import SharedQueue
from tierlb.dataplane.upstream.host import Host
from tierlb.net.packets import close_all, receive_packet, send_packet
from tierlb.net.reactor import READ, WRITE
from tierlb.net.wheel import NEVER, Timed
from tierlb.wire.handoff import (
    BACK,
    DRAINS,
    ENDED,
    MAX_ENTRIES,
    SHORTAGE,
    UNWELCOME,
    WELCOME,
    WELCOME_APART,
    BadMessage,
    Entry,
    decode_entries,
    read_numbers,
)
from tierlb.wire.proxy_protocol import NETWORK, encode_local, encode_tlv

MOST_UNSENT = 1024
"""Connections that wait here because the queue is full. More go to other hosts."""
SPARED_S: Final = 0.5
"""How long a child that had no descriptor free is given nothing."""


class GiverState(enum.Enum):
    """OPENING: the child has not answered yet. OPEN: it takes connections. ENDING: it takes no more, and what it has
    goes on. GONE: its process has ended, or it does not take connections in this way."""

    OPENING = "opening"
    OPEN = "open"
    ENDING = "ending"
    GONE = "gone"


OPENING, OPEN, ENDING, GONE = GiverState.OPENING, GiverState.OPEN, GiverState.ENDING, GiverState.GONE

GivenBack = Callable[[Waiting, bool], None]
"""A connection comes back from its host; whether that one is to be passed over."""


class Giver(Timed):
    """`given` are the connections that the child has or is to read, `waiting` those that are still here. `why` it does
    not take connections, for operators."""

    __slots__ = (
        "_context",
        "_control",
        "_on_back",
        "_short_until",
        "given",
        "host",
        "queue",
        "queued",
        "state",
        "waiting",
    )

    def __init__(
        self, context: L4Context, host: Host, control: socket.socket, on_back: GivenBack, network: bytes
    ) -> None:
        """`control` is connected to the child. `network`: the namespace of this process. Raises OSError if the child
        breaks off at once."""
        self._context = context
        self.host = host
        self._control = control
        self._on_back = on_back
        self._short_until = 0.0
        self.state = OPENING
        self.waiting: deque[Waiting] = deque()
        self.given = Given(context)
        self.queued = False
        self.filed = NEVER
        self.queue = SharedQueue()
        try:
            introduction = encode_local(
                context.identity.credentials + (encode_tlv(NETWORK, network) if network else b"")
            )
            send_packet(control, introduction, (self.queue.copy.fileno(),))
            context.reactor.add(self.queue.out.fileno(), 0, self._on_room)
            context.reactor.add(control.fileno(), READ, self._on_control)
        except OSError:
            context.reactor.close(self.queue.out.detach())
            self.queue.copy.close()
            raise
        self.deadline = context.reactor.now + context.config.connect_s
        context.reactor.wheel.file(self)

    @property
    def takes(self) -> bool:
        """Whether the child takes connections now, or is about to say so."""
        if self._short_until > self._context.reactor.now:
            return False
        return self.state is OPEN or self.state is OPENING

    def give(self, client: int, caller: Caller, tried: tuple[Host, ...], *, is_last: bool = False) -> int:
        """Hand the connection over with the others of this turn; an errno if too many wait."""
        if len(self.waiting) >= MOST_UNSENT:
            return errno.EBUSY
        context = self._context
        ticket = self.host.begin_connection(context.reactor.now, caller.tally)
        self.waiting.append(Waiting(client, caller, ticket, tried, is_last=is_last))
        context.reactor.ready.add(self)
        return 0

    def on_turn(self) -> None:
        """The turn in which connections came is over, or more of the ends of a child that is gone are to be counted."""
        if self.state is OPEN:
            self._send()
        elif self.state is GONE and self.given.end_some():
            self._context.reactor.ready.add(self)

    def on_deadline(self) -> None:
        """See whether the child reads what it is sent."""
        now, limit_s = self._context.reactor.now, self._context.config.connect_s
        if self.state is OPENING:
            self._lose(errno.ETIMEDOUT)
            return
        since = self.queue.unread_since() if self.queue.may_hold_unread else NEVER
        if self.waiting and since == NEVER:
            since = self.waiting[0].ticket.began
        if since == NEVER or self.state is GONE:
            return
        if now < since + limit_s:
            self._look_at(since + limit_s)
            return
        stalled = self._take_back(errno.ETIMEDOUT) + self._let_go(errno.ETIMEDOUT)
        self._context.log.warning("handoff_stalled", host=self.host.name, connections=stalled, after_s=limit_s)

    def abort(self) -> None:
        """A handler failed."""
        self._lose(0)

    def end(self) -> None:
        """Give it nothing more; what it has goes on."""
        if self.state is OPEN or self.state is OPENING:
            self.state = ENDING
            self._let_go(0)
        if not len(self.given):
            self.close()

    def cut(self) -> None:
        """Drop what is still here."""
        while self.waiting:
            each = self.waiting.popleft()
            each.ticket.give_back(self._context.reactor.now)
            self._context.drop(each.client, each.caller)

    def close(self) -> None:
        """Part. What is in the queue is the child's."""
        if self.state is GONE:
            return
        if self.state is OPEN:
            self._send()
        self.state = GONE
        self.given.apart = False
        self.cut()
        self._hang_up()

    # Giving.

    def _send(self) -> None:
        """Send what waits, as far as there is room."""
        context, waiting = self._context, self.waiting
        now = context.reactor.now
        while waiting:
            batch, data = self.given.encoded(waiting)
            try:
                self.queue.send(now, self.given.number, data, [each.client for each in batch])
            except BlockingIOError:
                context.reactor.modify(self.queue.out.fileno(), WRITE)
                break
            except OSError as error:
                self._let_go(error.errno or errno.EIO)
                return
            for each in batch:
                waiting.popleft()
                self.given.begin(each)
                os.close(each.client)
        if self.deadline == NEVER:
            self._look_at(now + context.config.connect_s)

    def _on_room(self, mask: int) -> None:
        self._context.reactor.modify(self.queue.out.fileno(), 0)
        if self.state is OPEN:
            self._send()

    def _look_at(self, deadline: float) -> None:
        self.deadline = deadline
        if deadline < self.filed:
            self._context.reactor.wheel.file(self)

    # What the child says.

    def _on_control(self, mask: int) -> None:
        """One message a turn: it may have a thousand ends."""
        if self.state is GONE:
            return
        try:
            packet = receive_packet(self._control, MAX_ENTRIES)
        except BlockingIOError:
            return
        except OSError:
            packet = None
        if packet is None or not packet.data:
            self._lose(errno.ECONNREFUSED)
            return
        try:
            self._follow(packet.data, packet.descriptors)
        except BadMessage as error:
            close_all(packet.descriptors)
            self._context.log.warning("handoff_failed", host=self.host.name, reason=error.reason)
            self._lose(0)

    def _follow(self, message: bytes, descriptors: list[int]) -> None:
        kind = message[:1]
        if kind == ENDED:
            self.host.reach.connected()
            for number in read_numbers(message):
                self.given.over(number)
            if self.state is ENDING and not len(self.given):
                self.close()
        elif kind in (WELCOME, WELCOME_APART):
            self.state = OPEN
            self.given.apart = kind == WELCOME_APART
            self._context.log.info("handoff_began", host=self.host.name)
            self._send()
        elif kind == BACK:
            for each in self._came_back(decode_entries(message, 1), descriptors):
                each.caller.full = self.host
                self._on_back(each, True)
        elif kind == SHORTAGE:
            self._short_until = self._context.reactor.now + SPARED_S
            self._take_back(0)
        elif kind == DRAINS:
            self._take_back(0)
            self.end()
        elif kind == UNWELCOME:
            reason = message[1:].decode("utf-8", "replace")
            self._context.log.warning("handoff_failed", host=self.host.name, reason=reason)
            self._lose(0)
        else:
            raise BadMessage("it is of an unknown kind")

    # Taking back.

    def _take_back(self, code: int) -> int:
        """Take back what the child has not read; how many that was. The host is to blame if there is an errno."""
        count = 0
        while (packet := self.queue.take_back()) is not None and packet.data:
            for each in self._came_back(decode_entries(packet.data), packet.descriptors):
                self._blame(code)
                self._on_back(each, True)
                count += 1
        return count

    def _came_back(self, entries: list[Entry], descriptors: list[int]) -> Iterator[Waiting]:
        now = self._context.reactor.now
        for entry, descriptor in zip(entries, descriptors, strict=False):
            each = self.given.take_back(entry, descriptor)
            if each is None:
                os.close(descriptor)
                continue
            each.ticket.give_back(now)
            yield each

    def _let_go(self, code: int) -> int:
        """Give what waits here to other hosts, or to this one in another way if it has not said yet that it takes
        connections; how many those are."""
        count = len(self.waiting)
        while self.waiting:
            each = self.waiting.popleft()
            each.ticket.give_back(self._context.reactor.now)
            self._blame(code)
            self._on_back(each, bool(code) or self.state is not GONE)
        return count

    def _blame(self, code: int) -> None:
        if code:
            self.host.reach.dial_failed(code)

    def _lose(self, code: int) -> None:
        """The child's process has gone, or cannot be handed connections. What it has read is over with it."""
        if self.state is GONE:
            return
        blamed = code if self.state is OPEN or self.state is ENDING else 0
        self.state = GONE
        self._take_back(blamed)
        self._let_go(blamed)
        self._hang_up()
        self._context.log.info("handoff_ended", host=self.host.name)
        if self.given.end_some():
            self._context.reactor.ready.add(self)

    def _hang_up(self) -> None:
        reactor = self._context.reactor
        reactor.wheel.forget(self)
        reactor.remove(self.queue.out.fileno())
        self.queue.close()
        reactor.close(self._control.detach())
