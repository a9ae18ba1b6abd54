"""One supervised process: started, restarted with back-off when it ends, stopped when asked.

Each is the leader of its own session, so a terminal's Ctrl-C reaches only the supervisor, and the leader of a
process group, so that what it started itself ends with it.
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

T = TypeVar("T")
LOOK_EVERY_S = 0.2


async def _watch_nothing(pid: int) -> None:
    """A process whose being alive is all there is to know."""


def _say_nothing() -> bytes:
    """A process that knows all it needs."""
    return b""


def _note_nothing(pid: int) -> None:
    """Nobody needs to know."""


@attrs.define
class ManagedProcess:
    """`watch` runs beside each process and is cancelled at its end; then `on_exit` gets its pid. With `sockets`
    the process inherits a socket pair, on which it can ask for the public listening sockets of its `tier`; what
    `introduce` returns is the first that it finds there. What fails beside the process, or around it, is noted in
    `errors` and ends neither this nor other processes."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    log: Log
    guard: Guard
    watch: Callable[[int], Awaitable[None]] = _watch_nothing
    on_exit: Callable[[int], None] = _note_nothing
    sockets: Sockets | None = None
    tier: str = ""
    introduce: Callable[[], bytes] = _say_nothing
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    backoff: Backoff = attrs.field(factory=Backoff)
    problem: str = attrs.field(default="", init=False)
    crashes: int = attrs.field(default=0, init=False)
    _pid: int | None = attrs.field(default=None, init=False)
    _stop: trio.Event = attrs.field(factory=trio.Event, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def pid(self) -> int | None:
        """Of the process that runs now."""
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
        """Return when it was stopped and its process is gone."""
        await self._ended.wait()

    async def stop(self, deadline_s: float) -> None:
        """Ask it to end; kill it when the deadline has passed. Returns when it is gone."""
        self._stop.set()
        self._signal(signal.SIGTERM)
        with trio.move_on_after(deadline_s):
            await self._ended.wait()
            return
        self.log.warning("killed at its deadline", process=self.name, deadline_s=deadline_s)
        self._signal(signal.SIGKILL)
        await self._ended.wait()

    async def _run_once(self) -> None:
        try:
            process, ours = await self._start()
        except (OSError, RuntimeError, MemoryError, subprocess.SubprocessError) as error:
            self.crashes += 1  # besides errors of the kernel: no thread to start it from, no memory for it
            self.problem = f"{self.name} cannot be started: {error}"
            self.log.error("cannot be started", process=self.name, reason=str(error))
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
                serve = partial(self.sockets.serve, tier=self.tier)
                nursery.start_soon(self._beside, "socket broker", serve, ours)
            await self._wait_gone(process)
            nursery.cancel_scope.cancel()

    async def _beside(self, where: str, run: Callable[[T], Awaitable[None]], argument: T) -> None:
        with self.errors.barrier(where, process=self.name):
            await run(argument)

    async def _wait_gone(self, process: trio.Process) -> None:
        """Without a descriptor or a thread to wait with, look now and then."""
        try:
            await process.wait()
        except (OSError, RuntimeError):
            while process.poll() is None:  # noqa: ASYNC110 (nothing else tells)
                await trio.sleep(LOOK_EVERY_S)

    def _note_end(self, process: trio.Process) -> None:
        if self._stop.is_set():
            return
        self.crashes += 1
        code = process.returncode or 0
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        self.problem = f"{self.name} ended with {how}"
        self.log.warning("ended, starting it again", process=self.name, pid=process.pid, how=how)

    def _signal(self, number: signal.Signals) -> None:
        if self._pid is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._pid, number)

    async def _wait(self, wait_s: float) -> None:
        with trio.move_on_after(wait_s):
            await self._stop.wait()
