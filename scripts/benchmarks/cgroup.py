"""A share of a core for single processes, as containers get it: a control group each, with a processor quota.

The kernel lets a group run for its quota in every period and stalls it for the rest. Version 2 of the hierarchy is
taken where it has the cpu controller (cpu.max), else version 1 (cpu.cfs_quota_us): a controller belongs to one of the
two. Groups are made directly below the root, the only place where groups and processes may stand side by side.

Left out: delegation without root. Who may not write at the root is told what to do.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

MOUNTS = Path("/proc/self/mounts")
PREFIX = "tierlb-bench-"
LEAST_QUOTA_US = 1000
"""What the kernel takes (kernel/sched/core.c, min_cfs_quota_period)."""
TRIES = 5
"""Of emptying a group: a process may start another one just then."""
HOW = "run as root where cgroups can be written (in a container: docker run --privileged --cgroupns=host)"


class Unavailable(Exception):  # noqa: N818 (the text is the whole message)
    """Nothing can be limited here; says what is missing."""


@attrs.frozen
class Limit:
    """So much processor time in each period."""

    quota_us: int
    period_us: int

    @property
    def cores(self) -> float:
        """On average."""
        return self.quota_us / self.period_us


@attrs.frozen
class Throttling:
    """Periods in which a group ran, and those of them in which it was stalled."""

    periods: int
    throttled: int

    def since(self, before: "Throttling") -> float:
        """The share of periods between two readings in which it was stalled."""
        return (self.throttled - before.throttled) / max(1, self.periods - before.periods)


@attrs.frozen
class Hierarchy:
    """Where groups are made. `version`: 1 or 2."""

    root: Path
    version: int

    def __str__(self) -> str:
        return f"cgroup v{self.version}"

    def settings(self, limit: Limit) -> dict[str, str]:
        """What to write, by file, in this order."""
        if self.version == 2:
            return {"cpu.max": f"{limit.quota_us} {limit.period_us}"}
        return {"cpu.cfs_period_us": str(limit.period_us), "cpu.cfs_quota_us": str(limit.quota_us)}


@attrs.frozen
class Group:
    """One group's directory."""

    directory: Path

    def pids(self) -> tuple[int, ...]:
        """Processes in it."""
        return tuple(map(int, (self.directory / "cgroup.procs").read_text().split()))

    def add(self, pid: int) -> None:
        """Move a process here, all its threads. Raises OSError if it has ended."""
        (self.directory / "cgroup.procs").write_text(str(pid))

    def throttling(self) -> Throttling:
        """As counted since the group was made."""
        return parse_stat((self.directory / "cpu.stat").read_text())


def find(mounts: str) -> Hierarchy:
    """The hierarchy with the cpu controller, by the content of /proc/self/mounts. Raises Unavailable."""
    entries = [line.split() for line in mounts.splitlines()]
    for _, directory, kind, *_ in entries:
        if kind == "cgroup2" and "cpu" in _words(Path(directory) / "cgroup.controllers"):
            return Hierarchy(Path(directory), 2)
    for _, directory, kind, options, *_ in entries:
        if kind == "cgroup" and "cpu" in options.split(","):
            return Hierarchy(Path(directory), 1)
    raise Unavailable(f"no cgroup hierarchy with the cpu controller is mounted: {HOW}")


def prepare(limit: Limit) -> Hierarchy:
    """This machine's hierarchy, tried out and free of what killed runs left. Raises Unavailable."""
    hierarchy = find(MOUNTS.read_text())
    subtree = hierarchy.root / "cgroup.subtree_control"
    try:
        if hierarchy.version == 2 and "cpu" not in _words(subtree):
            subtree.write_text("+cpu")  # and never taken back: others' groups would lose their limits with ours
        sweep(hierarchy)
        with made(hierarchy, "try", limit):
            return hierarchy
    except OSError as error:
        raise Unavailable(f"{hierarchy}: {error}: {HOW}") from error


def sweep(hierarchy: Hierarchy) -> None:
    """Remove the groups of runs that are over and left no process in them."""
    for directory in hierarchy.root.glob(f"{PREFIX}*"):
        if not Path("/proc", directory.name.removeprefix(PREFIX).partition("-")[0]).exists():
            with contextlib.suppress(OSError):
                directory.rmdir()


@contextlib.contextmanager
def limited(hierarchy: Hierarchy, pids: Mapping[str, int], limit: Limit) -> Iterator[dict[str, Group]]:
    """Give each of these processes a group of its own while the block runs. Raises OSError if one has ended."""
    with contextlib.ExitStack() as stack:
        groups = {name: stack.enter_context(made(hierarchy, name, limit)) for name in pids}
        for name, group in groups.items():
            group.add(pids[name])
        yield groups


@contextlib.contextmanager
def made(hierarchy: Hierarchy, name: str, limit: Limit) -> Iterator[Group]:
    """A group while the block runs; who is in it then goes on at the root, without a limit."""
    group = Group(hierarchy.root / f"{PREFIX}{os.getpid()}-{name}")
    group.directory.mkdir()
    try:
        for file, text in hierarchy.settings(limit).items():
            (group.directory / file).write_text(text)
        yield group
    finally:
        _remove(group, Group(hierarchy.root))


def _remove(group: Group, heir: Group) -> None:
    for _ in range(TRIES):
        for pid in group.pids():
            with contextlib.suppress(ProcessLookupError):
                heir.add(pid)
        if not group.pids():
            break
    group.directory.rmdir()


def parse_stat(text: str) -> Throttling:
    """The content of cpu.stat, which both versions write. Raises KeyError where the group has no limit."""
    counts = dict(line.split() for line in text.splitlines())
    return Throttling(int(counts["nr_periods"]), int(counts["nr_throttled"]))


def _words(file: Path) -> list[str]:
    """Of a file that need not be there."""
    try:
        return file.read_text().split()
    except OSError:
        return []
