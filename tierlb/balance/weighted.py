"""Smooth weighted round robin, as in nginx (upstream round robin, 2012).

Every turn each host gains its weight. The host that has gained most is chosen and pays the sum of all weights. Weights
5, 1, 1 give a a b a c a a, not a a a a a b c.
"""

import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, usable


class Weighed(Protocol):
    """The hosts of this policy. `weight`: the product of those by the file, operators and agents, above zero; `name`:
    stable."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...


WeightedHost = TypeVar("WeightedHost", bound=Weighed)


def handicap(weight: float, turn: float) -> float:
    """The part of an item by which a host of this weight counts as fuller than it is, where it is the turn of a host of
    weight `turn`. Policies that use load give an item to the host whose turn it is by weight unless another has less
    for its weight. Without the handicap that would be a light host whenever it is idle: of two of weights 9 and 1 with
    four items in flight the light one would always have one of them."""
    return max(0.0, 1 - weight / turn) if turn > 0 else 0.0


class SmoothTurns:
    """The turns of the hosts, as positions. A host that stays keeps what it has gained when the others change. The
    first gains are random, so that many nodes are not in step."""

    __slots__ = ("_gained", "_names", "_rng", "_total", "_weights")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: list[str] = []
        self._weights: list[float] = []
        self._gained: list[float] = []
        self._total = 1.0

    def rebuild(self, hosts: Sequence[Weighed]) -> None:
        """Turns for these hosts. Gains are scaled to the new sum: a host whose weight became a thousandth would
        otherwise wait, or be chosen, for a thousand turns."""
        weights = self._weights = usable([host.weight for host in hosts])
        total = sum(weights) or 1.0
        scale, self._total = total / self._total, total
        kept = {name: gain * scale for name, gain in zip(self._names, self._gained, strict=True)}
        self._names = [host.name for host in hosts]
        self._gained = [
            kept.get(name, self._rng.random() * each) for name, each in zip(self._names, weights, strict=True)
        ]

    def turn(self) -> int:
        """The next position. Positions of weight 0 are skipped as long as there are others."""
        gained = self._gained
        chosen, most = 0, float("-inf")
        for index, weight in enumerate(self._weights):
            gain = gained[index] = gained[index] + weight
            if gain > most and weight:
                chosen, most = index, gain
        gained[chosen] -= self._total
        return chosen


class SmoothWeighted(Generic[WeightedHost]):
    """Each host in proportion to its weight, evenly spread."""

    __slots__ = ("_hosts", "_random", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._turns = SmoothTurns(rng)
        self._hosts: tuple[WeightedHost, ...] = ()

    def rebuild(self, hosts: Sequence[WeightedHost]) -> None:
        self._hosts = tuple(hosts)
        self._turns.rebuild(hosts)

    def pick(self, key: int) -> WeightedHost:
        return self._hosts[self._turns.turn()]

    def among(self, hosts: Sequence[WeightedHost], key: int) -> WeightedHost:
        return hosts[Draws([host.weight for host in hosts]).one(self._random())]
