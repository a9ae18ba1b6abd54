"""A weighted split: which of several host sets gets the next item.

Each share is drawn by its weight. Where the host set drawn has no host that works, its traffic goes to the other
shares: to those with an available host, else to those whose hosts may be tried at last. A share of weight 0 gets
nothing, also when the others are empty. If no share is of use the drawn one answers, with the reason.

A host may be down before the node has noticed it. An item that failed there, and may be tried again, goes to another
share where its own has no other host (`other`).
"""

import random
from collections.abc import Callable, Collection, Sequence

from tierlb.balance.draws import Draws
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet


class Split:
    """The host sets of one `Send` and their fixed shares."""

    __slots__ = ("_draws", "_host_sets", "_random", "_weights")

    def __init__(self, host_sets: Sequence[HostSet], rng: random.Random) -> None:
        self._host_sets = host_sets
        shares = tuple(host_set.destination.targets for host_set in host_sets)
        for host_set in host_sets:
            host_set.join(shares, self.other)
        self._weights = [host_set.destination.weight for host_set in host_sets]
        self._draws = Draws(self._weights)
        self._random = rng.random

    def pick(self) -> HostSet:
        """The host set for the next item."""
        if len(self._host_sets) == 1:
            return self._host_sets[0]
        host_set = self._host_sets[self._draws.one(self._random())]
        return host_set if host_set.sound else self._instead(host_set)

    def parts(self) -> list[tuple[HostSet, float]]:
        """The part of all items that each host set gets now, by the same rules as `pick`; none if none is of use."""
        weighing = [(each, weight) for each, weight in zip(self._host_sets, self._weights, strict=True) if weight > 0]
        if len(self._host_sets) == 1:
            weighing = [(self._host_sets[0], 1.0)]
        used = [each for each in weighing if each[0].sound] or [each for each in weighing if each[0].available]
        total = sum(weight for _, weight in used)
        return [(host_set, weight / total) for host_set, weight in used]

    def other(self, tried: Collection[Host]) -> HostSet | None:
        """A host set for an item that failed at these hosts: one that has another host, if there is any."""
        return self._drawn_of(
            lambda host_set: host_set.sound and any(host not in tried for host in host_set.available)
        ) or self._drawn_of(lambda host_set: host_set.has_other(tried))

    def _instead(self, drawn: HostSet) -> HostSet:
        return (
            self._drawn_of(lambda host_set: host_set.sound)
            or self._drawn_of(lambda host_set: bool(host_set.available))
            or drawn
        )

    def _drawn_of(self, good: Callable[[HostSet], bool]) -> HostSet | None:
        shares = [
            (host_set, weight)
            for host_set, weight in zip(self._host_sets, self._weights, strict=True)
            if good(host_set)
        ]
        weighing = [(host_set, weight) for host_set, weight in shares if weight > 0]
        if not weighing:
            return None
        return weighing[Draws([weight for _, weight in weighing]).one(self._random())][0]
