"""What changes when a file does, so that a look at files costs one system call for each."""

import os
from collections.abc import Iterable
from typing import Final

LOOK_EVERY_S: Final = 2.0
"""At the files of certificates, which are renewed days before that has to be done."""
Stamp = tuple[tuple[int, int, int], ...]


def stamp_of(names: Iterable[str]) -> Stamp:
    """What changes when one of the files does: also where a link leads to another file, as Kubernetes has it."""
    found = []
    for name in names:
        try:
            status = os.stat(name)
        except OSError:
            found.append((0, 0, 0))
        else:
            found.append((status.st_mtime_ns, status.st_ino, status.st_size))
    return tuple(found)
