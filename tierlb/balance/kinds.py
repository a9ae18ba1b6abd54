"""What requests of a kind usually take, so that hosts are compared by like requests only (BALANCING.md §9).

A *kind* is what can be told of a request before it is answered: the route that it matched, its method and the first
segment of its path. An answer whose length is not known in advance (a stream, as a rule) counts as a kind of its own.
The time of an answer is that from the end of the request to the answer's head: what follows depends on how fast the
client reads. Its ratio to the kind's usual time is what tells a slow host from a slow request.

A usual time is what a kind takes at a host of slowness 1 (balance/slowness.py): times are divided by what is known of
their host, waits included. The scale is set by the first answers and then left alone. Only how kinds compare with each
other is learnt on; when all hosts become slower alike, that shows in their slowness. If the usual times followed
instead, hosts that were sent nothing meanwhile would be measured in another unit than the rest.

`Kinds` is bounded: at most `MOST_KINDS` at a time, all others share one, and a kind with hardly any traffic gives its
place to another.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence

import attrs

from tierlb.balance.hashing import stable_hash
from tierlb.balance.interference import Interference
from tierlb.balance.kind_counts import REST, KindCounts
from tierlb.balance.pool_slots import PoolSlots
from tierlb.model.load import KindTimes

MOST_KINDS = 64
FORMS = 2
"""Numbers per kind: one for answers of known length, the next for streams."""
OTHER = 0
"""The number of all requests that have no kind of their own."""
ENOUGH = 8
"""Answers after which a kind's usual time is believed. Before, its answers tell nothing about hosts."""
MEMORY = 200
"""Answers over which it is averaged how a kind compares with the others."""
MOST_CHANGE = 2.0
"""By more than this factor no tick changes how a kind compares with the others."""
SHORTEST_S = 1e-6
SWEEP_S = 10.0
MOST_WAITING = 0.25
"""Of the answers of a kind: a slow host among equals makes this many late and is still told from the others."""
KEPT_FROM = 8
"""Answers within a sweep that a kind needs to keep its place while others wait for one."""
WORK_MEMORY = 500
"""Answers over which the mean work of an item of a pool is averaged."""
FIRST_ANSWERS = 2000.0
STANDARD_OVER_S = 300.0
"""How fast the standard item follows the mix. A capacity that is planned with must not move with every burst."""


@attrs.define(slots=True)
class Answers:
    """The answers of one host since the last look, without those of kinds that are not known well enough yet.
    `work_s` is the sum of the usual times of their kinds, `ratios` that of their times by these.
    """

    count: int = 0
    work_s: float = 0.0
    ratios: float = 0.0


@attrs.define(slots=True)
class MeanWork:
    """`usual_s`: how long an item usually takes, in the mean of the recent mix of kinds (0 while nothing is known)."""

    usual_s: float = 0.0
    _seen: float = 0.0

    def add(self, count: int, work_s: float) -> None:
        """So many answers; `work_s` is the sum of what their kinds usually take."""
        if count:
            self._seen = min(WORK_MEMORY, self._seen + count)
            self.usual_s += (work_s / count - self.usual_s) * min(1.0, count / self._seen)


@attrs.define(slots=True)
class Work(MeanWork):
    """What is known of the items of a pool: the recent mix, how much parked items hold up the others, and how many a
    host works on at once.

    Capacities are in *standard* items per second. A standard item takes `standard_s`, the mean of all until so many
    were seen, from then on the mean of the last minutes. In items of the mix of this second a capacity would fall as
    longer ones come, though nothing became slower. A rate that is compared with a capacity is work by `standard_s`.
    """

    interference: Interference = attrs.field(factory=Interference)
    slots: PoolSlots = attrs.field(factory=PoolSlots)
    _counted: float = 0.0
    _standard_s: float = 0.0

    @property
    def standard_s(self) -> float:
        """What a standard item takes; 0 while nothing is known."""
        return self._standard_s or self.usual_s

    def add(self, count: int, work_s: float) -> None:
        """Answers of any host of the pool."""
        MeanWork.add(self, count, work_s)
        if count and self._counted < FIRST_ANSWERS:
            self._counted += count
            self._standard_s += (work_s / count - self._standard_s) * count / self._counted

    def follow(self, dt_s: float) -> None:
        """`dt_s` have passed."""
        if self._counted >= FIRST_ANSWERS:
            self._standard_s += (self.usual_s - self._standard_s) * min(1.0, dt_s / STANDARD_OVER_S)


