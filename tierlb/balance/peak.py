"""The policy `peak-ewma`: the lower of two by recent response time times items in flight.

From finagle (`PeakEwma.scala`) and linkerd: the average follows every slower response at once and forgets it slowly,
so one slow answer turns traffic away before a queue has formed.

Where weights differ, two drawn at random would not do: of two candidates both are always drawn, and a quotient of cost
and weight would give all of an idle tier's items to the heavier. There all of them race: the time of each is its cost
by its weight, and the item's own part of the queue is drawn from the exponential distribution. Equals then win as often
as their weights say, and who has a longer queue or slower answers wins the more seldom.
"""

import math
import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from tierlb.balance.draws import alike, relative
from tierlb.balance.least import Counting, two_of

DECAY_S = 10.0
UNKNOWN_S = 1e6
"""The cost of a member that has items in flight and no answer yet: above all that answered, and by its queue."""


@attrs.define
class PeakEwma:
    """One member's response times. `cost` (seconds) is 0 until the first response."""

    cost: float = 0.0
    _at: float = 0.0

    def observe(self, now: float, duration_s: float) -> None:
        """A response took `duration_s`: up at once, down with time constant `DECAY_S`."""
        if duration_s >= self.cost:
            self.cost = duration_s
        else:
            kept = math.exp((self._at - now) / DECAY_S)
            self.cost = self.cost * kept + duration_s * (1 - kept)
        self._at = now

    def idle(self, now: float) -> None:
        """Call it now and then while nothing is in flight: a bad memory fades, or it would never be tried again."""
        self.cost *= math.exp((self._at - now) / DECAY_S)
        self._at = now


class Peaked(Counting, Protocol):
    """The candidates of this policy."""

    @property
    def peak(self) -> PeakEwma: ...


P = TypeVar("P", bound=Peaked)


class PeakEwmaChoices(Generic[P]):
    """The lower cost of two drawn at random. A member nothing is known of gets one item, then waits for its answer."""

    __slots__ = ("_candidates", "_parts", "_rng")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: tuple[P, ...] = ()
        self._parts: list[float] | None = None

    def rebuild(self, candidates: Sequence[P]) -> None:
        self._candidates = tuple(candidates)
        weights = [candidate.weight for candidate in candidates]
        self._parts = None if alike(weights) else relative(weights)

    def pick(self, key: int) -> P:
        if self._parts is not None:
            return self._first_of(self._candidates, self._parts)
        return self._cheaper(self._candidates)

    def among(self, candidates: Sequence[P], key: int) -> P:
        if self._parts is None:
            return self._cheaper(candidates)
        return self._first_of(candidates, relative([candidate.weight for candidate in candidates]))

    def _cheaper(self, candidates: Sequence[P]) -> P:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first, second = two_of(count, self._rng.random())
        one, other = candidates[first], candidates[second]
        return one if expected_s(one) <= expected_s(other) else other

    def _first_of(self, candidates: Sequence[P], parts: Sequence[float]) -> P:
        draw = self._rng.expovariate
        times = [
            expected_s(each, draw(1.0)) / part if part else math.inf
            for each, part in zip(candidates, parts, strict=True)
        ]
        return candidates[times.index(min(times))]


def expected_s(candidate: Peaked, own: float = 1.0) -> float:
    """The load of finagle: recent response time times everything that would be in flight with one item more, which
    counts as `own`."""
    cost, in_flight = candidate.peak.cost, candidate.in_flight
    if not cost and in_flight:
        return UNKNOWN_S + in_flight
    return cost * (in_flight + own)
