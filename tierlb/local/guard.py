"""Ends all processes of a cluster when the supervisor dies, even by SIGKILL.

A shell reads the supervisor's process groups from a pipe. When the pipe ends before the groups were removed, the
supervisor died, and the shell kills what is left. PR_SET_PDEATHSIG would be shorter, but the kernel ties it to the
*thread* that forked, and trio forks from worker threads that end when idle.

Each process starts as a line of shell (`ENTER`), which writes its group to the guard's pipe and then executes the
command. So no command runs whose group is not in the pipe; a shell that is killed earlier has not started anything.

The guard itself may be killed, by the kernel for lack of memory or by hand. Another one is then started, which
continues to read from the same pipe. The supervisor has both ends of the pipe, so that no line is lost meanwhile. It
enters again all groups that the former guard had read. Processes survive only if the supervisor is killed in that
moment.
"""

import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from types import TracebackType

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.log import Log
from tierlb.telemetry.internal_errors import InternalErrors

SCRIPT = """
trap '' HUP INT TERM
alive=' '
while read -r sign group; do
  case $sign in
    +) case $alive in *" $group "*) ;; *) alive="$alive$group " ;; esac ;;
    -) case $alive in *" $group "*) alive="${alive%% $group *} ${alive#* $group }" ;; esac ;;
  esac
done
for group in $alive; do kill -KILL "-$group"; done
"""


ENTER = """(trap '' PIPE; echo "+ $$" >&0) 2>/dev/null; exec "$@" </dev/null"""
"""A pipe that is full or has no reader does not prevent the start."""

GUARD_END_S = 5.0
"""How long the guard may take to end after its pipe, which is milliseconds; one that was stopped (SIGSTOP) never does.
"""


@attrs.define
class Guard:
    """Async context: what was started by `command`, with `pipe` as standard input, and was not removed is killed when
    this process ends for any reason. `descriptors` is the soft limit of open files that processes start with, where
    this one has raised its own. Programs that use select() fail with a high one. `keep` runs beside."""

    descriptors: int | None = None
    _process: trio.Process | None = attrs.field(default=None, init=False)
    _ends: tuple[int, int] | None = attrs.field(default=None, init=False)
    """The ends of the pipe: the one that the guard reads, and the one that is written to without blocking."""
    _groups: set[int] = attrs.field(factory=set, init=False)
    """The groups that were entered and not removed."""

    async def __aenter__(self) -> "Guard":
        self._ends = reader, writer = os.pipe()
        os.set_blocking(writer, False)
        try:
            self._process = await _start_guard(reader)
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._process is not None
        self._close()
        with trio.move_on_after(GUARD_END_S, shield=True):
            await self._process.wait()
        if self._process.returncode != 0:
            self._kill_groups()
            self._process.kill()
            with trio.move_on_after(GUARD_END_S, shield=True):
                await self._process.wait()

    async def keep(self, log: Log, errors: InternalErrors) -> None:
        """Start another guard whenever one has ended, until cancelled."""
        backoff, began_s = Backoff(), trio.current_time()
        while True:
            assert self._process is not None
            how = _exit_text(await self._process.wait())
            log.warning("guard_ended", pid=self._process.pid, how=how, action="starting it again")
            while self._process.returncode is not None:
                await trio.sleep(backoff.wait_s(trio.current_time() - began_s))
                began_s = trio.current_time()
                with errors.barrier("guard"):
                    await self._start_again()
            log.info("guard_started", pid=self._process.pid, groups=len(self._groups))

    @property
    def pid(self) -> int:
        """The guard's process now."""
        assert self._process is not None
        return self._process.pid

    @property
    def pipe(self) -> int:
        """The standard input of a guarded process until it runs its program; then it has none."""
        assert self._ends is not None
        return self._ends[1]

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """The command to run instead of `argv`, in a session of its own."""
        lower = "" if self.descriptors is None else f"ulimit -S -n {self.descriptors} 2>/dev/null; "
        return ("/bin/sh", "-c", lower + ENTER, "sh", *argv)

    def enter(self, group: int) -> None:
        """The group runs. It entered itself, but perhaps with a guard that has been killed since."""
        self._groups.add(group)
        self._write(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """The group has ended."""
        self._groups.discard(group)
        self._write(f"- {group}\n")

    async def _start_again(self) -> None:
        assert self._ends is not None
        self._process = await _start_guard(self._ends[0])
        for group in sorted(self._groups):
            await trio.lowlevel.wait_writable(self.pipe)
            if group in self._groups:
                self._write(f"+ {group}\n")

    def _write(self, line: str) -> None:
        if self._ends is not None:
            with contextlib.suppress(BlockingIOError):  # the guard was stopped (SIGSTOP), and its pipe is full
                os.write(self._ends[1], line.encode())

    def _kill_groups(self) -> None:
        """Do what a guard that was killed, or stopped, cannot do."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)

    def _close(self) -> None:
        ends, self._ends = self._ends, None
        for end in ends or ():
            os.close(end)


async def _start_guard(reader: int) -> trio.Process:
    return await trio.lowlevel.open_process(
        ["/bin/sh", "-c", SCRIPT], stdin=reader, stderr=subprocess.DEVNULL, start_new_session=True
    )


def _exit_text(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"status {code}"
