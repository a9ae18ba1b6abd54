"""Slow start: a new host gets a tenth of its capacity at first, and all of it after three to four seconds.

The host needs that time to warm up.
"""

import math

FIRST_SHARE = 0.1
DOUBLES_EVERY_S = 1.0
FULL_AFTER_S = 4.0


def slow_start(age_s: float) -> float:
    """The part of its capacity that a host gets `age_s` after it joined (BALANCING.md §5)."""
    if age_s >= FULL_AFTER_S:
        return 1.0
    return min(1.0, FIRST_SHARE * math.exp2(max(0.0, age_s / DOUBLES_EVERY_S)))
