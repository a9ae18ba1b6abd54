"""The rules by which a simulated node can choose: the product's policies, and others for comparison.

`ComparedRule` names the rules of the evidence: choosing by the last report alone, by perfect knowledge of queues or of
slots, by weights from the reported headroom, and as Traefik's `leasttime` does. They read what a simulation can see and
a node cannot, or what a node should not rely on alone, so they are not among the policies.
"""

import enum
import random
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Any, Protocol, TypeVar

from tierlb.balance.choosers import ChoosableHost, Chooser, make_chooser
from tierlb.balance.least import two_of
from tierlb.balance.load_estimate import LoadEstimate
from tierlb.model.topology import Policy

LEAST_HEADROOM = 0.02
MEAN_OF = 100
"""The number of response times in the mean of Traefik's `leasttime`."""


class ComparedRule(enum.Enum):
    """A rule to which policies are compared."""

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
    """The true state of a host."""

    @property
    def in_flight(self) -> int: ...
    @property
    def expected(self) -> tuple[float, float]: ...


class SimulationHost(ChoosableHost, Protocol):
    """A host of a simulation."""

    @property
    def estimate(self) -> LoadEstimate: ...
    @property
    def below(self) -> Below: ...
    @property
    def times_to_head(self) -> RecentMean: ...


RuleHost = TypeVar("RuleHost", bound=SimulationHost)


def chooser_for(rule: Policy | ComparedRule, rng: random.Random) -> Chooser[RuleHost]:
    match rule:
        case ComparedRule.SHORTEST_BY_REPORT:
            return ByReport(rng, two=False)
        case ComparedRule.TWO_BY_REPORT:
            return ByReport(rng, two=True)
        case ComparedRule.PERFECT:
            return ByTruth(rng, true_cost)
        case ComparedRule.SLOTS:
            return ByTruth(rng, expected)
        case ComparedRule.HEADROOM:
            return ByHeadroom(rng)
        case ComparedRule.LEAST_TIME:
            return LeastTime(rng)
        case _:
            return make_chooser(rule, rng)


class ByReport(Chooser[RuleHost]):
    """The fewest items in flight by the last report, relative to capacity; without a report, by the own count."""

    def __init__(self, rng: random.Random, *, two: bool) -> None:
        self._rng = rng
        self._two = two
        self._hosts: Sequence[RuleHost] = ()

    def rebuild(self, hosts: Sequence[RuleHost]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> RuleHost:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[RuleHost], key: int) -> RuleHost:
        if self._two and len(hosts) > 1:
            hosts = [hosts[index] for index in two_of(len(hosts), self._rng.random())]
        start = int(self._rng.random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=reported_cost)


def reported_cost(host: SimulationHost) -> float:
    latest = host.estimate.received.latest
    return ((host.in_flight if latest is None else latest.in_flight) + 1) / host.capacity


class ByTruth(Chooser[RuleHost]):
    """The lowest cost by what no node can see; random among equal ones."""

    def __init__(self, rng: random.Random, cost: Callable[[SimulationHost], Any]) -> None:
        self._rng = rng
        self._cost = cost
        self._hosts: Sequence[RuleHost] = ()

    def rebuild(self, hosts: Sequence[RuleHost]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> RuleHost:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[RuleHost], key: int) -> RuleHost:
        start = int(self._rng.random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=self._cost)


def true_cost(host: SimulationHost) -> float:
    """The items that really are in flight there, relative to the learnt capacity."""
    return (host.below.in_flight + 1) / host.capacity


def expected(host: SimulationHost) -> tuple[float, float]:
    """When the item will be done there, by the slots and the speed of the leaves, if all in the queue are alike."""
    return host.below.expected


class ByHeadroom(Chooser[RuleHost]):
    """Random, weighted by the unused capacity in the last report; fewest in flight without one."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._hosts: Sequence[RuleHost] = ()
        self._ends: list[float] = []

    def rebuild(self, hosts: Sequence[RuleHost]) -> None:
        self._hosts = hosts
        self._ends = list(accumulate(map(headroom, hosts)))

    def pick(self, key: int) -> RuleHost:
        ends = self._ends
        return self._hosts[min(bisect_right(ends, self._rng.random() * ends[-1]), len(ends) - 1)]

    def among(self, hosts: Sequence[RuleHost], key: int) -> RuleHost:
        return max(hosts, key=headroom)


def headroom(host: SimulationHost) -> float:
    latest = host.estimate.received.latest
    used = 1 - 1 / (host.in_flight + 1) if latest is None else latest.utilisation
    return host.capacity * max(LEAST_HEADROOM, 1 - used)


class LeastTime(Chooser[RuleHost]):
    """Traefik 3.7, `leasttime`: the lowest product of the recent mean time to the answer's head and the items that
    would be in flight; in turn among equals."""

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._hosts: Sequence[RuleHost] = ()

    def rebuild(self, hosts: Sequence[RuleHost]) -> None:
        self._hosts = hosts

    def pick(self, key: int) -> RuleHost:
        return self.among(self._hosts, key)

    def among(self, hosts: Sequence[RuleHost], key: int) -> RuleHost:
        self._turn += 1
        start = self._turn % len(hosts)
        return min([*hosts[start:], *hosts[:start]], key=time_cost)


def time_cost(host: SimulationHost) -> float:
    return host.times_to_head.value * (host.in_flight + 1)
