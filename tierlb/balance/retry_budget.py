"""How many retries are affordable, so that an outage below is not doubled by retries from above.

A retry is allowed while retries stay under 20 % of the items of the last ten seconds plus ten a second (finagle's retry
budget; constants from BALANCING.md §5). The budget reads a count of items that the caller keeps anyway, so that an
ordinary request costs nothing.
"""

from collections import deque

import attrs

RETRY_SHARE = 0.2
FREE_RETRIES_PER_S = 10.0
RETRY_WINDOW_S = 10.0


@attrs.define
class RetryBudget:
    """Used only after a failure. `items` is a cumulative count of everything started."""

    _spent: deque[float] = attrs.field(factory=deque)
    _marks: deque[tuple[float, int]] = attrs.field(factory=deque)

    def spend(self, now: float, items: int) -> bool:
        """True, and noted, if one more retry is affordable at `now`."""
        while self._spent and self._spent[0] <= now - RETRY_WINDOW_S:
            self._spent.popleft()
        if len(self._spent) >= self._allowed(now, items):
            return False
        self._spent.append(now)
        return True

    def _allowed(self, now: float, items: int) -> float:
        if not self._marks or now - self._marks[-1][0] >= 1.0:
            self._marks.append((now, items))
        while len(self._marks) > 1 and self._marks[1][0] <= now - RETRY_WINDOW_S:
            self._marks.popleft()
        recent = items - self._marks[0][1]
        return FREE_RETRIES_PER_S * RETRY_WINDOW_S + RETRY_SHARE * recent
