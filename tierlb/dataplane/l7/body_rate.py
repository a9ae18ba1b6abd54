"""The least rate of a request body: one that trickles would hold a connection here and one to an endpoint for hours.

Bytes are counted in windows of WINDOW_S in which the node reads. Time in which it does not, because the endpoint does
not, is left out. A body may pause within a window, and its last, unfinished window is not judged: short bodies are
never judged.

Left out: bodies whose answer has begun (both sides then talk at their own pace), and tunnels.
"""

from typing import Final

WINDOW_S: Final = 10.0


class BodyRate:
    """One body's windows, at `least` bytes a second. Times are by any one clock."""

    __slots__ = ("_bytes", "_read_s", "_since", "least")

    def __init__(self, least: int) -> None:
        self.least = least
        self._bytes = 0
        self._read_s = 0.0
        self._since = -1.0

    def add(self, count: int) -> None:
        """So many bytes came."""
        self._bytes += count

    def go_on(self, now: float) -> None:
        """The node reads from now on."""
        if self._since < 0.0:
            self._since = now

    def stop(self, now: float) -> None:
        """The node does not read, which is not the client's fault."""
        if self._since >= 0.0:
            self._read_s += now - self._since
            self._since = -1.0

    def left_s(self, now: float) -> float:
        """When this window is over if the node goes on reading; not positive: it is over."""
        return WINDOW_S - self._read_s - (now - self._since if self._since >= 0.0 else 0.0)

    def is_too_slow(self, now: float) -> bool:
        """The verdict on the window that is over; the next one begins."""
        self.stop(now)
        slow = self._bytes < self.least * self._read_s
        self._bytes, self._read_s, self._since = 0, 0.0, now
        return slow
