"""One epoll set, drained in batches, and one clock: what drives the whole data plane.

The cost of a small proxied request is four system calls, so whatever is added per event has to be small beside
them. A trio task per connection adds a park and a wake-up, each through trio's own poll, to every one of the
four. Here the kernel is asked once per batch, and handlers are plain calls that never await.

A *stint* is what the reactor does between two turns of trio's tasks: poll, run the handlers, poll again. It has one
whenever no task can run, and waits for events in trio's place (`net.turns`); it ends when a task can run, one of trio's
descriptors is ready or one of trio's deadlines has come. So control-plane tasks wait for one batch at most. With
nothing to do the process sleeps until the next deadline of anything: of the wheel, of the regular work (`net.beat`), of
trio.

A handler's turn is bounded by the work that it does; what is left waits in the ready queue (`net.ready`), which is
served between two polls.

Sockets are closed at the end of the batch in which they were given up, so that a descriptor number that the kernel
would hand out again can never meet an event that was meant for its previous owner. What is in the epoll set is
therefore closed here and nowhere else.

Left out: io_uring (no maintained Python binding), threads (one process per core instead).
"""

import contextlib
import os
import select
import time
from collections.abc import Callable
from typing import Final

import trio

from tierlb.net.beat import Beat
from tierlb.net.bulk import Bulk, give_back
from tierlb.net.peer_liveness import next_look_s
from tierlb.net.ready import ReadyQueue
from tierlb.net.turns import turns_of
from tierlb.net.wheel import NEVER, Wheel

READ: Final = select.EPOLLIN
WRITE: Final = select.EPOLLOUT
ERROR: Final = select.EPOLLERR
HANGUP: Final = select.EPOLLHUP
PEER_ENDED: Final = select.EPOLLRDHUP
"""The peer sends no more."""
ON_CHANGE: Final = select.EPOLLET
"""Report what is new once, also where what was reported before is still there."""

BATCH_EVENTS = 256
STINT_S: Final = 0.005
"""While tasks can run, or one of trio's deadlines has come, a stint ends after this at the latest."""
POLL_S: Final = 5e-6
"""What a poll that finds something costs: work, not waiting."""

NO_DESCRIPTOR: Final = -1
Handler = Callable[[int], None]


