"""From reports and own counts to a cost: what one host's load will look like to the pick (BALANCING.md §2).

A parent knows its own items in flight at a child exactly, and everybody's as of the child's last report. The older
the report, the less it says: `freshness` fades from it to the parent's own count, scaled up by the share of the child's
traffic that this parent sends. The predicted queue over capacity is linear in the own count, so the pick
needs one multiplication and one addition per host; slope and offset are worked out between picks.

    Q     = a·(n + max(0, R − r)) + (1 − a)·n/share
    cost = (Q/part + penalty + ahead) / capacity = n·slope + offset

For a connection, which cannot be placed anew with its next item, the time that items take at the child counts too:
there `ahead` is its capacity by the time of a standard item, 1 at least. For requests to a child it is 1, so that one
that has recovered is found again.
A connection counts as many items as the child's carry on average (`per_item`), and one that the last report does not
tell of as NEW_ITEMS at least. When many end between two refreshes, Q is too low meanwhile, even below zero.

`ahead` is the item itself. An endpoint works on up to c items at once and each takes c/capacity, so there it is c, or
more where c is small (`balance.load_estimate.AHEAD`): with 1 a slow endpoint looks as good as a fast one that has a few
in flight. p99 was 53/77/63 ms with 1, 47/56/51 with c (the scenario of tests/simulation/test_load_aware.py: steady,
just after a fast endpoint became slow, later).
"""

import math
from collections.abc import Sequence

import attrs

SHORTEST_TAU_S, LONGEST_TAU_S = 0.05, 1.0
RESPONSES_PER_TAU = 5.0
SHORTEST_CONNECTION_TAU_S, LONGEST_CONNECTION_TAU_S = 1.0, 15.0
TAUS_PER_CONNECTION = 4.0
NEW_ITEMS = 0.2
"""Of a connection that no report tells of. If it were taken to be as quiet as the others, 256 that come at once to a
tier at rest would all be given to the node whose last answers came a millisecond sooner. With 1, and reports two
seconds late, a node that has recovered waits up to 13 s for its part of 1 200 kept connections; with 0.2 it has it
after 6-11 s (eight seeds), no later than with 0."""
LEAST_SHARE = 0.02
SHARE_KEPT = 0.8
USUAL_ARRIVALS = 20
"""A report that tells of this many arrivals or more replaces a fifth of the share; one that tells of few is mostly
chance and replaces less."""
UNHEARD = -1
GRID, MOST = 2.0**20, 2.0**30
ON_TRIAL = (1e9, 0.0)
"""Slope and offset of a host that is to get the next item and, while it has that, no other (slowness.Slowness)."""


def tau_s(response_s: float) -> float:
    """How long a report says something of a child whose items take `response_s`."""
    return min(LONGEST_TAU_S, max(SHORTEST_TAU_S, RESPONSES_PER_TAU * response_s))


def connection_tau_s(connection_s: float) -> float:
    """The same at a parent that counts connections and sees none of their items."""
    return min(LONGEST_CONNECTION_TAU_S, max(SHORTEST_CONNECTION_TAU_S, connection_s / TAUS_PER_CONNECTION))


def freshness(age_s: float, tau_s: float) -> float:
    """How much of a report is believed: 1 as it comes, 0 when it is old or there never was one (age infinite)."""
    return math.exp(-max(0.0, age_s) / tau_s)


def cost_line(
    fresh: float,
    others: float,
    share: float,
    penalty: float,
    capacity: float,
    per_item: float = 1.0,
    ahead: float = 1.0,
    part: float = 1.0,
    counted: float = 0.0,
) -> tuple[float, float]:
    """`(slope, offset)` of the score in the own in-flight count.

    `others`: items in flight and not parked from other parents as of the report (R − r; below zero is read as zero).
    `per_item`: the child's items for one of this parent's, where this parent counts connections and the child requests;
    `counted`: how many of this parent's the child had counted in that, as of its report. Those since then are no less
    than `NEW_ITEMS` each, for a client that connects is about to ask. `ahead`: 1, or at an endpoint how many items it
    works on at once, so that the score is the time an item will take there: the wait and the service itself. `part`
    (0..1): of the queue of its equals, what a child in slow start may have.
    """
    per_new = max(NEW_ITEMS, per_item)
    slope = (fresh * per_new + (1 - fresh) * per_item / share) / (capacity * part)
    known = max(0.0, others) - counted * (per_new - per_item)
    return slope, (fresh * known / part + penalty + ahead) / capacity


def comparable(cost_lines: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same lines in units of the flattest one, which makes costs predicted queues, with offsets that are multiples
    of a power of two. So scores that are the same on paper are the same in floating point: equal hosts, some with
    parked items, would else be chosen by how their sums happen to be rounded. Lines of hosts on trial stay as they
    are: they are exact, and steep enough."""
    unit = min((slope for slope, _ in cost_lines if 0 < slope < ON_TRIAL[0]), default=0.0)
    if not unit:
        return list(cost_lines)
    return [each if each[0] >= ON_TRIAL[0] else _in_units(unit, *each) for each in cost_lines]


def _in_units(unit: float, slope: float, offset: float) -> tuple[float, float]:
    queue = offset / unit
    return slope / unit, round(queue * GRID) / GRID if abs(queue) < MOST else queue


@attrs.define
class ParentShare:
    """The part of a child's arrivals that comes from this parent, from the counters in its reports. Before the first
    report all `parents` are alike."""

    parents: int
    value: float = attrs.field(init=False)
    _own: int = attrs.field(default=UNHEARD, init=False)
    _all: int = attrs.field(default=UNHEARD, init=False)

    def __attrs_post_init__(self) -> None:
        self.expect(self.parents)

    def expect(self, parents: int) -> None:
        """So many parents send to it now. What was learnt from its reports is nearer to the truth and stays."""
        self.parents = parents
        if self._all == UNHEARD:
            self.value = within(1 / max(1, parents))

    def update(self, arrivals: int, own: int) -> None:
        """A report with everybody's arrivals and this parent's, cumulative since the child's start.

        Counters that went back mean that the child has restarted: they are a new base, no more.
        """
        more, more_own = arrivals - self._all, own - self._own
        known = self._all != UNHEARD
        self._all, self._own = arrivals, own
        if not known or more <= 0 or more_own < 0:
            return
        kept = SHARE_KEPT ** min(1.0, more / USUAL_ARRIVALS)
        self.value = self.value * kept + within(more_own / more) * (1 - kept)


def within(share: float) -> float:
    """A share above zero: it is divided by."""
    return min(1.0, max(LEAST_SHARE, share))
