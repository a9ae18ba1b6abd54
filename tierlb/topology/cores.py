"""How many cores a process may use. `replicas: auto` is one node for each, since a node is one thread.

That is the least of the CPUs that the scheduler gives it (taskset, cpuset) and of the quotas of its cgroup and all
above it. A quota is cpu.max in version 2, and cpu.cfs_quota_us in version 1. A quota of 2.5 cores is 2 nodes: a third
one would make all of them wait for the next period. A container sees its own cgroup as the root of what is mounted
there. So the part of a path that is above the mount is left out.
"""

import os
import re
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import attrs

PROC = Path("/proc")
OCTAL_ESCAPE = re.compile(r"\\([0-7]{3})")
"""How the kernel writes blanks and the like in paths (fs/proc_namespace.c)."""
PERIOD_US = 100_000
"""Of quotas that name none: the kernel's default."""


@attrs.frozen
class Hierarchy:
    """A mounted cgroup hierarchy that may have quotas. `root`: the cgroup that is seen at `directory`. `version`: 1 or
    2."""

    directory: Path
    root: str
    version: int

    def quota(self, cgroup: str) -> float | None:
        """The least quota in cores of a cgroup and all above that are seen here; None: there is none."""
        below = os.path.relpath(cgroup, self.root)
        path = "." if below.startswith("..") else below
        return least_quota(self.directory, path, parse_quota if self.version == 1 else parse_max)


def available_cores(proc: Path = PROC, cpus: int = 0) -> int:
    """The whole cores of this process, at least 1. `cpus`: that the scheduler gives it; 0: find out."""
    cpus = cpus or len(os.sched_getaffinity(0))
    quotas = _quotas(proc)
    return max(1, int(min((cpus, *quotas))))


def missing_cpus(cpus: Iterable[int]) -> list[int]:
    """Those of the CPUs that this process cannot run on: they do not exist, or its cpuset is without them."""
    missing: list[int] = []

    def probe() -> None:
        for cpu in sorted(set(cpus)):
            try:
                os.sched_setaffinity(0, (cpu,))
            except (OSError, OverflowError, ValueError):
                missing.append(cpu)

    thread = threading.Thread(target=probe)  # affinity is a thread's own, so that this one stays where it is
    thread.start()
    thread.join()
    return missing


def _quotas(proc: Path) -> Iterator[float]:
    try:
        cgroups = (proc / "self/cgroup").read_text()
        mounts = (proc / "self/mountinfo").read_text()
    except OSError:  # no /proc: no limit is known
        return
    for hierarchy in hierarchies(mounts):
        cgroup = cgroup_of_version_1(cgroups) if hierarchy.version == 1 else f"/{cgroup_of_version_2(cgroups)}"
        if quota := hierarchy.quota(cgroup):
            yield quota


def hierarchies(mounts: str) -> Iterator[Hierarchy]:
    """Those with processor quotas, by the content of /proc/PID/mountinfo (proc(5))."""
    for line in mounts.splitlines():
        own, _, shared = line.partition(" - ")
        fields, (kind, *options) = own.split(), (shared.split() or [""])
        if len(fields) < 5 or (kind != "cgroup2" and not (kind == "cgroup" and "cpu" in ",".join(options).split(","))):
            continue
        root, directory = (OCTAL_ESCAPE.sub(lambda found: chr(int(found[1], 8)), each) for each in fields[3:5])
        yield Hierarchy(Path(directory), root, 1 if kind == "cgroup" else 2)


def cgroup_of_version_2(text: str) -> str:
    """The path below the hierarchy's root, from /proc/PID/cgroup; "." where there is none."""
    for line in text.splitlines():
        if line.startswith("0::"):
            return line[3:].strip().lstrip("/") or "."
    return "."


def cgroup_of_version_1(text: str) -> str:
    """The path in the hierarchy of version 1 that has the cpu controller, from /proc/PID/cgroup; "/" where there is
    none."""
    for line in text.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if "cpu" in controllers.split(","):
            return path.strip() or "/"
    return "/"


def least_quota(root: Path, path: str, read: Callable[[Path], float | None]) -> float | None:
    """The least quota of the directory at `path` below `root` and of all above it, in cores."""
    directory = root / path
    found = []
    for each in (directory, *directory.parents):
        if not each.is_relative_to(root):
            break
        try:
            found.append(read(each))
        except (OSError, ValueError, ZeroDivisionError):  # the root has none, nor has one without the controller
            continue
    return min((quota for quota in found if quota), default=None)


def parse_max(directory: Path) -> float | None:
    """Of a cgroup of version 2. Raises OSError and ValueError."""
    return parse_cpu_max((directory / "cpu.max").read_text())


def parse_quota(directory: Path) -> float | None:
    """Of a cgroup of version 1. Raises OSError and ValueError."""
    quota_us = int((directory / "cpu.cfs_quota_us").read_text())
    return None if quota_us < 0 else quota_us / int((directory / "cpu.cfs_period_us").read_text())


def parse_cpu_max(text: str) -> float | None:
    """Cores allowed by a cgroup's cpu.max (`QUOTA PERIOD` in µs), None for no limit. Raises ValueError."""
    quota, _, period = text.partition(" ")
    return None if quota.strip() == "max" else int(quota) / int(period or PERIOD_US)
