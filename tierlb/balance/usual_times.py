"""What answers of each kind usually take, at a host of slowness 1 (balance/slowness.py).

Times are divided by what is known of their host, waits included. The scale is set by the first answers and then stays.
After that only the ratios between kinds are learnt; when all hosts become slower alike, that shows in their slowness.
If the usual times followed instead, hosts without traffic would be measured in another unit than the rest.

The kind that is answered most keeps its usual time. If the mean of all kinds stayed instead, a new long kind that was
underestimated at first would change the usual times of all others.
"""

from collections.abc import Sequence

from tierlb.balance.kind_places import ANSWER_FORMS, KIND_NUMBERS, OTHER_KINDS

KNOWN_FROM = 8
"""Answers after which a usual time is used. Until then no host is judged by answers of the kind."""
USUAL_MEMORY = 200
"""Answers over which it is averaged how a kind compares with the others."""
MOST_CHANGE = 2.0
"""One tick changes how a kind compares with the others by this factor at most."""
SHORTEST_USUAL_S = 1e-6


class UsualTimes:
    """Seconds by number; 0 while nothing is known."""

    __slots__ = ("_new", "_recent_ratio", "_scale", "_seen", "value")

    def __init__(self) -> None:
        self.value = [0.0] * KIND_NUMBERS
        self._seen = [0.0] * KIND_NUMBERS
        self._new: dict[int, tuple[int, float]] = {}
        self._scale, self._recent_ratio = OTHER_KINDS, 1.0

    def is_known(self, number: int) -> bool:
        """Whether enough answers of this kind were seen."""
        return self._seen[number] >= KNOWN_FROM

    def observe(self, number: int, count: int, seconds: float) -> float:
        """So many answers took so long in all, at a host of slowness 1. What they usually take."""
        if self._seen[number] < KNOWN_FROM:
            return self._begin(number, count, seconds)
        before, before_s = self._new.get(number, (0, 0.0))
        self._new[number] = (before + count, before_s + seconds)
        return self.value[number]

    def _begin(self, number: int, count: int, seconds: float) -> float:
        """A kind of which little is known: the mean of all answers so far, which sets the scale."""
        seen = self._seen[number]
        self._seen[number] = min(USUAL_MEMORY, seen + count)
        usual_s = self.value[number] = max(SHORTEST_USUAL_S, (self.value[number] * seen + seconds) / (seen + count))
        return usual_s

    def learn(self, answered: Sequence[int]) -> None:
        """Take what was observed since the last time into how kinds compare with the one that is answered most.

        The difference to that one counts, in units of its recent ratio: the ratio to its answers of one tick would be
        too high on average, because these may be two or three items."""
        ratios = {number: own_s / (count * self.value[number]) for number, (count, own_s) in self._new.items()}
        scale = max(ratios, key=answered.__getitem__, default=OTHER_KINDS)
        if answered[scale] >= answered[self._scale]:
            self._scale = scale
        if self._scale in ratios:
            count = self._new[self._scale][0]
            self._recent_ratio += (ratios[self._scale] - self._recent_ratio) * count / (count + USUAL_MEMORY)
        unit = max(SHORTEST_USUAL_S, self._recent_ratio)
        for number, ratio in ratios.items():
            if number != self._scale:
                count = self._new[number][0]
                factor = 1 + (ratio - ratios.get(self._scale, unit)) / unit * count / (count + USUAL_MEMORY)
                factor = min(MOST_CHANGE, max(1 / MOST_CHANGE, factor))
                self.value[number] = max(SHORTEST_USUAL_S, self.value[number] * factor)
        self._new.clear()

    def forget(self, number: int) -> None:
        """The number belongs to another kind from now on."""
        for each in range(number, number + ANSWER_FORMS):
            self.value[each] = self._seen[each] = 0.0
