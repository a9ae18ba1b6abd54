"""Guidance: what a parent sends its children about each other, and which connections a hot child closes.

Weights steer new connections only. A child that is hotter than its siblings therefore closes kept connections after
their responses, so that their clients reconnect through the parent and are placed elsewhere (BALANCING.md §6:
rebalancing in about 6 s, against over 40 s without). When all children are hot no connection is moved, because there is
no better place.

A child is hot if it uses more of its capacity than its siblings, or if its answers take far longer than the same
requests take there. The second is needed because use does not reveal clients that wait for one answer after the other:
on a child that is ten times slower each of them gets a tenth, at the same use as elsewhere. A slow child keeps one
connection, a quiet one, which shows when it is fast again (balance/returning.py).

A child that is not hot closes connections too, as many as its parent asks for, when a sibling is probed or returns.

Left out: load shedding, which needs a more certain limit than a learnt capacity.
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

HOT_UTILISATION = 0.9
USE_MARGIN = 1.1
"""A child that is less than a tenth above its siblings closes nothing, unless one of them is `COOL`."""
COOL = 0.8
"""If a sibling is so far below the mean (it is new, or has recovered), all that are above the mean close connections:
eight siblings that each keep their tenth would leave the ninth with a fifth of its part."""
LEAVING_MARGIN = 2.0
"""While connections leave a slow child, only a child that would be overrun closes others."""
FEW_LEFT = 0.05
"""A slow child with no more than this part of all connections counts as left."""
MOST_GIVEN_PER_S = 0.15
"""The part of all connections that siblings which return get per second."""
HELD_UP = 0.75
"""The part of its time that a connection waits for answers, from which its client's queue is long or grows."""
CLOSE_OVER_S = 2.0
CLOSE_SLOW_OVER_S = 0.25
"""Time constants, below the bounds on the rate. The last connections on a slow child cost their clients as much as the
first."""
FASTEST_CLOSE_PER_S = 0.2
"""The part of all connections that may close per second: their clients open new ones, which costs more than requests
do."""
FEW_PER_S = 30.0
"""So many per second are always allowed; they cost next to nothing."""
MOST_GUIDED = 1e9
"""The largest target and time in guidance: a larger figure has no meaning, and a frame holds at most a thousand times
this."""
NO_GUIDANCE = Guidance(1.0)
"""Without guidance by a parent nothing is closed: every utilisation is acceptable."""


GUIDE_EVERY_S = 1.0
"""Guidance that changed a little is sent no more often."""
REMIND_EVERY_S = 4.0
"""Guidance that the child has already is repeated only this often, because each message wakes an idle child."""
LITTLE = 0.05
"""Changes below this part make no difference to a child."""
LITTLE_USE = 0.01
"""Nor do smaller changes of the target: the use of an idle node varies by that much."""


@attrs.frozen
class GuidedChild:
    """A ready child, as its siblings are compared with it. `utilisation`: 0..1, more when overloaded. `capacity`: items
    per second (0: unknown). `slowness`: relative to its siblings (1: as they are, 0: unknown). `usual_s`: what its
    requests usually take at a host as fast as the siblings (0: unknown). `part` (0..1): what slow start leaves of its
    capacity. `connections`: those of this parent there. `probing`: it is to get some, to find out whether it is still
    slow; `climbing`: it was found not to be, and is to get more. `own_scale`: the factor by which it overestimates its
    use."""

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


def guide(children: Sequence[GuidedChild]) -> list[Guidance]:
    """The guidance for each of them.

    Children of unknown capacity (0) count with the mean of the others. So do those that report little but are not slow:
    the capacity that a recovered child has learnt is old, and it cannot learn a new one until it has more to do. Where
    use is even the weights make no difference.
    """
    if not children:
        return []
    known = [child.capacity for child in children if child.capacity >= LEAST_CAPACITY]
    usual = sum(known) / len(known) if known else 1.0
    target = _weighted_mean([(child.part * _child_weight(child, usual), child.utilisation) for child in children])
    cool = any(child.utilisation < COOL * target and not child.slow for child in children)
    all_hot = all(child.utilisation > HOT_UTILISATION for child in children)
    everything = sum(child.connections for child in children)
    leaving = any(child.slow and child.connections > FEW_LEFT * everything for child in children)
    margin = LEAVING_MARGIN if leaving else 1.0 if cool else USE_MARGIN
    probe = any(child.probing for child in children)
    common = Guidance(min(MOST_GUIDED, target), all_hot, margin=margin, probe=probe)
    gives = _gifts(children, usual)
    return [
        attrs.evolve(
            common,
            target=min(MOST_GUIDED, target * child.own_scale),
            response_s=0.0 if child.probing else min(MOST_GUIDED, child.usual_s),
            give_per_s=min(MOST_GUIDED, give),
        )
        for child, give in zip(children, gives, strict=True)
    ]


def _child_weight(child: GuidedChild, usual: float) -> float:
    if child.capacity < LEAST_CAPACITY:
        return usual
    return child.capacity if child.slow else max(child.capacity, usual)


def _gifts(children: Sequence[GuidedChild], usual: float) -> list[float]:
    """The connections that each closes per second for siblings that return, in proportion to what it has."""
    receives = [child.probing or child.climbing for child in children]
    if not any(receives):
        return [0.0] * len(children)
    everything = sum(child.connections for child in children)
    weights = [_child_weight(child, usual) for child in children]
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


