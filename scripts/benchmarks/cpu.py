"""What a set of processes used: CPU time and memory, as the kernel counts them.

CPU time is read from each process's CPU clock (clock_getcpuclockid(3)): nanoseconds, user and system, all
threads, ended ones included; /proc/PID/stat counts the same in ticks of 10 ms. Memory is the proportional set
size, so that pages which several processes share are counted once. Kernel memory of sockets is not in it.
"""

import re
import time
from collections.abc import Iterable
from pathlib import Path

CPUCLOCK_SCHED = 2
"""The clock's number within a process's clock id (linux/posix-timers.h)."""


def cpu_ns(pids: Iterable[int]) -> int:
    """User and system time of the processes so far. Raises OSError if one has ended."""
    return sum(time.clock_gettime_ns((~pid << 3) | CPUCLOCK_SCHED) for pid in pids)


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
