"""The bounded memory for everything that is computed from nothing but the bytes of a peer.

A key is only kept when it is seen a second time: traffic without repetition leaves 16 bits behind, not its bytes, and
cannot displace what does repeat (the doorkeeper of Einziger, Friedman and Manes, "TinyLFU", 2017). The memory has a
budget in bytes, because a peer determines the size of its keys and of what is computed from them. When the budget is
used up the memory is cleared; what is in use is back after two more uses. No order of use is kept, so that a hit is one
dictionary look-up, and callers may do it themselves on `kept`.

Nothing else in the data plane may be keyed by what a peer sends: no `lru_cache`, no dict that only grows.
"""

from array import array
from typing import Final, Generic, TypeVar

V = TypeVar("V")

SEEN_ONCE: Final = 4096
"""The number of slots for keys that were seen once, of two bytes each: 8 KiB a memo."""
LONGEST_KEY_BYTES: Final = 2048
ENTRY_BYTES: Final = 200
"""The memory of an entry besides its key's bytes and its value: its part of the dictionary and the key object."""


class Memo(Generic[V]):
    """Values by the bytes from which they were computed; keys longer than LONGEST_KEY_BYTES are never kept.

    `kept` may be an empty dict of the caller's own class.
    """

    __slots__ = ("_budget_bytes", "_left_bytes", "_once", "kept")

    def __init__(self, budget_bytes: int, kept: dict[bytes, V] | None = None) -> None:
        self.kept: dict[bytes, V] = {} if kept is None else kept
        self._budget_bytes = budget_bytes
        self._left_bytes = budget_bytes
        self._once = array("H", bytes(2 * SEEN_ONCE))

    def offer(self, key: bytes, value: V, value_bytes: int) -> None:
        """`value`, which takes about so much memory, was computed from `key`, which is not kept."""
        if self.comes_again(key):
            self.keep(key, value, value_bytes)

    def comes_again(self, key: bytes) -> bool:
        """Whether this key, which is not kept, was seen lately and is worth keeping. It counts as seen from now on."""
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
        """Clear the memory."""
        self.kept.clear()
        self._left_bytes = self._budget_bytes

    def keep(self, key: bytes, value: V, value_bytes: int) -> None:
        """Keep the value of a key that came again, if it fits into the budget."""
        cost = ENTRY_BYTES + len(key) + value_bytes
        if cost > self._left_bytes:
            self.forget()
            if cost > self._left_bytes:
                return
        self._left_bytes -= cost
        self.kept[key] = value