@attrs.define(slots=True, eq=False)
class Place:
    """What an item keeps of its kind. `number` becomes OTHER when the kind loses its place to another."""

    number: int = OTHER


def stable_key(key: Hashable, form: int) -> int:
    """32 bits by which all nodes know a kind: even ones for answers of known length, never that of the rest."""
    return max(FORMS, stable_hash(repr(key).encode()) % 2**32 // FORMS * FORMS) + form


class Kinds:
    """Numbers for kinds and their usual times. A number is even; the one behind it stands for the kind's streams.
    `heads` answers of kinds that are not long took `heads_s` to their heads, since the start; they usually take
    `heads_usual_s`, and `heads_ratios` is the sum of the one by the other. `on_freed` is called when
    kinds have lost their places: those that still come, and those that had none, may ask for one again."""

    def __init__(self) -> None:
        size = MOST_KINDS * FORMS
        self.usual_s = [0.0] * size
        self.long = [False] * size
        self.heads = 0
        self.heads_s = self.heads_usual_s = self.heads_ratios = 0.0
        self._seen = [0.0] * size
        self._answered = [0] * size
        self._parked = [0] * size
        self._waited = [0] * size
        self._new: dict[int, tuple[int, float]] = {}
        self._scale, self._lately = OTHER, 1.0
        self.on_freed: Callable[[], object] = lambda: None
        self._places: dict[Hashable, Place] = {}
        self._no_place = Place()
        self._keys = [REST] * size
        self.counts = KindCounts()
        self._free = list(range(size - FORMS, OTHER, -FORMS))
        self._wanted = False
        self._swept_at = 0.0

    def place(self, key: Hashable) -> Place:
        """Where the number of a kind is kept, for use later too; the place of the rest while none is free."""
        place = self._places.get(key)
        if place is None:
            if not self._free:
                self._wanted = True
                return self._no_place
            number = self._free.pop()
            place = self._places[key] = Place(number)
            self._forget(number)
            for form in range(FORMS):
                self._keys[number + form] = stable_key(key, form)
        return place

    def number(self, key: Hashable) -> int:
        """The number of a kind now; OTHER while there is no place for it."""
        return self.place(key).number

    def key(self, number: int) -> int:
        """What nodes call this kind among themselves (balance/kind_counts.py)."""
        return self._keys[number]

    def judge(self, taken: Mapping[int, Sequence[float]], expected: float = 1.0, highest: float = math.inf) -> Answers:
        """Compare a host's times (seconds, by number) with the usual ones, and remember them for `learn`. `expected`:
        the ratio that is expected of this host now. `highest`: what a single answer's ratio counts at most."""
        answers = Answers()
        for number, times in taken.items():
            usual_s = self.usual_s[number]
            most = highest * usual_s if usual_s else math.inf
            seconds = max(0.0, sum(times) if max(times) <= most else sum(min(each, most) for each in times))
            self.counts.add(self._keys[number], len(times), seconds)
            self._judge(answers, number, len(times), seconds / expected, expected)
        return answers

    def judge_said(
        self, said: Iterable[KindTimes], expected: float = 1.0, highest: float = math.inf, part: float = 1.0
    ) -> Answers:
        """The same with what a child said that its answers took. `part`: how much of that is this node's."""
        answers = Answers()
        for key, count, seconds in said:
            self.counts.add(key, count * part, seconds * part)
            number = OTHER if key == REST else self.number(key)
            most = highest * count * self.usual_s[number]
            seconds = min(seconds, most) if most else seconds
            self._judge(answers, number, count, seconds / expected, expected)
        return answers

    def _judge(self, answers: Answers, number: int, count: int, seconds: float, expected: float) -> None:
        """Add what so many answers of a kind tell to `answers`. `seconds`: as if their host were like the others."""
        usual_s = self.usual_s[number]
        self._answered[number] += count
        if self._seen[number] < ENOUGH:
            usual_s = self._begin(number, count, seconds)
        else:
            before, before_s = self._new.get(number, (0, 0.0))
            self._new[number] = (before + count, before_s + seconds)
        if not self.long[number - number % FORMS]:
            self.heads += count
            self.heads_s += seconds * expected
            self.heads_usual_s += count * usual_s
            self.heads_ratios += seconds * expected / usual_s
        if self._seen[number] >= ENOUGH:
            answers.count += count
            answers.work_s += count * usual_s
            answers.ratios += seconds * expected / usual_s

    def _begin(self, number: int, count: int, seconds: float) -> float:
        """A kind of which little is known: the mean of all that is, which sets the scale."""
        seen = self._seen[number]
        self._seen[number] = min(MEMORY, seen + count)
        usual_s = self.usual_s[number] = max(SHORTEST_S, (self.usual_s[number] * seen + seconds) / (seen + count))
        return usual_s

    def expected_s(self, number: int) -> float:
        """What an item takes at most as far as its kind is known, whatever form its answer will have; 0: unknown."""
        return max(self.usual_s[number], self.usual_s[number + 1])

    def note_parked(self, number: int) -> None:
        """An item of this kind was parked."""
        self._parked[number] += 1
        self._weigh(number)

    def note_waited(self, number: int) -> None:
        """The head of an answer took so long that the item was parked meanwhile, or would have been."""
        self._waited[number] += 1

    def tells(self, number: int) -> bool:
        """Whether the time to the head tells something of the host although most items of this kind are long: that of a
        stream does, that of a long poll says when there was news."""
        heads = self._answered[number] + self._answered[number + 1]
        return heads > 0 and self._waited[number] <= MOST_WAITING * heads

    def _weigh(self, number: int) -> None:
        self.long[number] = self._parked[number] * 2 > self._answered[number] + self._answered[number + 1]

    def learn(self, now: float) -> None:
        """Take what `judge` has seen since the last time into how kinds compare with the one that is answered most,
        whose usual time stays. If the mean of all stayed, a new long kind of which too little was believed at first
        would change the usual times of all others.

        The difference to it is what counts, in units of what has been usual lately: the ratio to its answers of one
        tick would be too high in the mean, since these may be two or three items."""
        ratios = {number: own_s / (count * self.usual_s[number]) for number, (count, own_s) in self._new.items()}
        scale = max(ratios, key=self._answered.__getitem__, default=OTHER)
        if self._answered[scale] >= self._answered[self._scale]:
            self._scale = scale
        if self._scale in ratios:
            count = self._new[self._scale][0]
            self._lately += (ratios[self._scale] - self._lately) * count / (count + MEMORY)
        beside = max(SHORTEST_S, self._lately)
        for number, ratio in ratios.items():
            if number != self._scale:
                count = self._new[number][0]
                factor = 1 + (ratio - ratios.get(self._scale, beside)) / beside * count / (count + MEMORY)
                factor = min(MOST_CHANGE, max(1 / MOST_CHANGE, factor))
                self.usual_s[number] = max(SHORTEST_S, self.usual_s[number] * factor)
        self._new.clear()
        self.counts.sweep(now)
        if now - self._swept_at >= SWEEP_S:
            self._sweep(now)

    def _sweep(self, now: float) -> None:
        self._swept_at = now
        if self._wanted:
            self._give_back()
        self._wanted = False
        self._answered = [count // 2 for count in self._answered]
        self._parked = [count // 2 for count in self._parked]
        self._waited = [count // 2 for count in self._waited]
        for number in range(0, len(self.long), FORMS):
            self._weigh(number)

    def _give_back(self) -> None:
        """Take the places of kinds with hardly any traffic. What was under way of them counts as of the rest."""
        rare = [(key, place) for key, place in self._places.items() if self._activity(place.number) < KEPT_FROM]
        for key, place in rare:
            del self._places[key]
            self._free.append(place.number)
            place.number = OTHER
        if rare:
            self.on_freed()

    def _activity(self, number: int) -> int:
        return self._answered[number] + self._answered[number + 1] + self._parked[number]

    def _forget(self, number: int) -> None:
        """Forget what was learnt of the kind that had this number before."""
        for each in (number, number + 1):
            self.usual_s[each] = self._seen[each] = 0.0
            self._answered[each] = self._parked[each] = self._waited[each] = 0
            self.long[each] = False
