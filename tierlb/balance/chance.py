"""By how much equal hosts may seem apart by chance, seen from how their answers' times vary from one tick to the next.

A time contains the wait for a slot, and where short items wait for long ones that wait is a matter of luck: one host
happens to hold four long ones for a quarter of a second, the next one later. The mean of a second is then twice as high
here as there, and the other way round in the next second. A node that avoids the host that seems slow fills the queues
of the others, which then seem slow. Where times vary that much, hosts are told apart only if they differ by more.

The means of ticks vary, not the single times: items of one tick wait for the same thing, so that a hundred of them say
no more than one. Of a host that becomes slow they vary too, for some seconds; that of the middle host counts therefore.
After a change that all hosts see (a step of the load, a pause) the bound is higher for some seconds, and a host that
becomes up to three times as slow in just these is left later. Where the times of single items vary so much that the
means of ticks do, such a host counts as an equal for good: the bound does not become narrower with evidence.

In virtual time, routes of 2 and 200 ms over eight endpoints of four slots at a load of 85 %, arrivals as those of
least-requests in each of 24 seeds: p99 of the short ones is 1.25 times that of least-requests if `ALIKE` alone decides,
and 1.07 times with this. With a bound that rises with the wait that all hosts have it is 1.03, but a slow host among
requests that are alike is then left later: p99 in the second after that is 58 to 85 ms instead of 50 to 58.
"""

import math
from collections.abc import Iterable
from statistics import median_low

import attrs

from tierlb.balance.capacity import ALIKE

MEMORY_S = 3.0
FEW_TICKS = 5.0
"""Ticks with answers within the memory at which half of their variation is believed. A busy host has 60."""
WIDTH = 0.65
"""Of a standard deviation of the means of ticks, by their mean. Waits last several ticks, so that the mean of the 20
ticks of a second varies by about half as much as each of them."""
MOST = 3.0
"""A host that is slower than this is left, however much times vary. With few answers a little more is allowed
(`slowness.FEW`)."""
LEAST_TICKS = 1e-6
"""Of a host that has answered nothing for some forty seconds nothing is left; it is divided by."""
SHORTEST = 1e-3
"""A lower mean counts as this: it is divided by."""


@attrs.define(slots=True)
class TickMeans:
    """The mean ratios of one host's ticks, over the last seconds."""

    _ticks: float = 0.0
    _sum: float = 0.0
    _squares: float = 0.0

    def observe(self, dt_s: float, count: int, ratios: float) -> None:
        """`dt_s` have passed, with so many answers, and the sum of their ratios to the usual times."""
        kept = math.exp(-dt_s / MEMORY_S)
        mean, tick = (ratios / count, 1.0) if count else (0.0, 0.0)
        self._ticks = self._ticks * kept + tick
        self._sum = self._sum * kept + mean
        self._squares = self._squares * kept + mean * mean

    @property
    def variation(self) -> float | None:
        """The variance of the means by the square of their mean, less where there were few ticks; None before the
        first."""
        if self._ticks < LEAST_TICKS:
            return None
        mean = max(SHORTEST, self._sum / self._ticks)
        squared = self._squares / self._ticks / mean / mean
        return max(0.0, squared - 1) * self._ticks / (self._ticks + FEW_TICKS)


def alike_within(hosts: Iterable[TickMeans]) -> float:
    """By what factor hosts of a pool may differ that are equal (ALIKE to MOST)."""
    variations = [variation for host in hosts if (variation := host.variation) is not None]
    if not variations:
        return ALIKE
    return min(MOST, max(ALIKE, 1 + WIDTH * math.sqrt(median_low(variations))))
