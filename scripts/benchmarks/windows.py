"""From single requests to figures: percentiles by window and by second, errors, and how soon a share settles.

A percentile is over requests that were answered with 200, and over those that never were, with the time they had
waited by then: leaving those out would reward whoever answers only the lucky. Answers that are errors are
counted as errors instead, as they often come too early rather than too late.
"""

import math
from collections.abc import Sequence

import attrs

from scripts.benchmarks.openloop import UNANSWERED
from scripts.benchmarks.waiting import percentile

OK = 200
SETTLED_PART = 0.75
"""So much of the later windows must be within bounds too. Not all: a window holds a finite sample."""


@attrs.frozen
class Window:
    """Requests that were to leave from `from_s` until before `until_s`."""

    from_s: float
    until_s: float

    def __str__(self) -> str:
        return f"{self.from_s:g}–{self.until_s:g} s"


@attrs.frozen
class Seen:
    """All requests of one run, in order of their intended times."""

    at_s: Sequence[float]
    latency_s: Sequence[float]
    status: Sequence[int]

    def latencies_ms(self, window: Window) -> list[float]:
        """Of what counts for percentiles."""
        return [
            latency_s * 1000
            for at_s, latency_s, status in zip(self.at_s, self.latency_s, self.status, strict=True)
            if window.from_s <= at_s < window.until_s and status in (OK, UNANSWERED)
        ]

    def percentile_ms(self, window: Window, percent: float) -> float:
        """nan where nothing counts."""
        return percentile(self.latencies_ms(window), percent)

    def errors_percent(self, window: Window) -> float:
        """All that had another end than a 200."""
        ends = [s for at_s, s in zip(self.at_s, self.status, strict=True) if window.from_s <= at_s < window.until_s]
        return 100 * sum(end != OK for end in ends) / len(ends) if ends else math.nan

    def by_second_ms(self, seconds: int, percent: float) -> list[float]:
        """One percentile for each second."""
        buckets: list[list[float]] = [[] for _ in range(seconds)]
        for at_s, latency_s, status in zip(self.at_s, self.latency_s, self.status, strict=True):
            if status in (OK, UNANSWERED) and at_s < seconds:
                buckets[int(at_s)].append(latency_s * 1000)
        return [percentile(bucket, percent) for bucket in buckets]


def shares(part: Sequence[int], whole: Sequence[int], width: int) -> list[float]:
    """The part's share of what came in each stretch of `width` bins, one stretch per beginning bin."""
    stretches = range(len(whole) - width + 1)
    return [sum(part[k : k + width]) / max(1, sum(whole[k : k + width])) for k in stretches]


def settled_after(values: Sequence[float], least: float, most: float) -> int | None:
    """The first place from which on the values are within these bounds, or None.

    The value there is within bounds, and so are SETTLED_PART of those from there to the end.
    """
    within = [least <= each <= most for each in values]
    for place, holds in enumerate(within):
        if holds and sum(within[place:]) >= SETTLED_PART * len(within[place:]):
            return place
    return None


def summed(rows: Sequence[Sequence[int]], bins: int) -> list[int]:
    """Counts by bin over all rows; a row ends early when nothing more came."""
    return [sum(row[place] if place < len(row) else 0 for row in rows) for place in range(bins)]
