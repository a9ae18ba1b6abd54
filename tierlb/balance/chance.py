"""By how much equal hosts may seem to differ by chance, from how the times of their answers vary between ticks.

A time contains the wait for a slot. Where short items wait for long ones that wait is a matter of luck: one host
happens to hold four long items for a quarter of a second, the next one later. Over a second its mean time is then twice
as high as elsewhere, and the other way round in the next second. A node that avoids the host that seems slow fills the
queues of the others, which then seem slow. Where times vary that much, hosts count as different only if they differ by
more.

The variation is that of the means of ticks, not of single times: items of one tick wait for the same thing, so that a
hundred of them are no more evidence than one. Means also vary for some seconds at a host that becomes slow; the median
host therefore decides. After a change at all hosts (a step of the load, a pause) the bound is higher for some seconds.
A host that becomes up to three times as slow during these is avoided later. Where single times vary so much that the
means of ticks do, such a host counts as equal for good: the bound does not become narrower with evidence.

In virtual time, routes of 2 and 200 ms over eight endpoints of four slots at a load of 85 %, arrivals as those of
least-requests in each of 24 seeds: p99 of the short ones is 1.25 times that of least-requests if `ALIKE` alone decides,
and 1.07 times with this. With a bound that rises with the wait at all hosts it is 1.03, but a slow host among uniform
requests is then avoided later: p99 in the second after that is 58 to 85 ms instead of 50 to 58.
"""

import math
from collections.abc import Iterable

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.medians import median_low

TICK_MEMORY_S = 3.0
FEW_TICKS = 5.0
"""Ticks with answers within the memory at which half of their variation is believed. A busy host has 60."""
ALIKE_WIDTH = 0.65
"""Of a standard deviation of the means of ticks, relative to their mean. Waits last several ticks, so that the mean of
the 20 ticks of a second varies by about half as much as each of them."""
MOST_ALIKE = 3.0
"""A host that is slower than this is avoided, however much times vary. With few answers a little more is allowed
(`slowness.FEW`)."""
LEAST_TICKS = 1e-6
"""With fewer the variation is unknown: after some forty seconds without answers. It is divided by."""
SHORTEST = 1e-3
"""A lower mean counts as this: it is divided by."""


@attrs.define(slots=True)
class TickMeans:
    """The mean ratios (balance/kinds.py) of one host's ticks over the last seconds."""

    _ticks: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def observe(self, dt_s: float, count: int, ratios: float) -> None:
        """`dt_s` have passed, with so many answers, and the sum of their ratios to the usual times."""
        kept = math.exp(-dt_s / TICK_MEMORY_S)
        mean, tick = (ratios / count, 1.0) if count else (0.0, 0.0)
        self._ticks = self._ticks * kept + tick
        self._sum = self._sum * kept + mean
        self._squares = self._squares * kept + mean * mean

    @property
    def variation(self) -> float | None:
        """The variance of the means relative to the square of their mean, reduced where there were few ticks; None
        before the first."""
        if self._ticks < LEAST_TICKS:
            return None
        mean = max(SHORTEST, self._sum / self._ticks)
        squared = self._squares / self._ticks / mean / mean
        return max(0.0, squared - 1) * self._ticks / (self._ticks + FEW_TICKS)


def alike_within(hosts: Iterable[TickMeans]) -> float:
    """The factor by which equal hosts of a pool may differ (ALIKE to MOST_ALIKE)."""
    variations = [variation for host in hosts if (variation := host.variation) is not None]
    if not variations:
        return ALIKE
    return min(MOST_ALIKE, max(ALIKE, 1 + ALIKE_WIDTH * math.sqrt(median_low(variations))))
