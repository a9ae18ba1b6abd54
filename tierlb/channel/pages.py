"""The pages that a process has on its control address for plain GET: metrics for Prometheus, and probes for an engine.

`/livez`: the process runs and answers. `/readyz`: traffic (or, at a controller, nodes) may come; else 503 and why not,
in a line. Container engines ask for both every few seconds, so they cost next to nothing.

No token is needed, because the pages hold nothing secret and few scrapers could send one. With TLS, a scraper needs a
certificate of the cluster as a child does, before a byte of HTTP is read.
"""

from collections.abc import Callable

import attrs

from tierlb.channel.metrics import MetricsPage
from tierlb.net.page import Page, plain_page
from tierlb.telemetry.exposition import Exposed, expose, expose_process
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.log_quota import LogLosses
from tierlb.telemetry.process_metrics import ProcessFigures

ALIVE = "/livez"
READY = "/readyz"
METRICS = "/metrics"
CONTROLLER_LABEL = "controller"
"""In the place of a node's name."""


def probe(path: str, unready: Callable[[], str]) -> Page | None:
    """The answer to a probe, if it is one; `unready` gives the reason for a 503, or ""."""
    if path == ALIVE:
        return plain_page("alive")
    if path != READY:
        return None
    reason = unready()
    return plain_page(reason, 503) if reason else plain_page("ready")


@attrs.define
class NodePages:
    """`read` gives the node's figures, `unready` the reason why traffic should not come."""

    read: Callable[[], Exposed]
    unready: Callable[[], str]
    _metrics: MetricsPage = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._metrics = MetricsPage(lambda: expose([self.read()]))

    def find(self, path: str) -> Page | None:
        """The page, if there is one."""
        return self._metrics.page() if path == METRICS else probe(path, self.unready)


@attrs.define
class ControllerPages:
    """Of a process with a controller: `unready` gives the reason why nodes cannot join."""

    errors: InternalErrors
    losses: LogLosses
    unready: Callable[[], str]
    _metrics: MetricsPage = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._metrics = MetricsPage(
            lambda: expose_process(ProcessFigures(CONTROLLER_LABEL, self.errors.counts, self.losses))
        )

    def find(self, path: str) -> Page | None:
        """The page, if there is one."""
        return self._metrics.page() if path == METRICS else probe(path, self.unready)
