"""One supervised process: started, restarted with back-off when it ends, and stopped on request.

Each is the leader of its own session, so that Ctrl-C in a terminal reaches only the supervisor, and the leader of a
process group, so that the processes it starts end with it.
"""

import contextlib
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import TypeVar

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.log import Log
from tierlb.local.guard import Guard
from tierlb.local.sockets import Sockets, pair
from tierlb.net.broker import DESCRIPTOR_VARIABLE
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.allot import number_of

TaskArgument = TypeVar("TaskArgument")
POLL_EXIT_EVERY_S = 0.2


async def _no_watch(pid: int) -> None:
    """For a process about which nothing but its being alive is of interest."""


def _no_introduction() -> bytes:
    """For a process that needs no introduction."""
    return b""


def _ignore_exit(pid: int) -> None:
    """For a process whose end has no consequences."""


@attrs.define
class ManagedProcess:
    """`watch` runs beside each process and is cancelled at its end; then `on_exit` gets its pid. With `sockets` the
    process inherits a socket pair, over which it can request the public listening sockets of its `tier`; the first
    message there is what `introduce` returns. Failures beside or around the process are noted in `errors` and end
    neither this nor other processes."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    log: Log
    guard: Guard
    watch: Callable[[int], Awaitable[None]] = _no_watch
    on_exit: Callable[[int], None] = _ignore_exit
    sockets: Sockets | None = None
    tier: str = ""
    introduce: Callable[[], bytes] = _no_introduction
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    backoff: Backoff = attrs.field(factory=Backoff)
    problem: str = attrs.field(default="", init=False)
    crashes: int = attrs.field(default=0, init=False)
    _pid: int | None = attrs.field(default=None, init=False)
    _stop: trio.Event = attrs.field(factory=trio.Event, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def pid(self) -> int | None:
        """The pid of the process that runs now."""
        return self._pid

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
            process, ours = await self._start()
        except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
            self.crashes += 1  # besides kernel errors: no thread to start it from, no memory
            self.problem = f"{self.name} cannot be started: {error}"
            self.log.error("process_start_failed", process=self.name, reason=str(error))
            return
        self._pid = process.pid
        self.guard.enter(process.pid)
        try:
            await self._attend(process, ours)
        finally:
            ours.close()
            self._signal(signal.SIGKILL)
            with trio.CancelScope(shield=True):
                await self._wait_gone(process)
            self.guard.remove(process.pid)
            self._pid = None
            with self.errors.barrier("process end", process=self.name):
                self.on_exit(process.pid)
        self._note_end(process)

    async def _start(self) -> tuple[trio.Process, trio.socket.SocketType]:
        """The process, and our end of the socket pair that it inherits. Raises OSError."""
        if shutil.which(self.argv[0], path=self.env.get("PATH")) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.argv[0])
        ours, theirs = pair()
        env, fds = self.env, tuple[int, ...]()
        if self.sockets is not None:
            env, fds = {**env, DESCRIPTOR_VARIABLE: str(theirs.fileno())}, (theirs.fileno(),)
        try:
            with theirs:
                if self.sockets is not None and (introduction := self.introduce()):
                    os.write(ours.fileno(), introduction)
                process = await trio.lowlevel.open_process(
                    self.guard.command(self.argv),
                    stdin=self.guard.pipe,
                    env=env,
                    pass_fds=fds,
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return process, ours

    async def _attend(self, process: trio.Process, ours: trio.socket.SocketType) -> None:
        if self._stop.is_set():
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._beside, "process watch", self.watch, process.pid)
            if self.sockets is not None:
                serve = partial(self.sockets.serve, tier=self.tier, number=number_of(self.name))
                nursery.start_soon(self._beside, "socket broker", serve, ours)
            await self._wait_gone(process)
            nursery.cancel_scope.cancel()

    async def _beside(self, where: str, run: Callable[[TaskArgument], Awaitable[None]], argument: TaskArgument) -> None:
        with self.errors.barrier(where, process=self.name):
            await run(argument)

    async def _wait_gone(self, process: trio.Process) -> None:
        """Poll if there is no descriptor or thread to wait with."""
        try:
            await process.wait()
        except (OSError, RuntimeError):
            while process.poll() is None:  # noqa: ASYNC110 (the only way left)
                await trio.sleep(POLL_EXIT_EVERY_S)

    def _note_end(self, process: trio.Process) -> None:
        if self._stop.is_set():
            return
        self.crashes += 1
        code = process.returncode or 0
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        self.problem = f"{self.name} ended with {how}"
        self.log.warning("process_ended", process=self.name, pid=process.pid, how=how, action="starting it again")

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    async def _wait(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            await self._stop.wait()
