"""From a node's own counts and its children's reports to what it says of its subtree (BALANCING.md §4).

Counts are the node's own, so a figure is one hop old at any depth. Only capacity, leaves and age are made of what is
below. A child, or a whole target, whose capacity is not known is left out, never taken as zero: a child counts like
its known siblings, a target does not limit. A target without a ready child does not limit either, because a
capacity of zero could not be told from one that is not known; it shows in `ready_leaves` and in errors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from tierlb.model.load import KindTimes, SubtreeLoad
from tierlb.telemetry.window import WINDOW_S, Window

MIX_S = 5.0
"""Memory of the traffic mix: long enough that a few items do not swing a capacity, short beside a deployment."""
MIX_PRIOR = 1.0
"""Items that each target is taken to have got before the first, so that an idle node divides by equal shares."""
MOST_UTILISATION = 1e6
"""What is said at most: a child may say a capacity next to nothing, and a quotient by that is no figure."""
MOST_DOWN = 16
"""Names in a report, which is sent several times a second; a name has at most 40 characters."""
RISING_S = 0.25
"""A slowdown is looked for in the answers of so long, and rates are averaged over a second."""
RISING_FROM = 8
"""Fewer answers in that time tell nothing.
Chance makes the mean of 8 exponential times three times what it should be once in 20 000."""
LEAST_SHARE = 1e-6
"""A target that gets less of the traffic than this is no limit, and division by it no figure."""


@attrs.frozen
class Counters:
    """A node's own counts at one moment. Cumulative but for `in_flight`, `connections` and `parked`.

    `waited` items of those done were parked. `timed` items that were not took `timed_s` in all. Of these, `judged` are
    of known kinds: they usually take `usual_s`, and `ratios` is the sum of the one by the other. `closed` connections
    that ended had lasted for `connected_s` in all.
    """

    in_flight: int = 0
    arrivals: int = 0
    done: int = 0
    errors: int = 0
    rejected: int = 0
    connections: int = 0
    closed: int = 0
    timed: int = 0
    timed_s: float = 0.0
    connected_s: float = 0.0
    parked: int = 0
    waited: int = 0
    judged: int = 0
    usual_s: float = 0.0
    ratios: float = 0.0


@attrs.frozen
class Recent:
    """What the counters did lately. The rates are 0 until there is a whole window; the two mean times (response,
    life of a connection) hold their last value while nothing ends, and are 0 before the first end. Items that were
    parked are in neither. `rising_s`: what the answers of the last quarter second show the mean response to become,
    where that is longer and they are enough, so that a slowdown shows at once."""

    done_per_s: float = 0.0
    response_s: float = 0.0
    connection_s: float = 0.0
    errors_per_s: float = 0.0
    rising_s: float = 0.0


@attrs.frozen
class Child:
    """One host of a target as the node sees it now. `capacity` None or 0: not known.

    An endpoint that sends no reports is one leaf, with no age. `age_s` is the age its last report told plus the time
    since, `capacity_age_s` how old the newest of what its capacity was learnt from is (None: nothing was learnt).
    `slots`: how many items it works on at a time (0: not known), `slowness` how slow it is beside its siblings,
    `answers` how many it gave lately. `overdue`: how late items are that wait there, as a sum of ratios.
    """

    capacity: float | None
    ready: bool = True
    hottest: float = 0.0
    age_s: float = 0.0
    ready_leaves: int = 1
    leaves: int = 1
    capacity_age_s: float | None = None
    slots: float = 0.0
    slowness: float = 1.0
    answers: float = 0.0
    overdue: float = 0.0


@attrs.frozen
class Target:
    """A group of children that get a common `share` (0..1) of the node's traffic. `items_per_s`: the work that was done
    there in the last second, in the items in which the children's capacities are; None where only items are counted."""

    share: float
    children: Sequence[Child]
    items_per_s: float | None = None


class RecentRates:
    """Rates and mean times over the last second, from samples of the counters."""

    __slots__ = ("_latest", "_window", "value")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window = Window(window_s)
        self._latest = Window(RISING_S)
        self.value = Recent()

    def sample(self, now: float, counters: Counters) -> Recent:
        c = counters
        ended = (c.closed, c.connected_s, c.errors)
        self._window.sample(now, c.done - c.waited, c.timed, c.timed_s, *ended, c.judged, c.usual_s)
        self._latest.sample(now, c.judged, c.ratios)
        if growth := self._window.growth():
            seconds, (done, timed, timed_s, closed, connected_s, errors, judged, usual_s) = growth
            response_s = timed_s / timed if timed > 0 else self.value.response_s
            self.value = Recent(
                max(0.0, done / seconds),
                response_s,
                connected_s / closed if closed > 0 else self.value.connection_s,
                errors / seconds,
                max(response_s, self._latest_ratio() * usual_s / judged if judged > 0 else 0.0),
            )
        return self.value

    def _latest_ratio(self) -> float:
        """By like requests: a few long ones would make the mean of a quarter second many times that of a second."""
        growth = self._latest.growth()
        count, ratios = growth[1] if growth else (0.0, 0.0)
        return ratios / count if count >= RISING_FROM else 0.0


