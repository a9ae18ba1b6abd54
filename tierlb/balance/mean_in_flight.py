"""How many items this node has in flight at one host: within the last tick, and on average over two seconds.

Both follow exactly from the integral of the count over time (balance/counted_host.py). Parked items do not compete for
slots and are left out.
"""

import math

import attrs

MEAN_OVER_S = 2.0
"""Long enough that the count of other parents, which is assumed to be the same, is about right at each moment."""


@attrs.define(slots=True)
class MeanInFlight:
    """`at`: the time of the last tick."""

    at: float
    value: float = 0.0
    _area_s: float = 0.0

    def advance(self, now: float, area_s: float, parked: int) -> tuple[float, float]:
        """The seconds since the last tick, and the items in flight in that time on average. `area_s`: the integral so
        far; `parked`: how many items are parked now."""
        dt_s = now - self.at
        in_flight = (area_s - self._area_s) / dt_s - parked if dt_s > 0 else 0.0
        self.value += (max(0.0, in_flight) - self.value) * -math.expm1(-dt_s / MEAN_OVER_S)
        self.at, self._area_s = now, area_s
        return dt_s, in_flight
