"""The rate limit for one peer on the control channel.

A frame is one unit, and another for each 64 KiB, whatever kind of frame it is: a ping costs the receiver as much as a
report. Whole messages are counted by the session (control.py), all other frames where they are decoded (websocket.py),
each with a bucket of its own.
"""

import attrs

FRAME_UNIT_BYTES = 64 * 1024
UNITS_PER_S = 100.0
MAX_UNITS = 200.0
"""The fastest correct child sends 20 reports a second."""
EXCEEDED = f"more than {UNITS_PER_S:g} frames (of 64 KiB) per second"


@attrs.define
class Allowance:
    """A token bucket; `take` is false when there are not enough units."""

    units: float = MAX_UNITS
    filled_s: float | None = None

    def take(self, units: float, now: float) -> bool:
        """Take units at `now`. A clock that goes back adds none."""
        if self.filled_s is not None:
            self.units = min(MAX_UNITS, self.units + max(0.0, now - self.filled_s) * UNITS_PER_S)
        self.filled_s = now
        self.units -= units
        return self.units >= 0
