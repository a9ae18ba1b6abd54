"""Figures in the format of Prometheus, for the page of metrics (pages.py).

The page of a node with a thousand hosts takes 50 ms to write, in the thread that serves traffic. So it is written at
most once a second, however often it is asked for.
"""

import math
from collections.abc import Callable

import attrs
import trio

from tierlb.net.page import Page
from tierlb.telemetry.exposition import CONTENT_TYPE

KEPT_S = 1.0


@attrs.define
class MetricsPage:
    """`make` writes the page with the figures as they are now."""

    make: Callable[[], bytes]
    _page: bytes = attrs.field(default=b"", init=False)
    _until_s: float = attrs.field(default=-math.inf, init=False)

    def page(self) -> Page:
        """The page as it was at most a second ago."""
        now = trio.current_time()
        if now >= self._until_s:
            self._page, self._until_s = self.make(), now + KEPT_S
        return Page(CONTENT_TYPE, self._page)
