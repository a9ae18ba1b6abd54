"""What a node answers on its control address to a plain `GET /metrics`: its figures as Prometheus reads them.

No token is asked for, as the page says nothing secret and few scrapers could send one. With TLS, a certificate of the
cluster is demanded all the same, of a scraper as of a child, before a byte of HTTP is heard.

The page of a node with a thousand members takes 50 ms to write, in the thread that serves traffic. So it is written at
most once a second, however often it is asked for.
"""

import math
from collections.abc import Callable

import attrs
import trio

from tierlb.net.page import Page
from tierlb.telemetry.exposition import CONTENT_TYPE, Exposed, expose

PATH = "/metrics"
KEPT_S = 1.0


@attrs.define
class MetricsPage:
    """`read` gives the node's figures as they are now."""

    read: Callable[[], Exposed]
    _page: bytes = attrs.field(default=b"", init=False)
    _until_s: float = attrs.field(default=-math.inf, init=False)

    def find(self, path: str) -> Page | None:
        """The page, if it is that what is asked for."""
        if path != PATH:
            return None
        now = trio.current_time()
        if now >= self._until_s:
            self._page, self._until_s = expose([self.read()]), now + KEPT_S
        return CONTENT_TYPE, self._page
