"""How many items an endpoint works on at once, learnt from outside: its slots.

An endpoint with c slots and mean service time S answers an item after S·max(1, n/c), where n is how many items were
there as it began, itself included: the mean wait is that of n − c departures. So times are flat in n up to c and grow
with n from there. The bend is the number of slots, whatever the speed is.

`n` has to be that of each item's own beginning. It does not depend on how long this item will take, while the mean in
flight over a tick does: n·dt is the sum of the times of the items in it (Little's law), so that ticks with long items
look crowded, and an endpoint without any limit looks saturated. In a simulation of exponential services of 10 ms, ticks
of 50 ms made 16 slots at a load of 30 % look like 6, and 2 slots at 85 % like 1; by the items' own n both are right.

Numbers of slots compete as hypotheses (`SLOT_HYPOTHESES`; the last one is no limit). Each divides the times by the
delay that it predicts for n. With the right one the times no longer depend on n, within a window and from one window to
the next. A misfit is added to the loss of its hypothesis, and the losses are kept as differences to the best.

* A change of speed changes all times alike. It spoils one window, in which no hypothesis fits, and the loss of a window
  is bounded; the next ones are compared with the new level.
* Losses do not fade but are bounded, so that what was learnt holds while there is no evidence against it, and a change
  of the slots is found after some ten busy windows.
* Times are summed by their usual times and not averaged as ratios: of a short and a long item that wait for one another
  the short one's ratio is huge. The sum of times by the sum of usual times obeys Little's law for any mix.

Not known are the items of other nodes at the same endpoint. Of three parents that count their own items only, each
learns about half of the slots (simulated: 5 or 6 of 12, 2 or 3 of 4), which is more than its part and less than all.
With the mean number of the others' items added to n (`LoadEstimate.learn_slots`) each learns nearly all of them.
"""

import itertools
import math
from bisect import bisect_left
from collections.abc import Iterable, Sequence

import attrs

SLOT_HYPOTHESES = (
    *(float(slots) for slots in range(1, 8)),
    *(step * 2.0**octave for octave in range(3, 9) for step in (1, 1.25, 1.5)),
    512.0,
    math.inf,
)
"""The hypotheses. The result may lie between them: those that fit about as well are averaged."""
_BETWEEN_HYPOTHESES = [math.sqrt(one * next_one) for one, next_one in itertools.pairwise(SLOT_HYPOTHESES)]
"""Between two neighbours, the number that is as many times the one as the other is it."""
MOST_SLOTS = SLOT_HYPOTHESES[-2]
"""The largest number among them. An infinite capacity could be neither compared nor reported."""
MOST_IN_FLIGHT = 1024
"""More items than this count as so many."""
BIN_WIDTH = 0.19
"""Numbers in flight that differ by less than this part share a bin."""
SLOT_WINDOW_S = 1.0
WINDOW_ITEMS = 30.0
"""A window is no shorter than this and has so many items, or more where times vary more than exponential ones do."""
MODEL_ERROR = 0.1
"""How far the mean time at some number in flight may be from the formula, however many items it is the mean of. Items
of constant service wait half a service less than exponential ones."""
DRIFT = 0.05
"""By how much the speed may change from one window to the next, as a standard deviation of its logarithm."""
JUMP = 0.7
"""A level that has changed by more than a factor of two is replaced at once, not approached."""
FIRST_NOISE = 2.0
NOISE_ITEMS = 20.0
"""The variance of times by their mean squared before anything is known (1: exponential), and how many items outweigh
it."""
NOISE_KEPT = 0.95
LEAST_NOISE, MOST_NOISE = 0.25, 8.0
"""Limits for times that hardly vary, since the formula is not exact, and for windows, which would become too long."""
LEVEL_LOSS = 4.0
WINDOW_LOSS = 4.0
"""The most that a change of level and a whole window add. A few extreme items or one change of speed must not decide:
it takes three windows to exceed `DECISIVE`."""
DECISIVE = 10.0
MOST_LOSS = 36.0
"""A hypothesis this far behind the best is excluded. None falls further behind than MOST_LOSS, so that it can come back
within ten windows."""
NARROW = 2.0
"""Slots are known when the remaining hypotheses are within this factor."""

SHORTEST_SUM_S = 1e-9
"""Bins whose times add up to less than a clock measures are left out: their logarithm is taken."""

BinRow = tuple[float, float, int]
"""A bin of a window: its weight, its time by the usual one, and its place."""


