"""The chooser of `balance: load-aware`: the lowest predicted queue over capacity (BALANCING.md §2).

The score of a candidate is a line in its own in-flight count, `in_flight * slope + offset`, which others work out
(score.py) between rebuilds. A parent that sends a fair part of its candidates' traffic looks at all of them. One
of many parents looks at two, drawn by capacity: all parents act on the same reports, and if each took the best of all,
the best would be flooded until the next report.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, cycle
from typing import Generic, Protocol, TypeVar

from tierlb.balance.least import Counted

SCAN_AT_MOST = 32
SCAN_FROM_SHARE = 0.2
"""A parent that sends this much of its candidates' traffic sees most of their queue itself."""


class Scored(Counted, Protocol):
    """The candidates of this policy. `capacity`: items per second, above zero. `share` (0..1): how much of the
    candidate's traffic comes from this node."""

    @property
    def slope(self) -> float: ...
    @property
    def offset(self) -> float: ...
    @property
    def capacity(self) -> float: ...
    @property
    def share(self) -> float: ...


C = TypeVar("C", bound=Scored)


class LoadAware(Generic[C]):
    """Every rebuild shuffles the lines once and keeps all rotations of the result. `pick` goes over the next rotation
    and takes the first of the lowest: candidates that tie take turns at no cost in the loop, and a candidate that
    stands behind worse ones, and so is the first of its equals more often, does so until the next rebuild only."""

    __slots__ = ("_candidates", "_ends", "_random", "_rng", "_rotations")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self._candidates: tuple[C, ...] = ()
        self._rotations: cycle[list[tuple[C, float, float]]] | None = None
        self._ends: list[float] = []

    def rebuild(self, candidates: Sequence[C]) -> None:
        self._candidates = tuple(candidates)
        self._rotations = None
        if scans(candidates):
            lines = [(candidate, candidate.slope, candidate.offset) for candidate in candidates]
            self._rng.shuffle(lines)
            self._rotations = cycle([lines[start:] + lines[:start] for start in range(len(lines))])
            return
        self._ends = list(accumulate(candidate.capacity for candidate in candidates))

    def pick(self, key: int) -> C:
        if self._rotations is None:
            return self._better_of_two()
        lowest = math.inf
        for candidate, slope, offset in next(self._rotations):
            score = candidate.in_flight * slope + offset
            if score <= lowest:
                lowest = score
                best = candidate
        return best

    def among(self, candidates: Sequence[C], key: int) -> C:
        """The lowest of all of them: what is tried again is rare, so parents do not herd by it."""
        start = int(self._random() * len(candidates))
        return min([*candidates[start:], *candidates[:start]], key=score_of)

    def _better_of_two(self) -> C:
        ends, last = self._ends, len(self._ends) - 1
        first = min(bisect_right(ends, self._random() * ends[last]), last)
        one = self._candidates[first]
        drawn = self._random() * (ends[last] - one.capacity)
        if drawn >= ends[first] - one.capacity:
            drawn += one.capacity
        other = self._candidates[min(bisect_right(ends, drawn), last)]
        return one if score_of(one) <= score_of(other) else other


def score_of(candidate: Scored) -> float:
    return candidate.in_flight * candidate.slope + candidate.offset


def scans(candidates: Sequence[Scored]) -> bool:
    """Whether this parent is to look at all of the candidates at each pick."""
    count = len(candidates)
    return count <= SCAN_AT_MOST and sum(c.share for c in candidates) >= SCAN_FROM_SHARE * count
