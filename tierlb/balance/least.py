"""Choosers by the number of items in flight: the fewest of all hosts, and the fewer of two.

Where weights differ the number by weight decides, much as in nginx (least_conn): a host of three times the weight may
have three times as many. The host whose turn it is by weight goes first (`balance.weighted.handicap`), so that an idle
tier, and one with fewer items than weights, is used according to the weights.
"""

import math
import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, alike, relative
from tierlb.balance.weighted import SmoothTurns, Weighed, handicap


class Counted(Protocol):
    """The load of a host. `in_flight`: items that this node sent there and that are not finished."""

    @property
    def in_flight(self) -> int: ...


class Counting(Counted, Weighed, Protocol):
    """The hosts of these policies."""


LeastHost = TypeVar("LeastHost", bound=Counting)

in_flight = attrgetter("in_flight")


class LeastLoaded(Generic[LeastHost]):
    """The fewest in flight, equal hosts in turn, so that an idle tier is used evenly.

    One pass in C (map, min, index): cheaper than a Python loop from two hosts on.
    """

    __slots__ = ("_hosts", "_parts", "_random", "_turn", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._random = rng.random
        self._hosts: tuple[LeastHost, ...] = ()
        self._parts: list[float] | None = None
        self._turns = SmoothTurns(rng)

    def rebuild(self, hosts: Sequence[LeastHost]) -> None:
        self._hosts = tuple(hosts)
        weights = [host.weight for host in hosts]
        self._parts = None if alike(weights) else relative(weights)
        if self._parts is not None:
            self._turns.rebuild(hosts)

    def pick(self, key: int) -> LeastHost:
        if self._parts is not None:
            return fewest_by_weight(self._hosts, self._parts, self._turns.turn())
        return self._fewest(self._hosts)

    def among(self, hosts: Sequence[LeastHost], key: int) -> LeastHost:
        if self._parts is None:
            return self._fewest(hosts)
        parts = relative([host.weight for host in hosts])
        return fewest_by_weight(hosts, parts, Draws(parts).one(self._random()))

    def _fewest(self, hosts: Sequence[LeastHost]) -> LeastHost:
        loads = list(map(in_flight, hosts))
        lowest = min(loads)
        self._turn = turn = self._turn + 1
        start = turn % len(loads)
        try:
            return hosts[loads.index(lowest, start)]
        except ValueError:
            return hosts[loads.index(lowest)]


def fewest_by_weight(hosts: Sequence[LeastHost], parts: Sequence[float], turn: int) -> LeastHost:
    """The host with the fewest in flight for its part of the weight, or the one whose turn it is if none has fewer."""
    best, own = turn, parts[turn]
    lowest = hosts[turn].in_flight / own if own else math.inf
    for index, part in enumerate(parts):
        if part and (hosts[index].in_flight + handicap(part, own)) / part < lowest:
            best, lowest = index, (hosts[index].in_flight + handicap(part, own)) / part
    return hosts[best]


def two_of(count: int, draw: float) -> tuple[int, int]:
    """Two different positions below `count` (2 or more) from one draw in [0, 1), every ordered pair with the same
    chance."""
    first, step = divmod(int(draw * count * (count - 1)), count - 1)
    return first, (first + 1 + step) % count


class TwoChoices(Generic[LeastHost]):
    """The host with fewer items in flight of two drawn at random.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly the tail latency of comparing
    all hosts, without all balancers choosing the same least loaded host. Where weights differ the two are drawn by
    weight.
    """

    __slots__ = ("_draws", "_hosts", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._hosts: tuple[LeastHost, ...] = ()
        self._draws: Draws | None = None

    def rebuild(self, hosts: Sequence[LeastHost]) -> None:
        self._hosts = tuple(hosts)
        weights = [host.weight for host in hosts]
        self._draws = None if alike(weights) else Draws(weights)

    def pick(self, key: int) -> LeastHost:
        if self._draws is not None:
            return self._by_weight(self._hosts, self._draws)
        return self._fewer(self._hosts)

    def among(self, hosts: Sequence[LeastHost], key: int) -> LeastHost:
        if self._draws is None:
            return self._fewer(hosts)
        return self._by_weight(hosts, Draws([host.weight for host in hosts]))

    def _fewer(self, hosts: Sequence[LeastHost]) -> LeastHost:
        count = len(hosts)
        if count == 1:
            return hosts[0]
        first, second = two_of(count, self._random())
        one, other = hosts[first], hosts[second]
        return one if one.in_flight <= other.in_flight else other

    def _by_weight(self, hosts: Sequence[LeastHost], draws: Draws) -> LeastHost:
        first, second = draws.two(self._random(), self._random())
        one, other = hosts[first], hosts[second]
        more = handicap(other.weight, one.weight)
        return one if one.in_flight * other.weight <= (other.in_flight + more) * one.weight else other