def binned(most: int) -> tuple[list[int], list[float]]:
    """The bin of every number in flight up to `most`, and the mean number of every bin."""
    bins: list[int] = [0]
    centres: list[float] = []
    first = 1
    while first <= most:
        width = max(1, int(first * BIN_WIDTH))
        bins += [len(centres)] * width
        centres.append(first + (width - 1) / 2)
        first += width
    return bins[: most + 1], centres


BINS, CENTRES = binned(MOST_IN_FLIGHT)
COSTS = [
    [(slots / centre - 1, math.log(slots / centre)) for slots in SLOT_HYPOTHESES if slots < centre]
    for centre in CENTRES
]
"""For every bin the corrections by the hypotheses with fewer slots: without the wait a time is this part shorter, and
its logarithm so much lower. The other hypotheses correct nothing."""


def nearest_hypothesis(slots: float) -> int:
    """The place of the hypothesis that differs from so many slots by the smallest factor."""
    return bisect_left(_BETWEEN_HYPOTHESES, slots)


@attrs.define(slots=True)
class Concurrency:
    """One endpoint. Call `add` with its answers as they come, or per tick, `wait` once per tick, and `close` when
    `is_due`, which is what takes time (60 µs).

    `slots`: how many items it works on at once; None until that was known for the first time. `known`: the evidence is
    for it now. Once known the value stays when it is no longer certain, within what is still possible. `at_least` and
    `at_most`: neither fewer slots nor more would explain the times, be the rest known or not; `within` is for a guess.

    An endpoint that is never saturated is not known, and `at_least` is then near the most that it had in flight. One
    that always is (its siblings have more slots and all queues are equal) is not known either, and `at_most` is then
    near the least that it had. What it completes at most, the slots by `slowness_at` these, in usual times per second,
    is the same by all hypotheses that are left there.

    It takes a few windows with items before and behind the bend: seconds at hundreds of items per second and a high
    load, minutes at five. Cores that items share show as up to half as many slots again with as much more slowness, for
    there an item waits for those that come after it too.
    """

    slots: float | None = None
    known: bool = False
    at_least: float = 1.0
    at_most: float = math.inf
    _elapsed_s: float = 0.0
    _count: int = 0
    _sums: dict[int, list[float]] = attrs.field(factory=dict)
    _losses: list[float] = attrs.field(factory=lambda: [0.0] * len(SLOT_HYPOTHESES))
    _levels: list[float] = attrs.field(factory=lambda: [0.0] * len(SLOT_HYPOTHESES))
    _doubt: float = math.inf
    _noise: float = FIRST_NOISE
    _noise_seen: float = 0.0
    _noise_sum: float = 0.0

    def add(self, usual_s: float, answers: Iterable[tuple[int, float]]) -> None:
        """Answers of one kind, which usually take `usual_s` (above zero): for each the competing items in flight there
        as it began (itself included) and its time in seconds. Failed and parked items are left out.

        `usual_s` must not follow the times within seconds, or a queue at all hosts would look like no queue. Eight
        hosts of four slots at a load of 95 % look like ten slots or more where it is the mean of their last 100 items,
        and like four where it is that of 2,000 or more. Where no kinds are known, 1.0 for all of them does as well
        while the mix is steady.
        """
        sums, count = self._sums, 0
        for in_flight, time_s in answers:
            place = BINS[in_flight if in_flight < MOST_IN_FLIGHT else MOST_IN_FLIGHT]
            entry = sums.get(place)
            if entry is None:
                sums[place] = [1, usual_s, time_s, time_s * time_s]
            else:
                entry[0] += 1
                entry[1] += usual_s
                entry[2] += time_s
                entry[3] += time_s * time_s
            count += 1
        self._count += count

    def wait(self, dt_s: float) -> None:
        """`dt_s` have passed; the window is not closed."""
        self._elapsed_s += dt_s

    @property
    def is_due(self) -> bool:
        """Whether the window is long enough and has enough items to be closed."""
        return self._elapsed_s >= SLOT_WINDOW_S and self._count >= WINDOW_ITEMS * max(1.0, self._noise)

    def slowness_at(self, slots: float) -> float | None:
        """The time by the usual time of an item that need not wait, if there are so many slots; None before the first
        window."""
        if not math.isfinite(self._doubt):
            return None
        return math.exp(self._levels[nearest_hypothesis(slots)])

    @property
    def losses(self) -> Sequence[float]:
        """Of each hypothesis, as differences to the best one's."""
        return self._losses

    def within(self, guess: float) -> float:
        """The slots, or the guess as far as it is possible while they are unknown."""
        return min(self.at_most, max(self.at_least, guess)) if self.slots is None else self.slots

    def close(self) -> None:
        """Judge the hypotheses by the items of the window, and begin the next."""
        self._learn_noise()
        rows = [
            (1 / (self._noise / count + MODEL_ERROR**2), time_s / usual_s, place)
            for place, (count, usual_s, time_s, _) in self._sums.items()
            if time_s > SHORTEST_SUM_S
        ]
        self._sums.clear()
        self._elapsed_s, self._count = 0.0, 0
        if rows:
            self._compare(rows)
            self._decide()

    def _learn_noise(self) -> None:
        """Times vary by so much around the mean of their bin."""
        for count, _, time_s, squares in self._sums.values():
            if count > 1 and time_s > SHORTEST_SUM_S:
                self._noise_seen += count - 1
                self._noise_sum += count * max(0.0, count * squares / (time_s * time_s) - 1)
        mean = (self._noise_sum + NOISE_ITEMS * FIRST_NOISE) / (self._noise_seen + NOISE_ITEMS)
        self._noise = min(MOST_NOISE, max(LEAST_NOISE, mean))
        self._noise_seen *= NOISE_KEPT
        self._noise_sum *= NOISE_KEPT

    def _compare(self, rows: Sequence[BinRow]) -> None:
        """Add what each hypothesis leaves unexplained: within the window, and against its level so far."""
        weight, levels, misfits = judged(rows)
        steps = [new - old for new, old in zip(levels, self._levels, strict=True)]
        gain, variance = 1.0, self._doubt + DRIFT**2 + 1 / weight
        if math.isfinite(variance):
            gain = 1 - 1 / weight / variance
            bounded = (min(LEVEL_LOSS, step * step / variance) for step in steps)
            misfits = [misfit + loss for misfit, loss in zip(misfits, bounded, strict=True)]
        self._doubt = gain / weight
        pairs = zip(levels, steps, strict=True)
        self._levels = [new - (0.0 if abs(step) > JUMP else (1 - gain) * step) for new, step in pairs]
        least = min(misfits)
        scale = max(1.0, least / len(rows))
        added = (min(WINDOW_LOSS, (misfit - least) / scale) for misfit in misfits)
        losses = [loss + more for loss, more in zip(self._losses, added, strict=True)]
        best = min(losses)
        self._losses = [min(MOST_LOSS, loss - best) for loss in losses]

    def _decide(self) -> None:
        self.at_least, self.at_most, slots = believed(self._losses)
        self.known = slots is not None
        if slots is not None:
            self.slots = slots
        elif self.slots is not None:
            self.slots = min(self.at_most, max(self.at_least, self.slots))


