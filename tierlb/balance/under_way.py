"""A look at the items in progress at one host, the oldest first: which of them are parked, and how late the others are.

A look at every tick is enough, because parking happens after half a second or more. It is bounded: of more than
`MOST_LOOKED_AT` items the oldest are looked at, and parked ones are not looked at again.
"""

from bisect import bisect_left
from collections.abc import Iterable
from itertools import islice
from typing import Final

import attrs

from tierlb.balance.kinds import Kinds
from tierlb.balance.parking import OVERTAKEN_BY, is_overtaken, parks_after_s
from tierlb.balance.ticket import ItemCounts, Ticket

MOST_LOOKED_AT: Final = 64
LATE_FROM: Final = 2.0
"""An item that waits is late after so many times of what its kind usually takes."""


@attrs.frozen
class Look:
    """`parked`: the items to park. `overdue`: the sum of the ratios by which the others are late. `stuck`: how many
    others there are, if all of them are old and none began since."""

    parked: tuple[Ticket[ItemCounts], ...] = ()
    overdue: float = 0.0
    stuck: int = 0


NOTHING: Final = Look()


def look(
    under_way: dict[Ticket[ItemCounts], None],
    now: float,
    kinds: Kinds,
    *,
    over: int,
    parked: Iterable[Ticket[ItemCounts]],
    item_s: float,
) -> Look:
    """`under_way` is in the order in which items began. `over`: how many items are over now. `parked` are not
    in it any more. `item_s`: the mean time of items here; 0 while that is unknown, and then nothing is parked."""
    if not under_way:
        return NOTHING
    after_s = parks_after_s(item_s)
    oldest = now - after_s if item_s else 0.0
    found: list[Ticket[ItemCounts]] = []
    overdue = 0.0
    held_up = False
    began: list[float] | None = None
    for item in reversed(list(islice(under_way, MOST_LOOKED_AT))):
        expected_s = kinds.expected_s(item.kind.number)
        if item.began < oldest:
            needed = _needed(item, kinds, after_s, held_up=held_up)
            if needed and began is None:
                began = sorted(each.began for each in parked)
            if not needed or is_overtaken(over, item.turn, bisect_left(began or (), item.began), needed):
                found.append(item)
                continue
        if item.sent > 0 and expected_s:
            late = max(0.0, (now - item.sent) / expected_s - LATE_FROM)
            overdue += late
            held_up = held_up or late > 0
    found.reverse()
    left = len(under_way) - len(found)
    stuck = left if left and next(reversed(under_way)).began < oldest else 0
    return Look(tuple(found), overdue, stuck)


def _needed(item: Ticket[ItemCounts], kinds: Kinds, after_s: float, *, held_up: bool) -> int:
    """How many later items have to be over before an old item is parked, if any. `held_up`: one of them is late."""
    if item.sent > 0 and not kinds.long[item.kind.number] and 0 < kinds.expected_s(item.kind.number) < after_s:
        return OVERTAKEN_BY
    return 1 if held_up else 0
