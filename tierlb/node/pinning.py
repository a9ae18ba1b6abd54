"""On which CPUs this process runs, as its tier's `cpus` says.

Nodes of `tierlb up` are numbered. Node i runs on the i-th of the CPUs, and they are dealt again where there are more
nodes. A node that was started elsewhere has no number, and its tier's other nodes may be on other machines. It may run
on all of the CPUs that are named.

A change takes effect at once, for all threads, and closes nothing. CPUs that cannot be had leave the node where it is:
traffic comes first.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

import attrs

from tierlb.channel.log import Log

TASKS = "/proc/self/task"


def chosen_cpus(cpus: tuple[int, ...] | None, own: frozenset[int], number: int | None) -> frozenset[int]:
    """Of the CPUs that are named (none: of its `own`) those of the node with this number; None: it has no number.
    Without `cpus` they are its own."""
    if cpus is None:
        return own
    row = cpus or tuple(sorted(own))
    return frozenset(row) if number is None else frozenset((row[(number - 1) % len(row)],))


def threads() -> Iterator[int]:
    """All of this process."""
    try:
        yield from map(int, os.listdir(TASKS))
    except OSError:
        yield 0  # of the kernel's calls, the one that asks


@attrs.define
class Pinning:
    """`number`: of the node among those of its tier on this machine. `own`: the CPUs that it was started with."""

    number: int | None
    log: Log
    own: frozenset[int] = attrs.field(factory=lambda: frozenset(os.sched_getaffinity(0)))
    set_affinity: Callable[[int, Iterable[int]], None] = os.sched_setaffinity
    _now: frozenset[int] = attrs.field(default=attrs.Factory(lambda self: self.own, takes_self=True), init=False)

    def apply(self, cpus: tuple[int, ...] | None) -> None:
        """Run where the snapshot says from now on."""
        wanted = chosen_cpus(cpus, self.own, self.number)
        if wanted == self._now:
            return
        try:
            for thread in threads():
                with contextlib.suppress(ProcessLookupError):  # it has just ended
                    self.set_affinity(thread, wanted)
        except OSError as error:
            self.log.warning("cpus_unavailable", cpus=sorted(wanted), reason=str(error.strerror))
            return
        self._now = wanted
