"""How long a client connection may last, and how much it is used meanwhile.

A connection that came through an l4 parent is *movable*: it ends now and then, so that the parent places its client's
next connection where it is best (`relocation`). Others last as long as their clients like, until the node drains.
"""

import math
from typing import Final

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l7.client_identity import ClientIdentity

SETTLING_S: Final = 0.2
"""Added to the age of a connection by which its requests are divided: the first ones come at once."""


class Lifetime:
    """`began` and `expires` are times of the reactor; a connection that expired ends with its next response. `moves`:
    it ends with the response that it waits for. `requests` counts those so far, and `waited_s` is how long their
    responses took in all."""

    __slots__ = ("began", "expires", "movable", "moves", "requests", "waited_s")

    def __init__(self, now: float, *, draining: bool) -> None:
        self.began = now
        self.expires = now if draining else math.inf
        self.movable = self.moves = False
        self.requests = 0
        self.waited_s = 0.0

    def activity(self, now: float, waits_s: float) -> float:
        """Requests per second of the time in which it did not wait for responses. `waits_s`: how long it has waited for
        the one under way."""
        return self.requests / (now - self.began - self.waited_s - waits_s + SETTLING_S)


def count_end(counters: Counters, identity: ClientIdentity, lasted_s: float) -> None:
    """A client connection ended, or the tunnel that came of it."""
    counters.connections -= 1
    counters.ended += 1
    counters.lived_s += lasted_s
    identity.tally.close()
    if identity.handed is not None:
        identity.handed.over()
