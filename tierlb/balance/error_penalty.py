"""Errors counted as queue: an endpoint that fails fast looks idle to every rule that compares items in flight.

Each error adds a penalty of as many items as the endpoint can work on at once, which fades with a time constant of 2 s.
The cost counts these items as queue. Without them 23.7 % of requests went to a failing endpoint, with them 0.05–0.19 %
(BALANCING.md §3).
"""

import math

import attrs

PENALTY_DECAY_S = 2.0
MOST_ERRORS = 100.0
"""Errors that add up at most, so that a burst of thousands is forgotten within half a minute."""
FORGOTTEN = 0.01
"""A smaller penalty counts as none."""


@attrs.define
class ErrorPenalty:
    """The penalty of one host, in items."""

    _items: float = 0.0
    _at: float = 0.0

    def add(self, now: float, concurrency: float) -> None:
        """An error (5xx, refused, 429, 503) at `now`; `concurrency`: how many items the host works on at once."""
        self._items = min(MOST_ERRORS * concurrency, self.value(now) + concurrency)
        self._at = now

    def limit(self, now: float, most: float) -> None:
        """Reduce the penalty to `most` where it is higher."""
        self._items, self._at = min(most, self.value(now)), now

    def value(self, now: float) -> float:
        """What is left of the penalty."""
        if not self._items:
            return 0.0
        left = self._items * math.exp(min(0.0, self._at - now) / PENALTY_DECAY_S)
        return left if left > FORGOTTEN else 0.0


@attrs.define(slots=True)
class HostPenalties:
    """`errors`: those that the siblings of the host do not have as well. `overload`: answers of 429."""

    errors: ErrorPenalty = attrs.field(factory=ErrorPenalty)
    overload: ErrorPenalty = attrs.field(factory=ErrorPenalty)

    def value(self, now: float) -> float:
        """The items that both add to the queue."""
        return self.errors.value(now) + self.overload.value(now)
