"""From reports and own counts to a cost: how one host's load looks to the pick (BALANCING.md §2).

A parent counts its own items in flight at a child exactly; those of all parents come in the child's reports. The older
a report, the less it counts. `freshness` therefore fades from the report to the parent's own count, scaled up by the
share of the child's traffic that this parent sends. The predicted queue by the capacity is linear in the own count, so
the pick needs one multiplication and one addition per host. Slope and offset are computed between picks.

    Q     = a·(n + max(0, R − r)) + (1 − a)·n/share
    cost = (Q/part + penalty + ahead) / capacity = n·slope + offset

`ahead` is the item itself:
* For a request to a child it is 1, so that a child that has recovered is found again.
* A connection cannot be moved with its next item, so the time that items take at the child counts: `ahead` is then the
  child's capacity by the time of a standard item, 1 at least.
* An endpoint works on up to c items at once and each takes c/capacity. There `ahead` is c, or more where c is small
  (`balance.pool_slots.ITEM_IN_SLOTS`): with 1 a slow endpoint looks as good as a fast one that has a few in flight. p99
  was 53/77/63 ms with 1, 47/56/51 with c (the scenario of tests/simulation/test_load_aware.py: steady, just after a
  fast endpoint became slow, later).

A connection counts as many items as the child's carry on average (`per_item`), and one that is newer than the last
report as NEW_ITEMS at least. When many end between two refreshes, Q is too low meanwhile, even below zero.
"""

import math
from collections.abc import Sequence

import attrs

SHORTEST_TAU_S, LONGEST_TAU_S = 0.05, 1.0
RESPONSES_PER_TAU = 5.0
SHORTEST_CONNECTION_TAU_S, LONGEST_CONNECTION_TAU_S = 1.0, 15.0
TAUS_PER_CONNECTION = 4.0
NEW_ITEMS = 0.2
"""Items of a connection that is newer than the last report. If it counted as little as the others, 256 that arrive at
once at an idle tier would all go to the node whose last answers were a millisecond faster. With 1, and reports two
seconds late, a node that has recovered waits up to 13 s for its part of 1,200 kept connections; with 0.2 it has it
after 6 to 11 s (eight seeds), no later than with 0."""
LEAST_PARENT_SHARE = 0.02
SHARE_KEPT = 0.8
USUAL_ARRIVALS = 20
"""A report with this many arrivals or more replaces a fifth of the share. One with few is mostly chance and replaces
less."""
NO_REPORT = -1
COST_GRID, LARGEST_ON_GRID = 2.0**20, 2.0**30
"""Offsets are rounded to this fraction of an item, up to so many items: products of these are exact in a float."""
Cost = tuple[float, float]
"""Slope and offset: the cost of a host is `in_flight * slope + offset`."""
NEXT_ITEM: Cost = (1e9, 0.0)
"""The cost of a host that is to get the next item and, while it has that, no other (slowness.Slowness)."""


def tau_s(response_s: float) -> float:
    """The time constant with which a report fades, of a child whose items take `response_s`."""
    return min(LONGEST_TAU_S, max(SHORTEST_TAU_S, RESPONSES_PER_TAU * response_s))


def connection_tau_s(connection_s: float) -> float:
    """The same at a parent that counts connections and does not see their items."""
    return min(LONGEST_CONNECTION_TAU_S, max(SHORTEST_CONNECTION_TAU_S, connection_s / TAUS_PER_CONNECTION))


def freshness(age_s: float, tau_s: float) -> float:
    """The weight of a report: 1 as it arrives, 0 when it is old or there never was one (age infinite)."""
    return math.exp(-max(0.0, age_s) / tau_s)


def predicted_cost(
    fresh: float,
    others: float,
    share: float,
    penalty: float,
    capacity: float,
    per_item: float = 1.0,
    ahead: float = 1.0,
    part: float = 1.0,
    counted: float = 0.0,
) -> Cost:
    """The cost of a host.

    `others`: items in flight and not parked from other parents as of the report (R − r; below zero is read as zero).
    `per_item`: the child's items for one of this parent's, where this parent counts connections and the child requests;
    `counted`: how many of this parent's the report includes. Those since then count as `NEW_ITEMS` each at least,
    because a client that connects is about to send a request. `ahead`: 1, or at an endpoint how many items it works on
    at once, so that the cost is the time an item will take there: the wait and the service itself. `part` (0..1): what
    a host in slow start may have of the queue of its equals.
    """
    per_new = max(NEW_ITEMS, per_item)
    slope = (fresh * per_new + (1 - fresh) * per_item / share) / (capacity * part)
    known = max(0.0, others) - counted * (per_new - per_item)
    return slope, (fresh * known / part + penalty + ahead) / capacity


def comparable(costs: Sequence[Cost]) -> list[Cost]:
    """The same costs in units of the smallest slope, which makes them predicted queues, with offsets that are multiples
    of a power of two. Costs that are equal in theory are then equal in floating point. Without that, rounding would
    decide between equal hosts of which some have parked items. The cost of a host that is to get the next item stays as
    it is: it is exact, and steep enough."""
    unit = min((slope for slope, _ in costs if 0 < slope < NEXT_ITEM[0]), default=0.0)
    if not unit:
        return list(costs)
    return [each if each[0] >= NEXT_ITEM[0] else _in_units(unit, *each) for each in costs]


def _in_units(unit: float, slope: float, offset: float) -> Cost:
    queue = offset / unit
    return slope / unit, round(queue * COST_GRID) / COST_GRID if abs(queue) < LARGEST_ON_GRID else queue


@attrs.define
class ParentShare:
    """The part of a host's arrivals that comes from this node, by the counters in the host's reports. Before the first
    report all `parents` of the host are assumed to send the same."""

    parents: int
    value: float = attrs.field(init=False)
    _own: int = attrs.field(default=NO_REPORT, init=False)
    _all: int = attrs.field(default=NO_REPORT, init=False)

    def __attrs_post_init__(self) -> None:
        self.expect(self.parents)

    def expect(self, parents: int) -> None:
        """So many nodes send to the host now. A share that was learnt from reports stays: it is more accurate."""
        self.parents = max(1, parents)
        if self._all == NO_REPORT:
            self.value = valid_share(1 / self.parents)

    def update(self, arrivals: int, own: int) -> None:
        """A report with the arrivals from all parents and those from this one, cumulative since the host's start.

        Counters that went back mean that the host has restarted: they are only a new base.
        """
        more, more_own = arrivals - self._all, own - self._own
        known = self._all != NO_REPORT
        self._all, self._own = arrivals, own
        if not known or more <= 0 or more_own < 0:
            return
        kept = SHARE_KEPT ** min(1.0, more / USUAL_ARRIVALS)
        self.value = self.value * kept + valid_share(more_own / more) * (1 - kept)


def valid_share(share: float) -> float:
    """The share within its limits; above zero, because it is divided by."""
    return min(1.0, max(LEAST_PARENT_SHARE, share))
