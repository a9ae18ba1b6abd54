"""What the results of checks say of an endpoint, and when to check next.

Thresholds as HAProxy's `rise` and `fall`: only so many equal results in a row change what is known, so that one lost
packet takes nobody out and one lucky answer brings nobody back. Nothing is known at first, which counts as healthy,
and the very first result decides alone: an endpoint that is down when a node starts is found out by one check.

Left out: what health leads to (availability), and results of real traffic (ejection, error_penalty).
"""

import random
from collections.abc import Iterator

import attrs

FIRST_WITHIN_S = 1.0
"""A new endpoint is taken for healthy until its first check, so that must not wait a long interval."""
JITTER = 0.1


@attrs.define
class Health:
    """One endpoint's health. `known` is false until the first result; `streak` counts the results in a row that speak
    against what is known."""

    healthy_after: int
    unhealthy_after: int
    healthy: bool = True
    known: bool = False
    streak: int = 0

    def result(self, good: bool) -> bool:
        """Note a result; true if `healthy` is another now."""
        needed = (self.healthy_after if good else self.unhealthy_after) if self.known else 1
        self.known = True
        self.streak = 0 if good == self.healthy else self.streak + 1
        if self.streak < needed:
            return False
        self.healthy, self.streak = good, 0
        return True


def pauses_s(interval_s: float, rng: random.Random) -> Iterator[float]:
    """The times from the start of one check to that of the next, without end; the first is that to the first check.

    Nodes that start together, and one node's many endpoints, must not check in step. The first checks are spread over a
    second, the second ones over half an interval, and no two nodes keep the same pace after that.
    """
    yield rng.uniform(0.0, min(FIRST_WITHIN_S, interval_s))
    yield rng.uniform(0.5, 1.0) * interval_s
    while True:
        yield rng.uniform(1 - JITTER, 1 + JITTER) * interval_s
