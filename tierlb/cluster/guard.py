"""Nothing outlives the supervisor, not even when it is killed with SIGKILL.

A shell that does nothing reads the supervisor's process groups from a pipe; when the pipe ends without the
groups having been crossed off, the supervisor died and the shell kills what is left. PR_SET_PDEATHSIG would
be shorter, but the kernel ties it to the *thread* that forked, and trio forks from worker threads that end
when idle.
"""

import os
import subprocess
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


@attrs.define
class Guard:
    """Async context: the groups added and not removed are killed when this process ends in whatever way."""

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

    def add(self, group: int) -> None:
        """Kill this process group with the supervisor."""
        self._tell(f"+ {group}\n")

    def remove(self, group: int) -> None:
        """The group has ended."""
        self._tell(f"- {group}\n")

    def _tell(self, line: str) -> None:
        """One short write, which a pipe takes whole; no await, so that nothing runs unguarded meanwhile."""
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), line.encode())  # type: ignore[attr-defined]
        except (BrokenPipeError, BlockingIOError):
            return  # somebody killed or stopped the guard; the cluster itself is none the worse
