"""Choosers by the plain number of items in flight: the fewest of all, and the fewer of two."""

import random
from collections.abc import Sequence
from operator import attrgetter
from typing import Generic, Protocol, TypeVar


class Counted(Protocol):
    """The candidates of these policies. `in_flight`: items sent there by this node that are not finished."""

    @property
    def in_flight(self) -> int: ...


C = TypeVar("C", bound=Counted)

in_flight = attrgetter("in_flight")


class LeastLoaded(Generic[C]):
    """The fewest in flight; among equals in turn, so that an idle tier is used evenly.

    One pass in C (map, min, index): cheaper than a Python loop from two candidates on.
    """

    __slots__ = ("_candidates", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._candidates: tuple[C, ...] = ()

    def rebuild(self, candidates: Sequence[C]) -> None:
        self._candidates = tuple(candidates)

    def pick(self, key: int) -> C:
        return self.among(self._candidates, key)

    def among(self, candidates: Sequence[C], key: int) -> C:
        loads = list(map(in_flight, candidates))
        lowest = min(loads)
        self._turn = turn = self._turn + 1
        start = turn % len(loads)
        try:
            return candidates[loads.index(lowest, start)]
        except ValueError:
            return candidates[loads.index(lowest)]


def two_of(count: int, draw: float) -> tuple[int, int]:
    """Two different positions below `count` (2 or more) from one draw in [0, 1): every ordered pair alike."""
    first, step = divmod(int(draw * count * (count - 1)), count - 1)
    return first, (first + 1 + step) % count


class TwoChoices(Generic[C]):
    """The one with fewer in flight of two drawn at random.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly the tail of looking at
    all, and it does not stampede to the one that all balancers believe to be the least loaded.
    """

    __slots__ = ("_candidates", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._candidates: tuple[C, ...] = ()

    def rebuild(self, candidates: Sequence[C]) -> None:
        self._candidates = tuple(candidates)

    def pick(self, key: int) -> C:
        return self.among(self._candidates, key)

    def among(self, candidates: Sequence[C], key: int) -> C:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        first, second = two_of(count, self._random())
        one, other = candidates[first], candidates[second]
        return one if one.in_flight <= other.in_flight else other
