"""How far a report is trusted as it grows old (the second point of BALANCING.md §5).

A late report is normal, and the pick corrects for its age. A report that is ten intervals old comes from a child that
may be frozen. Its capacity then counts as no more than the median of its siblings, so that it does not keep attracting
traffic. While it stays silent with its socket open it gets nothing new as long as others are there, because the kernel
of a frozen child goes on accepting connections. When the socket is gone only the data path shows whether the child
works.

A child at rest reports seldom, and says when. Until then its last report is as good as new, because the child reports
any change at once. It is not when this node has given the child something since, for that is a change: from then on a
report is due.
"""

import math

from tierlb.model.load import REPORT_INTERVAL_S

OLD_INTERVALS = 10.0
ON_TIME = 1.1
"""Regular reports are up to a tenth of an interval late (telemetry/pace.py)."""
MOST_SPARE_S = 3.0
"""However late a child says that its next report is."""
NOT_OWED = math.inf


def spare_s(next_s: float) -> float:
    """How much later than usual a report that is due after `next_s` is; 0 for a regular one."""
    return min(MOST_SPARE_S, max(0.0, next_s - ON_TIME * REPORT_INTERVAL_S))


def counted_age_s(passed_s: float, spare_s: float, owed_s: float, interval_s: float) -> float:
    """How old a report is, as far as it counts, so long after it came. `owed_s`: for how long another one has been due
    (below zero: it is not)."""
    return max(min(passed_s, interval_s), passed_s - spare_s, owed_s)


def is_old(age_s: float | None, interval_s: float) -> bool:
    """Whether a report of this age (None: there never was one) means that its child is silent."""
    return age_s is not None and age_s > OLD_INTERVALS * interval_s


def trusted_capacity(
    reported: float | None, age_s: float | None, interval_s: float, connected: bool, median: float | None
) -> float | None:
    """Items per second, or None where nothing is known. `median` is that of the siblings' reported capacities.

    `reported` and `age_s` are None before the first report.
    """
    if not connected:
        return median
    if reported is None or age_s is None:
        return None
    if not is_old(age_s, interval_s) or median is None:
        return reported
    return min(reported, median)
