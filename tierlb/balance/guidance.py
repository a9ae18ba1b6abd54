"""Intent flows down: what a parent tells its children about each other, and which connections a hot child closes.

Weights steer new connections only. A child that is hotter than its siblings therefore closes kept connections after
their responses, so that their clients come back through the parent and land elsewhere (BALANCING.md §6: rebalancing in
about 6 s, against over 40 s without). When all children are hot nothing is moved: there is no better place.

Two things make a child hot: more use of its capacity than the siblings, and answers that take far longer than the same
requests take there. The second is needed because use says nothing to clients that wait for one answer after the other:
on a child that is ten times slower each of them gets a tenth, at the same use as elsewhere. It spares one connection, a
quiet one, by which it is found out when the child is fast again (balance/returning.py).

A child that is not hot closes connections too, as many as its parent asks for, when a sibling is probed or returns.

Left out: shedding, which needs a limit that is surer than a learnt capacity.
"""

import enum
from collections.abc import Iterable, Sequence
from heapq import nlargest, nsmallest
from operator import attrgetter
from typing import Protocol, TypeVar

import attrs

from tierlb.balance.capacity import LEAST_CAPACITY
from tierlb.balance.returning import SLOW_MARGIN, given_per_s, wanted
from tierlb.model.load import Guidance, SubtreeLoad

HOT = 0.9
MARGIN = 1.1
"""A child that is less than a tenth above its siblings closes nothing, as a rule."""
COOL = 0.8
"""But if a sibling is so far below the mean (it is new, or has recovered), all that are above it give: eight siblings
that each keep their tenth would leave the ninth with a fifth of its part."""
LEAVING_MARGIN = 2.0
"""While connections leave a slow child no others are to move, but for those of a child that would be overrun."""
FEW_LEFT = 0.05
"""Of all connections: a slow child that has no more has been left."""
MOST_GIVEN_PER_S = 0.15
"""Of all connections, to a sibling that returns."""
HELD_UP = 0.75
"""The part of the time that a connection waits for answers, from which on its client's queue is long or grows."""
CLOSE_OVER_S = 2.0
CLOSE_SLOW_OVER_S = 0.25
"""Below the bounds on the rate. The last ones on a slow child cost its clients as much as the first."""
FASTEST_CLOSE_PER_S = 0.2
"""Of all connections: their clients open new ones, which costs more than requests do."""
FEW_PER_S = 30.0
"""So many cost next to nothing, whatever part of the connections they are."""
MOST_SAID = 1e9
"""Of a target and of a time: above it no figure means anything, and a frame holds at most a thousand times this."""
NOBODY = Guidance(1.0)
"""Without a parent that says otherwise: as hot as can be is fine, so nothing is closed."""


GUIDE_EVERY_S = 1.0
REMIND_EVERY_S = 4.0
"""Each message wakes a child that sleeps, so what it knows already is said again only this often."""
LITTLE = 0.05


@attrs.frozen
class Child:
    """A ready child: utilisation (0..1, more when overloaded), capacity in items per second (0: not known), how slow it
    is beside its siblings (1: as they are, 0: not known), and what requests as it has them usually take at a host as
    fast as they are (0: not known). `part` (0..1): what slow start leaves of its capacity. `connections` are this
    parent's there. `probing`: it is to get some, to find out whether it is still slow; `climbing`: it was found not to
    be, and is to get more. `own_scale`: it takes its use for so many times more."""

    utilisation: float
    capacity: float
    slowness: float = 0.0
    usual_s: float = 0.0
    part: float = 1.0
    connections: int = 0
    probing: bool = False
    climbing: bool = False
    own_scale: float = 1.0

    @property
    def slow(self) -> bool:
        """Much slower than its siblings."""
        return self.slowness > SLOW_MARGIN


