"""Connections on their way back from a child: those that it has not read, and those that it gave back itself.

The queue is read message by message, one in a turn, so that connections are placed as fast as they come back. Where
this process has no descriptors for a message, it stays in the queue with its sockets, and is tried again until there
are descriptors or the child has read it. If the child reads no more, clients are refused after MOST_WAIT_S.

When the child is gone, the queue is closed after its last message, and what the child had read is counted as over.
"""

import errno
import os
from collections.abc import Callable

from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.given import Given, Waiting
from tierlb.dataplane.l4.shared_queue import ALL_READ, SharedQueue
from tierlb.dataplane.upstream.host import Host
from tierlb.net.listeners import OUT_OF_DESCRIPTORS_S
from tierlb.net.packets import close_all
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER, Timed
from tierlb.wire.handoff import Entry, decode_entries

MOST_WAIT_S = 5.0
"""How long connections that no child reads wait for descriptors. Clients such as browsers and probes wait longer."""

GivenBack = Callable[[Waiting, bool], None]
"""A connection comes back from its host; whether that one is to be passed over."""


class Returns(Timed):
    """Of one process of a child. `_below`: what has lower numbers is wanted back, 0: nothing is. `_code`: the errno for
    which the host is to blame, or 0. `_until`: when those that wait for descriptors are refused. `is_gone`: the child's
    process is."""

    __slots__ = (
        "_below",
        "_code",
        "_context",
        "_given",
        "_host",
        "_on_back",
        "_queue",
        "_until",
        "is_gone",
        "queued",
    )

    def __init__(self, context: L4Context, host: Host, queue: SharedQueue, given: Given, on_back: GivenBack) -> None:
        self._context = context
        self._host = host
        self._queue = queue
        self._given = given
        self._on_back = on_back
        self._below = self._code = 0
        self._until = NEVER
        self.is_gone = self.queued = False
        self.deadline = self.filed = NEVER

    @property
    def unread(self) -> int:
        """Connections in the queue."""
        oldest = self._queue.oldest()
        return 0 if oldest == ALL_READ else self._given.number - oldest

    @property
    def is_over(self) -> bool:
        """The child is gone, and nothing is left of it here."""
        return self.is_gone and not self._below and not len(self._given)

    def begin(self, code: int, *, is_rest: bool = False) -> None:
        """Take back what the child has not read. The host is to blame if there is an errno. `is_rest`: the child reads
        no more."""
        if is_rest and self._until == NEVER:
            self._until = self._context.reactor.now + MOST_WAIT_S
        self._below, self._code = self._given.number, code
        self._context.reactor.ready.add(self)

    def end(self, code: int, *, takes_back: bool) -> None:
        """The child is gone. What it has not read is taken back, or left to it. Ending it again does nothing."""
        self.is_gone = True
        if takes_back:
            self.begin(code, is_rest=True)
        else:
            self._have_all()
        self._context.reactor.ready.add(self)

    def cut(self) -> None:
        """Drop what no child reads."""
        if self._until != NEVER:
            self._drop()

    def on_turn(self) -> None:
        """Take one message back; if there is none, count some of the ends."""
        if self._takes_next() or (self.is_gone and self._given.end_some(self._first_unread())):
            self._context.reactor.ready.add(self)

    def on_deadline(self) -> None:
        """There may be descriptors again."""
        self._context.reactor.ready.add(self)

    def abort(self) -> None:
        """A turn failed by an internal error. Another one may not."""
        if self._context.reactor.now < self._until:
            self._try_later()
        else:
            self._context.reactor.ready.add(self)
            self._drop()

    def came_back(self, entries: list[Entry], descriptors: list[int], *, is_full: bool = False) -> None:
        """What the child did not take, with the sockets. `is_full`: it had no room. One that fails costs no other."""
        close_all(descriptors[len(entries) :])
        for entry in entries[len(descriptors) :]:
            self._given.lose(entry.number)
            reason = "its socket came back when this node had no descriptor for it"
            self._context.log.warning("connection_dropped", reason=reason, tried=[self._host.name])
        for entry, descriptor in zip(entries, descriptors, strict=False):
            try:
                each = self._given.take_back(entry, descriptor)
            except Exception as error:
                self._context.reactor.report(error)
                os.close(descriptor)
                self._given.lose(entry.number)
                continue
            if each is None:
                os.close(descriptor)
                continue
            if is_full:
                each.caller.full = self._host
            self.give_on(each, 0 if is_full else self._code, passes_over=True)

    def give_on(self, each: Waiting, code: int, *, passes_over: bool) -> None:
        """Have it placed anew. It is dropped if that fails."""
        context = self._context
        try:
            each.ticket.give_back(context.reactor.now)
            if code:
                self._host.reach.dial_failed(code)
            self._on_back(each, passes_over)
        except Exception as error:
            context.reactor.report(error)
            context.drop(each.client, each.caller)

    def _takes_next(self) -> bool:
        """Whether there was a message that could be taken back."""
        queue = self._queue
        oldest = queue.oldest() if self._below else ALL_READ
        if oldest == ALL_READ or oldest >= self._below:
            self._have_all()
            return False
        if not queue.has_room():
            self._wait()
            return False
        packet = queue.take_back()
        if packet is not None:
            try:
                entries = decode_entries(packet.data)
            except Exception:
                close_all(packet.descriptors)
                raise
            self.came_back(entries, packet.descriptors)
        return True

    def _first_unread(self) -> int:
        """All with lower numbers were read or taken back."""
        oldest = self._queue.oldest() if self._below else ALL_READ
        return self._given.number if oldest == ALL_READ else oldest

    def _have_all(self) -> None:
        """Nothing is wanted back any more."""
        reactor = self._context.reactor
        self._below = 0
        reactor.wheel.forget(self)
        if self.is_gone:
            self._queue.close(reactor)

    def _wait(self) -> None:
        """This process lacks descriptors, which is noted, and is no fault of the host."""
        reactor = self._context.reactor
        self._host.reach.dial_failed(errno.EMFILE)
        if reactor.now >= self._until:
            lost = self._drop()
            self._context.log.warning("handoff_lost", host=self._host.name, connections=lost, after_s=MOST_WAIT_S)
            return
        self._try_later()

    def _try_later(self) -> None:
        reactor = self._context.reactor
        self.deadline = reactor.now + OUT_OF_DESCRIPTORS_S
        if self.deadline < self.filed:
            reactor.wheel.file(self)

    def _drop(self) -> int:
        """Close the queue and what is in it; how many connections that were."""
        reactor, oldest = self._context.reactor, self._queue.oldest()
        self._have_all()
        self._queue.close(reactor)
        return 0 if oldest == ALL_READ else self._given.lose_from(oldest)


def carry_out(reactor: Reactor, *steps: Callable[[], None]) -> None:
    """All of the steps. One that fails is reported and tried once more, so each must be such that this does no harm."""
    for step in steps:
        for _ in range(2):
            try:
                step()
                break
            except Exception as error:
                reactor.report(error)
