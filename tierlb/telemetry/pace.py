"""When the next report is due: regularly, at once after a change on which a parent acts, seldom while nothing changes.

Regular reports are 250 ms ± 10 % apart, so that the children of one parent do not report in step. A change of capacity
by more than 10 %, the start of a drain, and leaves that come or go are reported at once, but no sooner than 50 ms after
the last report: a child whose state flaps cannot flood its parents.

While a report holds what the one before it held, the interval doubles up to `LONGEST_INTERVAL_S`. Each report says when
the next one is due at the latest, so that its reader does not take silence for trouble. The first change ends the
stretch and is reported at once, whatever it is.
"""

import random

from tierlb.model.load import REPORT_INTERVAL_S, SubtreeLoad

REPORT_JITTER = 0.1
LEAST_GAP_S = 0.05
LONGEST_INTERVAL_S = 2.0
"""A child that stops at rest is found so much later (balance/staleness.py)."""
CAPACITY_CHANGE = 0.1
LITTLE_CHANGE = 0.02
"""Smaller differences of figures that are measured are noise: of a share (0..1), or relative to the figure."""


class Pace:
    """One per parent, or one for all parents that get the same report at the same time."""

    __slots__ = ("_interval_s", "_last", "_rng", "_sent_at", "_stretch", "next_s")

    def __init__(self, rng: random.Random, interval_s: float = REPORT_INTERVAL_S) -> None:
        self._rng = rng
        self._interval_s = interval_s
        self._sent_at: float | None = None
        self._stretch = 1.0
        self._last = SubtreeLoad()
        self.next_s = 0.0
        """From the last report to the next one, if nothing changes."""

    def wait_s(self, now: float, load: SubtreeLoad) -> float:
        """How long a report of `load` has to wait; 0 when it is due. The first is due at once.

        The load may change during the wait: call it again with every change.
        """
        if self._sent_at is None:
            return 0.0
        at_once = is_news(self._last, load) or (self._stretch > 1 and not is_alike(self._last, load))
        return max(0.0, self._sent_at + (LEAST_GAP_S if at_once else self.next_s) - now)

    def sent(self, now: float, load: SubtreeLoad, *, may_stretch: bool = True) -> None:
        """A report of `load` went out. `may_stretch`: the next one may be later if nothing has changed."""
        rests = may_stretch and self._sent_at is not None and is_alike(self._last, load)
        most = max(1.0, LONGEST_INTERVAL_S / self._interval_s)
        self._stretch = min(most, 2 * self._stretch) if rests else 1.0
        self._sent_at = now
        self._last = load
        interval_s = self._interval_s * self._stretch
        self.next_s = max(LEAST_GAP_S, interval_s * self._rng.uniform(1 - REPORT_JITTER, 1 + REPORT_JITTER))


def is_news(before: SubtreeLoad, after: SubtreeLoad) -> bool:
    """Whether the change is to be reported at once."""
    if before.draining != after.draining or before.ready_leaves != after.ready_leaves or before.down != after.down:
        return True
    return abs(after.capacity - before.capacity) > CAPACITY_CHANGE * before.capacity


def is_alike(before: SubtreeLoad, after: SubtreeLoad) -> bool:
    """Whether nothing has happened between the two, apart from the time that has passed."""
    return (
        _counts(before) == _counts(after)
        and all(_near(old, new, old) for old, new in zip(_figures(before), _figures(after), strict=True))
        and _near(before.utilisation, after.utilisation)
        and _near(before.hottest, after.hottest)
        and not is_news(before, after)
    )


def _counts(load: SubtreeLoad) -> tuple[object, ...]:
    return (
        load.in_flight,
        load.arrivals,
        load.done,
        load.errors,
        load.rejected,
        load.connections,
        load.parked,
        load.leaves,
        load.kinds,
    )


def _figures(load: SubtreeLoad) -> tuple[float, ...]:
    return load.capacity, load.own_capacity, load.response_s, load.connection_s, load.slots, load.overdue


def _near(before: float, after: float, whole: float = 1.0) -> bool:
    return abs(after - before) <= LITTLE_CHANGE * whole
