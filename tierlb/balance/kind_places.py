"""Numbers for kinds of requests: a bounded table, so that figures by kind can be kept in lists.

At most `MOST_KINDS` kinds have a place at a time; all others share the number `OTHER_KINDS`. A kind with hardly any
traffic loses its place while others wait for one.
"""

from collections.abc import Callable, Hashable
from typing import Final

from tierlb.balance.hashing import stable_hash
from tierlb.balance.kind_counts import REST

MOST_KINDS: Final = 64
ANSWER_FORMS: Final = 2
"""Numbers per kind: one for answers of known length, the next for streams."""
KIND_NUMBERS: Final = MOST_KINDS * ANSWER_FORMS
OTHER_KINDS: Final = 0
"""The number of all requests that have no kind of their own."""


class KindPlace:
    """What an item keeps of its kind. `number` becomes OTHER when the kind loses its place to another."""

    __slots__ = ("number",)

    def __init__(self, number: int = OTHER_KINDS) -> None:
        self.number = number


class KindPlaces:
    """`keys`: for each number what all nodes of the cluster call the kind (balance/kind_counts.py). `on_freed` is
    called when kinds have lost their places: those that still come, and those that had none, may ask for one again.
    """

    __slots__ = ("_free", "_no_place", "_places", "_wanted", "keys", "on_freed")

    def __init__(self) -> None:
        self.keys = [REST] * KIND_NUMBERS
        self.on_freed: Callable[[], object] = lambda: None
        self._places: dict[Hashable, KindPlace] = {}
        self._no_place = KindPlace()
        self._free = list(range(KIND_NUMBERS - ANSWER_FORMS, OTHER_KINDS, -ANSWER_FORMS))
        self._wanted = False

    def find(self, key: Hashable) -> KindPlace | None:
        """The place of a kind that has one."""
        return self._places.get(key)

    def take(self, key: Hashable) -> KindPlace:
        """A place for a kind that has none; that of OTHER while none is free."""
        if not self._free:
            self._wanted = True
            return self._no_place
        place = self._places[key] = KindPlace(self._free.pop())
        for form in range(ANSWER_FORMS):
            self.keys[place.number + form] = stable_key(key, form)
        return place

    def free_rare(self, is_rare: Callable[[int], bool]) -> None:
        """If a kind waits for a place, free those of rare kinds. Their items in progress then count as of OTHER."""
        rare = [(key, place) for key, place in self._places.items() if is_rare(place.number)] if self._wanted else []
        self._wanted = False
        for key, place in rare:
            del self._places[key]
            self._free.append(place.number)
            place.number = OTHER_KINDS
        if rare:
            self.on_freed()


def stable_key(key: Hashable, form: int) -> int:
    """32 bits that identify a kind on all nodes: even ones for answers of known length, never that of the rest."""
    return max(ANSWER_FORMS, stable_hash(repr(key).encode()) % 2**32 // ANSWER_FORMS * ANSWER_FORMS) + form
