"""What one host reports of itself, and whether it still reports.

Child nodes and agents send reports over a control connection (telemetry/aggregate.py makes them). A host whose
connection is open but that has sent nothing for ten intervals is silent (balance/staleness.py). When the connection is
lost the last report stays: its ready leaves and this node's share are still used, but not its capacity or its queue.

An l4 node sees connections, not requests. What the requests of its children take it learns from the counts in their
reports (balance/kind_counts.py).
"""

import attrs

from tierlb.balance.cost import ParentShare
from tierlb.balance.kind_counts import REST, KindGrowth
from tierlb.balance.staleness import is_old
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
    connected: bool = False
    silent: bool = False
    items_per_connection: float = 1.0
    answers: list[KindTimes] = attrs.field(factory=list)
    """Answers reported since the last tick, where this node gives the host connections."""
    _growth: KindGrowth = attrs.field(factory=KindGrowth)

    def receive(self, now: float, load: SubtreeLoad, echo: Echo, *, by_connection: bool) -> None:
        """A report came. `by_connection`: this node gives the host connections while the host counts requests."""
        self.share.update(load.arrivals, echo.arrivals)
        if by_connection:
            self._count_items(load)
        self.latest, self.echo, self.received_at, self.connected, self.silent = load, echo, now, True, False

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

    def check_silence(self, now: float) -> None:
        """Mark the host as silent if its connection is open and no report has come for too long. A host that loses its
        connection after that stays silent, because a process that is frozen may well lose it."""
        if self.connected and is_old(now - self.received_at, REPORT_INTERVAL_S):
            self.silent = True

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
        """The age of the figures in the last report, or None before the first."""
        return None if self.latest is None else now - self.received_at + self.latest.age_s
