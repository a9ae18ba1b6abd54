"""Kinds of requests, so that hosts are compared by like requests only (BALANCING.md §9).

The *kind* of a request follows from what is known before it is answered: the route that it matched, its method and the
first segment of its path. An answer whose length is not known in advance (a stream, as a rule) counts as a kind of its
own. The time of an answer is that from the end of the request to the answer's head, because what follows depends on how
fast the client reads. Its ratio to the usual time of the kind (balance/usual_times.py) distinguishes a slow host from a
slow request.
"""

import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final

import attrs

from tierlb.balance.kind_activity import KindActivity
from tierlb.balance.kind_counts import REST, KindCounts
from tierlb.balance.kind_places import ANSWER_FORMS, OTHER_KINDS, KindPlace, KindPlaces
from tierlb.balance.usual_times import UsualTimes
from tierlb.model.load import KindTimes

KIND_SWEEP_S: Final = 10.0
KEPT_FROM: Final = 8
"""Items within a sweep that a kind needs to keep its place while others wait for one."""


@attrs.define(slots=True)
class Answers:
    """The answers of one host since the last tick, without those of kinds that are not known well enough yet.
    `work_s` is the sum of the usual times of their kinds, `ratios` that of their times by these.
    """

    count: int = 0
    work_s: float = 0.0
    ratios: float = 0.0


@attrs.define(slots=True)
class HeadTimes:
    """Answers of kinds that are not long, since the start: how many, what they took to their heads and usually take in
    seconds, and the sum of the ratios."""

    count: int = 0
    seconds: float = 0.0
    usual_s: float = 0.0
    ratios: float = 0.0


class Kinds:
    """All kinds of a node. Each has a number; it is even, and the next one stands for the streams of the kind.

    By number, `usual_s` is what answers usually take, and `long` whether most items are parked.
    """

    __slots__ = ("_activity", "_swept_at", "_usual", "counts", "heads", "long", "places", "usual_s")

    def __init__(self) -> None:
        self.places = KindPlaces()
        self.counts = KindCounts()
        self.heads = HeadTimes()
        self._usual = UsualTimes()
        self._activity = KindActivity()
        self.usual_s, self.long = self._usual.value, self._activity.long
        self._swept_at = 0.0

    def place(self, key: Hashable) -> KindPlace:
        """Where the number of a kind is kept, for use later too; the place of OTHER while none is free."""
        place = self.places.find(key)
        if place is None:
            place = self.places.take(key)
            if place.number != OTHER_KINDS:
                self._usual.forget(place.number)
                self._activity.forget(place.number)
        return place

    def number(self, key: Hashable) -> int:
        """The number of a kind now; OTHER while there is no place for it."""
        return self.place(key).number

    def judge(self, taken: Mapping[int, Sequence[float]], expected: float = 1.0, highest: float = math.inf) -> Answers:
        """Compare a host's times (seconds, by number) with the usual ones, and remember them for `learn`. `expected`:
        the ratio that is expected of this host now. `highest`: the most that the ratio of a single answer counts."""
        answers = Answers()
        for number, times in taken.items():
            usual_s = self.usual_s[number]
            most = highest * usual_s if usual_s else math.inf
            seconds = max(0.0, sum(times) if max(times) <= most else sum(min(each, most) for each in times))
            self.counts.add(self.places.keys[number], len(times), seconds)
            self._judge(answers, number, len(times), seconds / expected, expected)
        return answers

    def judge_reported(
        self, reported: Iterable[KindTimes], expected: float = 1.0, highest: float = math.inf, part: float = 1.0
    ) -> Answers:
        """The same with what a child reports of its answers. `part`: how much of that came from this node."""
        answers = Answers()
        for key, count, seconds in reported:
            self.counts.add(key, count * part, seconds * part)
            number = OTHER_KINDS if key == REST else self.number(key)
            most = highest * count * self.usual_s[number]
            seconds = min(seconds, most) if most else seconds
            self._judge(answers, number, count, seconds / expected, expected)
        return answers

    def _judge(self, answers: Answers, number: int, count: int, seconds: float, expected: float) -> None:
        """Add so many answers of a kind to `answers`. `seconds`: as if their host were like the others."""
        self._activity.answered[number] += count
        usual_s = self._usual.observe(number, count, seconds)
        took_s = seconds * expected
        if not self.long[number - number % ANSWER_FORMS]:
            heads = self.heads
            heads.count += count
            heads.seconds += took_s
            heads.usual_s += count * usual_s
            heads.ratios += took_s / usual_s
        if self._usual.is_known(number):
            answers.count += count
            answers.work_s += count * usual_s
            answers.ratios += took_s / usual_s

    def expected_s(self, number: int) -> float:
        """The longest usual time of the kind, because the form of an answer is not known before; 0: unknown."""
        return max(self.usual_s[number], self.usual_s[number + 1])

    def note_parked(self, number: int) -> None:
        """An item of this kind was parked."""
        self._activity.note_parked(number)

    def note_waited(self, number: int) -> None:
        """The head of an answer took so long that the item was parked meanwhile, or would have been."""
        self._activity.note_waited(number)

    def tells(self, number: int) -> bool:
        """Whether the time to the head depends on the host although most items of this kind are long."""
        return self._activity.heads_show_host(number)

    def learn(self, now: float) -> None:
        """Take what was judged since the last tick into the usual times."""
        self._usual.learn(self._activity.answered)
        self.counts.sweep(now)
        if now - self._swept_at >= KIND_SWEEP_S:
            self._swept_at = now
            self.places.free_rare(lambda number: self._activity.total(number) < KEPT_FROM)
            self._activity.halve()
