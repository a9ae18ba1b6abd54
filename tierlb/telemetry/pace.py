"""When the next report is due: regularly, and at once after a change on which a parent acts.

Regular reports are 250 ms ± 10 % apart, so that the children of one parent do not report in step. A change of capacity
by more than 10 %, the start of a drain, and leaves that come or go are reported at once, but no sooner than 50 ms after
the last report: a child whose state flaps cannot flood its parents.
"""

import random

from tierlb.model.load import REPORT_INTERVAL_S, SubtreeLoad

REPORT_JITTER = 0.1
LEAST_GAP_S = 0.05
CAPACITY_CHANGE = 0.1


class Pace:
    """One per parent, or one for all parents that get the same report at the same time."""

    __slots__ = ("_interval_s", "_last", "_rng", "_sent_at", "_this_s")

    def __init__(self, rng: random.Random, interval_s: float = REPORT_INTERVAL_S) -> None:
        self._rng = rng
        self._interval_s = interval_s
        self._sent_at: float | None = None
        self._this_s = 0.0
        self._last = SubtreeLoad()

    def wait_s(self, now: float, load: SubtreeLoad) -> float:
        """How long a report of `load` has to wait; 0 when it is due. The first is due at once.

        The load may change during the wait: call it again every `LEAST_GAP_S`.
        """
        if self._sent_at is None:
            return 0.0
        pause_s = LEAST_GAP_S if is_news(self._last, load) else self._this_s
        return max(0.0, self._sent_at + pause_s - now)

    def sent(self, now: float, load: SubtreeLoad) -> None:
        """A report of `load` went out."""
        self._sent_at = now
        self._last = load
        self._this_s = max(LEAST_GAP_S, self._interval_s * self._rng.uniform(1 - REPORT_JITTER, 1 + REPORT_JITTER))


def is_news(before: SubtreeLoad, after: SubtreeLoad) -> bool:
    """Whether the change is to be reported at once."""
    if before.draining != after.draining or before.ready_leaves != after.ready_leaves or before.down != after.down:
        return True
    return abs(after.capacity - before.capacity) > CAPACITY_CHANGE * before.capacity
