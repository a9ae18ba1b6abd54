"""The policy `maglev`: a key goes to the same host on every node, and few keys move when the hosts change.

Maglev (Eisenbud et al., NSDI 2016, section 3.4): every host has its own permutation of a table's slots, and the hosts
take turns at claiming their next free one, in proportion to weight. A lookup is one index. Filling takes the same time
for weights of any ratio: a round skips hosts whose turn is not due yet.

Bounded load (Mirrokni et al. 2016): a host that has more than 1.25 times its part of the items in flight passes the key
on to the next slot. Weight changes below 5 % do not change the table, because jitter would remap keys for no benefit.
"""

import math
from collections.abc import Sequence
from itertools import count
from typing import Final, Generic, Protocol, TypeVar

from tierlb.balance.draws import relative, usable
from tierlb.balance.hashing import stable_hash
from tierlb.balance.least import Counted
from tierlb.balance.weighted import Weighed

TABLE: Final = 65537
BOUND: Final = 1.25
WEIGHT_DEADBAND: Final = 0.05
LONGEST_WALK: Final = 512
"""Slots that are tried for one key: enough to meet any of a hundred hosts with near certainty."""


class Keyed(Counted, Weighed, Protocol):
    """The hosts of this policy."""


MaglevHost = TypeVar("MaglevHost", bound=Keyed)


class Maglev(Generic[MaglevHost]):
    """A table is kept while its names contain those of the hosts: the keys of a missing host go to the next slots until
    it is back. Filling a table takes tens of milliseconds, and a node must not stop for that because a host was
    ejected."""

    __slots__ = ("_by_slot", "_hosts", "_shares", "_table", "_weights")

    def __init__(self) -> None:
        self._hosts: dict[str, MaglevHost] = {}
        self._weights: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._table: list[int] = []
        self._by_slot: list[MaglevHost | None] = []

    def rebuild(self, hosts: Sequence[MaglevHost]) -> None:
        self._hosts = {host.name: host for host in hosts}
        given = usable([host.weight for host in self._hosts.values()])
        weights = dict(zip(self._hosts, given, strict=True))
        if weights and not still_good(self._weights, weights):
            self._weights = dict(sorted(weights.items()))
            self._table = filled(self._weights)
        self._by_slot = [self._hosts.get(name) for name in self._weights]
        total = sum(weights.values())
        self._shares = {name: BOUND * weight / total for name, weight in weights.items()}

    def pick(self, key: int) -> MaglevHost:
        return self._walk(key, self._hosts)

    def among(self, hosts: Sequence[MaglevHost], key: int) -> MaglevHost:
        return self._walk(key, {host.name: host for host in hosts})

    def _walk(self, key: int, wanted: dict[str, MaglevHost]) -> MaglevHost:
        """The first host with room from the key's slot on; the first host at all if a few hundred slots have none."""
        table, by_slot, shares = self._table or [0], self._by_slot or [None], self._shares
        in_flight = -1
        first: MaglevHost | None = None
        for slot in range(key, key + LONGEST_WALK):
            host = by_slot[table[slot % len(table)]]
            if host is None or host.name not in wanted:
                continue
            if not host.in_flight:
                return host
            if in_flight < 0:
                in_flight = 1 + sum(other.in_flight for other in self._hosts.values())
            if host.in_flight < shares[host.name] * in_flight:
                return host
            first = first or host
        return first or min(wanted.values(), key=lambda host: host.in_flight)


def still_good(before: dict[str, float], now: dict[str, float]) -> bool:
    """Whether a table for the weights `before` serves `now`: no new name, half of the old ones still there, and no
    weight, relative to the others, more than `WEIGHT_DEADBAND` off."""
    if not now.keys() <= before.keys() or 2 * len(now) < len(before):
        return False
    kept = sum(before[name] for name in now)
    if not kept:
        return False
    scale = sum(now.values()) / kept
    return all(
        abs(weight - before[name] * scale) <= WEIGHT_DEADBAND * before[name] * scale for name, weight in now.items()
    )


def filled(weights: dict[str, float], size: int = TABLE) -> list[int]:
    """The table: for every slot the position of a name in `weights`. Depends on names and weights only, if sorted.
    `size` is prime."""
    gains = relative(list(weights.values()))
    steps = [permutation(name, size) for name in weights]
    at = [start for start, _ in steps]
    claimed = [0] * len(gains)
    always = [index for index, gain in enumerate(gains) if gain == 1]
    due: dict[int, list[int]] = {}
    for index, gain in enumerate(gains):
        if 1 > gain >= 1 / size:  # those below claim nothing: the heaviest claims a slot in each round
            due.setdefault(math.ceil(1 / gain), []).append(index)
    table = [-1] * size
    free = size
    for turn in count(1):
        for index in sorted(always + due.pop(turn)) if turn in due else always:
            slot, step = at[index], steps[index][1]
            while table[slot] >= 0:
                slot = (slot + step) % size
            table[slot] = index
            at[index] = slot
            free -= 1
            if not free:
                return table
            if gains[index] < 1:
                claimed[index] += 1
                due.setdefault(math.ceil((claimed[index] + 1) / gains[index]), []).append(index)
    raise AssertionError("a table has an end")


def permutation(name: str, size: int = TABLE) -> tuple[int, int]:
    """Where a name starts in the table and how far it steps; the size is prime, so it visits every slot."""
    text = name.encode()
    return stable_hash(b"start " + text) % size, stable_hash(b"step " + text) % (size - 1) + 1