def guide(children: Sequence[Child]) -> list[Guidance]:
    """What to tell each of them.

    Children that do not know their capacity (0) weigh as much as the others' mean. So do those that know of little but
    are not slow: what a child that has just recovered knows of its capacity is old, and until it has more to do nothing
    tells it better. Where use is even the weights make no difference.
    """
    if not children:
        return []
    known = [child.capacity for child in children if child.capacity >= LEAST_CAPACITY]
    usual = sum(known) / len(known) if known else 1.0
    target = _mean([(child.part * _weight(child, usual), child.utilisation) for child in children])
    cool = any(child.utilisation < COOL * target and not child.slow for child in children)
    all_hot = all(child.utilisation > HOT for child in children)
    everything = sum(child.connections for child in children)
    leaving = any(child.slow and child.connections > FEW_LEFT * everything for child in children)
    margin = LEAVING_MARGIN if leaving else 1.0 if cool else MARGIN
    probe = any(child.probing for child in children)
    common = Guidance(min(MOST_SAID, target), all_hot, margin=margin, probe=probe)
    gives = _gifts(children, usual)
    return [
        attrs.evolve(
            common,
            target=min(MOST_SAID, target * child.own_scale),
            response_s=0.0 if child.probing else min(MOST_SAID, child.usual_s),
            give_per_s=min(MOST_SAID, give),
        )
        for child, give in zip(children, gives, strict=True)
    ]


def _weight(child: Child, usual: float) -> float:
    if child.capacity < LEAST_CAPACITY:
        return usual
    return child.capacity if child.slow else max(child.capacity, usual)


def _gifts(children: Sequence[Child], usual: float) -> list[float]:
    """What each gives per second to siblings that return: in proportion to what it has."""
    receives = [child.probing or child.climbing for child in children]
    if not any(receives):
        return [0.0] * len(children)
    everything = sum(child.connections for child in children)
    weights = [_weight(child, usual) for child in children]
    gifts = sum(
        given_per_s(
            wanted(everything, everything * weight / sum(weights), child.part, probing=child.probing), child.connections
        )
        for child, weight, gets in zip(children, weights, receives, strict=True)
        if gets
    )
    gifts = min(gifts, MOST_GIVEN_PER_S * everything)
    has = [0 if child.slow or gets else child.connections for child, gets in zip(children, receives, strict=True)]
    return [gifts * count / sum(has) if count else 0.0 for count in has]


@attrs.define
class Told:
    """What a child was told last, and when."""

    _guidance: Guidance | None = None
    _at: float = 0.0

    def is_due(self, now: float, guidance: Guidance) -> bool:
        """Whether this is to be told now; noted if it is."""
        before = self._guidance
        due = (
            before is None
            or now - self._at >= REMIND_EVERY_S
            or _is_news(before, guidance)
            or (now - self._at >= GUIDE_EVERY_S and _differs(before, guidance))
        )
        if due:
            self._guidance, self._at = guidance, now
        return due


def _is_news(before: Guidance, after: Guidance) -> bool:
    """Whether it cannot wait: it begins or ends something."""
    pairs = ((before.give_per_s, after.give_per_s), (before.response_s, after.response_s))
    if (before.all_hot, before.probe) != (after.all_hot, after.probe):
        return True
    return any((old > 0) is not (new > 0) for old, new in pairs)


def _differs(before: Guidance, after: Guidance) -> bool:
    """Whether a child might do something else."""
    pairs = (
        (before.target, after.target),
        (before.response_s, after.response_s),
        (before.give_per_s, after.give_per_s),
    )
    return before.margin != after.margin or any(abs(old - new) > LITTLE * max(old, new) for old, new in pairs)


def _mean(pairs: Sequence[tuple[float, float]]) -> float:
    """Of values with their weights; 0 of none."""
    whole = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / whole if whole else 0.0


def combine(guidances: Iterable[Guidance]) -> Guidance:
    """What several parents say as one. Their targets differ by what else they send to; the mean is between them. There
    is a cooler place as long as one parent knows of one. What is to be given away is of the connections of each."""
    said = list(guidances)
    if not said:
        return NOBODY
    target = sum(guidance.target for guidance in said) / len(said)
    times = [guidance.response_s for guidance in said if guidance.response_s > 0]
    response_s = sum(times) / len(times) if times else 0.0
    return Guidance(
        target,
        all(guidance.all_hot for guidance in said),
        response_s,
        max(guidance.margin for guidance in said),
        sum(guidance.give_per_s for guidance in said),
        any(guidance.probe for guidance in said),
    )


