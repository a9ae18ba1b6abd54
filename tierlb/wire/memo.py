"""A bounded memory for what depends on nothing but the bytes it was worked out from.

A key is only kept when it comes a second time: traffic that never repeats itself leaves a number behind, not its
bytes, and cannot push out what does repeat (the doorkeeper of Einziger, Friedman and Manes, "TinyLFU", 2017).
When the memory is full it starts afresh; whatever is in use is back after two more uses. No order of use is kept,
so a hit is one dictionary look-up, and callers may do it themselves on `kept`.
"""

from typing import Generic, TypeVar

V = TypeVar("V")

SEEN_ONCE = 4096
LONGEST_KEY_BYTES = 2048


class Memo(Generic[V]):
    """At most `size` values by their bytes; longer keys are never kept."""

    __slots__ = ("_once", "_size", "kept")

    def __init__(self, size: int) -> None:
        self.kept: dict[bytes, V] = {}
        self._size = size
        self._once: set[int] = set()

    def offer(self, key: bytes, value: V) -> None:
        """Say that `value` was worked out from `key`, which is not kept."""
        if len(key) > LONGEST_KEY_BYTES:
            return
        mark = hash(key)
        if mark not in self._once:
            if len(self._once) >= SEEN_ONCE:
                self._once.clear()
            self._once.add(mark)
            return
        if len(self.kept) >= self._size:
            self.kept.clear()
        self.kept[key] = value
