"""The policy `peak-ewma`: the lower of two by recent response time times items in flight.

From finagle (`PeakEwma.scala`) and linkerd: the average follows every slower response at once and forgets it slowly,
so one slow answer turns traffic away before a queue has formed.
"""

import math
import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

import attrs

from tierlb.balance.least import Counted, two_of

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


class Peaked(Counted, Protocol):
    """The candidates of this policy."""

    @property
    def peak(self) -> PeakEwma: ...


P = TypeVar("P", bound=Peaked)


class PeakEwmaChoices(Generic[P]):
    """The lower cost of two drawn at random. A member nothing is known of gets one item, then waits for its answer."""

    __slots__ = ("_candidates", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._candidates: tuple[P, ...] = ()

    def rebuild(self, candidates: Sequence[P]) -> None:
        self._candidates = tuple(candidates)

    def pick(self, key: int) -> P:
        return self.among(self._candidates, key)

    def among(self, candidates: Sequence[P], key: int) -> P:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first, second = two_of(count, self._random())
        one, other = candidates[first], candidates[second]
        return one if expected_s(one) <= expected_s(other) else other


def expected_s(candidate: Peaked) -> float:
    """The load of finagle: recent response time times everything that would be in flight with one item more."""
    cost, in_flight = candidate.peak.cost, candidate.in_flight
    if not cost and in_flight:
        return UNKNOWN_S + in_flight
    return cost * (in_flight + 1)
