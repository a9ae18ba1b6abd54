"""How much a leaf can do, learnt from outside: completions per busy time (BALANCING.md §3).

An endpoint with concurrency guess c is busy while items are in flight there, fully so with c of them. Over a window
that fades with time constant 1 s, capacity is c times the successes by the busy time, mixed with a little of what was
believed before. While nothing is in flight nothing is learnt and the last value holds.

Where several parents send to it, each sees its own items only, and the endpoint is full when this parent has its part
of c there: that is where busy time stops to grow. With all of c instead, three parents of an endpoint that is full take
it for half of what it is, since more than c items are there and none of the three sees them.
"""

import math
from collections.abc import Sequence

import attrs

from tierlb.balance.draws import relative

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 1.0, 10.0
RESPONSES_PER_WINDOW = 3.0
BELIEF_S = 1.0
"""How slowly the prior follows. If it were the last value itself, an endpoint whose items take seconds would lose its
capacity between two completions."""
CONCURRENCY = 8.0
"""The guess for an endpoint that does not say."""
PRIOR_S = 0.2
"""Busy seconds that the prior weighs against what the window holds, once it stands on that much itself. The first items
of a process are slow, and where items are few it would take hundreds to outweigh the first one by more."""
TRIAL_PRIOR_S = 0.02
"""The same on trial: a few items must be enough to believe in a recovery."""
BETTER = 1.5
TRIAL_ITEMS = 10
"""A trial goes on while it shows the endpoint to be this much better than was believed, and to that many items: by one
item alone nothing could be told from chance."""
FIRST_REST_S = 2.0
LONGEST_REST_S = 8.0
"""Between two trials of an endpoint that was better once: a recovery is to be seen within 10 s."""
LONGEST_REST_OF_THE_SLOW_S = 60.0
FLOOR = 0.02
"""Of the largest sibling: one that has recovered must be found again."""
LEAST_CAPACITY = 1e-6
"""Below one item in eleven days it is no capacity, and nothing may be divided by it."""
ALIKE = 1.5
SHORTEST_ITEM_S = 1e-6


@attrs.define
class LeafCapacity:
    """One endpoint. `capacity` is in items per second, of all `parents` together, None until the first completion.
    `guess` is how many items it works on at once, and may be set whenever the endpoint says.

    Better siblings starve a slow endpoint of items, so nothing would ever tell that it has recovered. One that had
    none for a while is therefore on `trial`: it is to get the next item, one at a time, until it has shown to be no
    better than was believed. Trials that change nothing become rarer.
    """

    guess: float = CONCURRENCY
    parents: int = 1
    capacity: float | None = None
    trial: bool = False
    _believed: float = 0.0
    _told_s: float = 0.0
    _steps: int = 0
    _done: float = 0.0
    _busy_s: float = 0.0
    _best: float = 0.0
    _idle_s: float = 0.0
    _rest_s: float = FIRST_REST_S
    _tried: int = 0

    def advance(self, dt_s: float, completions: int, busy_area_s: float) -> None:
        """`dt_s` have passed, with so many successes and this integral of items in flight over time."""
        kept = math.exp(-dt_s / window_s(self.guess, self._believed))
        self._done = self._done * kept + completions
        full = max(1.0, self.guess / self.parents)
        busy_s = min(busy_area_s, full * dt_s)
        self._busy_s, told_s = self._busy_s * kept + busy_s, self._told_s
        self._told_s += busy_s
        if busy_area_s <= 0:
            self._rest(dt_s)
        elif self.capacity is None:
            self._begin()
        elif self.trial:
            self._try(completions)
        else:
            self.capacity = self._learnt(min(PRIOR_S, told_s))
            self._steps += 1
            follow = max(1 / self._steps, 1 - math.exp(-dt_s / BELIEF_S))
            self._believed += (self.capacity - self._believed) * follow
            self._best, self._idle_s = max(self._best, self._believed), 0.0

    def _begin(self) -> None:
        if self._done:
            busy_s = max(self._busy_s, SHORTEST_ITEM_S * self._done)
            self.capacity = self._believed = self.guess * self._done / busy_s
            self.trial, self._steps = False, 1

    def _try(self, completions: int) -> None:
        """On trial `_believed` stays what it was at the start, to compare with."""
        self.capacity, self._idle_s = self._learnt(TRIAL_PRIOR_S), 0.0
        if not completions:
            return
        self._tried += completions
        better = self.capacity > BETTER * self._believed
        if better and self._tried < TRIAL_ITEMS:
            return
        self.trial, self._believed = False, self.capacity
        longest = LONGEST_REST_S if self.capacity * BETTER < self._best else LONGEST_REST_OF_THE_SLOW_S
        self._rest_s = FIRST_REST_S if better else min(longest, 2 * self._rest_s)

    def _learnt(self, prior_s: float) -> float:
        busy_s = max(self._busy_s + prior_s, SHORTEST_ITEM_S * max(1.0, self._done))
        return self.guess * (self._done + prior_s * self._believed / self.guess) / busy_s

    def _rest(self, dt_s: float) -> None:
        """Nothing was in flight: what was learnt holds."""
        self._idle_s += dt_s
        if not self.trial and self._idle_s >= self._rest_s:
            self.trial, self._tried, self._done, self._busy_s = True, 0, 0.0, 0.0


def window_s(concurrency: float, capacity: float) -> float:
    """How far back is looked: a second, but no less than a few of the endpoint's own response times."""
    if capacity <= 0:
        return SHORTEST_WINDOW_S
    return min(LONGEST_WINDOW_S, max(SHORTEST_WINDOW_S, RESPONSES_PER_WINDOW * concurrency / capacity))


def settle(capacities: Sequence[float | None]) -> list[float]:
    """Siblings' capacities as the pick takes them: none unknown, none next to nothing, equals equal.

    Unknown ones are taken for the mean of the known. Without the last step noise of a few per cent would decide
    every pick on an idle tier, and one of equal endpoints would get everything.
    """
    known = [capacity for capacity in capacities if capacity is not None]
    if not known or max(known) < LEAST_CAPACITY:
        return [1.0] * len(capacities)
    mean, floor = sum(known) / len(known), FLOOR * max(known)
    return evened([max(floor, mean if capacity is None else capacity) for capacity in capacities])


def stated_parts(stated: Sequence[float | None]) -> list[float] | None:
    """What endpoints said of their capacities (ORCA) as factors of their weights, for policies that go by weights alone
    (gRPC A58 does so in its weighted round robin). None where no endpoint said anything."""
    return None if all(capacity is None for capacity in stated) else relative(settle(stated))


def evened(capacities: Sequence[float]) -> list[float]:
    """From the largest down, those within `ALIKE` of the largest of their cluster get the cluster's mean."""
    order = sorted(range(len(capacities)), key=capacities.__getitem__, reverse=True)
    result = [0.0] * len(capacities)
    while order:
        largest = capacities[order[0]]
        cluster = [index for index in order if capacities[index] * ALIKE >= largest]
        mean = sum(capacities[index] for index in cluster) / len(cluster)
        for index in cluster:
            result[index] = mean
        order = order[len(cluster) :]
    return result