class WorkRates:
    """The work done in the last second at each target, in usual seconds per second."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}

    def sample(self, now: float, done_s: Mapping[str, float]) -> None:
        """`done_s`: by target, cumulative, also when hosts leave."""
        self._windows = {name: self._windows.get(name) or Window() for name in done_s}
        for name, seconds in done_s.items():
            self._windows[name].sample(now, seconds)

    def rate(self, name: str) -> float | None:
        """None until there is a whole window."""
        window = self._windows.get(name)
        growth = None if window is None else window.growth()
        return None if growth is None else max(0.0, growth[1][0]) / growth[0]


class TrafficMix:
    """Each target's share of the recent arrivals: counts that fade with `MIX_S`."""

    __slots__ = ("_at", "_faded", "_seen")

    def __init__(self) -> None:
        self._at: float | None = None
        self._seen: dict[str, int] = {}
        self._faded: dict[str, float] = {}

    def sample(self, now: float, arrivals: Mapping[str, int]) -> dict[str, float]:
        """The shares of these targets, from their cumulative arrivals; they add up to 1."""
        keep = 1.0 if self._at is None else math.exp(-max(0.0, now - self._at) / MIX_S)
        grown = {name: max(0, count - self._seen.get(name, 0)) for name, count in arrivals.items()}
        fresh = sum(grown.values())
        if not fresh:
            keep = 1.0
        self._faded = {name: self._faded.get(name, MIX_PRIOR) * keep + grown[name] for name in arrivals}
        self._seen, self._at = dict(arrivals), now
        whole = sum(self._faded.values())
        return {name: faded / whole for name, faded in self._faded.items()}


def aggregate(
    counters: Counters,
    recent: Recent,
    busy: float,
    own_capacity: float,
    targets: Sequence[Target],
    *,
    own_age_s: float | None = None,
    draining: bool = False,
    down: tuple[str, ...] = (),
    kinds: tuple[KindTimes, ...] = (),
) -> SubtreeLoad:
    """What the node says to all of its parents. `busy` is its event loop's share 0..1, `own_capacity` 0 if unknown,
    `own_age_s` how old what that was learnt from is."""
    capacity = subtree_capacity(own_capacity, targets)
    uses = (_use(target, recent.done_per_s) for target in targets)
    utilisation = max(busy, _ratio(recent.done_per_s, own_capacity), *uses)
    children = [child for target in targets for child in target.children]
    ready = [child for child in children if child.ready]
    ages_s = [age_s for age_s in (own_age_s, *(child.capacity_age_s for child in ready)) if age_s is not None]
    return SubtreeLoad(
        capacity=capacity,
        own_capacity=own_capacity,
        utilisation=utilisation,
        hottest=max(utilisation, *(child.hottest for child in ready), 0.0),
        in_flight=counters.in_flight,
        arrivals=counters.arrivals,
        done=counters.done,
        errors=counters.errors,
        rejected=counters.rejected,
        connections=counters.connections,
        response_s=recent.response_s,
        connection_s=recent.connection_s,
        age_s=max((child.age_s for child in ready), default=0.0),
        ready_leaves=sum(child.ready_leaves for child in ready),
        leaves=sum(child.leaves for child in children),
        draining=draining,
        down=down,
        parked=counters.parked,
        capacity_age_s=min(ages_s, default=0.0) if capacity else 0.0,
        slots=subtree_slots(targets),
        kinds=kinds,
        overdue=sum(child.overdue for child in ready),
    )


def _use(target: Target, done_per_s: float) -> float:
    """Its share of the rate, by what its children can do: both of one window, and in the same items."""
    rate = done_per_s * target.share if target.items_per_s is None else target.items_per_s
    return _ratio(rate, target_capacity(target.children))


def _ratio(rate: float, capacity: float) -> float:
    return min(MOST_UTILISATION, rate / capacity) if capacity > 0 else 0.0


def subtree_capacity(own_capacity: float, targets: Iterable[Target]) -> float:
    """The smallest of what is known: the node itself, and each target's capacity over its share of the traffic."""
    limits = [target_capacity(target.children) / target.share for target in targets if target.share > LEAST_SHARE]
    return min((limit for limit in (own_capacity, *limits) if limit > 0), default=0.0)


def subtree_slots(targets: Iterable[Target]) -> float:
    """How many items are worked on at a time, as the traffic is mixed now; 0 where it is not known."""
    limits = [target_slots(target.children) / target.share for target in targets if target.share > LEAST_SHARE]
    return min((limit for limit in limits if limit > 0), default=0.0)


def target_slots(children: Iterable[Child]) -> float:
    """The slots of ready children, as if all were as fast as they are in the mean of the recent answers: by those a
    parent finds how slow they are. Slots of a slow child that is avoided count for little. Leaves of which they are not
    known count as the others."""
    ready = [child for child in children if child.ready]
    known = [child for child in ready if child.slots > 0]
    leaves = sum(child.ready_leaves for child in known)
    part = sum(child.ready_leaves for child in ready) / leaves if leaves else 1.0
    slots = part * sum(child.slots for child in known)
    answers = sum(child.answers for child in known)
    if not answers:
        return slots
    mean = sum(child.answers * child.slowness for child in known) / answers
    return min(slots, part * mean * sum(child.slots / child.slowness for child in known))


def target_capacity(children: Iterable[Child]) -> float:
    """The sum over ready children, one that is not known counting as the mean of those that are; 0 if none is."""
    ready = [child.capacity or 0.0 for child in children if child.ready]
    known = [capacity for capacity in ready if capacity > 0]
    return sum(known) * len(ready) / len(known) if known else 0.0


def pools_down(own: Mapping[str, bool], below: Mapping[str, Sequence[Iterable[str]]]) -> tuple[str, ...]:
    """The pools of which nothing is available, at most MOST_DOWN names in their order. `own`: by pool that the node
    sends to, whether it has an available endpoint there. `below`: by tier, what each of its nodes reports as down.
    Where one of them has a way to an endpoint, there is one."""
    found = {pool for pool, available in own.items() if not available}
    for reports in below.values():
        if reports:
            found |= set.intersection(*map(set, reports))
    return tuple(sorted(found)[:MOST_DOWN])
