"""What a set of processes used: CPU time and memory, as the kernel counts them.

CPU time is read from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, user and system, all
threads, ended ones included; /proc/PID/stat counts the same in ticks of 10 ms. Memory is the proportional set
size, so that pages which several processes share are counted once. Kernel memory of sockets is not in it.
"""

import math
import re
import time
from collections.abc import Iterable
from pathlib import Path

import attrs

CPUCLOCK_SCHED = 2
"""The clock's number within a process's clock id (linux/posix-timers.h)."""


def cpu_ns(pids: Iterable[int]) -> int:
    """User and system time of the processes so far. Raises OSError if one has ended."""
    return sum(time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) for pid in pids)


@attrs.frozen
class Waits:
    """How long threads that could run waited for a CPU so far, and how often they got one."""

    waited_ns: int
    times: int

    def mean_s(self, earlier: "Waits") -> float:
        """Per time since then; nan if the kernel does not count it."""
        times = self.times - earlier.times
        return (self.waited_ns - earlier.waited_ns) / times / 1e9 if times > 0 else math.nan


def waits(pids: Iterable[int]) -> Waits:
    """Of all threads that the processes have now, from /proc/PID/task/TID/schedstat."""
    texts = [_text(path) for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    rows = [[int(each) for each in text.split()] for text in texts if text]
    return Waits(sum(row[1] for row in rows), sum(row[2] for row in rows))


def _text(path: Path) -> str:
    """Nothing if the thread has just ended."""
    try:
        return path.read_text()
    except OSError:
        return ""


@attrs.frozen
class Used:
    """What processes used so far. `user` and `system` are clock ticks, to divide `cpu_s`, which is exact. `wakeups`:
    how often their threads waited for something and went on."""

    cpu_s: float
    user: int
    system: int
    wakeups: int

    def __sub__(self, earlier: "Used") -> "Used":
        return Used(
            self.cpu_s - earlier.cpu_s,
            self.user - earlier.user,
            self.system - earlier.system,
            self.wakeups - earlier.wakeups,
        )

    @property
    def user_s(self) -> float:
        """The part of `cpu_s` that was not the kernel's."""
        return self.cpu_s * self.user / max(1, self.user + self.system)


def used(pids: Iterable[int]) -> Used:
    """CPU time and wake-ups of the processes so far. Raises OSError if one has ended."""
    pids = tuple(pids)
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    tasks = [_text(path) for pid in pids for path in Path(f"/proc/{pid}/task").glob("*/status")]
    switches = [
        found for text in tasks if (found := re.search(r"^voluntary_ctxt_switches:\s+(\d+)$", text, re.MULTILINE))
    ]
    return Used(
        cpu_ns(pids) / 1e9,
        sum(int(each[11]) for each in fields),
        sum(int(each[12]) for each in fields),
        sum(int(each[1]) for each in switches),
    )


def memory_kib(pids: Iterable[int]) -> int:
    """Proportional set size of the processes together."""
    return sum(pss_kib(Path(f"/proc/{pid}/smaps_rollup").read_text()) for pid in pids)


def pss_kib(smaps_rollup: str) -> int:
    """The `Pss:` line of a smaps_rollup file."""
    line = re.search(r"^Pss:\s+(\d+) kB$", smaps_rollup, re.MULTILINE)
    if line is None:
        raise ValueError("no Pss line in smaps_rollup")
    return int(line[1])


def children(pid: int) -> tuple[int, ...]:
    """Processes that the process's main thread started and that still run."""
    return tuple(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
