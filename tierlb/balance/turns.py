"""Choosers that ignore load: round robin and random. Both use weights where these differ."""

import random
from collections.abc import Sequence
from typing import Generic, TypeVar

from tierlb.balance.draws import Draws, alike
from tierlb.balance.weighted import SmoothWeighted, Weighed

TurnHost = TypeVar("TurnHost", bound=Weighed)


class RoundRobin(Generic[TurnHost]):
    """Each host in turn, from a random start, so that many nodes are not in step."""

    __slots__ = ("_alike", "_by_weight", "_hosts", "_turn")

    def __init__(self, rng: random.Random) -> None:
        self._turn = rng.randrange(1 << 16)
        self._hosts: tuple[TurnHost, ...] = ()
        self._alike = True
        self._by_weight: SmoothWeighted[TurnHost] = SmoothWeighted(rng)

    def rebuild(self, hosts: Sequence[TurnHost]) -> None:
        self._hosts = tuple(hosts)
        self._alike = alike([host.weight for host in hosts])
        if not self._alike:
            self._by_weight.rebuild(hosts)

    def pick(self, key: int) -> TurnHost:
        if not self._alike:
            return self._by_weight.pick(key)
        self._turn = turn = self._turn + 1
        hosts = self._hosts
        return hosts[turn % len(hosts)]

    def among(self, hosts: Sequence[TurnHost], key: int) -> TurnHost:
        if not self._alike:
            return self._by_weight.among(hosts, key)
        self._turn = turn = self._turn + 1
        return hosts[turn % len(hosts)]


class RandomTurns(Generic[TurnHost]):
    """A random host, with a probability in proportion to its weight."""

    __slots__ = ("_draws", "_hosts", "_random")

    def __init__(self, rng: random.Random) -> None:
        self._random = rng.random
        self._hosts: tuple[TurnHost, ...] = ()
        self._draws: Draws | None = None

    def rebuild(self, hosts: Sequence[TurnHost]) -> None:
        self._hosts = tuple(hosts)
        weights = [host.weight for host in hosts]
        self._draws = None if alike(weights) else Draws(weights)

    def pick(self, key: int) -> TurnHost:
        hosts = self._hosts
        if self._draws is not None:
            return hosts[self._draws.one(self._random())]
        return hosts[int(self._random() * len(hosts))]

    def among(self, hosts: Sequence[TurnHost], key: int) -> TurnHost:
        return hosts[Draws([host.weight for host in hosts]).one(self._random())]
