"""The parent's end of what is handed over to one process of a child (dataplane/handoff/taker.py has the child's).

Connections of one turn travel in messages of up to MAX_ENTRIES. As soon as a message is in the queue, the sockets in it
are closed here. Until the child reads it, it can be read here as well: when the child's process has gone, drains, lacks
descriptors or has read nothing for as long as a connect may take, what it has not read is taken back (l4/returns.py),
and goes to another host as after a connect that failed.

Which process has a connection never depends on a message that may be late: the kernel gives each to one reader.
"""

import enum
import errno
import socket
from collections import deque
from functools import partial
from typing import Final

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.given import Given, Waiting
from tierlb.dataplane.l4.returns import GivenBack, Returns, carry_out
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
    decode_entries,
    read_numbers,
)
from tierlb.wire.proxy_protocol import NETWORK, encode_local, encode_tlv

MOST_UNSENT = 1024
"""Connections that wait here because the queue is full. More go to other hosts."""
SPARED_S: Final = 0.5
"""How long a child that had no descriptor free is given nothing."""


class GiverState(enum.Enum):
    """OPENING: the child has not answered yet. OPEN: it takes connections. PAUSED: it is given none, as the tier relays
    or sends elsewhere. ENDING: it drains. In both states what it has goes on. GONE: its process has ended, or it does
    not take connections in this way."""

    OPENING = "opening"
    OPEN = "open"
    PAUSED = "paused"
    ENDING = "ending"
    GONE = "gone"


OPENING, OPEN, PAUSED = GiverState.OPENING, GiverState.OPEN, GiverState.PAUSED
ENDING, GONE = GiverState.ENDING, GiverState.GONE


class Giver(Timed):
    """`given` are the connections that the child has or is to read, `waiting` those that are here. `returns` takes
    them back."""

    __slots__ = (
        "_context",
        "_control",
        "_short_until",
        "given",
        "host",
        "queue",
        "queued",
        "returns",
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
        self._short_until = 0.0
        self.state = OPENING
        self.waiting: deque[Waiting] = deque()
        self.given = Given(context)
        self.queued = False
        self.filed = NEVER
        self.queue = SharedQueue()
        try:
            self.returns = Returns(context, host, self.queue, self.given, on_back)
            introduction = encode_local(
                context.identity.credentials + (encode_tlv(NETWORK, network) if network else b"")
            )
            send_packet(control, introduction, (self.queue.copy.fileno(),))
            context.reactor.add(self.queue.out.fileno(), 0, self._on_room)
            context.reactor.add(control.fileno(), READ, self._on_control)
        except Exception:
            self.queue.close(context.reactor)
            raise
        self.deadline = context.reactor.now + context.config.connect_s
        context.reactor.wheel.file(self)

    @property
    def takes(self) -> bool:
        """Whether the child takes connections now, or is about to say so."""
        if self._short_until > self._context.reactor.now:
            return False
        return self.state is OPEN or self.state is OPENING

    @property
    def is_parting(self) -> bool:
        """Whether this process of the child takes nothing any more."""
        return self.state is ENDING or self.state is GONE

    @property
    def to_wait_for(self) -> int:
        """Connections that are still here, or that this process has to outlive."""
        if self.given.apart:
            return len(self.waiting) + len(self.given)
        return len(self.waiting) + (self.returns.unread if self.is_parting else 0)

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
        """The turn in which connections came is over."""
        if self.state is OPEN:
            self._send()

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
        stalled = self.returns.unread + len(self.waiting)
        self.returns.begin(errno.ETIMEDOUT)
        self._let_go(errno.ETIMEDOUT)
        self._context.log.warning("handoff_stalled", host=self.host.name, connections=stalled, after_s=limit_s)

    def abort(self) -> None:
        """A handler failed."""
        self._lose(0)

    def follow(self, *, is_wanted: bool) -> None:
        """Go on giving, or give nothing more; what it has goes on."""
        if is_wanted:
            if self.state is PAUSED:
                self.state = OPEN
            return
        if self.state is OPEN:
            self.state = PAUSED
            self._let_go(0)
        if self.state is OPENING or not len(self.given):
            self._lose(0)

    def cut(self) -> None:
        """Drop what is still here."""
        while self.waiting:
            each = self.waiting.popleft()
            each.ticket.give_back(self._context.reactor.now)
            self._context.drop(each.client, each.caller)
        self.returns.cut()

    def close(self) -> None:
        """Part. What is in the queue is the child's."""
        if self.state is GONE:
            return
        sends = self.state is OPEN
        self.state = GONE
        steps = (self.cut, partial(self.returns.end, 0, takes_back=False), self._hang_up)
        carry_out(self._context.reactor, *((self._send,) if sends else ()), *steps)

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
                context.reactor.close(each.client)
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
            if self.state in (PAUSED, ENDING) and not len(self.given):
                self.close()
        elif kind in (WELCOME, WELCOME_APART):
            if self.state is not OPENING:
                return  # it said in the meantime that it drains
            self.state = OPEN
            self.given.apart = kind == WELCOME_APART
            self._context.log.info("handoff_began", host=self.host.name)
            self._send()
        elif kind == BACK:
            self.returns.came_back(decode_entries(message, 1), descriptors, is_full=True)
        elif kind == SHORTAGE:
            self._short_until = self._context.reactor.now + SPARED_S
            self.returns.begin(0)
        elif kind == DRAINS:
            self.state = ENDING
            self._let_go(0)
            self.returns.begin(0, is_rest=True)
            if not len(self.given):
                self.close()
        elif kind == UNWELCOME:
            reason = message[1:].decode("utf-8", "replace")
            self._context.log.warning("handoff_failed", host=self.host.name, reason=reason)
            self._lose(0)
        else:
            raise BadMessage("it is of an unknown kind")

    # Its end.

    def _let_go(self, code: int) -> None:
        """Give what waits here to other hosts, or to this one in another way if it is not to blame and does not
        drain."""
        passes_over = bool(code) or self.state is ENDING
        while self.waiting:
            self.returns.give_on(self.waiting.popleft(), code, passes_over=passes_over)

    def _lose(self, code: int) -> None:
        """The child's process has gone, or cannot be handed connections. What it has read is over with it."""
        if self.state is GONE:
            return
        blamed = 0 if self.state is OPENING else code
        self.state = GONE
        returned = partial(self.returns.end, blamed, takes_back=True)
        carry_out(self._context.reactor, self._hang_up, returned, partial(self._let_go, blamed))
        self._context.log.info("handoff_ended", host=self.host.name)

    def _hang_up(self) -> None:
        """Say and hear nothing more. What is in the queue stays there."""
        reactor = self._context.reactor
        self.given.apart = False
        reactor.wheel.forget(self)
        self.queue.end(reactor)
        if self._control.fileno() >= 0:
            reactor.close(self._control.detach())
