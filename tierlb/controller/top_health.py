"""Whether the top tiers answer and find something ready below, from their nodes' reports: for /healthz and `status`.

A node that hangs keeps its sockets: the kernel goes on accepting for it, and its control connection stays open. Its
reports stop, though. Those of a top tier come to the controller, and a tier below that hangs is not ready to its
parents, which say so in theirs.

Left out: pools without an available endpoint, which nodes name in their reports (telemetry/aggregate.py).
"""

from collections.abc import Mapping, Sequence

from tierlb.controller.cluster_view import Sight

SILENT_S = 5.0
"""Twenty reports that did not come. Parents send a silent child nothing new after half of that time."""
BARREN_S = 2.0
"""A node that has just joined, or got new targets, finds nothing ready below until the first reports have come, which
takes a quarter of a second for each tier."""


def stalled(tiers: Mapping[str, Sequence[Sight]], now: float) -> tuple[str, ...]:
    """A phrase for each top tier of which no node answers or finds anything ready. `tiers`: of each what is known of
    its nodes that should serve. A node that has not reported yet counts as well."""
    return tuple(phrase for name, sights in tiers.items() if (phrase := _phrase(name, sights, now)))


def _phrase(name: str, sights: Sequence[Sight], now: float) -> str:
    if not sights or any(sight.report is None for sight in sights):
        return ""
    live = [sight for sight in sights if now - sight.reported_s < SILENT_S]
    if not live:
        return f"{name}: no node has reported for {SILENT_S:g} s"
    if all(sight.barren_s is not None and now - sight.barren_s >= BARREN_S for sight in live):
        return f"{name}: no node finds anything ready below"
    return ""
