"""The windows of flow control (RFC 9113 §5.2) for what this end receives. Pure.

What came is credited to the peer when it has been passed on, so that no more is kept than the window holds. Credit is
announced in portions of half a window: that needs few frames, and never lets the peer wait for long.
"""


class ReceiveWindow:
    """`left`: how much the peer may send still. What it will be allowed to send and was not told yet is kept back."""

    __slots__ = ("_credit", "_portion", "left")

    def __init__(self, size: int) -> None:
        self.left = size
        self._credit = 0
        self._portion = size // 2

    def take(self, count: int) -> bool:
        """So much came; false if it was not allowed."""
        self.left -= count
        return self.left >= 0

    def give(self, count: int) -> int:
        """So much was passed on. By how much to increment the window at the peer now, 0 for not yet."""
        self._credit = credit = self._credit + count
        if credit < self._portion:
            return 0
        self._credit = 0
        self.left += credit
        return credit
