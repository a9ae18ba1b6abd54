"""Prometheus metrics of the process itself, be it a node or a controller."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

import attrs

from tierlb.telemetry.log_quota import LogLosses

if TYPE_CHECKING:
    from prometheus_client.core import Metric

LABELS = ("node", "tier")


class HasProcessFigures(Protocol):
    """`internal_errors`: by the barrier that caught them; `log_losses`: lines that were not written."""

    @property
    def node(self) -> str: ...
    @property
    def tier(self) -> str: ...
    @property
    def internal_errors(self) -> Mapping[str, int]: ...
    @property
    def log_losses(self) -> LogLosses: ...


@attrs.frozen
class ProcessFigures:
    """The figures of a process that is no node."""

    node: str
    internal_errors: Mapping[str, int]
    log_losses: LogLosses
    tier: str = ""


def process_metrics(processes: Iterable[HasProcessFigures]) -> Iterator["Metric"]:
    """Errors and log lines of these processes."""
    from prometheus_client.core import CounterMetricFamily

    text = "Errors of tierlb itself, by where they were caught: see the log"
    internal = CounterMetricFamily("tierlb_internal_errors", text, labels=(*LABELS, "where"))
    text = "Log lines that found no reader, or no room on a disk"
    dropped = CounterMetricFamily("tierlb_log_lines_dropped", text, labels=LABELS)
    text = "Log lines left out because there were too many of the kind"
    suppressed = CounterMetricFamily("tierlb_log_lines_suppressed", text, labels=(*LABELS, "event"))
    for each in processes:
        for where, count in sorted(each.internal_errors.items()):
            internal.add_metric((each.node, each.tier, where), count)
        dropped.add_metric((each.node, each.tier), each.log_losses.dropped)
        for event, count in sorted(each.log_losses.suppressed.items()):
            suppressed.add_metric((each.node, each.tier, event), count)
    yield from (internal, dropped, suppressed)
