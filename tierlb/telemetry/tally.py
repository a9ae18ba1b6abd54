"""Counts by parent: the *echo* in a report is the part of this node's load that came from the parent.

The hot path holds the `Tally` of its connection and counts on its plain attributes; clients that are no parents share
the one called `outside`. From its echo beside the totals a parent finds its share of this node's arrivals, and what the
other parents have in flight here (BALANCING.md §2).
"""

from tierlb.model.load import Echo

MOST_PARENTS = 4096
"""More than any tier has nodes. Further names count as outside, so that a stream of names does not fill the memory."""


class Tally:
    """`in_flight`, `parked` and `connections` are gauges, `arrivals` and `done` cumulative since the node's start.
    `parked` are those of the items in flight that are parked (balance.parking); only tickets count them
    (balance.ticket).
    `requests`: of an l4 node, about how many came by its connections, cumulative."""

    __slots__ = ("arrivals", "connections", "done", "in_flight", "parked", "requests")

    def __init__(self) -> None:
        self.in_flight = 0
        self.arrivals = 0
        self.done = 0
        self.connections = 0
        self.parked = 0
        self.requests = 0.0

    def arrive(self) -> None:
        """An item came that is answered at once."""
        self.arrivals += 1

    def begin(self) -> None:
        """An item came, and is in flight until `end`."""
        self.arrivals += 1
        self.in_flight += 1

    def end(self, *, done: bool) -> None:
        """It is over. It counts as done if its answer was handed over whole."""
        self.in_flight -= 1
        self.done += done

    def open(self) -> None:
        """A connection came, and is open until `close`."""
        self.connections += 1

    def close(self) -> None:
        self.connections -= 1

    def count_connections(self, began: int, more_open: int, done: int) -> None:
        """So many connections began, each an item, so many more (below zero: fewer) are open, and so many are over."""
        self.arrivals += began
        self.in_flight += more_open
        self.connections += more_open
        self.done += done

    def echo(self) -> Echo:
        return Echo(self.in_flight, self.arrivals, self.connections, self.parked)

    def take(self, other: "Tally") -> None:
        """Add what `other` counted."""
        self.in_flight += other.in_flight
        self.arrivals += other.arrivals
        self.done += other.done
        self.connections += other.connections
        self.parked += other.parked


class Tallies:
    """One tally per parent's name, and `outside`. `forwarded` is of clients' connections that parents forward in the
    kernel. Which of the parents in `forwarding` it was is not known, so each counts the same part."""

    def __init__(self) -> None:
        self.outside = Tally()
        self.forwarded = Tally()
        self.forwarding: frozenset[str] = frozenset()
        self._parents: dict[str, Tally] = {}

    def of(self, parent: str) -> Tally:
        """The parent's tally; made when it is seen first."""
        tally = self._parents.get(parent)
        if tally is None:
            if len(self._parents) >= MOST_PARENTS:
                return self.outside
            tally = self._parents[parent] = Tally()
        return tally

    def echo(self, parent: str) -> Echo:
        """The echo for this parent; all zero for one that never sent anything."""
        tally, part = self._parents.get(parent), self.forwarded
        own = Echo() if tally is None else tally.echo()
        if parent not in self.forwarding:
            return own
        count = len(self.forwarding)
        return Echo(
            own.in_flight + round(part.in_flight / count),
            own.arrivals + part.arrivals // count,
            own.connections + round(part.connections / count),
            own.parked + round(part.parked / count),
        )

    def share_out(self, requests: int) -> None:
        """Attribute so many more requests to the parents in proportion to their open connections, or to all that they
        ever opened if none is open. No count falls, because a parent takes that for a restart."""
        tallies, total = self._all(), self.total()
        for tally in tallies:
            if total.connections:
                tally.requests += requests * tally.connections / total.connections
            elif total.arrivals:
                tally.requests += requests * tally.arrivals / total.arrivals

    def requests(self, parent: str) -> int:
        """What came by the connections of this parent."""
        tally = self._parents.get(parent)
        own = 0.0 if tally is None else tally.requests
        return round(own + self.forwarded.requests / len(self.forwarding)) if parent in self.forwarding else round(own)

    def total(self) -> Tally:
        total = Tally()
        for tally in self._all():
            total.take(tally)
        return total

    def _all(self) -> tuple[Tally, ...]:
        return (self.outside, self.forwarded, *self._parents.values())
