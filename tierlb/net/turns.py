"""When the reactors of a trio run have their turns: whenever trio itself has nothing to do.

A task that waits for a descriptor takes a round through trio's scheduler for each wake-up. In a quiet process that is
30 µs, as much as a request takes besides. So a reactor is no such task. trio calls instruments just before it waits
for I/O (`before_io_wait`), with the time that is left until its next deadline. The reactor then waits in trio's place,
in its own epoll set, and serves what comes for as long as no task can run. trio's epoll set is in the reactor's: as
soon as a descriptor of trio's is ready, a deadline has passed or a handler has woken a task, trio goes on. A handler
may have taken what made that descriptor ready, so this is looked up again before trio is left to wait.

trio keeps the descriptor of its epoll set to itself, but the kernel lists what each set watches (proc(5), fdinfo).
Where that is missing, trio looks at its descriptors every `LOOK_S`.

Several reactors in one run, as tests have them, take turns; the first one waits for all.
"""

import os
import re
import select
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Protocol

import trio

LOOK_S = 0.01
NOT_FOUND = -1
INFO = Path("/proc/self/fdinfo")


class TakesTurns(Protocol):
    """What is needed of a reactor."""

    report: Callable[[BaseException], None]

    def fileno(self) -> int: ...
    def nest(self, fd: int, handler: Callable[[int], None]) -> None: ...
    def remove(self, fd: int) -> None: ...
    def look(self) -> float: ...
    def stint(self, wait_s: float) -> bool: ...
    def end_stint(self) -> None: ...
    def rests_s(self) -> float: ...


class Turns(trio.abc.Instrument):
    """Of one trio run. `trio_set` is the descriptor of trio's epoll set, or NOT_FOUND."""

    def __init__(self, trio_set: int) -> None:
        self._trio_set = trio_set
        self._ready_in_trio = select.poll()
        if trio_set != NOT_FOUND:
            self._ready_in_trio.register(trio_set, select.POLLIN)
        self._wake_trio = trio.lowlevel.current_trio_token().run_sync_soon
        self._reactors: list[TakesTurns] = []

    def join(self, reactor: TakesTurns) -> None:
        """From now on the reactor has turns."""
        if not self._reactors:
            trio.lowlevel.add_instrument(self)
            if self._trio_set != NOT_FOUND:
                reactor.nest(self._trio_set, self._on_others)
        else:
            self._reactors[0].nest(reactor.fileno(), self._on_others)
        self._reactors.append(reactor)

    def leave(self, reactor: TakesTurns) -> None:
        """It has no turns any more. If it is the first one, the next one takes its place."""
        others = self._reactors[1:]
        if reactor is not self._reactors[0]:
            self._reactors[0].remove(reactor.fileno())
            self._reactors.remove(reactor)
            return
        for each in others:
            reactor.remove(each.fileno())
        if self._trio_set != NOT_FOUND:
            reactor.remove(self._trio_set)
        trio.lowlevel.remove_instrument(self)
        self._reactors.clear()
        for each in others:
            self.join(each)

    def before_io_wait(self, timeout: float) -> None:
        """trio is about to wait for so long; 0 if a task can run."""
        try:
            self._serve(timeout if self._trio_set != NOT_FOUND else min(timeout, LOOK_S))
        except Exception as error:  # trio would drop the instrument, and with it the data plane
            self._reactors[0].report(error)
        if timeout > 0 and not self._ready_in_trio.poll(0):
            self._wake_trio(_nothing, idempotent=True)  # it would wait for `timeout` from now on

    def after_io_wait(self, timeout: float) -> None:
        """Tasks may run now, and take the reactor's time for the time."""
        for each in self._reactors:
            each.look()

    def task_scheduled(self, task: trio.lowlevel.Task) -> None:
        """A task can run."""
        self._reactors[0].end_stint()

    def _serve(self, wait_s: float) -> None:
        first, *others = self._reactors
        for each in others:
            each.stint(0.0)
            wait_s = min(wait_s, each.rests_s())
        first.stint(wait_s)

    def _on_others(self, mask: int) -> None:
        self._reactors[0].end_stint()


_turns: trio.lowlevel.RunVar[Turns] = trio.lowlevel.RunVar("turns")


@asynccontextmanager
async def turns_of(reactor: TakesTurns) -> AsyncIterator[None]:
    """The reactor has its turns in this trio run during the block."""
    trio_set = await _epoll_set_of_trio()
    try:
        turns = _turns.get()
    except LookupError:
        turns = Turns(trio_set)
        _turns.set(turns)
    turns.join(reactor)
    try:
        yield
    finally:
        turns.leave(reactor)


async def _epoll_set_of_trio() -> int:
    """It is the one that watches a descriptor which a task waits for."""
    try:
        probe = os.eventfd(1)
    except OSError:  # no descriptor is left
        return NOT_FOUND
    try:
        await trio.lowlevel.wait_readable(probe)
        return _watcher_of(probe)
    finally:
        trio.lowlevel.notify_closing(probe)
        os.close(probe)


def _watcher_of(fd: int) -> int:
    watches = re.compile(rf"^tfd:\s+{fd}\s", re.MULTILINE)
    try:
        found = [info for info in INFO.iterdir() if watches.search(_text_of(info))]
    except OSError:
        return NOT_FOUND
    return int(found[0].name) if found else NOT_FOUND


def _text_of(info: Path) -> str:
    """Nothing if its descriptor has just been closed."""
    try:
        return info.read_text()
    except FileNotFoundError:
        return ""


def _nothing() -> None:
    """For a wake-up that only is to end a wait."""
