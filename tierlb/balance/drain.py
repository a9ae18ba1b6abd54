"""How the drain time of a node is used: idle connections end early, work in progress may last until the deadline.

The time starts with the first signal to drain, be it a snapshot (the verb, or a change that stops the node) or SIGTERM;
a second one does not extend it. Where clients can only be asked to leave, their connections end spread over a part of
the time, so that they do not all reconnect at once.
"""

import math

import attrs

SPREAD_S = 3.0
"""Kept connections of a drained node end within this time: a tenth of the default drain time."""
GRACE_S = 1.0
"""How long a connection without a request stays open: closing it while a request arrives would fail that request."""
PART = 0.25
"""The largest part of a short drain time for each of the two, so that they are over well before the deadline."""
BELOW_S = 1.0
"""Relayed connections last so much longer, because nodes below that end with this one answer at their own deadline."""
LAST_ANSWERS_S = 1.0
"""Time for clients to receive the answers that they were sent at the deadline."""
STOP_MARGIN_S = 8.0
"""From the end of the drain time to SIGKILL. Before it a node gives its parents up to 2.3 s to send elsewhere
(`wire.agent_check.AGENT_NOTICE_S`), after it come `BELOW_S` and `LAST_ANSWERS_S`; the rest is for a busy machine."""


def spread_s(drain_s: float) -> float:
    """The time within which kept connections end."""
    return min(SPREAD_S, PART * drain_s)


def grace_s(drain_s: float) -> float:
    """How long a connection without a request stays open."""
    return min(GRACE_S, PART * drain_s)


@attrs.frozen
class Remainder:
    """Work in progress at a node: requests without a complete answer, tunnels (upgraded connections such as
    WebSockets), and other connections."""

    requests: int = 0
    tunnels: int = 0
    connections: int = 0

    def __bool__(self) -> bool:
        return bool(self.requests or self.tunnels or self.connections)


@attrs.define
class DrainState:
    """The drain of one node. `began`: when it began, infinite while the node does not drain."""

    seconds: float = 0.0
    began: float = math.inf

    def begin(self, now: float, seconds: float) -> None:
        """The node drains. It has this time from the first call on."""
        self.began = min(self.began, now)
        self.seconds = seconds

    def stop(self) -> None:
        """The node serves again."""
        self.began = math.inf

    @property
    def deadline(self) -> float:
        """When what is left is cut; infinite while the node does not drain."""
        return self.began + self.seconds

    def is_over(self, now: float) -> bool:
        """Whether the time is over, so that what is left is cut."""
        return now >= self.deadline

    def repeat(self, now: float) -> None:
        """What was left was cut; a new drain time begins for later items."""
        self.began = now
