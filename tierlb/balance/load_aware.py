"""The chooser of `balance: load-aware`: the lowest predicted queue by capacity (BALANCING.md §2).

The cost of a host is linear in its own in-flight count, `in_flight * slope + offset`. Slope and offset are computed
elsewhere (cost.py) between rebuilds. A parent that sends a fair part of its hosts' traffic compares all of them. One of
many parents compares two, drawn by capacity: all parents act on the same reports, and if each took the best of all,
that host would be flooded until the next report.

Weights are part of the costs (`balance.load_estimate`). Hosts of equal cost, as on an idle tier, take turns, in
proportion to their weights (`balance.weighted.handicap`).
"""

import functools
import math
import random
from collections.abc import Iterable, Iterator, Sequence
from itertools import cycle
from typing import Final, Generic, Protocol, TypeVar

from tierlb.balance.draws import Draws, alike, relative
from tierlb.balance.least import Counting
from tierlb.balance.weighted import SmoothTurns, handicap

SCAN_AT_MOST: Final = 32
SCAN_FROM_SHARE: Final = 0.2
"""A parent that sends this part of its hosts' traffic sees most of their queue itself."""

NO_FIGURE: Final = (1e300, 1e300)
"""The cost of a host whose own is not finite: worse than all others, and finite, so that the lowest exists."""


class Costed(Counting, Protocol):
    """The hosts of this policy. `capacity`: items per second, above zero. `share` (0..1): how much of the host's
    traffic comes from this node. `parked`: items in flight that are parked. `left_out`: how many items the cost leaves
    out."""

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


LoadAwareHost = TypeVar("LoadAwareHost", bound=Costed)


class LoadAware(Generic[LoadAwareHost]):
    """Every rebuild shuffles the costs once and keeps all rotations of the result. `pick` goes through the next
    rotation and takes the last of the lowest, so that hosts of equal cost take turns without work in the loop. A host
    that precedes worse ones is the last of its equals more often, but only until the next rebuild."""

    __slots__ = ("_draws", "_hosts", "_random", "_rng", "_rotations", "_turns")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._random = rng.random
        self._hosts: tuple[LoadAwareHost, ...] = ()
        self._rotations: Iterator[list[tuple[LoadAwareHost, float, float]]] | None = None
        self._draws = Draws(())
        self._turns = SmoothTurns(rng)

    def rebuild(self, hosts: Sequence[LoadAwareHost]) -> None:
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
            costs = list(zip(self._costs(hosts), parts, strict=True))
            self._rotations = map(
                functools.lru_cache(functools.partial(_ending_soon, costs)), iter(self._turns.turn, -1)
            )

    def _rotated(self, hosts: Sequence[LoadAwareHost]) -> list[list[tuple[LoadAwareHost, float, float]]]:
        costs = self._costs(hosts)
        self._rng.shuffle(costs)
        return [costs[start:] + costs[:start] for start in range(len(costs))]

    def _costs(self, hosts: Sequence[LoadAwareHost]) -> list[tuple[LoadAwareHost, float, float]]:
        return [
            (each, each.slope, each.offset) if math.isfinite(each.slope + each.offset) else (each, *NO_FIGURE)
            for each in hosts
        ]

    def pick(self, key: int) -> LoadAwareHost:
        if self._rotations is None:
            return self._better_of_two()
        lowest = math.inf
        for host, slope, offset in next(self._rotations):
            cost = host.in_flight * slope + offset
            if cost <= lowest:
                lowest = cost
                best = host
        return best

    def among(self, hosts: Sequence[LoadAwareHost], key: int) -> LoadAwareHost:
        """The lowest of all: retries are rare, so that parents do not all choose the same host."""
        start = int(self._random() * len(hosts))
        return min([*hosts[start:], *hosts[:start]], key=cost_of)

    def for_long(self, hosts: Iterable[LoadAwareHost]) -> LoadAwareHost | None:
        """The host for an item that will be parked. The queue of short items does not matter to it, and costs leave
        parked items out, so that they would gather at any host. Among themselves they are distributed by capacity and
        errors."""
        order = list(hosts)
        self._rng.shuffle(order)
        return min(order, key=_among_long, default=None)

    def _better_of_two(self) -> LoadAwareHost:
        first, second = self._draws.two(self._random(), self._random())
        one, other = self._hosts[first], self._hosts[second]
        cost = cost_of(other)
        if one.weight > other.weight:
            cost += other.slope * handicap(other.weight, one.weight)
        return one if cost_of(one) <= cost else other


def _ending_soon(
    costs: Sequence[tuple[tuple[LoadAwareHost, float, float], float]], turn: int
) -> list[tuple[LoadAwareHost, float, float]]:
    """The costs in the order for a turn: the host whose turn it is stands last, the others have their handicap."""
    own = costs[turn][1]
    ordered = [*costs[turn + 1 :], *costs[:turn]]
    handicapped = [(each, slope, offset + slope * handicap(part, own)) for (each, slope, offset), part in ordered]
    return [*handicapped, costs[turn][0]]


def _among_long(host: Costed) -> tuple[float, float]:
    return host.offset + (host.left_out + host.parked) * host.slope, cost_of(host)


def cost_of(host: Costed) -> float:
    return host.in_flight * host.slope + host.offset


def scans(hosts: Sequence[Costed]) -> bool:
    """Whether this parent is to look at all of the hosts at each pick."""
    count = len(hosts)
    return count <= SCAN_AT_MOST and sum(c.share for c in hosts) >= SCAN_FROM_SHARE * count
