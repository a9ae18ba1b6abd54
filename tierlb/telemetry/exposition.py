"""Counts and sketches of nodes as Prometheus text.

The client library writes the format. The metrics are made for each request of the page, from values that are kept
anyway, so that nothing is counted twice. The histogram's buckets are every seventeenth bound of the sketch (each about
twice the one before), so that their counts are exact; its sum is within the sketch's accuracy. The library is imported
for the first page only, because it costs start-up time that most processes never need.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

import attrs

from tierlb.model.load import HostLoad, NodeLoad, SubtreeLoad
from tierlb.telemetry.log_quota import LogLosses
from tierlb.telemetry.process_metrics import ProcessFigures, process_metrics
from tierlb.telemetry.sketch import BOUNDS_S, Sketch

if TYPE_CHECKING:
    from prometheus_client.core import Metric

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
HISTOGRAM_BUCKETS = range(118, len(BOUNDS_S), 17)
"""Positions of the histogram's bounds: from 0.1 ms to 17 minutes, each about twice the one before."""


@attrs.frozen
class Exposed:
    """One node's figures. `latency` holds the durations of all of its items since its start, `internal_errors` the
    errors of this program by the barrier that caught them, `log_losses` the log lines that were not written."""

    node: str
    tier: str
    own: NodeLoad
    subtree: SubtreeLoad
    latency: Sketch
    internal_errors: Mapping[str, int] = {}
    log_losses: LogLosses = attrs.field(factory=LogLosses)


Read = tuple[str, str, Callable[[Exposed], float]]
ReadHost = tuple[str, str, Callable[[HostLoad], float | None]]

COUNTERS: Sequence[Read] = (
    ("items", "Requests (connections at a pure TCP tier) begun", lambda e: e.own.items),
    ("errors", "Items this node answered with a 5xx of its own or cut", lambda e: e.own.errors),
    ("rejected", "Items or connections refused", lambda e: e.own.rejected),
    ("turned_away", "Connections refused because the node was full", lambda e: e.own.turned_away),
    ("gave_way", "Idle connections closed because the node was full", lambda e: e.own.gave_way),
    ("short_connects", "Connects that failed for want of something on this machine", lambda e: e.own.short_connects),
    ("lost_datagrams", "Datagrams that the kernel had no room for", lambda e: e.own.lost_datagrams),
    ("received_bytes", "Bytes from clients", lambda e: e.own.bytes_in),
    ("sent_bytes", "Bytes to clients", lambda e: e.own.bytes_out),
)
GAUGES: Sequence[Read] = (
    ("connections", "Client connections open", lambda e: e.own.connections),
    ("in_flight", "Items under way", lambda e: e.own.in_flight),
    ("parked", "Items under way that are no queue: polls, streams, slow bodies, tunnels", lambda e: e.own.parked),
    ("tunnels", "Upgraded connections", lambda e: e.own.tunnels),
    ("busy_ratio", "Share of wall time the event loop did not wait", lambda e: e.own.busy),
    ("subtree_capacity", "Items per second the subtree could complete; 0: not known", lambda e: e.subtree.capacity),
    (
        "subtree_capacity_age_seconds",
        "Age of the newest of what the subtree's capacity was learnt from",
        lambda e: e.subtree.capacity_age_s,
    ),
    ("own_capacity", "Items per second the node itself could pass on; 0: not known", lambda e: e.subtree.own_capacity),
    ("subtree_utilisation_ratio", "Use of the subtree's capacity", lambda e: e.subtree.utilisation),
    ("subtree_hottest_ratio", "Largest utilisation of any node in the subtree", lambda e: e.subtree.hottest),
    ("subtree_age_seconds", "Age of the oldest part of the subtree's figures", lambda e: e.subtree.age_s),
    ("subtree_ready_leaves", "Endpoints that are ready", lambda e: e.subtree.ready_leaves),
    ("subtree_leaves", "Endpoints", lambda e: e.subtree.leaves),
    ("draining", "1 while the node drains", lambda e: e.subtree.draining),
)
HOST_COUNTERS: Sequence[ReadHost] = (
    ("member_done", "Items finished at the member", lambda m: m.done),
    ("member_failed", "Items and connects that failed at the member", lambda m: m.failed),
)
HOST_GAUGES: Sequence[ReadHost] = (
    ("member_in_flight", "Items under way at the member", lambda m: m.in_flight),
    ("member_parked", "Items under way at the member that are no queue there", lambda m: m.parked),
    ("member_available", "1 if the member may be sent to", lambda m: m.availability == "available"),
    ("member_capacity", "Items per second as used for choosing; 0: not known", lambda m: m.capacity),
    (
        "member_capacity_age_seconds",
        "Age of the newest of what the member's capacity was learnt from",
        lambda m: m.capacity_age_s,
    ),
    ("member_share_ratio", "Part of the recent items that the member was given", lambda m: m.share),
    ("member_report_age_seconds", "Age of the member's last report", lambda m: m.report_age_s),
)


def expose(nodes: Sequence[Exposed]) -> bytes:
    """The page for these nodes, of type `CONTENT_TYPE`."""
    return _page(lambda: _metrics(nodes))


def expose_process(figures: ProcessFigures) -> bytes:
    """The page for a process that is no node, such as a controller."""
    return _page(lambda: process_metrics([figures]))


def _page(metrics: Callable[[], Iterable["Metric"]]) -> bytes:
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.registry import Collector

    class Page(Collector):
        def collect(self) -> Iterable["Metric"]:
            return metrics()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Page())
    page: bytes = generate_latest(registry)
    return page


def _metrics(nodes: Sequence[Exposed]) -> Iterator["Metric"]:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    labels = ("node", "tier")
    for family, table in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for name, text, read in table:
            metric = family(f"tierlb_{name}", text, labels=labels)
            for each in nodes:
                metric.add_metric((each.node, each.tier), read(each))
            yield metric
    for family, hosts in ((CounterMetricFamily, HOST_COUNTERS), (GaugeMetricFamily, HOST_GAUGES)):
        for name, text, read_host in hosts:
            metric = family(f"tierlb_{name}", text, labels=(*labels, "member"))
            for each in nodes:
                for host in each.own.hosts:
                    if (value := read_host(host)) is not None:
                        metric.add_metric((each.node, each.tier, host.name), value)
            yield metric
    yield _expiries(nodes)
    yield _durations(nodes)
    yield from process_metrics(nodes)


def _expiries(nodes: Sequence[Exposed]) -> "Metric":
    from prometheus_client.core import GaugeMetricFamily

    labels = ("node", "tier", "certificate", "use")
    text = "When a certificate that the node shows expires, in seconds since 1970"
    metric = GaugeMetricFamily("tierlb_certificate_expiry_timestamp_seconds", text, labels=labels)
    for each in nodes:
        for certificate in each.own.certificates:
            metric.add_metric((each.node, each.tier, certificate.file, certificate.use), certificate.expires)
    return metric


def _durations(nodes: Sequence[Exposed]) -> "Metric":
    from prometheus_client.core import HistogramMetricFamily

    text = "Time of an item from its first byte to its end"
    metric = HistogramMetricFamily("tierlb_item_duration_seconds", text, labels=("node", "tier"))
    for each in nodes:
        cumulative = list(accumulate(each.latency.counts))
        buckets = [(f"{BOUNDS_S[index]:.6g}", float(cumulative[index])) for index in HISTOGRAM_BUCKETS]
        buckets.append(("+Inf", float(cumulative[-1])))
        metric.add_metric((each.node, each.tier), buckets, sum_value=each.latency.sum_s)
    return metric
