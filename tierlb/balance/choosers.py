"""Which of the candidates gets the next item.

Three things are kept apart, after finagle: *membership* decides who the candidates are and hands them in; the *load
metric* says how loaded one is (a key function, lowest wins); the *chooser* here only chooses. A chooser may keep
a little state of its own (where the round stands), never anything about a member.
"""

import random
from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from tierlb.model.topology import Policy

T = TypeVar("T")
Metric = Callable[[T], float]


class Chooser(Protocol[T]):
    """Takes a non-empty sequence, returns one of its items."""

    def __call__(self, candidates: Sequence[T]) -> T: ...


def make_chooser(policy: Policy, metric: Metric[T], rng: random.Random) -> Chooser[T]:
    """The chooser for a policy. The same seed and the same candidates give the same choices."""
    match policy:
        case Policy.RANDOM:
            return lambda candidates: rng.choice(candidates)
        case Policy.ROUND_ROBIN:
            return RoundRobin(rng)
        case Policy.LEAST_REQUESTS:
            return LeastLoaded(metric, rng)
        case Policy.TWO_CHOICES:
            return TwoChoices(metric, rng)


class RoundRobin(Generic[T]):
    """Each candidate in turn, from a random start so that many nodes do not march in step."""

    __slots__ = ("_turn",)

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)

    def __call__(self, candidates: Sequence[T]) -> T:
        self._turn = turn = self._turn + 1
        return candidates[turn % len(candidates)]


class LeastLoaded(Generic[T]):
    """The lowest metric; among equals in turn, so that an idle tier is used evenly.

    One pass in C (map, min, index): cheaper than a Python loop from two candidates on.
    """

    __slots__ = ("_metric", "_turn")

    def __init__(self, metric: Metric[T], rng: random.Random) -> None:
        self._metric = metric
        self._turn = rng.randrange(1 << 16)

    def __call__(self, candidates: Sequence[T]) -> T:
        loads = list(map(self._metric, candidates))
        lowest = min(loads)
        self._turn = turn = self._turn + 1
        start = turn % len(loads)
        try:
            return candidates[loads.index(lowest, start)]
        except ValueError:
            return candidates[loads.index(lowest)]


class TwoChoices(Generic[T]):
    """The less loaded of two drawn at random.

    Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing" (2001): nearly the tail of looking at
    all, and it does not stampede to the one that all balancers believe to be the least loaded.
    """

    __slots__ = ("_metric", "_rng")

    def __init__(self, metric: Metric[T], rng: random.Random) -> None:
        self._metric = metric
        self._rng = rng

    def __call__(self, candidates: Sequence[T]) -> T:
        count = len(candidates)
        if count == 1:
            return candidates[0]
        draw = int(self._rng.random() * count * (count - 1))
        first, offset = divmod(draw, count - 1)
        one, other = candidates[first], candidates[(first + 1 + offset) % count]
        return one if self._metric(one) <= self._metric(other) else other
