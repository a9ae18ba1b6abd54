"""The policy `peak-ewma`: the lower of two by recent response time times items in flight.

From finagle (`PeakEwma.scala`) and linkerd: the average follows every slower response at once and forgets it slowly, so
that one slow answer diverts traffic before a queue has formed.

Where weights differ, the host whose turn it is by weight gets the item unless another would finish it in half the time.
Response times are too noisy for equal hosts ever to tie, and without a margin the noise would decide instead of the
weights.
"""

import math
import random
from collections.abc import Sequence
from typing import Final, Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, alike, relative
from tierlb.balance.least import Counting, two_of
from tierlb.balance.weighted import SmoothTurns, handicap

PEAK_DECAY_S: Final = 10.0
PEAK_MARGIN: Final = 2.0
"""Another host takes the turn only if it would finish so many times sooner: response times of equal hosts differ as
much by chance."""
UNKNOWN_S: Final = 1e6
"""The cost of a host that has items in flight and no answer yet: above all that answered, and ordered by its queue."""


class PeakEwma:
    """The response times of one host. `cost` (seconds) is 0 until the first response."""

    __slots__ = ("_at", "cost")

    def __init__(self, cost: float = 0.0) -> None:
        self.cost = cost
        self._at = 0.0

    def observe(self, now: float, duration_s: float) -> None:
        """A response took `duration_s`: the cost rises at once and falls with the time constant `PEAK_DECAY_S`."""
        if duration_s >= self.cost:
            self.cost = duration_s
        else:
            kept = math.exp((self._at - now) / PEAK_DECAY_S)
            self.cost = self.cost * kept + duration_s * (1 - kept)
        self._at = now

    def idle(self, now: float) -> None:
        """To be called now and then while nothing is in flight. A high cost fades, because the host would otherwise
        never be tried again."""
        self.cost *= math.exp((self._at - now) / PEAK_DECAY_S)
        self._at = now


class Peaked(Counting, Protocol):
    """The hosts of this policy."""

    @property
    def peak(self) -> PeakEwma: ...


PeakHost = TypeVar("PeakHost", bound=Peaked)


class PeakEwmaChoices(Generic[PeakHost]):
    """The lower cost of two hosts drawn at random. A host without answers gets one item, and then none until it
    answers."""

    __slots__ = ("_hosts", "_parts", "_random", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._turns = SmoothTurns(rng)
        self._hosts: tuple[PeakHost, ...] = ()
        self._parts: list[float] | None = None

    def rebuild(self, hosts: Sequence[PeakHost]) -> None:
        self._hosts = tuple(hosts)
        weights = [host.weight for host in hosts]
        self._parts = None if alike(weights) else relative(weights)
        if self._parts is not None:
            self._turns.rebuild(hosts)

    def pick(self, key: int) -> PeakHost:
        if self._parts is not None:
            return soonest(self._hosts, self._parts, self._turns.turn())
        return self._cheaper(self._hosts)

    def among(self, hosts: Sequence[PeakHost], key: int) -> PeakHost:
        if self._parts is None:
            return self._cheaper(hosts)
        parts = relative([host.weight for host in hosts])
        return soonest(hosts, parts, Draws(parts).one(self._random()))

    def _cheaper(self, hosts: Sequence[PeakHost]) -> PeakHost:
        count = len(hosts)
        if count == 1:
            return hosts[0]
        first, second = two_of(count, self._random())
        one, other = hosts[first], hosts[second]
        return one if expected_s(one) <= expected_s(other) else other


def soonest(hosts: Sequence[PeakHost], parts: Sequence[float], turn: int) -> PeakHost:
    """The host whose turn it is, or one that would finish far sooner. A queue counts relative to the part of the
    weight."""
    own = parts[turn]
    best, lowest = turn, expected_s(hosts[turn], own) / PEAK_MARGIN if own else math.inf
    for index, part in enumerate(parts):
        if part:
            time_s = expected_s(hosts[index], part, handicap(part, own))
            if time_s < lowest:
                best, lowest = index, time_s
    return hosts[best]


def expected_s(host: Peaked, part: float = 1.0, more: float = 0.0) -> float:
    """The load as in finagle: recent response time times the items in flight with one item more. `more` is added to
    what is in flight, which counts relative to `part`."""
    cost, in_flight = host.peak.cost, host.in_flight
    if not cost and in_flight:
        return UNKNOWN_S + in_flight
    return cost * ((in_flight + more) / part + 1)
