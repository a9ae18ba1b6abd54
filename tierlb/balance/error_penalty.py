"""Errors counted as queue: an endpoint that fails fast looks idle to every rule that goes by what is in flight.

Each error leaves phantom items in flight, as many as the endpoint can work on at once, that fade with time constant
2 s; the pick adds them to the queue. Without them 23.7 % of requests went to a failing endpoint, with them 0.05–0.19 %
(BALANCING.md §3).
"""

import math

import attrs

DECAY_S = 2.0
MOST_ERRORS = 100.0
FORGOTTEN = 0.01


@attrs.define
class ErrorPenalty:
    """One host's phantom items."""

    _items: float = 0.0
    _at: float = 0.0

    def add(self, now: float, concurrency: float) -> None:
        """An error (5xx, refused, 429, 503) at `now`; `concurrency`: how many items the host works on at once."""
        self._items = min(MOST_ERRORS * concurrency, self.value(now) + concurrency)
        self._at = now

    def limit(self, now: float, most: float) -> None:
        """No more than so many are left."""
        self._items, self._at = min(most, self.value(now)), now

    def value(self, now: float) -> float:
        """What is left of them."""
        if not self._items:
            return 0.0
        left = self._items * math.exp(min(0.0, self._at - now) / DECAY_S)
        return left if left > FORGOTTEN else 0.0