def believed(losses: Sequence[float]) -> tuple[float, float, float | None]:
    """The fewest and the most slots that are possible by these losses, of which the best is 0, and how many there are
    if that is known. Where only "no limit" is left, that is as many as any number that was tried, or more."""
    left = [index for index, loss in enumerate(losses) if loss < DECISIVE]
    at_least, at_most = min(SLOT_HYPOTHESES[left[0]], MOST_SLOTS), SLOT_HYPOTHESES[left[-1]]
    if at_most > NARROW * at_least:
        return at_least, at_most, None
    weights = [math.exp(-losses[index] / 2) for index in left]
    logs = [weight * math.log(SLOT_HYPOTHESES[index]) for weight, index in zip(weights, left, strict=True)]
    return at_least, at_most, math.exp(sum(logs) / sum(weights))


def judged(rows: Sequence[BinRow]) -> tuple[float, list[float], list[float]]:
    """The weight of a window, and by hypothesis the logarithm of the mean time by the usual one without waits, and how
    badly the bins agree on it.

    That is the deviance of the gamma family, 2·Σ w·(u − 1 − log u) with u a bin's time by the mean: right for variances
    that go with the squared mean, whatever the distribution. A sum of squares of u is less for every hypothesis that
    makes times shorter, and takes chance in a few crowded bins for a bend. Since Σ w·(u − 1) is zero, only logarithms
    are left.
    """
    weight = sum(row[0] for row in rows)
    total = sum(row[0] * row[1] for row in rows)
    logs = sum(row[0] * math.log(row[1]) for row in rows)
    sums, bends = [total] * len(SLOT_HYPOTHESES), [logs] * len(SLOT_HYPOTHESES)
    for each, ratio, place in rows:
        time = each * ratio
        for index, (less, lower) in enumerate(COSTS[place]):
            sums[index] += time * less
            bends[index] += each * lower
    levels = [math.log(each / weight) for each in sums]
    return weight, levels, [2 * (weight * level - bend) for level, bend in zip(levels, bends, strict=True)]
