"""One supervised process: started, restarted with back-off when it ends, and stopped on request."""

import signal
import subprocess
from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.log import Log
from tierlb.local.program import Program, RunningProgram
from tierlb.telemetry.internal_errors import InternalErrors


async def _no_watch(pid: int) -> None:
    """For a process about which nothing but its being alive is of interest."""


def _ignore_exit(pid: int) -> None:
    """For a process whose end has no consequences."""


@attrs.define
class ManagedProcess:
    """`watch` runs beside each process and is cancelled at its end; then `on_exit` gets its pid. Failures beside or
    around the process are noted in `errors` and end neither this nor other processes."""

    name: str
    program: Program
    log: Log
    watch: Callable[[int], Awaitable[None]] = _no_watch
    on_exit: Callable[[int], None] = _ignore_exit
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    backoff: Backoff = attrs.field(factory=Backoff)
    problem: str = attrs.field(default="", init=False)
    crashes: int = attrs.field(default=0, init=False)
    _running: RunningProgram | None = attrs.field(default=None, init=False)
    _stop: trio.Event = attrs.field(factory=trio.Event, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def pid(self) -> int | None:
        """The pid of the process that runs now."""
        return None if self._running is None else self._running.pid

    async def run(self) -> None:
        """Keep the process running until `stop`; when cancelled, kill it."""
        try:
            while not self._stop.is_set():
                started_s = trio.current_time()
                with self.errors.barrier("process", process=self.name):
                    await self._run_once()
                if not self._stop.is_set():
                    await self._wait(self.backoff.wait_s(trio.current_time() - started_s))
        finally:
            self._ended.set()

    async def wait_ended(self) -> None:
        """Return when it was stopped and its process has ended."""
        await self._ended.wait()

    async def stop(self, deadline_s: float) -> None:
        """Send SIGTERM, and SIGKILL when the deadline has passed. Returns when the process has ended."""
        self._stop.set()
        self._signal(signal.SIGTERM)
        with trio.move_on_after(deadline_s):
            await self._ended.wait()
            return
        self.log.warning("process_killed", process=self.name, deadline_s=deadline_s)
        self._signal(signal.SIGKILL)
        await self._ended.wait()

    async def _run_once(self) -> None:
        try:
            running = await self.program.start()
        except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
            self.crashes += 1  # besides kernel errors: no thread to start it from, no memory
            self.problem = f"{self.name} cannot be started: {error}"
            self.log.error("process_start_failed", process=self.name, reason=str(error))
            return
        self._running = running
        try:
            await self._attend(running)
        finally:
            await running.end()
            self._running = None
            with self.errors.barrier("process end", process=self.name):
                self.on_exit(running.pid)
        self._note_end(running)

    async def _attend(self, running: RunningProgram) -> None:
        if self._stop.is_set():
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beside, "process watch", partial(self.watch, running.pid))
            nursery.start_soon(self._beside, "socket broker", running.lend)
            await running.wait_gone()
            nursery.cancel_scope.cancel()

    async def _beside(self, where: str, run: Callable[[], Awaitable[None]]) -> None:
        with self.errors.barrier(where, process=self.name):
            await run()

    def _note_end(self, running: RunningProgram) -> None:
        if self._stop.is_set():
            return
        self.crashes += 1
        how = running.how_it_ended
        self.problem = f"{self.name} ended with {how}"
        self.log.warning("process_ended", process=self.name, pid=running.pid, how=how, action="starting it again")

    def _signal(self, number: signal.Signals) -> None:
        if self._running is not None:
            self._running.signal(number)

    async def _wait(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            await self._stop.wait()
