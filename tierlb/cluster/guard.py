"""Nothing outlives the supervisor, not even when it is killed with SIGKILL.

A shell that does nothing reads the supervisor's process groups from a pipe; when the pipe ends without the
groups having been crossed off, the supervisor died and the shell kills what is left. PR_SET_PDEATHSIG would
be shorter, but the kernel ties it to the *thread* that forked, and trio forks from worker threads that end
when idle.

Each process enters itself, before it becomes what it is to be: it starts as a line of shell whose standard input is the
guard's pipe. So there is no moment in which it runs and the guard does not know; one that is killed before has not
begun.
"""

import contextlib
import os
import subprocess
from collections.abc import Sequence
from types import TracebackType

import attrs
import trio

SCRIPT = """
trap '' HUP INT TERM
alive=' '
while read -r sign group; do
  case $sign in
    +) alive="$alive$group " ;;
    -) alive="${alive%% $group *} ${alive#* $group }" ;;
  esac
done
for group in $alive; do kill -KILL "-$group"; done
"""


ENTER = """(trap '' PIPE; echo "+ $$" >&0) 2>/dev/null; exec "$@" </dev/null"""
"""Somebody may have killed the guard; the cluster itself is none the worse."""


@attrs.define
class Guard:
    """Async context: what was started by `command`, with `pipe` as standard input, and was not removed is killed when
    this process ends in whatever way. `descriptors` is the soft limit of open files that processes begin with, where
    this one has raised its own: programs that use select() fail with a high one."""

    descriptors: int | None = None
    _process: trio.Process | None = attrs.field(default=None, init=False)

    async def __aenter__(self) -> "Guard":
        self._process = await trio.lowlevel.open_process(
            ["/bin/sh", "-c", SCRIPT],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        return self

    async def __aexit__(
        self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None
    ) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with trio.CancelScope(shield=True):
            await self._process.stdin.aclose()
            await self._process.wait()

    @property
    def pipe(self) -> int:
        """What a guarded process needs as its standard input, until it runs; then it has none."""
        assert self._process is not None
        assert self._process.stdin is not None
        return self._process.stdin.fileno()  # type: ignore[attr-defined, no-any-return]

    def command(self, argv: Sequence[str]) -> tuple[str, ...]:
        """What to run in the place of `argv`, in a session of its own."""
        lower = "" if self.descriptors is None else f"ulimit -S -n {self.descriptors} 2>/dev/null; "
        return ("/bin/sh", "-c", lower + ENTER, "sh", *argv)

    def remove(self, group: int) -> None:
        """The group has ended."""
        with contextlib.suppress(OSError):  # the guard may have been killed, or stopped with its pipe full
            os.write(self.pipe, f"- {group}\n".encode())
