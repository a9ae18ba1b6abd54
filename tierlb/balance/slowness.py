"""How slow a host is by what it answers: twice as slow as another takes twice its time (BALANCING.md §3).

Each answer's time is divided by what its kind usually takes (balance/kinds.py); `value` is the mean of these ratios
over a window that fades with time constant 1 s, together with what was believed before. Items that have waited longer
than usual count before they are answered, or a host that has stopped would be found out by its last answers only.
Parked items (balance/parking.py) are not among them: they wait for something else than the host.

A time contains the wait for a free slot, so a host that was sent more than its equals seems slower, and is sent less
next. Dividing the ratios by the items per slot (Little's law) was tried and taken back: a host that is avoided has no
items, so its last long times counted in full and those of the crowded others by a fraction. With short items among long
ones it stayed avoided, with free slots, for seconds. Routes of 2 and 200 ms at 85 % in virtual time, 20 seeds: p99 of
the short ones is 1.18 times that of least-requests with the division and 1.08 times without.

What is not known is taken for usual: a belief starts where the siblings are and with few answers stays near that, so
that chance does not decide between equal hosts that have little to do.
"""

import math

import attrs

from tierlb.balance.capacity import ALIKE
from tierlb.balance.chance import TickMeans
from tierlb.balance.kinds import Answers

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 1.0, 10.0
ITEMS_PER_WINDOW = 3.0
"""Times that an item takes: a window shorter than this would be empty between two answers."""
PRIOR = 16.0
"""Answers that the belief weighs as much as. The mean of 16 exponential times varies by a quarter."""
SWAY = 0.15
"""Less than what makes a host differ from its equals (`capacity.ALIKE`), or a single stall at a host with little to do
would take all requests from it."""
MEMORY = 64.0
"""Answers over which the belief is averaged."""
TRIAL_PRIOR = 1.0
"""The same on trial. With more, a single item could never show a host to be `BETTER`, however fast it is."""
BETTER = 1.5
TRIAL_ITEMS = 10
"""A trial goes on while it shows the host to be this much better than was believed, and to that many items: by one
item alone nothing could be told from chance."""
TRIED_FROM = 1.25
"""One that is less slow than this beside its siblings is not starved by them and needs no trial."""
FIRST_REST_S = 2.0
LONGEST_REST_S = 8.0
"""Between two trials of a host that was better once: a recovery is to be seen within 10 s."""
LONGEST_REST_OF_THE_SLOW_S = 60.0
NEAR, SOONER = 3.0, 0.25
"""One that is less slow than this beside its siblings, by fewer answers than PRIOR, is tried again after so much of its
rest. It may be their equal: some stall when others do not, and those that go on being used become faster as a machine
warms up or has less to do, while one at rest stays what it was. Without this one of four equal hosts got less than half
of its share of 200 items in 2 of 24 runs (tests/simulation/test_light_traffic.py). Where times vary from tick to tick
(balance/chance.py) that goes for one with many answers too, which may only have held long items for a while."""
SOON_S = 0.25
"""The rest of a host whose siblings were slow with it and of which one is well again: most likely it is, too."""
BEST_FROM = 32.0
"""Answers after which a belief counts as what the host can do at best: the mean of fewer is low by chance."""
FEW = 0.55
"""Added to ALIKE for a host without answers. From 200 equal requests at rest, of which some stalled, the least of four
hosts got 0.69 of its share in the mean without it (40 seeds) and gets 0.85. With 1 a slow host is found later: four
nodes that share endpoints have a p99 of 68 ms after a slowdown instead of 61."""
FORGETS_S = 3.0
"""A third of what is believed of a host without answers is left after so long, where it is not tried instead."""
LOWEST, HIGHEST = 1e-3, 1e6


