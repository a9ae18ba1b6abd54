"""Which streams of a reactor read much at once, and whether they may.

What was read and cannot be written on yet is kept, up to one read for each stream. Large reads are worth it for large
bodies, but ten thousand clients that do not read would keep 2.5 GiB of them. So large reads are for as long as few
streams have something to write; otherwise all read little.

When many had something to write and few are left, what they kept may still hang on cycles of objects that are gone,
and the C library holds the memory of the rest, to use it again. Both are made to give it back.
"""

import ctypes
import gc
import math
from collections.abc import Callable
from typing import Final, Protocol

READ_BYTES: Final = 16 * 1024
"""One read of an ordinary message. A stream that fills it reads BULK_READ_BYTES next, if it may."""
BULK_READ_BYTES: Final = 256 * 1024
MOST_BACKLOGS: Final = 64
"""These keep 16 MiB at most. Each one beyond keeps 16 KiB, as a buffer of HAProxy does."""

MANY_BACKLOGS: Final = 16
"""These may have kept 4 MiB, which is worth giving back."""
CALM_S: Final = 0.5
"""So long after most of them are gone, for their connections may still be about to end."""
GIVE_BACK_EVERY_S: Final = 5.0
"""It takes a millisecond or two for a thousand connections, and what is given back has to be asked for again."""


class Reading(Protocol):
    """A stream: how much it reads at once."""

    read_bytes: int


class Bulk:
    """`backlogs`: how many streams have something to write. `moved`: bytes that joined sockets passed on in large
    pieces, since the start. `_most`: how many at most since memory was given back.
    `_calm_at`: since when most of these are gone."""

    __slots__ = ("_calm_at", "_give_back", "_given_back_at", "_most", "_streams", "backlogs", "moved")

    def __init__(self, give_back: Callable[[], None]) -> None:
        """`give_back` returns memory to the system."""
        self._give_back = give_back
        self.backlogs = 0
        self.moved = 0
        self._most = 0
        self._given_back_at = -math.inf
        self._calm_at = math.inf
        self._streams: set[Reading] = set()

    def bytes_for(self, stream: Reading) -> int:
        """How much a stream that filled its last read may read next."""
        if self.backlogs > MOST_BACKLOGS:
            return READ_BYTES
        self._streams.add(stream)
        return BULK_READ_BYTES

    def forget(self, stream: Reading) -> None:
        """The stream ends."""
        self._streams.discard(stream)

    def begin(self) -> None:
        """One stream more has something to write."""
        self.backlogs += 1
        if self.backlogs > self._most:
            self._most = self.backlogs
        if self.backlogs > MOST_BACKLOGS and self._streams:
            for stream in self._streams:
                stream.read_bytes = READ_BYTES
            self._streams.clear()

    def end(self) -> None:
        """One of them has not any more."""
        self.backlogs -= 1

    def tick(self, now: float) -> bool:
        """Give memory back when most of many backlogs are gone. Whether this is to be called again soon, because that
        is to come; else it is enough when something happens."""
        if self._most < MANY_BACKLOGS or self.backlogs * 4 > self._most:
            self._calm_at = math.inf
            return False
        self._calm_at = min(self._calm_at, now)
        if now >= max(self._calm_at + CALM_S, self._given_back_at + GIVE_BACK_EVERY_S):
            self._most = self.backlogs
            self._given_back_at = now
            self._give_back()
        return self._most >= MANY_BACKLOGS


def give_back() -> None:
    """Return to the system what nothing uses: cycles of objects, and by malloc_trim(3) of glibc what is between others.
    Other C libraries do that by themselves, or not at all."""
    gc.collect()
    if malloc_trim is not None:
        malloc_trim(0)


malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
