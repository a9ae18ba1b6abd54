"""The one bounded memory for what depends on nothing but the bytes of a peer that it was worked out from.

A key is only kept when it comes a second time: traffic that never repeats itself leaves 16 bits behind, not its
bytes, and cannot push out what does repeat (the doorkeeper of Einziger, Friedman and Manes, "TinyLFU", 2017).
The memory has a budget in bytes, because a peer chooses how large its keys are and what is worked out from them. When
the budget is used up it starts afresh; whatever is in use is back after two more uses. No order of use is kept,
so a hit is one dictionary look-up, and callers may do it themselves on `kept`.

Nothing else in the data plane may be keyed by what a peer sends: no `lru_cache`, no dict that only grows.
"""

from array import array
from typing import Generic, TypeVar

V = TypeVar("V")

SEEN_ONCE = 4096
"""Keys seen once that are remembered, by two bytes each: 8 KiB a memo."""
LONGEST_KEY_BYTES = 2048
ENTRY_BYTES = 200
"""What an entry takes beside its key's bytes and its value: its part of the dictionary and the key object."""


class Memo(Generic[V]):
    """Values by the bytes that they were worked out from; longer keys than LONGEST_KEY_BYTES are never kept.

    `kept` may be a dict of the caller's own class, to which nothing was added.
    """

    __slots__ = ("_budget_bytes", "_left_bytes", "_once", "kept")

    def __init__(self, budget_bytes: int, kept: dict[bytes, V] | None = None) -> None:
        self.kept: dict[bytes, V] = {} if kept is None else kept
        self._budget_bytes = budget_bytes
        self._left_bytes = budget_bytes
        self._once = array("H", bytes(2 * SEEN_ONCE))

    def offer(self, key: bytes, value: V, value_bytes: int) -> None:
        """Say that `value`, which takes about so much memory, was worked out from `key`, which is not kept."""
        if self.comes_again(key):
            self.keep(key, value, value_bytes)

    def comes_again(self, key: bytes) -> bool:
        """Whether this key, which is not kept, is worth keeping: it was seen lately. It has been seen from now on."""
        if len(key) > LONGEST_KEY_BYTES:
            return False
        mark = hash(key)
        slot = mark % SEEN_ONCE
        tag = (mark >> 16) & 0xFFFF | 1  # never 0, which is an empty slot
        if self._once[slot] == tag:
            return True
        self._once[slot] = tag
        return False

    def forget(self) -> None:
        """Nothing that is kept holds any more."""
        self.kept.clear()
        self._left_bytes = self._budget_bytes

    def keep(self, key: bytes, value: V, value_bytes: int) -> None:
        """For a key that comes again. What does not fit into the budget is not kept."""
        cost = ENTRY_BYTES + len(key) + value_bytes
        if cost > self._left_bytes:
            self.forget()
            if cost > self._left_bytes:
                return
        self._left_bytes -= cost
        self.kept[key] = value
