"""The descriptors of the process that tests run in: how many are open, and what happens where few are left."""

import contextlib
import os
import resource
from collections.abc import Iterator


def open_descriptors() -> int:
    """How many this process holds."""
    return len(os.listdir("/proc/self/fd")) - 1


@contextlib.contextmanager
def descriptors_left(count: int) -> Iterator[None]:
    """So many more can be opened, which the kernel sees to."""
    held: list[int] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1 + count, hard))
    try:
        while True:
            held.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError:  # EMFILE
        for _ in range(count):
            os.close(held.pop())
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in held:
            os.close(descriptor)