def differs(before: Guidance, after: Guidance) -> bool:
    """Whether a child might do something else."""
    pairs = (
        (before.target, after.target, LITTLE_USE),
        (before.response_s, after.response_s, 0.0),
        (before.give_per_s, after.give_per_s, 0.0),
    )
    return before.margin != after.margin or any(
        abs(old - new) > max(least, LITTLE * max(old, new)) for old, new, least in pairs
    )


@attrs.define
class SentGuidance:
    """The last guidance that a child was sent, and when."""

    _guidance: Guidance | None = None
    _at: float = 0.0

    def is_due(self, now: float, guidance: Guidance) -> bool:
        """Whether this guidance is to be sent now; noted if it is."""
        before = self._guidance
        due = (
            before is None
            or now - self._at >= REMIND_EVERY_S
            or _is_news(before, guidance)
            or (now - self._at >= GUIDE_EVERY_S and differs(before, guidance))
        )
        if due:
            self._guidance, self._at = guidance, now
        return due


def _is_news(before: Guidance, after: Guidance) -> bool:
    """Whether it must be sent at once, because it begins or ends something."""
    pairs = ((before.give_per_s, after.give_per_s), (before.response_s, after.response_s))
    if (before.all_hot, before.probe) != (after.all_hot, after.probe):
        return True
    return any((old > 0) is not (new > 0) for old, new in pairs)


def _weighted_mean(pairs: Sequence[tuple[float, float]]) -> float:
    """Of values with their weights; 0 of none."""
    whole = sum(weight for weight, _ in pairs)
    return sum(weight * value for weight, value in pairs) / whole if whole else 0.0


def combine(guidances: Iterable[Guidance]) -> Guidance:
    """The guidance of several parents as one. Their targets differ by what else they send to; the mean lies between
    them. Not all children are hot as long as one parent has one that is not. Connections to be given away are counted
    for each parent separately."""
    received = list(guidances)
    if not received:
        return NO_GUIDANCE
    target = sum(guidance.target for guidance in received) / len(received)
    times = [guidance.response_s for guidance in received if guidance.response_s > 0]
    response_s = sum(times) / len(times) if times else 0.0
    return Guidance(
        target,
        all(guidance.all_hot for guidance in received),
        response_s,
        max(guidance.margin for guidance in received),
        sum(guidance.give_per_s for guidance in received),
        any(guidance.probe for guidance in received),
    )


def closing_rate_per_s(connections: int, load: SubtreeLoad, guidance: Guidance) -> float:
    """How many of its kept connections a child with this load is to close in a second."""
    if guidance.all_hot:
        return 0.0
    used = (
        excess_part(load.utilisation, guidance.margin * guidance.target) if guidance.target < HOT_UTILISATION else 0.0
    )
    slow = slowed(load, guidance)
    rate = max(connections * used / CLOSE_OVER_S, connections * slow / CLOSE_SLOW_OVER_S, guidance.give_per_s)
    return min(rate, max(FEW_PER_S, FASTEST_CLOSE_PER_S * connections))


def slowed(load: SubtreeLoad, guidance: Guidance) -> float:
    """How far a child with this load is slower than its siblings: a part (0..1) of its time, 0 if it is not slow."""
    return excess_part(load.response_s, SLOW_MARGIN * guidance.response_s) if guidance.response_s else 0.0


def excess_part(figure: float, most: float) -> float:
    """The part (0..1) of a figure that is above `most`."""
    return (figure - most) / figure if figure > most else 0.0


class WaitingConnection(Protocol):
    """A connection that waits for an answer. `activity`: requests per second of the time in which it did not wait since
    it was opened. Its client would send so many if answers took no time."""

    @property
    def activity(self) -> float: ...


B = TypeVar("B", bound=WaitingConnection)


class Reason(enum.Enum):
    """Why connections are closed, which determines the choice among them."""

    USE = "use"
    """The child is hotter than its siblings: any that have their answers, so that busy ones go first."""
    SLOW = "slow"
    """The child is slow: those that wait and send most, because their clients lose most here."""
    GIFT = "gift"
    """A sibling is probed or returns: those that wait and send least, because it may still be slow."""


def why_close(load: SubtreeLoad, guidance: Guidance) -> Reason:
    if slowed(load, guidance):
        return Reason.SLOW
    return Reason.GIFT if guidance.give_per_s and guidance.probe else Reason.USE


@attrs.define
class CloseBudget:
    """Turns the rate into single decisions: `take` is called as each response ends, or connections are chosen
    (`choose`) from those that wait for an answer."""

    rate_per_s: float = 0.0
    reason: Reason = Reason.USE
    _owed: float = 0.0
    _at: float = 0.0

    def set_rate(self, now: float, rate_per_s: float, reason: Reason = Reason.USE) -> None:
        """From `now` on so many are to be closed per second. A rate of 0 clears what was due."""
        self._accrue(now)
        self.rate_per_s, self.reason = rate_per_s, reason
        if not rate_per_s:
            self._owed = 0.0

    @property
    def chooses(self) -> bool:
        """Whether the connections to close are chosen."""
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
        """The waiting connections that are to close with their answers; noted. `others`: how many stay besides these.
        One stays, unless its client is held up by it: it sends more than is answered, where answers take `response_s`.
        """
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
        """At most the connections of a second are kept: what was not closed while no response ended is not made up for
        at once."""
        most = max(1.0, self.rate_per_s)
        self._owed = min(most, self._owed + self.rate_per_s * max(0.0, now - self._at))
        self._at = max(self._at, now)
