"""How much a parked item delays the others at its host: 0 not at all, 1 as much as a queued item.

A parked item may use nothing that others need (a long poll) or occupy a slot all the time (a generated answer). Its
nature cannot be seen, but its effect can: answers are slower where more is parked. `weight` is adjusted until they are
not. It rises while they are slower, falls while they are faster (then too little is sent there), and fades while there
is no evidence, as at low load, when a slot more or less makes no difference.

The slope of the answers' times over the parked items is fitted over the hosts of a pool and the last seconds. It counts
only where it is larger than three times its standard error, because a weight above 0 decides between equal hosts.
"""

import math
from collections.abc import Iterable

import attrs

INTERFERENCE_WINDOW_S = 2.0
GAIN_PER_S = 4.0
"""With one of four slots occupied answers are a quarter slower in a busy host: a weight of 1 is reached in a second."""
FADES_S = 20.0
UNHEARD_S = 1.0
"""The same while the hosts with parked items answer nothing. A weight that is too high keeps all other items away from
them, so that no answer could correct it."""
MOST_INTERFERENCE = 1.5
LEAST_INTERFERENCE = 0.1
"""A lower weight counts as 0."""
LEAST_MEAN = 1e-9
SURE = 3.0


@attrs.frozen
class Seen:
    """One host in one tick: `parked` items, `count` answers and their mean `ratio` to the usual time."""

    parked: float
    count: int
    ratio: float


@attrs.define(slots=True)
class Interference:
    """Of one pool."""

    _weight: float = 0.0
    _covariance: float = 0.0
    _variance: float = 0.0
    _squares: float = 0.0
    _rows: float = 0.0
    _mean: float = 1.0

    @property
    def weight(self) -> float:
        return self._weight if self._weight >= LEAST_INTERFERENCE else 0.0

    def observe(self, dt_s: float, hosts: Iterable[Seen], unheard: float = 0.0) -> None:
        """`dt_s` have passed; `hosts` are those of like slowness that answered. `unheard`: the part of all parked items
        that is at hosts which answered nothing."""
        rows = list(hosts)
        self._fade(math.exp(-dt_s / INTERFERENCE_WINDOW_S))
        count = sum(row.count for row in rows)
        if len(rows) > 1 and count:
            self._add(rows, count)
        self._weight *= math.exp(-dt_s * (1 / FADES_S + unheard / UNHEARD_S))
        change = GAIN_PER_S * dt_s * self._slope() / max(LEAST_MEAN, self._mean)
        self._weight = min(MOST_INTERFERENCE, max(0.0, self._weight + change))

    def _fade(self, kept: float) -> None:
        self._covariance *= kept
        self._variance *= kept
        self._squares *= kept
        self._rows *= kept

    def _add(self, rows: list[Seen], count: int) -> None:
        parked = sum(row.count * row.parked for row in rows) / count
        mean = self._mean = sum(row.count * row.ratio for row in rows) / count
        for row in rows:
            self._covariance += row.count * (row.parked - parked) * (row.ratio - mean)
            self._variance += row.count * (row.parked - parked) ** 2
            self._squares += row.count * (row.ratio - mean) ** 2
        self._rows += len(rows) - 1

    def _slope(self) -> float:
        """Per parked item; 0 where it may be chance."""
        if self._variance <= 0 or self._rows < 1:
            return 0.0
        slope = self._covariance / self._variance
        error = math.sqrt(self._squares / self._rows / self._variance)
        return slope if abs(slope) > SURE * error else 0.0