@attrs.define(slots=True)
class Slowness:
    """One host. `value` is above zero; `typical` is the same without the items that wait, which is what answers are
    expected to show; `seen`: answers that the belief stands on (0: nothing is known). `siblings`: the
    middle of their values, `fastest` the least (itself included): when all were slow and one has recovered, the middle
    is of those that were not asked since. `alike`: by what factor equal ones among them may differ (balance/chance.py).

    Better siblings starve a slow host of items, so nothing would ever tell that it has recovered. One that had none for
    a while is therefore on `trial`: it is to get the next item, one at a time, until it has shown to be no better than
    was believed. Trials that change nothing become rarer.
    """

    value: float = 1.0
    typical: float = 1.0
    seen: float = 0.0
    trial: bool = False
    siblings: float = 1.0
    fastest: float = math.inf
    alike: float = ALIKE
    ticks: TickMeans = attrs.field(factory=TickMeans)
    _belief: float = 1.0
    _count: float = 0.0
    _ratios: float = 0.0
    _best: float = math.inf
    _beside: float = math.inf
    _idle_s: float = 0.0
    _rest_s: float = FIRST_REST_S
    _tried: int = 0

    @property
    def recent(self) -> float:
        """Answers of the window."""
        return self._count

    @property
    def likeness(self) -> float:
        """By what factor it may seem slower than a host that is as fast, from so few answers."""
        return self.alike + FEW * PRIOR / (self._count + PRIOR)

    @property
    def highest(self) -> float:
        """What the ratio of a single answer counts at most: as much as changes the mean by a `SWAY` of what it is."""
        return self.typical * SWAY * (self._count + PRIOR)

    def advance(self, dt_s: float, answers: Answers, *, usual_s: float, overdue: float, busy: bool) -> None:
        """`dt_s` have passed. `usual_s`: what the items of this pool usually take (0: unknown). `overdue`: the sum of
        the ratios by which waiting items are late. `busy`: whether items that compete were there."""
        self.ticks.observe(dt_s, answers.count, answers.ratios)
        window = window_s(usual_s * self.value)
        kept = math.exp(-dt_s / window)
        self._count = self._count * kept + answers.count
        self._ratios = self._ratios * kept + answers.ratios
        if not answers.count and not busy:
            self._rest(dt_s)
            return
        self._idle_s, self._beside = 0.0, self.fastest
        if self.trial:
            self._try(answers.count, overdue)
            return
        shy = PRIOR * (1 - self.seen / MEMORY)
        prior = (self.seen * self._belief + shy * self.siblings) / (self.seen + shy)
        self.typical, self.value = self._mean(PRIOR, prior, 0.0), self._mean(PRIOR, prior, overdue)
        count = answers.count
        if count:
            self._belief += (answers.ratios / count - self._belief) * count / (count + self.seen)
            self.seen = min(MEMORY, self.seen + count)
            if self.seen >= BEST_FROM:
                self._best = min(self._best, self._belief)

    def forget(self, dt_s: float) -> None:
        """Nothing was seen for so long: what was learnt counts for less and less beside what the siblings are."""
        self.seen *= math.exp(-dt_s / FORGETS_S)

    def believe(self, value: float, seen: float) -> None:
        """It has changed: from now on this is believed, as if it stood on so many answers."""
        self.value = self.typical = self._belief = value
        self.seen = seen
        self._count = self._ratios = 0.0

    def _mean(self, weight: float, prior: float, overdue: float) -> float:
        value = (self._ratios + overdue + weight * prior) / (self._count + weight)
        return min(HIGHEST, max(LOWEST, value))

    def _try(self, count: int, overdue: float) -> None:
        """On trial the belief stays what it was at the start, to compare with."""
        self.typical = self._mean(TRIAL_PRIOR, self._belief, 0.0)
        self.value = self._mean(TRIAL_PRIOR, self._belief, overdue)
        if not count:
            return
        self._tried += count
        better = self.value * BETTER < self._belief
        if better and self._tried < TRIAL_ITEMS:
            return
        self.trial, self._belief = False, self.value
        longest = LONGEST_REST_S if self.value > BETTER * self._best else LONGEST_REST_OF_THE_SLOW_S
        self._rest_s = FIRST_REST_S if better else min(longest, 2 * self._rest_s)

    def _rest(self, dt_s: float) -> None:
        """Nothing was in flight: what was learnt from answers holds."""
        self._idle_s += dt_s
        self.value = self.typical
        if self.fastest * BETTER < self._beside < math.inf:
            self._rest_s, self._beside = SOON_S, self.fastest
        beside = self.value / min(self.fastest, self.siblings)
        varies = self.alike > ALIKE
        may_be_equal = beside < NEAR * self.alike / ALIKE and (varies or self._count < PRIOR)
        rest_s = self._rest_s * (SOONER if may_be_equal else 1)
        if not self.trial and self._idle_s >= rest_s and beside > TRIED_FROM:
            self.trial, self._tried, self._count, self._ratios = True, 0, 0.0, 0.0


def window_s(item_s: float) -> float:
    """How far back is looked: a second, but no less than a few items take."""
    return min(LONGEST_WINDOW_S, max(SHORTEST_WINDOW_S, ITEMS_PER_WINDOW * item_s))
