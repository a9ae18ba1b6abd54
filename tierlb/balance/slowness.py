"""How slow a host is, by the times of its answers: one twice as slow as another takes twice its time (BALANCING.md §3).

Each answer's time is divided by what its kind usually takes (balance/kinds.py). `value` is the mean of these ratios
over a window that fades with a time constant of 1 s, combined with the belief before. Items that have waited longer
than usual count before they are answered; a host that has stopped would otherwise be judged by its last answers only.
Parked items (balance/parking.py) do not count, because they wait for something else than the host.

A time contains the wait for a free slot, so a host that was sent more than its equals seems slower, and is sent less
next. Dividing the ratios by the items per slot (Little's law) was tried and rejected: a host that is avoided has no
items, so its last long times counted in full and those of its crowded siblings by a fraction. With short items among
long ones it stayed avoided, with free slots, for seconds. Routes of 2 and 200 ms at 85 % in virtual time, 20 seeds: p99
of the short ones is 1.18 times that of least-requests with the division and 1.08 times without.

An unknown host is assumed to be usual: a belief starts at the siblings' slowness and with few answers stays near it, so
that chance does not decide between equal hosts that have little to do.
"""

import math

import attrs

from tierlb.balance.chance import TickMeans
from tierlb.balance.kinds import Answers
from tierlb.balance.slowness_probe import Siblings, SlownessProbe

SHORTEST_WINDOW_S, LONGEST_WINDOW_S = 1.0, 10.0
ITEMS_PER_WINDOW = 3.0
"""A window is as long as so many items take at least: a shorter one would be empty between two answers."""
PRIOR = 16.0
"""The belief weighs as much as so many answers. The mean of 16 exponential times varies by a quarter."""
SWAY = 0.15
"""One answer changes the mean by this part at most. It is less than the factor by which hosts differ
(`capacity.ALIKE`), because a single stall at a host with little to do would else take all requests from it."""
BELIEF_MEMORY = 64.0
"""Answers over which the belief is averaged."""
PROBE_PRIOR = 1.0
"""The same in a probe. With more, a single item could never show a host to be `BETTER`, however fast it is."""
BEST_FROM = 32.0
"""Answers after which a belief counts as the best of the host: the mean of fewer is low by chance."""
FEW = 0.55
"""Added to ALIKE for a host without answers. Of 200 equal requests at low load, of which some stalled, the least used
of four hosts got 0.69 of its share on average without it (40 seeds), and gets 0.85 with it. With 1 a slow host is found
later: four nodes that share endpoints have a p99 of 68 ms after a slowdown instead of 61."""
FORGETS_S = 3.0
"""After so long without answers a third of the belief is left, at hosts that are not probed instead."""
LOWEST, HIGHEST = 1e-3, 1e6


@attrs.define(slots=True)
class Slowness:
    """One host. `value` is above zero. `typical` is the same without the items that wait, which is what answers are
    expected to show. `seen`: the answers behind the belief (0: nothing is known)."""

    value: float = 1.0
    typical: float = 1.0
    seen: float = 0.0
    siblings: Siblings = attrs.field(factory=Siblings)
    probe: SlownessProbe = attrs.field(factory=SlownessProbe)
    ticks: TickMeans = attrs.field(factory=TickMeans)
    _belief: float = 1.0
    _count: float = 0.0
    _ratios: float = 0.0

    @property
    def recent(self) -> float:
        """Answers of the window."""
        return self._count

    @property
    def likeness(self) -> float:
        """The factor by which it may seem slower than a host that is as fast, because of few answers."""
        return self.siblings.alike + FEW * PRIOR / (self._count + PRIOR)

    @property
    def highest(self) -> float:
        """The most that the ratio of a single answer counts: as much as changes the mean by a part `SWAY`."""
        return self.typical * SWAY * (self._count + PRIOR)

    def advance(self, dt_s: float, answers: Answers, *, usual_s: float, overdue: float, busy: bool) -> None:
        """`dt_s` have passed. `usual_s`: what the items of this pool usually take (0: unknown). `overdue`: the sum of
        the ratios by which waiting items are late. `busy`: whether items that compete for slots were there."""
        self.ticks.observe(dt_s, answers.count, answers.ratios)
        window = window_s(usual_s * self.value)
        kept = math.exp(-dt_s / window)
        self._count = self._count * kept + answers.count
        self._ratios = self._ratios * kept + answers.ratios
        if not answers.count and not busy:
            self.value = self.typical
            if self.probe.rest(dt_s, self.value, self.siblings, few_answers=self._count < PRIOR):
                self._count = self._ratios = 0.0
            return
        self.probe.end_rest(self.siblings.fastest)
        if self.probe.active:
            self._learn_in_probe(answers.count, overdue)
        else:
            self._learn(answers, overdue)

    def forget(self, dt_s: float) -> None:
        """Nothing was seen for so long: the belief counts less and less beside the siblings' slowness."""
        self.seen *= math.exp(-dt_s / FORGETS_S)

    def believe(self, value: float, seen: float) -> None:
        """It has changed: from now on this is believed, as if so many answers had shown it."""
        self.value = self.typical = self._belief = value
        self.seen = seen
        self._count = self._ratios = 0.0

    def _learn(self, answers: Answers, overdue: float) -> None:
        missing = PRIOR * (1 - self.seen / BELIEF_MEMORY)
        prior = (self.seen * self._belief + missing * self.siblings.middle) / (self.seen + missing)
        self.typical, self.value = self._mean(PRIOR, prior, 0.0), self._mean(PRIOR, prior, overdue)
        count = answers.count
        if count:
            self._belief += (answers.ratios / count - self._belief) * count / (count + self.seen)
            self.seen = min(BELIEF_MEMORY, self.seen + count)
            if self.seen >= BEST_FROM:
                self.probe.note_best(self._belief)

    def _learn_in_probe(self, count: int, overdue: float) -> None:
        """During a probe the belief stays what it was at the start, to compare with."""
        self.typical = self._mean(PROBE_PRIOR, self._belief, 0.0)
        self.value = self._mean(PROBE_PRIOR, self._belief, overdue)
        if count and self.probe.observe(count, self.value, self._belief):
            self._belief = self.value

    def _mean(self, weight: float, prior: float, overdue: float) -> float:
        value = (self._ratios + overdue + weight * prior) / (self._count + weight)
        return min(HIGHEST, max(LOWEST, value))


def window_s(item_s: float) -> float:
    """The length of the window: a second, but no less than a few items take."""
    return min(LONGEST_WINDOW_S, max(SHORTEST_WINDOW_S, ITEMS_PER_WINDOW * item_s))
