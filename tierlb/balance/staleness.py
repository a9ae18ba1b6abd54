"""How far a report is trusted as it grows old (the second point of BALANCING.md §5).

A late report is normal, and the pick corrects for its age. A report that is ten intervals old comes from a child that
may be frozen. Its capacity then counts as no more than the median of its siblings, so that it does not keep attracting
traffic. While it stays silent with its socket open it gets nothing new as long as others are there, because the kernel
of a frozen child goes on accepting connections. When the socket is gone only the data path shows whether the child
works.
"""

OLD_INTERVALS = 10.0


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
