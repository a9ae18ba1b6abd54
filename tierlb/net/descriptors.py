"""How many descriptors this process may hold, how many client connections that allows, and one kept in reserve.

A connection that is forwarded needs two descriptors, the client's and the host's. What is left over is the reserve:
control connections, listeners, logs, health checks and kept upstream connections.

When the limit is reached all the same (other processes of the machine can exhaust ENFILE), `accept` fails and the
client waits in the kernel's queue without a word. `Spare` holds one descriptor that can be given back for a moment, so
that such a client is accepted, answered and closed.

Left out: limits of cgroups and of memory, which the kernel enforces without a number that could be read in advance.
"""

import contextlib
import errno
import os
import resource
from collections.abc import Iterator

EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of a system call for which this process or machine lacks descriptors or memory; no peer failed."""
DESCRIPTORS_PER_CONNECTION = 2
LEAST_RESERVE = 64
LARGEST_RESERVE = 512
"""One eighth of the limit between these two bounds: 64 is what a node with a few dozen children and hosts holds
beside its clients, 512 is enough for hundreds of children and for the connections kept to hosts."""


def raise_limit() -> int:
    """Raise the soft limit of open descriptors to the hard limit; returns the limit that holds now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):  # a sandbox may forbid it; the limit then stays as it was
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return limit()


def limit() -> int:
    """The soft limit of open descriptors; a very large number where there is none."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return 2**31 if soft == resource.RLIM_INFINITY else soft


def connections_for(descriptors: int, each: int = DESCRIPTORS_PER_CONNECTION) -> int:
    """How many client connections, or sessions that take `each` of them, may be open at once under such a limit; at
    least one."""
    reserve = min(max(LEAST_RESERVE, descriptors // 8), LARGEST_RESERVE)
    return max(1, (descriptors - reserve) // each)


class Spare:
    """One descriptor held open so that it can be given back when there are no others."""

    __slots__ = ("_fd",)

    def __init__(self) -> None:
        self._fd = -1
        self._take()

    @contextlib.contextmanager
    def lent(self) -> Iterator[bool]:
        """Free the descriptor for the length of the block; false if it could not be had back since the last time."""
        if self._fd < 0:
            self._take()
        had = self._fd >= 0
        self.close()
        try:
            yield had
        finally:
            self._take()

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> None:
        with contextlib.suppress(OSError):
            self._fd = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
