"""The rules a simulated node can choose by: the product's policies, and others to measure them against.

`Rule` names what the evidence in BALANCING.md compares: choosing by the last report alone, by perfect knowledge, and by
weights that follow the headroom a report tells. They read what a simulation can see and a node cannot, or
what a node had better not trust alone, so they are here and not among the policies.
"""

import enum
import random
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Protocol, TypeVar

from tierlb.balance.choosers import Candidate, Chooser, make_chooser
from tierlb.balance.least import two_of
from tierlb.balance.view import MemberView
from tierlb.model.topology import Policy

LEAST_HEADROOM = 0.02


class Rule(enum.Enum):
    """What a policy is measured against."""

    SHORTEST_BY_REPORT = "shortest by report"
    TWO_BY_REPORT = "two choices by report"
    PERFECT = "perfect knowledge"
    HEADROOM = "weights by headroom"


class Below(Protocol):
    """What a candidate really is."""

    @property
    def in_flight(self) -> int: ...


class Known(Candidate, Protocol):
    """A candidate of a simulation."""

    @property
    def view(self) -> MemberView: ...
    @property
    def below(self) -> Below: ...


K = TypeVar("K", bound=Known)


def chooser_for(rule: Policy | Rule, rng: random.Random) -> Chooser[K]:
    match rule:
        case Rule.SHORTEST_BY_REPORT:
            return ByReport(rng, two=False)
        case Rule.TWO_BY_REPORT:
            return ByReport(rng, two=True)
        case Rule.PERFECT:
            return Perfect(rng)
        case Rule.HEADROOM:
            return ByHeadroom(rng)
        case _:
            return make_chooser(rule, rng)


class ByReport(Chooser[K]):
    """The least items in flight by the last report, over capacity; where nothing was reported, by the own count."""

    def __init__(self, rng: random.Random, *, two: bool) -> None:
        self._rng = rng
        self._two = two
        self._candidates: Sequence[K] = ()

    def rebuild(self, candidates: Sequence[K]) -> None:
        self._candidates = candidates

    def pick(self, key: int) -> K:
        return self.among(self._candidates, key)

    def among(self, candidates: Sequence[K], key: int) -> K:
        if self._two and len(candidates) > 1:
            candidates = [candidates[index] for index in two_of(len(candidates), self._rng.random())]
        start = int(self._rng.random() * len(candidates))
        return min([*candidates[start:], *candidates[:start]], key=reported_score)


def reported_score(candidate: Known) -> float:
    heard = candidate.view.heard
    return ((candidate.in_flight if heard is None else heard.in_flight) + 1) / candidate.capacity


class Perfect(Chooser[K]):
    """The least items that really are in flight there, over capacity."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: Sequence[K] = ()

    def rebuild(self, candidates: Sequence[K]) -> None:
        self._candidates = candidates

    def pick(self, key: int) -> K:
        return self.among(self._candidates, key)

    def among(self, candidates: Sequence[K], key: int) -> K:
        start = int(self._rng.random() * len(candidates))
        return min([*candidates[start:], *candidates[:start]], key=true_score)


def true_score(candidate: Known) -> float:
    return (candidate.below.in_flight + 1) / candidate.capacity


class ByHeadroom(Chooser[K]):
    """At random, weighted by the capacity that the last report says is unused; least in flight where none came."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._candidates: Sequence[K] = ()
        self._ends: list[float] = []

    def rebuild(self, candidates: Sequence[K]) -> None:
        self._candidates = candidates
        self._ends = list(accumulate(map(headroom, candidates)))

    def pick(self, key: int) -> K:
        ends = self._ends
        return self._candidates[min(bisect_right(ends, self._rng.random() * ends[-1]), len(ends) - 1)]

    def among(self, candidates: Sequence[K], key: int) -> K:
        return max(candidates, key=headroom)


def headroom(candidate: Known) -> float:
    heard = candidate.view.heard
    used = 1 - 1 / (candidate.in_flight + 1) if heard is None else heard.utilisation
    return candidate.capacity * max(LEAST_HEADROOM, 1 - used)
