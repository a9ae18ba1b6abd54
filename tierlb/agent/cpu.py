"""How much processor time an app has used and could use: of one process from /proc, of a container from its cgroup.

Both are cumulative, so a share is right over any two readings. Cores are what the scheduler lets it have: the
quotas of its cgroup and of all above (cgroup v2), and never more than this machine's. An app that runs its own code in
one thread cannot use more than one: give that as `cores`.

Left out: cgroup v1, and processes that the app started (watch its cgroup instead).
"""

import os
from pathlib import Path

import attrs

from tierlb.topology.cores import cgroup_of_version_2, least_quota, parse_max

PROC = Path("/proc")
CGROUPS = Path("/sys/fs/cgroup")


class Gone(Exception):  # noqa: N818 (an event of normal operation)
    """There is nothing to read any more: the process has ended, or the cgroup was removed."""


@attrs.frozen
class ProcessorTime:
    """Seconds used since the start, and how many cores can be used."""

    used_s: float
    cores: float


@attrs.define
class ProcessMeter:
    """Reads one process. `cores` 0: those of its cgroup and the machine."""

    pid: int
    cores: float = 0.0
    proc: Path = PROC
    cgroups: Path = CGROUPS
    _started: int = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._started = self._stat()[1]
        if not self.cores:
            self.cores = usable_cores(self.cgroups, self._cgroup(), os.cpu_count() or 1)

    def read(self) -> ProcessorTime:
        """Raises Gone; a process that was given the same pid later is another."""
        ticks, started = self._stat()
        if started != self._started:
            raise Gone(f"process {self.pid} has ended")
        return ProcessorTime(ticks / os.sysconf("SC_CLK_TCK"), self.cores)

    def _cgroup(self) -> str:
        try:
            return cgroup_of_version_2((self.proc / str(self.pid) / "cgroup").read_text())
        except OSError:
            raise Gone(f"process {self.pid} has ended") from None

    def _stat(self) -> tuple[int, int]:
        try:
            return parse_stat((self.proc / str(self.pid) / "stat").read_text())
        except (OSError, ValueError):
            raise Gone(f"process {self.pid} has ended") from None


@attrs.define
class CgroupMeter:
    """Reads a cgroup v2 directory, all processes in it and below together. `cores` 0: find out."""

    directory: Path
    cores: float = 0.0
    cgroups: Path = CGROUPS

    def __attrs_post_init__(self) -> None:
        if not self.cores:
            below = self.directory.relative_to(self.cgroups) if self.directory.is_relative_to(self.cgroups) else "."
            root = self.cgroups if below != "." else self.directory
            self.cores = usable_cores(root, str(below), os.cpu_count() or 1)

    def read(self) -> ProcessorTime:
        """Raises Gone."""
        try:
            return ProcessorTime(parse_cpu_stat((self.directory / "cpu.stat").read_text()), self.cores)
        except (OSError, ValueError):
            raise Gone(f"{self.directory} holds no cpu.stat of a cgroup v2") from None


def parse_stat(text: str) -> tuple[int, int]:
    """Ticks used (user and system) and the tick of the start, from /proc/PID/stat (proc(5)).

    The second field is the program's name in parentheses and may hold anything, parentheses and blanks too. A
    zombie has ended. Raises ValueError.
    """
    fields = text[text.rindex(")") + 1 :].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        raise ValueError("the process has ended")
    return int(fields[11]) + int(fields[12]), int(fields[19])


def parse_cpu_stat(text: str) -> float:
    """Seconds used, from a cgroup's cpu.stat. Raises ValueError."""
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "usage_usec":
            return int(value) / 1e6
    raise ValueError("no usage_usec")


def usable_cores(root: Path, path: str, machine_cores: float) -> float:
    """The least of the machine's cores and the quotas of the cgroup at `path` below `root` and of all above it."""
    return min(machine_cores, least_quota(root, path, parse_max) or machine_cores)
