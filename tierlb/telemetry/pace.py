"""When the next report is due: regularly, and at once when something changed that a parent would act on.

Regular reports are 250 ms ± 10 % apart, so that the children of one parent do not fall into step. A change of
capacity by more than 10 %, a node that begins to drain, leaves that come or go are told at once, but never sooner than
50 ms after the last report: a child cannot flood its parents by wavering.
"""

import random

from tierlb.model.load import REPORT_INTERVAL_S, SubtreeLoad

JITTER = 0.1
LEAST_GAP_S = 0.05
CAPACITY_CHANGE = 0.1


class Pace:
    """One per parent, or one for all that get the same report at the same time."""

    __slots__ = ("_interval_s", "_last", "_rng", "_sent_at", "_this_s")

    def __init__(self, rng: random.Random, interval_s: float = REPORT_INTERVAL_S) -> None:
        self._rng = rng
        self._interval_s = interval_s
        self._sent_at: float | None = None
        self._this_s = 0.0
        self._last = SubtreeLoad()

    def wait_s(self, now: float, load: SubtreeLoad) -> float:
        """How long a report of `load` has to wait; 0 when it is due. The first is due at once.

        The load may change while one waits: look again every `LEAST_GAP_S`.
        """
        if self._sent_at is None:
            return 0.0
        pause_s = LEAST_GAP_S if is_news(self._last, load) else self._this_s
        return max(0.0, self._sent_at + pause_s - now)

    def sent(self, now: float, load: SubtreeLoad) -> None:
        """A report of `load` went out."""
        self._sent_at = now
        self._last = load
        self._this_s = max(LEAST_GAP_S, self._interval_s * self._rng.uniform(1 - JITTER, 1 + JITTER))


def is_news(before: SubtreeLoad, after: SubtreeLoad) -> bool:
    """Whether a parent should know at once."""
    if before.draining != after.draining or before.ready_leaves != after.ready_leaves or before.down != after.down:
        return True
    return abs(after.capacity - before.capacity) > CAPACITY_CHANGE * before.capacity
