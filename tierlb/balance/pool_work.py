"""The items of a pool as a whole: how long they usually take, and the standard item that measures capacities."""

import math

import attrs

from tierlb.balance.interference import Interference
from tierlb.balance.pool_slots import PoolSlots

WORK_MEMORY = 500
"""Answers over which the mean work of an item of a pool is averaged."""
FIRST_ANSWERS = 2000.0
"""Answers whose mean sets the standard item at first."""
STANDARD_OVER_S = 300.0
"""How fast the standard item follows the mix. A capacity for planning must not change with every burst."""


@attrs.define(slots=True)
class MeanWork:
    """`usual_s`: how long an item usually takes, in the recent mix of kinds on average (0 while nothing is known)."""

    usual_s: float = 0.0
    _seen: float = 0.0

    def add(self, count: int, work_s: float) -> None:
        """So many answers; `work_s` is the sum of what their kinds usually take."""
        if count:
            self._seen = min(WORK_MEMORY, self._seen + count)
            self.usual_s += (work_s / count - self.usual_s) * min(1.0, count / self._seen)


@attrs.define(slots=True)
class Work(MeanWork):
    """The items of one pool: the recent mix, how much parked items hold up the others, and the slots of its hosts.

    Capacities are in *standard* items per second. A standard item takes `standard_s`: the mean of all items until
    FIRST_ANSWERS were seen, from then on the mean of the last minutes. In items of the momentary mix a capacity would
    fall as longer ones arrive, although nothing became slower. To compare a rate with a capacity, divide the work per
    second by `standard_s`.
    """

    interference: Interference = attrs.field(factory=Interference)
    slots: PoolSlots = attrs.field(factory=PoolSlots)
    _counted: float = 0.0
    _standard_s: float = 0.0

    @property
    def standard_s(self) -> float:
        """What a standard item takes; 0 while nothing is known."""
        return self._standard_s or self.usual_s

    def add(self, count: int, work_s: float) -> None:
        """Answers of any host of the pool."""
        MeanWork.add(self, count, work_s)
        if count and self._counted < FIRST_ANSWERS:
            self._counted += count
            self._standard_s += (work_s / count - self._standard_s) * count / self._counted

    def follow(self, dt_s: float) -> None:
        """`dt_s` have passed."""
        if self._counted >= FIRST_ANSWERS:
            self._standard_s += (self.usual_s - self._standard_s) * -math.expm1(-dt_s / STANDARD_OVER_S)
