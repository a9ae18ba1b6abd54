"""Figures of a run: quantiles by window, shares over time, how fast they settle, and whether they oscillate."""

import itertools
import math
from collections.abc import Sequence

ShareSeries = Sequence[float]


def quantile(values: Sequence[float], q: float) -> float:
    """The value at rank ⌊q·(n − 1)⌋; 0 for none."""
    return sorted(values)[int(q * (len(values) - 1))] if values else 0.0


def shares(counts: Sequence[Sequence[int]]) -> list[list[float]]:
    """From cumulative counts (one row per moment, one column per child) to each child's share of the growth between two
    moments: one series per child. Moments in which nothing grew are left out."""
    grown = [[new - old for old, new in zip(*rows, strict=True)] for rows in itertools.pairwise(counts)]
    return [
        list(series) for series in zip(*([each / sum(row) for each in row] for row in grown if sum(row)), strict=True)
    ]


def autocorrelation(series: ShareSeries, lag: int) -> float:
    """-1..1; 0 for a series that does not vary or is too short."""
    mean = math.fsum(series) / len(series) if series else 0.0
    off = [value - mean for value in series]
    variance = math.fsum(value * value for value in off)
    if variance <= 1e-12 or lag >= len(off):
        return 0.0
    return math.fsum(one * other for one, other in zip(off, off[lag:], strict=False)) / variance


def swings(series: ShareSeries, lags: Sequence[int]) -> float:
    """The largest autocorrelation at any of the lags: near 1 for a series that oscillates or drifts."""
    return max((autocorrelation(series, lag) for lag in lags), default=0.0)
