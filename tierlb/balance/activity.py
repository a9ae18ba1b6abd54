"""How much a kept connection counts as load where its requests cannot be seen: by how often data moves on it.

A balancer of plain TCP sees only bytes. At each look a connection counts 1 if a byte moved within `RECENT_S`, and 1 +
`ACTIVITY_WAITS` if its host owes an answer, because the client spoke last. The connection's weight is the mean of that
over `ACTIVITY_MEMORY_S`, and at least `LEAST_ACTIVITY`. By Little's law the sum over a host's connections grows with
the requests in flight there, so that a host that answers ten times more slowly gets fewer connections. The number of
bytes is ignored: a stream of 100 MB/s can cost its host less than ten queries.

A quiet connection is *parked*. One that waits for an answer is quiet too, and may wait for something other than its
host (a long poll, an hour-long query). After `LATER_S` it counts only while siblings answer later requests and its own
host does not. If old waits were always parked, a host that has stopped would look idle and get all new connections; if
never, no connection of a one-way protocol would be.

Loads are compared in whole connections (`in_whole`). Otherwise a hundredth of a connection would decide where every new
connection goes, although it is no evidence about either host.
"""

import math
from collections.abc import Sequence
from typing import Final

RECENT_S: Final = 1.0
"""A connection is in use if a byte moved within this time. Connections with a message a second or more then differ only
by how much they wait."""
ACTIVITY_WAITS: Final = 3.0
"""Added for a connection whose host owes an answer."""
LEAST_ACTIVITY: Final = 5 / 64
"""Above zero, so that one host does not get all connections that are never used. Thirteen of them count as one in use.
"""
ACTIVITY_MEMORY_S: Final = 5.0
QUIET_CONNECTION_S: Final = 2.0
"""A connection is parked after so long without a byte."""
LATER_S: Final = 1.0
"""A request is overtaken when one that came so much later is answered (balance/parking.py)."""
NEVER_MOVED: Final = 0.0
GRAIN: Final = 1024
"""A weight is a multiple of 1/GRAIN, so that sums of weights are exact and return to 0."""


class Activity:
    """One connection: its `weight`, and whether it is parked. A new one counts 1, because a client that connects is
    about to send a request."""

    __slots__ = ("_use", "looked_at", "parked", "weight")

    def __init__(self, now: float) -> None:
        self.looked_at = now
        self.parked = False
        self.weight = self._use = 1.0

    def look(self, now: float, moved: float, *, waits: bool) -> None:
        """The last byte moved at `moved`. `waits`: its host owes it an answer (`owes`)."""
        used = 1.0 + ACTIVITY_WAITS if waits else float(now - moved < RECENT_S)
        self._use += (used - self._use) * -math.expm1((self.looked_at - now) / ACTIVITY_MEMORY_S)
        self.looked_at = now
        self.parked = not waits and now - moved >= QUIET_CONNECTION_S
        self.weight = max(LEAST_ACTIVITY, round(self._use * GRAIN) / GRAIN)


def owes(now: float, asked: float, answered: float, host_served: float, pool_served: float) -> bool:
    """Whether an answer is missing because of the host. `asked`, `answered`: when the last byte came from the client
    and from the host. `host_served`, `pool_served`: when the latest answered request was sent, at this host and in the
    whole pool."""
    if asked <= answered:
        return False
    if now - asked < LATER_S:
        return True
    return host_served < asked + LATER_S <= pool_served


def in_whole(loads: Sequence[float], parts: Sequence[float], usable: Sequence[bool]) -> list[float]:
    """The loads of siblings for the choice: above the lowest in whole connections. `parts`: their weights (0..1). Hosts
    that are not `usable` do not count as the lowest."""
    lowest = min(
        (load / part for load, part, counts in zip(loads, parts, usable, strict=True) if counts and part), default=0.0
    )
    return [lowest * part + math.floor(load - lowest * part) for load, part in zip(loads, parts, strict=True)]
