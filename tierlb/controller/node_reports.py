"""The controller's record of one node's load: its newest row, rows before it, and its own newest report.

Rows arrive while a client of the admin API watches. Reports of the top tiers arrive all the time. A rate is taken from
two rows of one node and the times at which that node made them. So a late report does no harm.

Left out: which nodes exist (registry.py) and how the figures are shown (overview.py).
"""

from collections import deque
from collections.abc import Mapping

import attrs

from tierlb.model.load import HostLoad, NodeRow, SubtreeLoad

LIVE_S = 2.0
"""A row older than this shows what was, not what is."""
RATE_LEAST_S = 0.15
"""Two rows closer together than this give no useful rate."""
RATE_MOST_S = 1.5
MAX_SAMPLES = 32


@attrs.define
class NodeReports:
    """One node. Times are of the controller's clock."""

    row: NodeRow | None = None
    taken_s: float = 0.0
    """When the node made `row`."""
    samples: deque[tuple[float, int]] = attrs.field(factory=lambda: deque(maxlen=MAX_SAMPLES))
    """Times and items of recent rows."""
    report: SubtreeLoad | None = None
    reported_s: float = 0.0
    none_ready_s: float | None = None
    """Since when nothing below it is ready by its reports; None while something is."""

    def note_report(self, report: SubtreeLoad, now: float) -> None:
        """The node itself reported to the controller."""
        self.report, self.reported_s = report, now
        if report.ready_leaves or not report.leaves:
            self.none_ready_s = None
        elif self.none_ready_s is None:
            self.none_ready_s = now

    def note_row(self, row: NodeRow, now: float) -> None:
        """A row of the node came, by itself or through a parent; the newest one counts."""
        taken_s = now - row.age_s
        if self.row is None or taken_s > self.taken_s:
            self.row, self.taken_s = row, taken_s
            self.samples.append((taken_s, row.subtree.arrivals))

    def items_per_s(self) -> float | None:
        """Over the last second or so; None without two rows of that time."""
        for then_s, items in self.samples:
            if self.taken_s - then_s < RATE_LEAST_S:
                return None
            if self.row is not None and self.taken_s - then_s <= RATE_MOST_S:
                return max(0, self.row.subtree.arrivals - items) / (self.taken_s - then_s)
        return None

    def is_fresh(self, now: float) -> bool:
        """Whether the row shows the present."""
        return self.row is not None and now - self.taken_s < LIVE_S

    def is_live(self, now: float) -> bool:
        """Whether load and rate are of the present."""
        return self.is_fresh(now) and self.items_per_s() is not None

    def age_s(self, now: float) -> float | None:
        """How old the newest figures of its subtree are; None without any."""
        latest = [at for known, at in ((self.row, self.taken_s), (self.report, self.reported_s)) if known is not None]
        return max(0.0, now - max(latest)) if latest else None

    def subtree(self) -> SubtreeLoad | None:
        """The newer one of its row and its own report."""
        if self.row is not None and (self.report is None or self.taken_s > self.reported_s):
            return self.row.subtree
        return self.report

    def finds_ready(self) -> bool:
        """Whether it reported that something below it is ready, or that it needs nothing below."""
        report = self.subtree()
        return report is not None and (not report.leaves or report.ready_leaves > 0)


def loads_by_host(nodes: Mapping[str, NodeReports], now: float) -> dict[str, dict[str, HostLoad]]:
    """Host name → node → the load of the host as that node counts it; from fresh rows."""
    loads: dict[str, dict[str, HostLoad]] = {}
    for name, reports in nodes.items():
        if reports.row is not None and reports.is_fresh(now):
            for host in reports.row.own.hosts:
                loads.setdefault(host.name, {})[name] = host
    return loads
