"""Connections that no route of their tier takes: closed, counted, and logged at most once in a while."""

from typing import Any, Final

from tierlb.dataplane.counters import Counters
from tierlb.net.wheel import NEVER
from tierlb.wire.client_hello import ClientHello, Verdict

UNROUTED_LOG_S: Final = 10.0
"""Scanners and clients with an old name come all the time."""
MOST_LOGGED: Final = 8
"""Protocols of one client."""
REASONS: Final = {
    Verdict.WHOLE: "no route matches it",
    Verdict.NOT_TLS: "it did not begin with a ClientHello in time",
    Verdict.MALFORMED: "its ClientHello is malformed",
}


class Unrouted:
    """Those of one node. They count as rejected."""

    __slots__ = ("_counters", "_log", "_logged_at", "_since")

    def __init__(self, counters: Counters, log: Any) -> None:
        self._counters = counters
        self._log = log
        self._logged_at = -NEVER
        self._since = 0

    def note(self, now: float, source: str, port: int, hello: ClientHello | None) -> None:
        """One more, from this client's address to this port (0: not known)."""
        self._counters.rejected += 1
        self._since += 1
        if now - self._logged_at < UNROUTED_LOG_S:
            return
        self._logged_at, count, self._since = now, self._since, 0
        self._log.warning(
            "connection_unrouted",
            client=source,
            port=port or None,
            sni=None if hello is None else hello.server_name,
            alpn=None if hello is None else list(hello.protocols[:MOST_LOGGED]),
            reason="no route matches it" if hello is None else REASONS[hello.verdict],
            count=count,
            action="where that is wrong, add a route without match as the last one",
        )
