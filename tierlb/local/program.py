"""One run of a program under the guard: from its start to the end of all processes that it started.

Each process leads a session of its own, so that Ctrl-C in a terminal reaches only the supervisor. It leads a process
group too, so that the processes it starts end with it.
"""

import contextlib
import errno
import os
import shutil
import signal
from collections.abc import Callable, Mapping

import attrs
import trio

from tierlb.local.guard import Guard
from tierlb.local.sockets import Sockets, pair
from tierlb.net.broker import DESCRIPTOR_VARIABLE

POLL_EXIT_EVERY_S = 0.2


@attrs.frozen
class Lending:
    """What a process of a node can request over a socket pair that it inherits: the public listening sockets of its
    `tier` that are for its `number`. The first message is what `introduce` returns."""

    sockets: Sockets
    tier: str
    number: int
    introduce: Callable[[], bytes]

    def begin(self, ours: trio.socket.SocketType) -> None:
        """Introduce a process that is about to start. Raises what `introduce` raises, and OSError."""
        if introduction := self.introduce():
            os.write(ours.fileno(), introduction)

    async def serve(self, ours: trio.socket.SocketType, pid: int) -> None:
        """Answer a process until it closes its end."""
        await self.sockets.serve(ours, self.tier, self.number, pid)


@attrs.frozen
class Program:
    """The command of a process, and what it inherits."""

    argv: tuple[str, ...]
    env: Mapping[str, str] = attrs.field(repr=False)
    guard: Guard
    lending: Lending | None = None

    async def start(self) -> "RunningProgram":
        """Start it. Raises OSError, RuntimeError, MemoryError and SubprocessError."""
        if shutil.which(self.argv[0], path=self.env.get("PATH")) is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), self.argv[0])
        ours, theirs = pair()
        env, fds = self.env, tuple[int, ...]()
        if self.lending is not None:
            env, fds = {**env, DESCRIPTOR_VARIABLE: str(theirs.fileno())}, (theirs.fileno(),)
        try:
            with theirs:
                if self.lending is not None:
                    self.lending.begin(ours)
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
        self.guard.enter(process.pid)
        return RunningProgram(process, ours, self.guard, self.lending)


@attrs.frozen(eq=False)
class RunningProgram:
    """The process and our end of the socket pair that it inherited. Call `end` once, whatever happens."""

    process: trio.Process
    ours: trio.socket.SocketType
    guard: Guard
    lending: Lending | None

    @property
    def pid(self) -> int:
        return self.process.pid

    async def lend(self) -> None:
        """Answer requests for sockets, if it may make any."""
        if self.lending is not None:
            await self.lending.serve(self.ours, self.pid)

    async def wait_gone(self) -> None:
        """Poll if there is no descriptor or thread to wait with."""
        try:
            await self.process.wait()
        except (OSError, RuntimeError):
            while self.process.poll() is None:  # noqa: ASYNC110 (the only way left)
                await trio.sleep(POLL_EXIT_EVERY_S)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process and all that it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def end(self) -> None:
        """Kill what is left of it, and wait until the process is gone."""
        self.ours.close()
        self.signal(signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await self.wait_gone()
        self.guard.remove(self.pid)

    @property
    def how_it_ended(self) -> str:
        """The signal or the exit status."""
        code = self.process.returncode or 0
        return signal.Signals(-code).name if code < 0 else f"status {code}"
