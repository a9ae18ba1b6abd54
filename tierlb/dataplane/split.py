"""A weighted split: which of several groups gets the next item.

Each share is drawn by its weight. Where the group drawn has no host that works, its traffic goes to the other shares:
to those with an available host, else to those whose hosts may be tried at last. A share of weight 0 gets nothing, also
when the others are empty. If no share is of use the drawn one answers, which says why.

A host may be down before the node knows it. An item that failed there, and may be tried again, goes to another share
where its own has no other host (`other`).
"""

import random
from collections.abc import Callable, Collection, Sequence

from tierlb.balance.draws import Draws
from tierlb.dataplane.roster import Candidate, Group


class Split:
    """The groups of one `Send` and their fixed shares."""

    __slots__ = ("_draws", "_groups", "_random", "_weights")

    def __init__(self, groups: Sequence[Group], rng: random.Random) -> None:
        self._groups = groups
        for group in groups:
            group.split = self
        self._weights = [group.destination.weight for group in groups]
        self._draws = Draws(self._weights)
        self._random = rng.random

    @property
    def shares(self) -> tuple[tuple[str, ...], ...]:
        """The targets of each."""
        return tuple(group.destination.targets for group in self._groups)

    def pick(self) -> Group:
        """The group for the next item."""
        if len(self._groups) == 1:
            return self._groups[0]
        group = self._groups[self._draws.one(self._random())]
        return group if group.sound else self._instead(group)

    def other(self, tried: Collection[Candidate]) -> Group | None:
        """A group for an item that failed at these hosts: one that has another host, if there is any."""
        return self._drawn_of(
            lambda group: group.sound and any(candidate not in tried for candidate in group.available)
        ) or self._drawn_of(lambda group: group.has_other(tried))

    def _instead(self, drawn: Group) -> Group:
        return self._drawn_of(lambda group: group.sound) or self._drawn_of(lambda group: bool(group.available)) or drawn

    def _drawn_of(self, good: Callable[[Group], bool]) -> Group | None:
        shares = [(group, weight) for group, weight in zip(self._groups, self._weights, strict=True) if good(group)]
        weighing = [(group, weight) for group, weight in shares if weight > 0]
        if not weighing:
            return None
        return weighing[Draws([weight for _, weight in weighing]).one(self._random())][0]
