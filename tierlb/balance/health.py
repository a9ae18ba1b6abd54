"""How health check results change the state of an endpoint, and when the next check is due.

Thresholds as HAProxy's `rise` and `fall`: only so many equal results in a row change the state, so that neither one
lost packet nor one lucky answer does. At first the state is unknown, which counts as healthy, and the first result
decides alone: one check is enough to find an endpoint that is down when a node starts.

Left out: the consequences of health (availability), and the results of real traffic (ejection, error_penalty).
"""

import random
from collections.abc import Iterator

import attrs

FIRST_WITHIN_S = 1.0
"""A new endpoint counts as healthy until its first check, which must therefore not wait for a long interval."""
CHECK_JITTER = 0.1


@attrs.define
class Health:
    """The health of one endpoint. `known` is false until the first result. `streak` counts the results in a row that
    contradict the state."""

    healthy_after: int
    unhealthy_after: int
    healthy: bool = True
    known: bool = False
    streak: int = 0

    def result(self, good: bool) -> bool:
        """Note a result; true if `healthy` changed."""
        needed = (self.healthy_after if good else self.unhealthy_after) if self.known else 1
        self.known = True
        self.streak = 0 if good == self.healthy else self.streak + 1
        if self.streak < needed:
            return False
        self.healthy, self.streak = good, 0
        return True


def pauses_s(interval_s: float, rng: random.Random) -> Iterator[float]:
    """The times between the starts of two checks, without end; the first is that to the first check.

    Nodes that start together, and the many endpoints of one node, must not be checked in step. The first checks are
    spread over a second, the second ones over half an interval, and after that no two nodes keep the same pace.
    """
    yield rng.uniform(0.0, min(FIRST_WITHIN_S, interval_s))
    yield rng.uniform(0.5, 1.0) * interval_s
    while True:
        yield rng.uniform(1 - CHECK_JITTER, 1 + CHECK_JITTER) * interval_s
