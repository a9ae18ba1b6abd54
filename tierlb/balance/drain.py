"""How the drain time of a node is used: what is idle ends early, what is under way may last until the deadline.

The time runs from the first word that the node is to drain, be it a snapshot (the verb, a change that stops it) or
SIGTERM; a second word does not prolong it. Where clients are only asked to leave, their connections end spread over a
part of it, so that they do not all come back at once.
"""

import math

import attrs

SPREAD_S = 3.0
"""Kept connections of a drained node end within it; a tenth of the usual drain time."""
GRACE_S = 1.0
"""For a connection on which nothing is asked: closing it while a request arrives would fail that request."""
PART = 0.25
"""Of a short drain time for each of the two, so that they are over well before the deadline."""
BELOW_S = 1.0
"""What a node relays lasts so much longer, for nodes below that end with it answer at their own deadline."""
LAST_ANSWERS_S = 1.0
"""For clients to take the answers that they were sent at the deadline."""
STOP_MARGIN_S = 8.0
"""From the end of the drain time to SIGKILL. Before it a node gives its parents up to 2.3 s to send elsewhere
(`wire.agent_check.NOTICE_S`), after it come `BELOW_S` and `LAST_ANSWERS_S`; the rest is for a busy machine."""


def spread_s(drain_s: float) -> float:
    """Within how many seconds kept connections end."""
    return min(SPREAD_S, PART * drain_s)


def grace_s(drain_s: float) -> float:
    """How long a connection stays on which nothing is asked."""
    return min(GRACE_S, PART * drain_s)


@attrs.frozen
class Remainder:
    """What is under way at a node: requests without a whole answer, tunnels (upgraded connections such as WebSockets),
    and other connections."""

    requests: int = 0
    tunnels: int = 0
    connections: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests or self.tunnels or self.connections)


@attrs.define
class Drain:
    """One node's drain. `began`: when it began, infinite while the node does not drain."""

    seconds: float = 0.0
    began: float = math.inf

    def begin(self, now: float, seconds: float) -> None:
        """The node drains. It has so long from the first time that this is called."""
        self.began = min(self.began, now)
        self.seconds = seconds

    def stop(self) -> None:
        """The node is to serve again."""
        self.began = math.inf

    def is_over(self, now: float) -> bool:
        """Whether what is left is to be cut."""
        return now >= self.began + self.seconds

    def repeat(self, now: float) -> None:
        """What was left is cut; what arrives all the same has as long again."""
        self.began = now
