"""Choosers that look at no load: each in turn, and any at random."""

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class RoundRobin(Generic[T]):
    """Each candidate in turn, from a random start so that many nodes do not march in step."""

    __slots__ = ("_candidates", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._candidates: tuple[T, ...] = ()

    def rebuild(self, candidates: Sequence[T]) -> None:
        self._candidates = tuple(candidates)

    def pick(self, key: int) -> T:
        self._turn = turn = self._turn + 1
        candidates = self._candidates
        return candidates[turn % len(candidates)]

    def among(self, candidates: Sequence[T], key: int) -> T:
        self._turn = turn = self._turn + 1
        return candidates[turn % len(candidates)]


class RandomTurns(Generic[T]):
    """Any candidate, all with the same chance."""

    __slots__ = ("_candidates", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._candidates: tuple[T, ...] = ()

    def rebuild(self, candidates: Sequence[T]) -> None:
        self._candidates = tuple(candidates)

    def pick(self, key: int) -> T:
        candidates = self._candidates
        return candidates[int(self._random() * len(candidates))]

    def among(self, candidates: Sequence[T], key: int) -> T:
        return candidates[int(self._random() * len(candidates))]