def closing_rate_per_s(connections: int, load: SubtreeLoad, guidance: Guidance) -> float:
    """How many of its kept connections a child with this load is to close in a second."""
    if guidance.all_hot:
        return 0.0
    used = excess(load.utilisation, guidance.margin * guidance.target) if guidance.target < HOT else 0.0
    slow = slowed(load, guidance)
    rate = max(connections * used / CLOSE_OVER_S, connections * slow / CLOSE_SLOW_OVER_S, guidance.give_per_s)
    return min(rate, max(FEW_PER_S, FASTEST_CLOSE_PER_S * connections))


def slowed(load: SubtreeLoad, guidance: Guidance) -> float:
    """How far a child with this load is slower than its siblings: a part (0..1) of its time, 0 if it is not slow."""
    return excess(load.response_s, SLOW_MARGIN * guidance.response_s) if guidance.response_s else 0.0


def excess(figure: float, most: float) -> float:
    """The part (0..1) of a figure that is above `most`."""
    return (figure - most) / figure if figure > most else 0.0


class Busy(Protocol):
    """A connection that waits for an answer. `activity`: requests per second of the time since it was opened in which
    it did not wait. So often its client would ask if answers took no time."""

    @property
    def activity(self) -> float: ...


B = TypeVar("B", bound=Busy)


class Reason(enum.Enum):
    """Why connections are closed, from which follows which of them."""

    USE = "use"
    """There is too much here: whichever have their answers, so that busy ones go first."""
    SLOW = "slow"
    """Those that wait and ask most: their clients lose most here."""
    GIFT = "gift"
    """Those that wait and ask least, for it may be slow where they come to."""


def why_close(load: SubtreeLoad, guidance: Guidance) -> Reason:
    if slowed(load, guidance):
        return Reason.SLOW
    return Reason.GIFT if guidance.give_per_s and guidance.probe else Reason.USE


@attrs.define
class CloseBudget:
    """Turns the rate into single decisions: `take` is asked as each response ends, or connections are chosen (`choose`)
    from those that wait for an answer."""

    rate_per_s: float = 0.0
    reason: Reason = Reason.USE
    _owed: float = 0.0
    _at: float = 0.0

    def set_rate(self, now: float, rate_per_s: float, reason: Reason = Reason.USE) -> None:
        """From `now` on so many are to be closed in a second. Nothing is owed once the rate is 0."""
        self._accrue(now)
        self.rate_per_s, self.reason = rate_per_s, reason
        if not rate_per_s:
            self._owed = 0.0

    @property
    def chooses(self) -> bool:
        """Whether it is to be chosen which connections close."""
        return self.rate_per_s > 0 and self.reason is not Reason.USE

    def take(self, now: float) -> bool:
        """True, and noted, if the connection whose response ends at `now` is to close."""
        if not self.rate_per_s or self.chooses:
            return False
        self._accrue(now)
        if self._owed < 1:
            return False
        self._owed -= 1
        return True

    def choose(self, now: float, waiting: Sequence[B], others: int, response_s: float) -> list[B]:
        """Those of the connections that wait which are to close with their answers; noted. `others`: how many stay
        besides these. One is to stay, unless its client is held up by it: asked more than it is answered, where answers
        take `response_s`."""
        if not self.chooses:
            return []
        self._accrue(now)
        order = nsmallest if self.reason is Reason.GIFT else nlargest
        found = order(int(self._owed), waiting, key=attrgetter("activity"))
        if found and not others and len(found) == len(waiting) and found[-1].activity * response_s < HELD_UP:
            found.pop()
        self._owed -= len(found)
        return found

    def _accrue(self, now: float) -> None:
        """At most a second's worth is kept: what was not closed while nothing ended is not made up for at once."""
        most = max(1.0, self.rate_per_s)
        self._owed = min(most, self._owed + self.rate_per_s * max(0.0, now - self._at))
        self._at = max(self._at, now)
