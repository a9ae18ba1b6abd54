"""What the controller has heard of each node lately: rows while somebody watches, a node's own reports always.

Rates come from two rows of one node, so the counters' own times are used and a late report does no harm. Left out:
who is in the cluster (controller.py) and how it is shown (status.py).
"""

from collections import deque
from collections.abc import Iterable

import attrs

from tierlb.model.load import HostLoad, NodeRow, SubtreeLoad

LIVE_S = 2.0
"""A row older than this shows what was, not what is."""
RATE_LEAST_S = 0.15
"""Two rows closer together than this say little about a rate."""
RATE_MOST_S = 1.5
MAX_SAMPLES = 32


@attrs.define
class Sight:
    """One node. `taken_s` is when its row was made, on this clock; `samples` are times and items of recent rows.
    `barren_s`: since when its reports say that none of what is below is ready."""

    row: NodeRow | None = None
    taken_s: float = 0.0
    samples: deque[tuple[float, int]] = attrs.field(factory=lambda: deque(maxlen=MAX_SAMPLES))
    report: SubtreeLoad | None = None
    reported_s: float = 0.0
    barren_s: float | None = None

    def items_per_s(self) -> float | None:
        """Over the last second or so, if there are rows to tell it from."""
        for then_s, items in self.samples:
            if self.taken_s - then_s < RATE_LEAST_S:
                return None
            if self.row is not None and self.taken_s - then_s <= RATE_MOST_S:
                return max(0, self.row.subtree.arrivals - items) / (self.taken_s - then_s)
        return None

    def is_live(self, now: float) -> bool:
        """Whether load and rate are of just now."""
        return now - self.taken_s < LIVE_S and self.items_per_s() is not None

    def age_s(self, now: float) -> float | None:
        """Since what is known of its subtree was true."""
        latest = [at for known, at in ((self.row, self.taken_s), (self.report, self.reported_s)) if known is not None]
        return max(0.0, now - max(latest)) if latest else None

    def subtree(self) -> SubtreeLoad | None:
        """The newer of what its row and its own report say."""
        if self.row is not None and (self.report is None or self.taken_s > self.reported_s):
            return self.row.subtree
        return self.report


@attrs.define
class ClusterView:
    """Sights by node. Only nodes named by `keep` are remembered, so nobody can fill the memory with made-up names."""

    _sights: dict[str, Sight] = attrs.field(factory=dict, init=False)

    def keep(self, names: Iterable[str]) -> None:
        """These are the nodes that there are."""
        self._sights = {name: self._sights.get(name) or Sight() for name in names}

    def add(self, name: str) -> None:
        """There is this node too."""
        self._sights.setdefault(name, Sight())

    def forget(self, name: str) -> None:
        """Another process bears the name now."""
        if name in self._sights:
            self._sights[name] = Sight()

    def of(self, name: str) -> Sight:
        """What is known of a node, which may be nothing."""
        return self._sights.get(name) or Sight()

    def note_report(self, name: str, report: SubtreeLoad, now: float) -> None:
        """The node itself reported here."""
        if (sight := self._sights.get(name)) is not None:
            sight.report, sight.reported_s = report, now
            if report.ready_leaves or not report.leaves:
                sight.barren_s = None
            elif sight.barren_s is None:
                sight.barren_s = now

    def note_rows(self, rows: Iterable[NodeRow], now: float) -> None:
        """Rows of nodes anywhere below came; for each node the newest counts."""
        for row in rows:
            sight = self._sights.get(row.node)
            taken_s = now - row.age_s
            if sight is None or (sight.row is not None and taken_s <= sight.taken_s):
                continue
            sight.row, sight.taken_s = row, taken_s
            sight.samples.append((taken_s, row.subtree.arrivals))

    def seen_by(self, now: float) -> dict[str, dict[str, HostLoad]]:
        """Member name → node → how the node sees the host; from live rows."""
        seen: dict[str, dict[str, HostLoad]] = {}
        for name, sight in self._sights.items():
            if sight.row is not None and now - sight.taken_s < LIVE_S:
                for host in sight.row.own.hosts:
                    seen.setdefault(host.name, {})[name] = host
        return seen
