"""Which streams of a reactor read much at once, and whether they may.

What was read and cannot be written on yet is kept, up to one read for each stream. Large reads are worth it for large
bodies, but ten thousand clients that do not read would keep 2.5 GiB of them. So large reads are for as long as few
streams have something to write; otherwise all read little.
"""

from typing import Protocol
from weakref import WeakSet

READ_BYTES = 16 * 1024
"""One read of an ordinary message. A stream that fills it reads BULK_READ_BYTES next, if it may."""
BULK_READ_BYTES = 256 * 1024
MOST_BACKLOGS = 64
"""These keep 16 MiB at most. Each one beyond keeps 16 KiB, as a buffer of HAProxy does."""


class Reading(Protocol):
    """A stream: how much it reads at once."""

    read_bytes: int


class Bulk:
    """`backlogs`: how many streams have something to write."""

    __slots__ = ("_streams", "backlogs")

    def __init__(self) -> None:
        self.backlogs = 0
        self._streams: WeakSet[Reading] = WeakSet()

    def bytes_for(self, stream: Reading) -> int:
        """How much a stream that filled its last read may read next."""
        if self.backlogs > MOST_BACKLOGS:
            return READ_BYTES
        self._streams.add(stream)
        return BULK_READ_BYTES

    def begin(self) -> None:
        """One stream more has something to write."""
        self.backlogs += 1
        if self.backlogs > MOST_BACKLOGS and self._streams:
            for stream in self._streams:
                stream.read_bytes = READ_BYTES
            self._streams.clear()

    def end(self) -> None:
        """One of them has not any more."""
        self.backlogs -= 1
