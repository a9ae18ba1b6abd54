"""Weights in turn: smooth weighted round robin, as in nginx (upstream round robin, 2012).

Every turn each host gains its weight, the one that has gained most is chosen and pays the sum of all weights.
Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.
"""

import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, usable


class Weighed(Protocol):
    """The hosts of this policy. `weight`: what the file, operators and agents make of it, above zero; `name`:
    stable."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...


C = TypeVar("C", bound=Weighed)


def handicap(weight: float, turn: float) -> float:
    """The part of an item by which one of this weight counts as fuller than it is, where it is the turn of one of
    weight `turn`. Policies that go by load give an item to the one whose turn it is by weight unless another has less
    for its weight. Without the handicap that would be a light one whenever it is idle: of two of weights 9 and 1 with
    four items in flight the light one would always have one of them."""
    return max(0.0, 1 - weight / turn) if turn > 0 else 0.0


class SmoothTurns:
    """Whose turn it is, as a position. One that stays keeps what it has gained when the others change. The first gains
    are drawn at random, so that many nodes do not march in step."""

    __slots__ = ("_gained", "_names", "_rng", "_total", "_weights")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._names: list[str] = []
        self._weights: list[float] = []
        self._gained: list[float] = []
        self._total = 1.0

    def rebuild(self, hosts: Sequence[Weighed]) -> None:
        """Turns for these. What was gained is scaled to the new sum: one that got a thousandth of its weight would else
        wait, or be chosen, for a thousand turns."""
        weights = self._weights = usable([host.weight for host in hosts])
        total = sum(weights) or 1.0
        scale, self._total = total / self._total, total
        kept = {name: gain * scale for name, gain in zip(self._names, self._gained, strict=True)}
        self._names = [host.name for host in hosts]
        self._gained = [
            kept.get(name, self._rng.random() * each) for name, each in zip(self._names, weights, strict=True)
        ]

    def turn(self) -> int:
        """The position that is next; positions of weight 0 are none as long as there are others."""
        gained = self._gained
        chosen, most = 0, float("-inf")
        for index, weight in enumerate(self._weights):
            gain = gained[index] = gained[index] + weight
            if gain > most and weight:
                chosen, most = index, gain
        gained[chosen] -= self._total
        return chosen


class SmoothWeighted(Generic[C]):
    """Each as often as its weight says, in turn."""

    __slots__ = ("_hosts", "_random", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._turns = SmoothTurns(rng)
        self._hosts: tuple[C, ...] = ()

    def rebuild(self, hosts: Sequence[C]) -> None:
        self._hosts = tuple(hosts)
        self._turns.rebuild(hosts)

    def pick(self, key: int) -> C:
        return self._hosts[self._turns.turn()]

    def among(self, hosts: Sequence[C], key: int) -> C:
        return hosts[Draws([host.weight for host in hosts]).one(self._random())]
