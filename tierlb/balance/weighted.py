"""Fixed weights: smooth weighted round robin, as in nginx (upstream round robin, 2012).

Every pick each candidate gains its weight, the one that has gained most is chosen and pays the sum of all weights.
Weights 5, 1, 1 give a a b a c a a, not a a a a a b c.
"""

import random
from collections.abc import Sequence
from typing import Generic, Protocol, TypeVar


class Weighed(Protocol):
    """The candidates of this policy. `weight`: the operator's, above zero; `name`: stable."""

    @property
    def name(self) -> str: ...
    @property
    def weight(self) -> float: ...


C = TypeVar("C", bound=Weighed)


class SmoothWeighted(Generic[C]):
    """A candidate that stays keeps what it has gained when the others change. The first gains are drawn at random, so
    that many nodes do not march in step."""

    __slots__ = ("_candidates", "_gained", "_rng", "_total", "_weights")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: tuple[C, ...] = ()
        self._weights: list[float] = []
        self._gained: list[float] = []
        self._total = 0.0

    def rebuild(self, candidates: Sequence[C]) -> None:
        kept = {candidate.name: gain for candidate, gain in zip(self._candidates, self._gained, strict=True)}
        self._candidates = tuple(candidates)
        self._weights = [candidate.weight for candidate in candidates]
        self._total = sum(self._weights)
        self._gained = [kept.get(c.name, self._rng.random() * c.weight) for c in candidates]

    def pick(self, key: int) -> C:
        gained = self._gained
        chosen, most = 0, float("-inf")
        for index, weight in enumerate(self._weights):
            gain = gained[index] = gained[index] + weight
            if gain > most:
                chosen, most = index, gain
        gained[chosen] -= self._total
        return self._candidates[chosen]

    def among(self, candidates: Sequence[C], key: int) -> C:
        return self._rng.choices(candidates, [candidate.weight for candidate in candidates])[0]
