"""The capacity that an endpoint states in its responses (ORCA: requests per second and utilisation).

Rate by utilisation is the capacity, as in gRPC A58. The statement and what this node learns from outside are both
upper bounds, so the lower one is used: the load of other clients shows in the statement first, a change of the endpoint
in the answers, and an endpoint that overstates its capacity gains nothing.
"""

import attrs

LEAST_STATED_BUSY = 0.1
"""Below it what an endpoint does besides items is too large a part of its use to divide by."""
STATED_FOR_S = 3.0
"""A statement is used for so long."""


@attrs.define(slots=True)
class StatedCapacity:
    """The last statement of one endpoint, in standard items per second."""

    _capacity: float = 0.0
    _at: float = 0.0

    def note(self, now: float, capacity: float) -> None:
        """The endpoint stated this just now."""
        self._capacity, self._at = capacity, now

    def value(self, now: float) -> float | None:
        """None where nothing was stated lately."""
        return self._capacity if self._capacity and now - self._at <= STATED_FOR_S else None

    def at_most(self, now: float, learnt: float | None) -> float | None:
        """The lower of the statement and of what was learnt; None if neither is known."""
        stated = self.value(now)
        if stated is not None:
            learnt = stated if learnt is None else min(learnt, stated)
        return learnt

    def age_s(self, now: float) -> float | None:
        """None where nothing was stated lately."""
        return None if self.value(now) is None else now - self._at


def stated_items_per_s(rate: float, busy: float) -> float | None:
    """From a rate and a utilisation (0..1) of one window; None where the window is too quiet."""
    return rate / busy if rate > 0 and busy >= LEAST_STATED_BUSY else None
