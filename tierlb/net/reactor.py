"""One epoll set, drained in batches by one trio task: the clock that drives the whole data plane.

The cost of a small proxied request is four system calls, so whatever is added per event has to be small beside
them. A trio task per connection adds a park and a wake-up, each through trio's own poll, to every one of the
four. Here the kernel is asked once per batch, handlers are plain calls that never await, and trio sees a single task.

A *stint* is what that task does between two visits to trio's scheduler: poll, run the handlers, poll again while
there is work, at most `STINT_S` long. Inside a stint the poll waits `LINGER_S` for more before it gives the thread
back; under load that saves the round through trio per wake-up, and it bounds what control-plane tasks wait for the
thread to about STINT_S plus one handler. With nothing to do the task sleeps in `wait_readable` on the epoll
descriptor and the process uses no CPU.

A handler's turn is bounded by the work that it does; what is left waits in the ready queue (`net.ready`), which is
served between two polls.

Sockets are closed at the end of the batch in which they were given up, so that a descriptor number that the kernel
would hand out again can never meet an event that was meant for its previous owner.

Left out: io_uring (no maintained Python binding), threads (one process per core instead).
"""

import select
import socket
import time
from collections.abc import Callable

import trio

from tierlb.net.bulk import Bulk, give_back
from tierlb.net.peer_liveness import next_look_s
from tierlb.net.ready import ReadyQueue
from tierlb.net.wheel import WHEEL_TICK_S, Wheel

READ = select.EPOLLIN
WRITE = select.EPOLLOUT
ERROR = select.EPOLLERR
HANGUP = select.EPOLLHUP

BATCH_EVENTS = 256
STINT_S = 0.005
LINGER_S = 0.001
POLL_S = 5e-6
"""What a poll that finds something costs: work, not waiting."""

Handler = Callable[[int], None]


class Reactor:
    """Registers descriptors with handlers and calls `handler(epoll mask)` when they are ready.

    `polled`: a batch is being served, and its poll reported every descriptor that was ready. `unserved`: those of which
    it is not known whether all has been read: handlers of the batch are still to be called, a read was filled, or the
    poll did not look for what there is to read. So while `polled` holds, no other descriptor has bytes that were there
    when the batch began. Without `tracks` there is no such knowledge: `polled` stays False. `next_look_s` looks at a
    quiet connection (`net.peer_liveness`).
    """

    __slots__ = (
        "_asleep_since",
        "_clock",
        "_closing",
        "_epoll",
        "_handlers",
        "_late",
        "_waited_s",
        "batches",
        "bulk",
        "events",
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
        self._closing: list[socket.socket] = []
        self._late: list[Callable[[], None]] = []
        self.report = on_crash
        self.now = clock()
        self.wheel = Wheel(self.now, self.crashed)
        self.ready = ReadyQueue(self.crashed, clock)
        self.bulk = Bulk(give_back)
        self._waited_s = 0.0
        self._asleep_since: float | None = None
        self.batches = 0
        self.events = 0
        self.next_look_s: Callable[[socket.socket], float] = next_look_s
        self.tracks = False
        self.polled = False
        self.unserved: set[int] = set()

    def add(self, fd: int, mask: int, handler: Handler) -> None:
        self._handlers[fd] = handler
        self._epoll.register(fd, mask)

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

    def close(self, sock: socket.socket) -> None:
        """Forget the socket now, close it when the batch is over (closing takes it out of the epoll set)."""
        self._handlers.pop(sock.fileno(), None)
        self._closing.append(sock)

    def later(self, call: Callable[[], None]) -> None:
        """Call it once when the stint is over, or with the next tick: for what may wait for company, such as one
        message about many ends."""
        self._late.append(call)

    def look(self) -> float:
        """The time now, which becomes the reactor's."""
        self.now = self._clock()
        return self.now

    def waited_s(self) -> float:
        """How long it has waited for events since it began, up to now."""
        asleep = self._asleep_since
        return self._waited_s if asleep is None else self._waited_s + self._clock() - asleep

    async def run(self) -> None:
        """Serve until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tick)
            try:
                while True:
                    if self.stint():
                        await trio.lowlevel.checkpoint()
                    else:
                        self._asleep_since = self._clock()
                        await trio.lowlevel.wait_readable(self._epoll.fileno())
                        self._waited_s, self._asleep_since = self.waited_s(), None
            finally:
                self._bury()

    async def _tick(self) -> None:
        while True:
            await trio.sleep(WHEEL_TICK_S)
            self.now = self._clock()
            self.wheel.advance(self.now)
            self.bulk.tick(self.now)
            while self.ready.waiting and self._asleep_since is not None:  # a deadline queued work; no event wakes it
                self.ready.serve()
                await trio.lowlevel.checkpoint()
            self._serve_late()
            self._bury()

    def stint(self) -> bool:
        """Serve ready descriptors for up to STINT_S, without a visit to trio; true when it stopped with work left."""
        try:
            return self._serve()
        finally:
            self.polled = False
            if self._late:
                self._serve_late()
            if self._closing:
                self._bury()

    def _serve_late(self) -> None:
        waiting, self._late = self._late, []
        for call in waiting:
            try:
                call()
            except Exception as error:
                self.crashed(getattr(call, "__self__", None), error)

    def _serve(self) -> bool:
        poll, handler_of, monotonic = self._epoll.poll, self._handlers.get, self._clock
        waiting, unserved = self.ready.waiting, self.unserved
        events = poll(0, BATCH_EVENTS)
        self.now = monotonic()
        end = self.now + STINT_S
        while events or waiting:
            self.batches += 1
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
            if waiting:
                self.ready.serve()
            if self._closing:
                self._bury()
            before = monotonic()
            if before > end:
                return True
            events = poll(0 if waiting else LINGER_S, BATCH_EVENTS)
            self.now = now = monotonic()
            if now - before > POLL_S:
                self._waited_s += now - before - POLL_S
        return False

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
        for sock in self._closing:
            try:  # noqa: SIM105 (a context manager takes half a microsecond)
                sock.close()
            except OSError:
                pass
        self._closing.clear()

    def dispose(self) -> None:
        """Release the epoll descriptor; nothing may be registered afterwards."""
        self._bury()
        self._epoll.close()
