"""Choosers that look at no load: each in turn, and any at random. Both go by weights where these differ."""

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from tierlb.balance.draws import Draws, alike
from tierlb.balance.weighted import SmoothWeighted, Weighed

C = TypeVar("C", bound=Weighed)


class RoundRobin(Generic[C]):
    """Each candidate in turn, from a random start so that many nodes do not march in step."""

    __slots__ = ("_alike", "_by_weight", "_candidates", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._candidates: tuple[C, ...] = ()
        self._alike = True
        self._by_weight: SmoothWeighted[C] = SmoothWeighted(rng)

    def rebuild(self, candidates: Sequence[C]) -> None:
        self._candidates = tuple(candidates)
        self._alike = alike([candidate.weight for candidate in candidates])
        if not self._alike:
            self._by_weight.rebuild(candidates)

    def pick(self, key: int) -> C:
        if not self._alike:
            return self._by_weight.pick(key)
        self._turn = turn = self._turn + 1
        candidates = self._candidates
        return candidates[turn % len(candidates)]

    def among(self, candidates: Sequence[C], key: int) -> C:
        if not self._alike:
            return self._by_weight.among(candidates, key)
        self._turn = turn = self._turn + 1
        return candidates[turn % len(candidates)]


class RandomTurns(Generic[C]):
    """Any candidate, with the chance that its weight gives it."""

    __slots__ = ("_candidates", "_draws", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._candidates: tuple[C, ...] = ()
        self._draws: Draws | None = None

    def rebuild(self, candidates: Sequence[C]) -> None:
        self._candidates = tuple(candidates)
        weights = [candidate.weight for candidate in candidates]
        self._draws = None if alike(weights) else Draws(weights)

    def pick(self, key: int) -> C:
        candidates = self._candidates
        if self._draws is not None:
            return candidates[self._draws.one(self._random())]
        return candidates[int(self._random() * len(candidates))]

    def among(self, candidates: Sequence[C], key: int) -> C:
        return candidates[Draws([candidate.weight for candidate in candidates]).one(self._random())]
