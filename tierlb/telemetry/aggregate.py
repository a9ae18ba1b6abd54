"""From a node's own counts and its children's reports to the report of its subtree (BALANCING.md §4).

Counts are the node's own, so that a figure is one hop old at any depth. Only capacity, leaves and age include what is
below. A child, or a whole target, of unknown capacity is left out and never counted as zero: a child counts like its
known siblings, a target is no limit. A target without a ready child is no limit either, because a capacity of zero
could not be distinguished from an unknown one; it shows in `ready_leaves` and in errors.
"""

import math
from collections.abc import Iterable, Mapping, Sequence

import attrs

from tierlb.model.load import KindTimes, SubtreeLoad
from tierlb.telemetry.window import RATE_WINDOW_S, Window

SUBTREE_MIX_S = 5.0
"""The memory of the traffic mix: long enough that a few items do not change a capacity, short beside a deployment."""
MIX_PRIOR = 1.0
"""Items that each target is assumed to have got before the first, so that an idle node divides by equal shares."""
MOST_UTILISATION = 1e6
"""The largest reported utilisation: a child may report a capacity close to zero, and a quotient by that is no useful
figure."""
MOST_DOWN = 16
"""The most names in a report, which is sent several times a second; a name has at most 40 characters."""
RISING_S = 0.25
"""A slowdown is detected in the answers of this time; rates are averaged over a second."""
RISING_FROM = 8
"""Fewer answers in that time show nothing. By chance the mean of 8 exponential times is three times too high once in
20,000."""
LEAST_HOT_SHARE = 1e-6
"""A target that gets a smaller part of the traffic is no limit: it is divided by."""


@attrs.frozen
class NodeCounters:
    """A node's own counts at one moment. Cumulative but for `in_flight`, `connections` and `parked`.

    `waited` items of those done were parked. `timed` items that were not took `timed_s` in all. Of these, `judged` are
    of known kinds: they usually take `usual_s`, and `ratios` is the sum of their times by these. `closed` client
    connections ended, which had lasted for `connected_s` in all.
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
class RecentRate:
    """Rates of the counters. They are 0 until there is a whole window. The two mean times (response, life of a
    connection) keep their last value while nothing ends, and are 0 before the first end. Parked items are in neither.
    `rising_s`: the mean response time of the last quarter second, where that is longer and there are enough answers, so
    that a slowdown shows at once."""

    done_per_s: float = 0.0
    response_s: float = 0.0
    connection_s: float = 0.0
    errors_per_s: float = 0.0
    rising_s: float = 0.0


@attrs.frozen
class HostFigures:
    """One host of a target as the node sees it now. `capacity` None or 0: unknown.

    An endpoint without reports is one leaf and has no age. `age_s` is the age of the figures in its last report,
    `capacity_age_s` that of the newest figure behind its capacity (None: nothing was learnt). `slots`: how many items
    it works on at a time (0: unknown). `slowness`: relative to its siblings. `answers`: how many it gave lately.
    `overdue`: how late items are that wait there, as a sum of ratios.
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
class TargetFigures:
    """The hosts of one target, which get a common `share` (0..1) of the node's traffic. `items_per_s`: the work done
    there in the last second, in the same items as their capacities; None where only items are counted."""

    share: float
    children: Sequence[HostFigures]
    items_per_s: float | None = None


class RecentRates:
    """Rates and mean times over the last second, from samples of the counters."""

    __slots__ = ("_latest", "_window", "value")

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window = Window(window_s)
        self._latest = Window(RISING_S)
        self.value = RecentRate()

    def sample(self, now: float, counters: NodeCounters) -> RecentRate:
        c = counters
        ended = (c.closed, c.connected_s, c.errors)
        self._window.sample(now, c.done - c.waited, c.timed, c.timed_s, *ended, c.judged, c.usual_s)
        self._latest.sample(now, c.judged, c.ratios)
        if growth := self._window.growth():
            seconds, (done, timed, timed_s, closed, connected_s, errors, judged, usual_s) = growth
            response_s = timed_s / timed if timed > 0 else self.value.response_s
            self.value = RecentRate(
                max(0.0, done / seconds),
                response_s,
                connected_s / closed if closed > 0 else self.value.connection_s,
                errors / seconds,
                max(response_s, self._latest_ratio() * usual_s / judged if judged > 0 else 0.0),
            )
        return self.value

    def _latest_ratio(self) -> float:
        """Compared with like requests: a few long ones would make the mean of a quarter second many times that of a
        second."""
        growth = self._latest.growth()
        count, ratios = growth[1] if growth else (0.0, 0.0)
        return ratios / count if count >= RISING_FROM else 0.0


