"""Intent flows down: what a parent tells its children about each other, and which connections a hot child closes.

Weights steer new connections only. A child that is hotter than its siblings therefore closes kept connections after
their responses, so that their clients come back through the parent and land elsewhere (BALANCING.md §6: rebalancing in
about 6 s, against over 40 s without). When all children are hot nothing is moved: there is no better place.

Two things make a child hot: more use of its capacity than the siblings, and answers that take far longer than theirs.
The second is needed because use says nothing to clients that wait for one answer after the other: on a child that is
ten times slower each of them gets a tenth, at the same use as elsewhere. It spares one connection, preferably a quiet
one (who asks seldom is seldom closed), by which it is found out when the child is fast again.

Left out: shedding, which needs a limit that is surer than a learnt capacity.
"""

from collections.abc import Iterable, Sequence
from heapq import nlargest
from operator import attrgetter
from statistics import median_low
from typing import Protocol, TypeVar

import attrs

from tierlb.model.load import Guidance, SubtreeLoad

HOT = 0.9
MARGIN = 1.1
"""A child that is less than a tenth above its siblings closes nothing, as a rule."""
COOL = 0.8
"""But if a sibling is so far below the mean (it is new, or has recovered), all that are above it give: eight siblings
that each keep their tenth would leave the ninth with a fifth of its part."""
SLOW_MARGIN = 3.0
"""Answers may take so many times as long as at the siblings: machines and mixes of requests differ."""
CLOSE_OVER_S = 2.0
CLOSE_SLOW_OVER_S = 0.25
"""Below the bounds on the rate. The last ones on a slow child cost its clients as much as the first."""
FASTEST_CLOSE_PER_S = 0.2
"""Of all connections: their clients open new ones, which costs more than requests do."""
FEW_PER_S = 25.0
"""So many cost next to nothing, whatever part of the connections they are."""
MOST_SAID = 1e9
"""Of a target and of a time: above it no figure means anything, and a frame holds at most a thousand times this."""
NOBODY = Guidance(1.0)
"""Without a parent that says otherwise: as hot as can be is fine, so nothing is closed."""


@attrs.frozen
class Child:
    """A ready child: utilisation (0..1, more when overloaded), capacity in items per second and recent mean time of an
    item (0: not known)."""

    utilisation: float
    capacity: float
    response_s: float = 0.0


def guide(children: Sequence[Child]) -> Guidance:
    """What to tell all of them.

    Children that do not know their capacity (0) weigh as much as the others' mean. So do those that know of little but
    are not slow: what a child that has just recovered knows of its capacity is old, and until it has more to do nothing
    tells it better. Where use is even the weights make no difference.
    """
    if not children:
        return NOBODY
    known = [child.capacity for child in children if child.capacity > 0]
    usual = sum(known) / len(known) if known else 1.0
    weighed = [(child.capacity if child.capacity > 0 else usual, child) for child in children]
    response_s = _mean([(weight, child.response_s) for weight, child in weighed if child.response_s > 0])
    evened = [
        (weight if child.response_s > SLOW_MARGIN * response_s else max(weight, usual), child.utilisation)
        for weight, child in weighed
    ]
    target = _mean(evened)
    cool = any(child.utilisation < COOL * target and child.response_s <= SLOW_MARGIN * response_s for child in children)
    all_hot = all(child.utilisation > HOT for child in children)
    return Guidance(min(MOST_SAID, target), all_hot, min(MOST_SAID, response_s), 1.0 if cool else MARGIN)


def usual_response_s(children: Sequence[Child]) -> float:
    """How long an item takes below most of them, 0 if none says it. Of two that is the faster one. In the mean that all
    are told each child is counted too, and of three equals none can take three times as long as that."""
    times = [child.response_s for child in children if child.response_s > 0]
    return median_low(times) if times else 0.0


def _mean(pairs: Sequence[tuple[float, float]]) -> float:
    """Of values with their weights; 0 of none."""
    whole = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / whole if whole else 0.0


def combine(guidances: Iterable[Guidance]) -> Guidance:
    """What several parents say as one. Their targets differ by what else they send to; the mean is between them. There
    is a cooler place as long as one parent knows of one."""
    said = list(guidances)
    if not said:
        return NOBODY
    target = sum(guidance.target for guidance in said) / len(said)
    times = [guidance.response_s for guidance in said if guidance.response_s > 0]
    response_s = sum(times) / len(times) if times else 0.0
    return Guidance(target, all(g.all_hot for g in said), response_s, max(g.margin for g in said))


def closing_rate_per_s(connections: int, load: SubtreeLoad, guidance: Guidance) -> float:
    """How many of its kept connections a child with this load is to close in a second."""
    if guidance.all_hot:
        return 0.0
    used = excess(load.utilisation, guidance.margin * guidance.target) if guidance.target < HOT else 0.0
    rate = max(connections * used / CLOSE_OVER_S, (connections - 1) * slowed(load, guidance) / CLOSE_SLOW_OVER_S)
    return min(rate, max(FEW_PER_S, FASTEST_CLOSE_PER_S * connections))


def slowed(load: SubtreeLoad, guidance: Guidance) -> float:
    """How far a child with this load is slower than its siblings: a part (0..1) of its time, 0 if it is not slow."""
    return excess(load.response_s, SLOW_MARGIN * guidance.response_s) if guidance.response_s else 0.0


def excess(figure: float, most: float) -> float:
    """The part (0..1) of a figure that is above `most`."""
    return (figure - most) / figure if figure > most else 0.0


class Busy(Protocol):
    """A connection that waits for an answer. `activity`: requests per second, of late or since it was opened."""

    @property
    def activity(self) -> float: ...


B = TypeVar("B", bound=Busy)


@attrs.define
class CloseBudget:
    """Turns the rate into single decisions: `take` is asked as each response ends. At a slow child connections are
    chosen instead (`choose`) from those that wait for an answer: a client that asks much loses most there."""

    rate_per_s: float = 0.0
    slow: bool = False
    _owed: float = 0.0
    _at: float = 0.0

    def set_rate(self, now: float, rate_per_s: float, *, slow: bool = False) -> None:
        """From `now` on so many are to be closed in a second. Nothing is owed once the rate is 0."""
        self._accrue(now)
        self.rate_per_s, self.slow = rate_per_s, slow
        if not rate_per_s:
            self._owed = 0.0

    def take(self, now: float) -> bool:
        """True, and noted, if the connection whose response ends at `now` is to close."""
        if not self.rate_per_s or self.slow:
            return False
        self._accrue(now)
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def choose(self, now: float, waiting: Iterable[B], most: int) -> list[B]:
        """Those of the connections that wait, `most` at most, which are to close with their answers; noted. None unless
        the child is slow."""
        if not self.slow:
            return []
        self._accrue(now)
        found = nlargest(min(most, int(self._owed)), waiting, key=attrgetter("activity"))
        self._owed -= len(found)
        return found

    def _accrue(self, now: float) -> None:
        """At most a second's worth is kept: what was not closed while nothing ended is not made up for at once."""
        most = max(1.0, self.rate_per_s)
        self._owed = min(most, self._owed + self.rate_per_s * max(0.0, now - self._at))
        self._at = max(self._at, now)
