"""How much a kept connection counts whose items cannot be seen: by how often something moves on it.

A balancer of plain TCP sees bytes come and go. Whether a connection is in use shows when it is looked at: did a byte
move within `RECENT_S` (1), or does its host owe an answer, for the client spoke last (1 + `WAITS`)? The mean of that
over `MEMORY_S` is what the connection counts, but `LEAST` at least. By Little's law the sum over a host's connections
grows with the requests in flight there, so that a host that answers ten times more slowly is given fewer connections.
How many bytes move counts nothing: a stream of 100 MB/s can cost its host less than ten queries.

One that is quiet is *parked*. One that waits for an answer is quiet too, and may wait for something else than its host
(a long poll, an hour-long query). After `LATER_S` it counts only while siblings answer later asks and its own host does
not. If old waits were parked always, a host that has stopped would look idle and get all new connections; if never, no
connection of a protocol in one direction would be.

Which host is lowest is decided in whole connections (`in_whole`). Else a hundredth of a connection more that moves
would give everything that comes one at a time to another host, which says nothing about either.
"""

import math
from collections.abc import Sequence

RECENT_S = 1.0
"""A connection on which a byte moved this lately is in use. Those with a message a second or more differ by how much
they wait."""
WAITS = 3.0
"""Added for one whose host owes an answer."""
LEAST = 5 / 64
"""Above zero, so that no host is given all connections that are never used: thirteen of them count as one in use."""
MEMORY_S = 5.0
QUIET_S = 2.0
"""After so long without a byte a connection is parked."""
LATER_S = 1.0
"""An ask is overtaken when one is answered that came so much later (balance/parking.py)."""
NEVER_MOVED = 0.0
GRAIN = 1024
"""A weight is a multiple of 1/GRAIN, so that sums of weights are exact and return to 0."""


class Activity:
    """Of one connection: what it counts (`weight`), and whether it is parked. A new one counts 1: a
    client that connects is about to ask."""

    __slots__ = ("_use", "looked_at", "parked", "weight")

    def __init__(self, now: float) -> None:
        self.looked_at = now
        self.parked = False
        self.weight = self._use = 1.0

    def look(self, now: float, moved: float, *, waits: bool) -> None:
        """Something moved last at `moved`; `waits`: its host owes it an answer (`owes`)."""
        used = 1.0 + WAITS if waits else float(now - moved < RECENT_S)
        self._use += (used - self._use) * -math.expm1((self.looked_at - now) / MEMORY_S)
        self.looked_at = now
        self.parked = not waits and now - moved >= QUIET_S
        self.weight = max(LEAST, round(self._use * GRAIN) / GRAIN)


def owes(now: float, asked: float, answered: float, host_served: float, pool_served: float) -> bool:
    """Whether a host is to blame that an answer has not come. `asked`, `answered`: when a byte last came from the
    client and from the host. `host_served`, `pool_served`: when the latest ask was made that is known to be answered,
    at this host and in the whole pool."""
    if asked <= answered:
        return False
    if now - asked < LATER_S:
        return True
    return host_served < asked + LATER_S <= pool_served


def in_whole(loads: Sequence[float], parts: Sequence[float], usable: Sequence[bool]) -> list[float]:
    """Loads of siblings as the choice takes them: above the lowest in whole connections. `parts`: their weights (0..1).
    Hosts that are not `usable` do not count as the lowest."""
    lowest = min(
        (load / part for load, part, counts in zip(loads, parts, usable, strict=True) if counts and part), default=0.0
    )
    return [lowest * part + math.floor(load - lowest * part) for load, part in zip(loads, parts, strict=True)]