class WorkRates:
    """The work done in the last second at each target, in usual seconds per second."""

    __slots__ = ("_windows",)

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}

    def sample(self, now: float, done_s: Mapping[str, float]) -> None:
        """`done_s`: cumulative by target, including hosts that have left."""
        self._windows = {name: self._windows.get(name) or Window() for name in done_s}
        for name, seconds in done_s.items():
            self._windows[name].sample(now, seconds)

    def rate(self, name: str) -> float | None:
        """None until there is a whole window."""
        window = self._windows.get(name)
        growth = None if window is None else window.growth()
        return None if growth is None else max(0.0, growth[1][0]) / growth[0]


class TrafficMix:
    """Each target's share of the recent arrivals: counts that fade with `SUBTREE_MIX_S`."""

    __slots__ = ("_at", "_faded", "_seen")

    def __init__(self) -> None:
        self._at: float | None = None
        self._seen: dict[str, int] = {}
        self._faded: dict[str, float] = {}

    def sample(self, now: float, arrivals: Mapping[str, int]) -> dict[str, float]:
        """The shares of these targets, from their cumulative arrivals; they add up to 1."""
        keep = 1.0 if self._at is None else math.exp(-max(0.0, now - self._at) / SUBTREE_MIX_S)
        grown = {name: max(0, count - self._seen.get(name, 0)) for name, count in arrivals.items()}
        fresh = sum(grown.values())
        if not fresh:
            keep = 1.0
        self._faded = {name: self._faded.get(name, MIX_PRIOR) * keep + grown[name] for name in arrivals}
        self._seen, self._at = dict(arrivals), now
        whole = sum(self._faded.values())
        return {name: faded / whole for name, faded in self._faded.items()}


def aggregate(
    counters: NodeCounters,
    recent: RecentRate,
    busy: float,
    own_capacity: float,
    targets: Sequence[TargetFigures],
    *,
    own_age_s: float | None = None,
    draining: bool = False,
    down: tuple[str, ...] = (),
    kinds: tuple[KindTimes, ...] = (),
) -> SubtreeLoad:
    """The report of the node to all of its parents. `busy` is the share (0..1) of its event loop, `own_capacity` 0 if
    unknown, `own_age_s` the age of what that was learnt from."""
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


def _use(target: TargetFigures, done_per_s: float) -> float:
    """Its share of the rate relative to the capacity of its hosts: both of one window, and in the same items."""
    rate = done_per_s * target.share if target.items_per_s is None else target.items_per_s
    return _ratio(rate, target_capacity(target.children))


def _ratio(rate: float, capacity: float) -> float:
    return min(MOST_UTILISATION, rate / capacity) if capacity > 0 else 0.0


def subtree_capacity(own_capacity: float, targets: Iterable[TargetFigures]) -> float:
    """The smallest known capacity: that of the node itself, and each target's capacity by its share of the traffic."""
    limits = [target_capacity(target.children) / target.share for target in targets if target.share > LEAST_HOT_SHARE]
    return min((limit for limit in (own_capacity, *limits) if limit > 0), default=0.0)


def subtree_slots(targets: Iterable[TargetFigures]) -> float:
    """How many items are worked on at a time, in the current traffic mix; 0: unknown."""
    limits = [target_slots(target.children) / target.share for target in targets if target.share > LEAST_HOT_SHARE]
    return min((limit for limit in limits if limit > 0), default=0.0)


def target_slots(children: Iterable[HostFigures]) -> float:
    """The slots of ready children, as if all were as fast as the mean of the recent answers, because a parent derives
    their slowness from these. Slots of a slow child that is avoided count for little. Leaves of unknown slots count as
    the others."""
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


def target_capacity(children: Iterable[HostFigures]) -> float:
    """The sum over ready children, where an unknown one counts as the mean of the known; 0 if none is known."""
    ready = [child.capacity or 0.0 for child in children if child.ready]
    known = [capacity for capacity in ready if capacity > 0]
    return sum(known) * len(ready) / len(known) if known else 0.0


def pools_down(own: Mapping[str, bool], below: Mapping[str, Sequence[Iterable[str]]]) -> tuple[str, ...]:
    """The pools without an available endpoint, at most MOST_DOWN names in their order. `own`: for each pool that the
    node sends to, whether it has an available endpoint there. `below`: by tier, the pools that each of its nodes
    reports as down. A pool is not down while any of these nodes reaches an endpoint of it."""
    found = {pool for pool, available in own.items() if not available}
    for reports in below.values():
        if reports:
            found |= set.intersection(*map(set, reports))
    return tuple(sorted(found)[:MOST_DOWN])
