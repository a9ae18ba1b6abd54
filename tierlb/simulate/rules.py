"""The rules a simulated node can choose by: the product's policies, and others to measure them against.

`Rule` names what the evidence compares: choosing by the last report alone, by perfect knowledge of queues or of slots,
by weights that follow the headroom a report tells, and as Traefik's `leasttime` does. They read what a simulation can
see and a node cannot, or what a node had better not trust alone, so they are here and not among the policies.
"""

import enum
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from tierlb.balance.choosers import Chooser, Host, make_chooser
from tierlb.balance.least import two_of
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.model.topology import Policy

LEAST_HEADROOM = 0.02
MEAN_OF = 100
"""Response times that Traefik's `leasttime` takes the mean of."""


class Rule(enum.Enum):
    """What a policy is measured against."""

    SHORTEST_BY_REPORT = "shortest by report"
    TWO_BY_REPORT = "two choices by report"
    PERFECT = "perfect knowledge"
    SLOTS = "knowledge of slots"
    HEADROOM = "weights by headroom"
    LEAST_TIME = "least time"


class RecentMean:
    """The mean of the last `MEAN_OF` values, 0 before the first."""

    __slots__ = ("_sum", "_values")

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=MEAN_OF)
        self._sum = 0.0

    def add(self, value: float) -> None:
        values = self._values
        self._sum += value - (values[0] if len(values) == MEAN_OF else 0.0)
        values.append(value)

    @property
    def value(self) -> float:
        return self._sum / len(self._values) if self._values else 0.0


class Below(Protocol):
    """What a host really is."""

    @property
    def in_flight(self) -> int: ...
    @property
    def expected(self) -> tuple[float, float]: ...


class Known(Host, Protocol):
    """A host of a simulation."""

    @property
    def estimate(self) -> LoadEstimate: ...
    @property
    def below(self) -> Below: ...
    @property
    def times_to_head(self) -> RecentMean: ...


K = TypeVar("K", bound=Known)


def chooser_for(rule: Policy | Rule, rng: random.Random) -> Chooser[K]:
    match rule:
        case Rule.SHORTEST_BY_REPORT:
            return ByReport(rng, two=False)
        case Rule.TWO_BY_REPORT:
            return ByReport(rng, two=True)
        case Rule.PERFECT:
            return ByTruth(rng, true_score)
        case Rule.SLOTS:
            return ByTruth(rng, expected)
        case Rule.HEADROOM:
            return ByHeadroom(rng)
        case Rule.LEAST_TIME:
            return LeastTime(rng)
        case _:
            return make_chooser(rule, rng)


class ByReport(Chooser[K]):
    """The least items in flight by the last report, over capacity; where nothing was reported, by the own count."""

    def __init__(self, rng: random.Random, *, two: bool) -> None:
        self._rng = rng
        self._two = two
        self._hosts: Sequence[K] = ()

    def rebuild(self, hosts: Sequence[K]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> K:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[K], key: int) -> K:
        if self._two and len(hosts) > 1:
            hosts = [hosts[index] for index in two_of(len(hosts), self._rng.random())]
        start = int(self._rng.random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=reported_score)


def reported_score(host: Known) -> float:
    heard = host.estimate.received.latest
    return ((host.in_flight if heard is None else heard.in_flight) + 1) / host.capacity


class ByTruth(Chooser[K]):
    """The lowest score by what no node can see; anyone among equals."""

    def __init__(self, rng: random.Random, score: Callable[[Known], Any]) -> None:
        self._rng = rng
        self._score = score
        self._hosts: Sequence[K] = ()

    def rebuild(self, hosts: Sequence[K]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> K:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[K], key: int) -> K:
        start = int(self._rng.random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=self._score)


def true_score(host: Known) -> float:
    """The items that really are in flight there, over the capacity that was learnt."""
    return (host.below.in_flight + 1) / host.capacity


def expected(host: Known) -> tuple[float, float]:
    """When the item will be done there, by the slots and the speed of the leaves, if all in the queue are alike."""
    return host.below.expected


class ByHeadroom(Chooser[K]):
    """At random, weighted by the capacity that the last report says is unused; least in flight where none came."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._hosts: Sequence[K] = ()
        self._ends: list[float] = []

    def rebuild(self, hosts: Sequence[K]) -> None:
        self._hosts = hosts
        self._ends = list(accumulate(map(headroom, hosts)))

    def pick(self, key: int) -> K:
        ends = self._ends
        return self._hosts[min(bisect_right(ends, self._rng.random() * ends[-1]), len(ends) - 1)]

    def among(self, hosts: Sequence[K], key: int) -> K:
        return max(hosts, key=headroom)


def headroom(host: Known) -> float:
    heard = host.estimate.received.latest
    used = 1 - 1 / (host.in_flight + 1) if heard is None else heard.utilisation
    return host.capacity * max(LEAST_HEADROOM, 1 - used)


class LeastTime(Chooser[K]):
    """Traefik 3.7, `leasttime`: the lowest product of the recent mean time to the answer's head and the items that
    would be in flight; in turn among equals."""

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._hosts: Sequence[K] = ()

    def rebuild(self, hosts: Sequence[K]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> K:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[K], key: int) -> K:
        self._turn += 1
        start = self._turn % len(hosts)
        return min([*hosts[start:], *hosts[:start]], key=time_score)


def time_score(host: Known) -> float:
    return host.times_to_head.value * (host.in_flight + 1)
