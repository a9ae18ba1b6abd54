"""How far a report is believed as it grows old: the first three rows of the failure ladder.

A late report is normal, and the pick corrects for its age. One that is ten intervals old comes from a child that
may be frozen: it must not keep drawing traffic by the capacity it once had, so it counts no more than the median of
its siblings, and while it stays silent with its socket open it gets nothing new as long as others are there: the kernel
of a frozen child goes on accepting connections that nobody will serve. With the socket gone nothing is known of it but
that the data path may still work.
"""

OLD_INTERVALS = 10.0


def is_old(age_s: float | None, interval_s: float) -> bool:
    """Whether a report of this age (None: there never was one) says that its child has fallen silent."""
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
