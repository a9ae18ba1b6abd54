"""Accepts connections on a port that many can reach and only a few should use: the control port and the admin port.

A connection is a stranger's until its task calls `Visit.settle`, for a child that showed its token or a request that is
being answered. Strangers have a limit of their own. Beyond it, the address with the most loses its oldest. So a probe,
a scraper or a child always gets in, and has the time that a flood takes to open that many connections. How long a
connection that sends nothing may stay is for its task to bound.

When descriptors run out, a stranger is dropped in the same way; without one, a descriptor of the reserve is closed. The
port goes on accepting.

A task may also set a deadline for its connection (`Visit.allow`). Then it is closed, even if the task shields what it
waits for.

Left out: the protocol on a connection.
"""

import contextlib
import math
import os
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence

import trio

from tierlb.net.descriptors import EXHAUSTED
from tierlb.telemetry.internal_errors import barrier

MOST_STRANGERS = 128
"""Twice what a rolling restart of a large tier brings at once; each costs a task and at most 16 KiB."""
RESERVE = 4
SWEEP_EVERY_S = 1.0
ACCEPT_PAUSE_S = 0.02
"""After a failed accept. A descriptor that was given back is free by then."""


def raise_it(error: Exception) -> None:
    """For tests and small programs: an error in a connection's task is one of the program."""
    raise error


def say_nothing(host: str) -> None:
    """A stranger that was dropped needs no notice."""


class Visit:
    """One accepted connection, from the address `host`."""

    __slots__ = ("_door", "deadline_s", "host", "scope", "stream")

    def __init__(self, door: "Door", stream: trio.SocketStream) -> None:
        self._door = door
        self.stream = stream
        self.scope = trio.CancelScope()
        self.deadline_s = math.inf
        self.host = ""
        with contextlib.suppress(OSError):  # it is gone already
            self.host = str(stream.socket.getpeername()[0])

    def settle(self) -> None:
        """It is no stranger's any more."""
        self._door.strangers.pop(self, None)

    def unsettle(self) -> None:
        """It is again: nothing is under way on it."""
        if self in self._door.visits:
            self._door.note_stranger(self)

    def allow(self, seconds: float) -> None:
        """From now on for so long, a second more or less; instead of what was allowed before."""
        self.deadline_s = trio.current_time() + seconds
        self._door.limited.set()

    def drop(self) -> None:
        """End it at once, whatever its task waits for: a task that shields itself while it sends finds the socket
        closed."""
        self._door.strangers.pop(self, None)
        self.scope.cancel()
        self.stream.socket.close()


class Door:
    """`on_crash` is called with errors of connections' tasks, `on_drop` with the address of each stranger that had to
    give way."""

    def __init__(
        self,
        on_crash: Callable[[Exception], object] = raise_it,
        on_drop: Callable[[str], object] = say_nothing,
        most_strangers: int = MOST_STRANGERS,
    ) -> None:
        self.visits: set[Visit] = set()
        self.strangers: dict[Visit, None] = {}
        self._on_crash = on_crash
        self._on_drop = on_drop
        self._most_strangers = most_strangers
        self._reserve: list[int] = []
        self.limited = trio.Event()
        """Set when a visit has got a deadline."""

    async def serve(self, listeners: Sequence[trio.SocketListener], attend: Callable[[Visit], Awaitable[None]]) -> None:
        """Accept until cancelled; each connection has a task of its own and is closed when that returns."""
        try:
            self._fill_reserve()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sweep)
                for listener in listeners:
                    nursery.start_soon(self._accept_all, listener, attend, nursery)
        finally:
            while self._reserve:
                os.close(self._reserve.pop())

    def note_stranger(self, visit: Visit) -> None:
        """Count it among the strangers, as the newest."""
        self.strangers.pop(visit, None)
        self.strangers[visit] = None
        if len(self.strangers) > self._most_strangers:
            self._drop_one()

    async def _accept_all(
        self, listener: trio.SocketListener, attend: Callable[[Visit], Awaitable[None]], nursery: trio.Nursery
    ) -> None:
        async with listener:
            while True:
                await trio.lowlevel.wait_readable(listener.socket)  # without a free descriptor accept fails at once
                try:
                    stream = await listener.accept()
                except OSError as error:
                    if error.errno in EXHAUSTED:
                        self._free_descriptor()
                    await trio.sleep(ACCEPT_PAUSE_S)
                    continue
                visit = Visit(self, stream)
                self.visits.add(visit)
                self.note_stranger(visit)
                nursery.start_soon(self._attend, visit, attend)

    async def _attend(self, visit: Visit, attend: Callable[[Visit], Awaitable[None]]) -> None:
        try:
            with visit.scope, barrier(self._on_crash):
                await attend(visit)
        finally:
            self.visits.discard(visit)
            self.strangers.pop(visit, None)
            visit.stream.socket.close()
            self._fill_reserve()

    async def _sweep(self) -> None:
        while True:
            await self.limited.wait()
            await trio.sleep(SWEEP_EVERY_S)
            now = trio.current_time()
            for visit in [visit for visit in self.visits if now >= visit.deadline_s]:
                visit.drop()
            if all(visit.deadline_s == math.inf for visit in self.visits):
                self.limited = trio.Event()

    def _free_descriptor(self) -> None:
        if self.strangers:
            self._drop_one()
        elif self._reserve:
            os.close(self._reserve.pop())

    def _drop_one(self) -> None:
        by_host = Counter(visit.host for visit in self.strangers)
        host = by_host.most_common(1)[0][0]
        next(visit for visit in self.strangers if visit.host == host).drop()
        self._on_drop(host)

    def _fill_reserve(self) -> None:
        with contextlib.suppress(OSError):
            while len(self._reserve) < RESERVE:
                self._reserve.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
