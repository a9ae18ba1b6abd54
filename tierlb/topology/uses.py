"""By which command a topology file is run, and the keys that the command cannot do anything with.

One file runs on one machine, in containers and on several machines, so most keys mean something everywhere. A key that
would silently be ignored is a fault of the file where that matters, as to two controllers that are to share a store. It
is advice (advice.py) where the file is the same for all and the key is for the others.

Left out: what renderings refuse (deploy/compose.py, deploy/kubernetes_names.py), which also check ports and names.
"""

import enum
import os
from collections.abc import Callable, Iterable, Iterator

from tierlb.topology.build import cpus_of
from tierlb.topology.cores import available_cores, missing_cpus
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape

NO_NUMBERS = (
    "auto gives each node of `tierlb up` a CPU, and nodes that are started elsewhere have no numbers: write the CPUs "
    "that all of the tier may use, such as 0-3, or leave this out"
)


class Use(enum.Enum):
    """The command that runs the file."""

    UP = "up"
    CONTROLLER = "controller"


def cores_of(use: Use | None) -> Callable[[], int]:
    """How many nodes `replicas: auto` is. A controller starts none, and any number may join: one is enough."""
    return one_core if use is Use.CONTROLLER else available_cores


def one_core() -> int:
    """Where nodes are started elsewhere."""
    return 1


def use_faults(file: FileShape, use: Use | None) -> Iterator[Fault]:
    """Keys that the command ignores; none where the command is not known."""
    if use is Use.UP and file.store is not None:
        message = (
            "is for `tierlb controller`, of which several share it; `tierlb up` keeps its history in the directory "
            "--state: leave this out, or run `tierlb controller` and its nodes"
        )
        yield Fault(("store",), message, at_key=True)
    if use is Use.UP:
        yield from cpu_faults(file)
    if use is Use.CONTROLLER:
        yield from (Fault(("tiers", name, "cpus"), NO_NUMBERS) for name, tier in file.tiers.items() if tier.cpus == ())


def cpu_faults(file: FileShape) -> Iterator[Fault]:
    """CPUs on which no node can run here."""
    for name, tier in file.tiers.items():
        if tier.cpus and (reason := cpu_problem(cpus_of(tier.cpus))):
            yield Fault(("tiers", name, "cpus"), reason)


def cpu_problem(cpus: Iterable[int]) -> str:
    """Why nodes cannot be pinned to all of them here; "" if they can."""
    missing = missing_cpus(cpus)
    if not missing:
        return ""
    there = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    what = f"CPU {missing[0]}" if len(missing) == 1 else f"CPUs {', '.join(map(str, missing[:8]))}"
    return f"{what} cannot be used here: write some of those that `tierlb up` may use, as {there}, or auto"
