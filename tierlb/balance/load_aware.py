"""The chooser of `balance: load-aware`: the lowest predicted queue over capacity (BALANCING.md §2).

The cost of a host is linear in its own in-flight count, `in_flight * slope + offset`, which others work out
(cost.py) between rebuilds. A parent that sends a fair part of its hosts' traffic looks at all of them. One
of many parents looks at two, drawn by capacity: all parents act on the same reports, and if each took the best of all,
the best would be flooded until the next report.

Weights are in the costs already: a queue counts by its host's weight (`balance.load_estimate`). Hosts whose scores
are the same, as on an idle tier, take turns; where weights differ, as often as those say (`balance.weighted.handicap`).
"""

import functools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, alike, relative
from tierlb.balance.least import Counting
from tierlb.balance.weighted import SmoothTurns, handicap

SCAN_AT_MOST = 32
SCAN_FROM_SHARE = 0.2
"""A parent that sends this much of its hosts' traffic sees most of their queue itself."""

NO_FIGURE = (1e300, 1e300)
"""The slope and offset of a host that has none: worse than all others, and a number, so that the lowest exists."""


class Scored(Counting, Protocol):
    """The hosts of this policy. `capacity`: items per second, above zero. `share` (0..1): how much of the
    host's traffic comes from this node. `parked`: items in flight that are parked,
    `left_out`: how many items the cost leaves out."""

    @property
    def slope(self) -> float: ...
    @property
    def left_out(self) -> float: ...
    @property
    def parked(self) -> int: ...
    @property
    def offset(self) -> float: ...
    @property
    def capacity(self) -> float: ...
    @property
    def share(self) -> float: ...


C = TypeVar("C", bound=Scored)


class LoadAware(Generic[C]):
    """Every rebuild shuffles the lines once and keeps all rotations of the result. `pick` goes over the next rotation
    and takes the last of the lowest: hosts that tie take turns at no cost in the loop, and a host that
    stands before worse ones, and so is the last of its equals more often, does so until the next rebuild only."""

    __slots__ = ("_draws", "_hosts", "_random", "_rng", "_rotations", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self._hosts: tuple[C, ...] = ()
        self._rotations: Iterator[list[tuple[C, float, float]]] | None = None
        self._draws = Draws(())
        self._turns = SmoothTurns(rng)

    def rebuild(self, hosts: Sequence[C]) -> None:
        self._hosts = tuple(hosts)
        self._rotations = None
        weights = [host.weight for host in hosts]
        if not scans(hosts):
            self._draws = Draws([each.capacity * weight for each, weight in zip(hosts, weights, strict=True)])
        elif alike(weights):
            self._rotations = cycle(self._rotated(hosts))
        else:
            self._turns.rebuild(hosts)
            parts = relative(weights)
            cost_lines = list(zip(self._cost_lines(hosts), parts, strict=True))
            self._rotations = map(
                functools.lru_cache(functools.partial(_ending, cost_lines)), iter(self._turns.turn, -1)
            )

    def _rotated(self, hosts: Sequence[C]) -> list[list[tuple[C, float, float]]]:
        cost_lines = self._cost_lines(hosts)
        self._rng.shuffle(cost_lines)
        return [cost_lines[start:] + cost_lines[:start] for start in range(len(cost_lines))]

    def _cost_lines(self, hosts: Sequence[C]) -> list[tuple[C, float, float]]:
        return [
            (each, each.slope, each.offset) if math.isfinite(each.slope + each.offset) else (each, *NO_FIGURE)
            for each in hosts
        ]

    def pick(self, key: int) -> C:
        if self._rotations is None:
            return self._better_of_two()
        lowest = math.inf
        for host, slope, offset in next(self._rotations):
            score = host.in_flight * slope + offset
            if score <= lowest:
                lowest = score
                best = host
        return best

    def among(self, hosts: Sequence[C], key: int) -> C:
        """The lowest of all of them: what is tried again is rare, so parents do not herd by it."""
        start = int(self._random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=score_of)

    def for_long(self, hosts: Iterable[C]) -> C | None:
        """For an item that will be parked. The queue of short ones does not matter to it, and the lines leave parked
        items out, so that they would gather anywhere: among themselves they count by capacity and errors."""
        order = list(hosts)
        self._rng.shuffle(order)
        return min(order, key=_among_long, default=None)

    def _better_of_two(self) -> C:
        first, second = self._draws.two(self._random(), self._random())
        one, other = self._hosts[first], self._hosts[second]
        score = score_of(other)
        if one.weight > other.weight:
            score += other.slope * handicap(other.weight, one.weight)
        return one if score_of(one) <= score else other


def _ending(cost_lines: Sequence[tuple[tuple[C, float, float], float]], turn: int) -> list[tuple[C, float, float]]:
    """The lines as they are to be gone over when it is the turn of one, which stands last; the others have their
    handicap."""
    own = cost_lines[turn][1]
    ordered = [*cost_lines[turn + 1 :], *cost_lines[:turn]]
    handicapped = [(each, slope, offset + slope * handicap(part, own)) for (each, slope, offset), part in ordered]
    return [*handicapped, cost_lines[turn][0]]


def _among_long(host: Scored) -> tuple[float, float]:
    return host.offset + (host.left_out + host.parked) * host.slope, score_of(host)


def score_of(host: Scored) -> float:
    return host.in_flight * host.slope + host.offset


def scans(hosts: Sequence[Scored]) -> bool:
    """Whether this parent is to look at all of the hosts at each pick."""
    count = len(hosts)
    return count <= SCAN_AT_MOST and sum(c.share for c in hosts) >= SCAN_FROM_SHARE * count