class Reactor:
    """Registers descriptors with handlers and calls `handler(epoll mask)` when they are ready.

    `polled`: a batch is being served, and its poll reported every descriptor that was ready. `unserved`: those of which
    it is not known whether all has been read: handlers of the batch are still to be called, a read was filled, or the
    poll did not look for what there is to read. So while `polled` holds, no other descriptor has bytes that were there
    when the batch began. Without `tracks` there is no such knowledge: `polled` stays False. `next_look_s` looks at a
    quiet connection (`net.peer_liveness`). `handshakes`: those of TLS that have something to work on.
    """

    __slots__ = (
        "_began",
        "_clock",
        "_closing",
        "_ending",
        "_epoll",
        "_handlers",
        "_late",
        "_late_at",
        "_nested",
        "_polled_at",
        "_worked_s",
        "batches",
        "beat",
        "bulk",
        "events",
        "handshakes",
        "next_look_s",
        "now",
        "polled",
        "ready",
        "report",
        "tracks",
        "unserved",
        "wheel",
    )

    def __init__(self, on_crash: Callable[[BaseException], None], clock: Callable[[], float] = time.monotonic) -> None:
        """`on_crash`, which is `report` from then on, is called with exceptions that handlers let through."""
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._nested = NO_DESCRIPTOR
        self._closing: set[int] = set()
        self._late: list[Callable[[], None]] = []
        self._late_at = NEVER
        self.report = on_crash
        self.now = clock()
        self.wheel = Wheel(self.now, self.crashed)
        self.beat = Beat(self.now, on_crash)
        self.ready = ReadyQueue(self.crashed, clock)
        self.handshakes = ReadyQueue(self.crashed, clock)
        self.bulk = Bulk(give_back)
        self._began = self._polled_at = self.now
        self._worked_s = 0.0
        self._ending = False
        self.batches = 0
        self.events = 0
        self.next_look_s: Callable[[int], float] = next_look_s
        self.tracks = False
        self.polled = False
        self.unserved: set[int] = set()

    def fileno(self) -> int:
        """That of the epoll set."""
        return self._epoll.fileno()

    def add(self, fd: int, mask: int, handler: Handler) -> None:
        """Raises OSError (ENOSPC, ENOMEM), and knows nothing of the descriptor then."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler

    def nest(self, fd: int, handler: Handler) -> None:
        """Watch the descriptor of another epoll set, of which events are no work of this reactor's."""
        self._nested = fd
        self.add(fd, READ, handler)

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask)

    def replace(self, fd: int, mask: int, handler: Handler) -> None:
        """Give a registered descriptor to another handler."""
        self._handlers[fd] = handler
        self._epoll.modify(fd, mask)

    def remove(self, fd: int) -> None:
        """Stop watching a descriptor that stays open."""
        del self._handlers[fd]
        self._epoll.unregister(fd)

    def close(self, fd: int) -> None:
        """Forget the descriptor now, close it when the batch is over (closing takes it out of the epoll set). A second
        call in the same batch does nothing, a later one would close what has the number then."""
        self._handlers.pop(fd, None)
        self._closing.add(fd)

    def close_at_once(self, fd: int) -> None:
        """As `close`, for a socket that others may hold too or that must take nothing more, such as one that listens:
        this process lets go of it now, also in the epoll set. Its number stays in use until the batch is over, since
        the batch may have an event for it."""
        self._closing.add(fd)
        with contextlib.suppress(OSError):  # then it is closed when the batch is over
            if self._handlers.pop(fd, None) is not None:
                self._epoll.unregister(fd)
            os.dup2(self._epoll.fileno(), fd, inheritable=False)

    def later(self, call: Callable[[], None]) -> None:
        """Call it once when nothing else is to be done, or after STINT_S: for what may wait for company, such as one
        message about many ends."""
        if not self._late:
            self._late_at = self.now + STINT_S
        self._late.append(call)

    def look(self) -> float:
        """The time now, which becomes the reactor's."""
        self.now = self._clock()
        return self.now

    def waited_s(self) -> float:
        """How long it has had nothing to do since it began. What tasks do meanwhile is no work of its own."""
        return self._clock() - self._began - self._worked_s

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        async with turns_of(self):
            task_status.started()
            try:
                await trio.sleep_forever()
            finally:
                self._bury()

    def stint(self, wait_s: float = 0.0) -> bool:
        """Serve ready descriptors and deadlines until a wait of `wait_s` in all has found nothing to do, or until
        `end_stint` is called; true when it stopped with work left."""
        clock = self._clock
        self._ending = False
        now = clock()
        end = now + wait_s
        last = max(end, now + STINT_S)
        while True:
            did = self._serve(now, end)
            if self._late and (not did or self._ending or now > self._late_at):
                self._serve_late()
                did = True
            before, now = now, clock()
            self._worked_s += now - self._polled_at + min(POLL_S, self._polled_at - before)
            if not did or self._ending or now > last:
                return did

    def _serve_late(self) -> None:
        waiting, self._late = self._late, []
        for call in waiting:
            try:
                call()
            except Exception as error:
                self.crashed(getattr(call, "__self__", None), error)

    def end_stint(self) -> None:
        """Others are to have their turn when the batch is over."""
        self._ending = True

    def rests_s(self) -> float:
        """How long it has nothing to do, if nothing happens."""
        if self.ready.waiting or self.handshakes.waiting:
            return 0.0
        return max(0.0, min(self.wheel.due, self.beat.due) - self._clock())

    def _serve(self, before: float, end: float) -> bool:
        """One poll, which waits until `end` if there is nothing to do before that, and one batch. Whether there was
        something to do: events, a deadline or regular work."""
        waiting, shaking, beat = self.ready.waiting, self.handshakes.waiting, self.beat
        wait_s = 0.0 if waiting or shaking or self._late else min(end, self.wheel.due, beat.due) - before
        events = self._epoll.poll(wait_s if wait_s > 0 else 0, BATCH_EVENTS)
        self.now = self._polled_at = now = self._clock()
        did = came = len(events) > 1 or (len(events) == 1 and events[0][0] != self._nested)
        if now >= beat.soon and (came or now >= beat.due):
            did = True
            beat.run(now)
            if self.bulk.tick(now):
                beat.stirred = True
        if came:
            beat.stirred = True
        if events or waiting or shaking:
            self.batches += 1
            self._call_handlers(events)
            if waiting:
                self.ready.serve()
            if shaking:
                self.handshakes.serve()
        if now >= self.wheel.due and self.wheel.advance(now):  # after events, which may put a deadline off
            beat.stirred = did = True
        if self._closing:
            self._bury()
        return did or bool(waiting) or bool(shaking)

    def _call_handlers(self, events: list[tuple[int, int]]) -> None:
        handler_of, unserved = self._handlers.get, self.unserved
        self.events += len(events)
        if self.tracks:
            self.polled = len(events) < BATCH_EVENTS
            self.unserved = unserved = {fd for fd, _ in events}
        for fd, mask in events:
            if unserved:
                unserved.discard(fd)
            handler = handler_of(fd)
            if handler is not None:
                try:
                    handler(mask)
                except Exception as error:
                    self.crashed(getattr(handler, "__self__", None), error)
        self.polled = False

    def crashed(self, owner: object, error: Exception) -> None:
        """Report an error of a handler, and have its owner let go of its connection, so that no peer waits for it."""
        self.report(error)
        abort = getattr(owner, "abort", None)
        if abort is not None:
            try:
                abort()
            except Exception as second:
                self.report(second)

    def _bury(self) -> None:
        for fd in self._closing:
            try:  # noqa: SIM105 (a context manager takes half a microsecond)
                os.close(fd)
            except OSError:
                pass
        self._closing.clear()

    def dispose(self) -> None:
        """Release the epoll descriptor; nothing may be registered afterwards."""
        self._bury()
        self._epoll.close()
