"""What one host reports of itself, and whether it still reports.

Child nodes and agents send reports over a control connection (telemetry/aggregate.py makes them), and each says when
the next one is due. A host whose connection is open but whose report is ten intervals late is silent
(balance/staleness.py). When the connection is
lost the last report stays: its ready leaves and this node's share are still used, but not its capacity or its queue.

An l4 node sees connections, not requests. What the requests of its children take it learns from the counts in their
reports (balance/kind_counts.py).
"""

import math

import attrs

from tierlb.balance.cost import ParentShare
from tierlb.balance.kind_counts import REST, KindGrowth
from tierlb.balance.staleness import NOT_OWED, OLD_INTERVALS, counted_age_s, is_old, spare_s
from tierlb.model.load import REPORT_INTERVAL_S, Echo, KindTimes, SubtreeLoad

ITEMS_PER_CONNECTION_GAIN = 0.25
"""How much of the latest report goes into the running mean of requests per connection."""
MOST_REPORTED_KINDS = 256
"""Entries that are kept between two ticks. Each report has about ten, so that only a flood of reports exceeds this."""
LEAST_SLOTS = 1e-3
"""The least number of slots per leaf that is accepted: it is divided by, and a thousand nodes may share a slot."""


@attrs.define(slots=True)
class ReceivedReports:
    """The reports of one host. Without any, `share` follows from the number of parents and the rest stays empty."""

    share: ParentShare
    """The part of the host's traffic that this node sends."""
    latest: SubtreeLoad | None = None
    echo: Echo = Echo()
    """The part of `latest` that came from this node."""
    received_at: float = 0.0
    spare_s: float = 0.0
    """For so long after the first interval the last report counts as fresh, unless this node gives the host an item."""
    connected: bool = False
    silent: bool = False
    items_per_connection: float = 1.0
    answers: list[KindTimes] = attrs.field(factory=list)
    """Answers reported since the last tick, where this node gives the host connections."""
    _growth: KindGrowth = attrs.field(factory=KindGrowth)
    _given: int | None = None
    """Items that this node had given the host when it first looked after the last report."""
    _owed_since: float = NOT_OWED
    """When it first found that it had given more, which the host reports at once."""

    def receive(
        self, now: float, load: SubtreeLoad, echo: Echo, *, by_connection: bool, next_s: float = REPORT_INTERVAL_S
    ) -> None:
        """A report came; the next one is due after `next_s`. `by_connection`: this node gives the host connections
        while the host counts requests."""
        self.share.update(load.arrivals, echo.arrivals)
        if by_connection:
            self._count_items(load)
        self.latest, self.echo, self.received_at, self.connected, self.silent = load, echo, now, True, False
        self.spare_s, self._given, self._owed_since = spare_s(next_s), None, NOT_OWED

    def _count_items(self, load: SubtreeLoad) -> None:
        """A child that reports no kinds has all its answers counted as one kind."""
        if load.connections:
            recent = load.queued / load.connections
            self.items_per_connection += ITEMS_PER_CONNECTION_GAIN * (recent - self.items_per_connection)
        before = self.latest
        restarted = before is not None and load.arrivals < before.arrivals
        self.answers += self._growth.take(load.kinds, restarted=restarted)
        if not load.kinds and before is not None and load.done > before.done:
            count = load.done - before.done
            self.answers.append((REST, count, count * load.response_s))
        del self.answers[:-MOST_REPORTED_KINDS]

    def take_answers(self) -> list[KindTimes]:
        """The answers reported since the last call."""
        answers, self.answers = self.answers, []
        return answers

    def check_silence(self, now: float, given: int = 0) -> float:
        """Mark the host as silent if its connection is open and its report is too late. A host that loses its
        connection after that stays silent, because a process that is frozen may well lose it. `given`: how many items
        this node has given it so far. Returns when to check again, if it is given no more until then."""
        if self._given is None:
            self._given = given
        elif given != self._given and self._owed_since == NOT_OWED:
            self._owed_since = now
        if self.connected and is_old(self.elapsed_s(now), REPORT_INTERVAL_S):
            self.silent = True
        if self.silent or not self.connected:
            return math.inf
        return min(self.received_at + self.spare_s, self._owed_since) + OLD_INTERVALS * REPORT_INTERVAL_S

    def elapsed_s(self, now: float) -> float:
        """The time since the last report, as far as it counts."""
        return counted_age_s(now - self.received_at, self.spare_s, now - self._owed_since, REPORT_INTERVAL_S)

    def lose(self) -> Echo:
        """The control connection is gone. Returns the last echo; from now on the host reports nothing in flight."""
        last = self.echo
        self.connected = False
        self.echo = attrs.evolve(last, in_flight=0, parked=0)
        return last

    @property
    def no_leaf_ready(self) -> bool:
        """The host reports that none of its leaves is ready. It fails whatever it is sent, and fast, which looks like
        little load."""
        return self.connected and self.latest is not None and self.latest.leaves > 0 and not self.latest.ready_leaves

    @property
    def has_capacity(self) -> bool:
        """Whether the host reports a capacity now."""
        return self.connected and self.latest is not None and self.latest.capacity > 0

    @property
    def overdue(self) -> float:
        """How late items are that wait at the host, as a sum of ratios."""
        return self.latest.overdue if self.latest is not None and self.connected else 0.0

    @property
    def leaf_slots(self) -> float | None:
        """Slots for each ready leaf; None where the host reports none."""
        load = self.latest
        if load is None or not load.slots or not load.ready_leaves:
            return None
        return max(LEAST_SLOTS, load.slots / load.ready_leaves)

    def age_s(self, now: float) -> float | None:
        """The age of the figures in the last report as it counts, or None before the first."""
        return None if self.latest is None else self.elapsed_s(now) + self.latest.age_s
