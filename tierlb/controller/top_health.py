"""Whether the top tiers answer and find something ready below, from their nodes' reports: for /healthz and `status`.

A node that hangs keeps its sockets: the kernel goes on accepting for it, and its control connection stays open. Its
reports stop, though. Those of a top tier come to the controller. A tier below that hangs is not ready for its parents,
whose reports show that.

Left out: pools without an available endpoint, which nodes name in their reports (telemetry/aggregate.py).
"""

from collections.abc import Mapping, Sequence

from tierlb.controller.node_reports import NodeReports

UNREPORTED_S = 5.0
"""Twenty reports that did not come. Parents send a silent child nothing new after half of that time."""
NONE_READY_S = 2.0
"""A node that has just joined, or got new targets, finds nothing ready below until the first reports have come. That
takes a quarter of a second for each tier."""


def stalled(tiers: Mapping[str, Sequence[NodeReports]], now: float) -> tuple[str, ...]:
    """A phrase for each top tier of which no node answers or finds anything ready. `tiers`: of each what is known of
    its nodes that should serve. A node that has not reported yet counts as well."""
    return tuple(phrase for name, nodes in tiers.items() if (phrase := _stall_phrase(name, nodes, now)))


def _stall_phrase(name: str, nodes: Sequence[NodeReports], now: float) -> str:
    if not nodes or any(each.report is None for each in nodes):
        return ""
    live = [each for each in nodes if now - each.reported_s < UNREPORTED_S]
    if not live:
        return f"{name}: no node has reported for {UNREPORTED_S:g} s"
    if all(each.none_ready_s is not None and now - each.none_ready_s >= NONE_READY_S for each in live):
        return f"{name}: no node finds anything ready below"
    return ""
