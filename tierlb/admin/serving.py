"""The admin API's connections: an ASGI app behind Hypercorn's HTTP, accepted by a door of its own.

Any client that can connect can ask, so a connection is a stranger's, except while a request with the token is being
answered (net/door.py): the command line, which sends it, gets in beside any number of others. Each state of a
connection has a deadline, whatever its peer does: until a whole request has come, and until its answer has gone.
Hypercorn shields what it sends from cancellation, so a connection whose time is over is closed under it.

Left out: which requests are answered (access.py).
"""

import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import Any

import h11
import trio
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.config import Config
from hypercorn.events import Closed, RawData
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from starlette.types import ASGIApp, Receive, Scope, Send

from tierlb.net.door import Door, Visit

MOST_STRANGERS = 64
REQUEST_S = 10.0
"""For a whole request head, from the first byte or the end of the answer before."""
ANSWER_S = 60.0
"""From the head to the last byte of the answer, the body of a request included. The largest topology is 1 MiB."""
BACKLOG = 1024
READ_BYTES = 1024
"""In one turn. Chunks of one byte are the most work, of which these are 170 and 2 ms. The same thread serves the
nodes, so a flood of requests may not hold it for longer."""

Known = Callable[[Scope], bool]
"""Whether a request shows the token."""


def known_to_nobody(scope: Scope) -> bool:
    """Where there is no token to show."""
    return False


class _Server:
    """The app, which notes for each connection whether something is under way on it."""

    def __init__(self, app: ASGIApp, known: Known, tls: ssl.SSLContext | None) -> None:
        self._app = ASGIWrapper(self._noted(app))  # type: ignore[arg-type]
        self._known = known
        self._tls = tls
        self._visits: dict[tuple[str, int], Visit] = {}
        self._turn = trio.StrictFIFOLock()
        self._context = WorkerContext(None)
        self._config = Config()
        self._config.errorlog = None
        self._config.include_server_header = False
        self._config.websocket_max_message_size = 0

    async def attend(self, visit: Visit) -> None:
        """One connection, from its first byte to its last."""
        try:
            peer = visit.stream.socket.getpeername()[:2]
        except OSError:  # it is gone already
            return
        self._visits[peer] = visit
        visit.allow(REQUEST_S)
        try:
            http = _Http1(self._app, self._config, self._context, ConnectionState({}), self._stream(visit))
            http.turn = self._turn
            await http
        finally:
            self._visits.pop(peer, None)

    def _stream(self, visit: Visit) -> Any:
        if self._tls is not None:
            return trio.SSLStream(visit.stream, self._tls, server_side=True, https_compatible=True)
        return visit.stream

    def _noted(self, app: ASGIApp) -> ASGIApp:
        async def noted(scope: Scope, receive: Receive, send: Send) -> None:
            visit = self._visits.get(tuple((scope.get("client") or ("", 0))[:2]))
            if visit is None or scope["type"] != "http":
                return
            visit.allow(ANSWER_S)
            if self._known(scope):
                visit.settle()
            else:
                visit.unsettle()  # the newest stranger: those that have asked nothing go first
            try:
                await app(scope, receive, send)
            finally:
                visit.allow(REQUEST_S)
                visit.unsettle()

        return noted


class _Http1(TCPServer):
    """A connection on which one request follows the other. Hypercorn would go on in HTTP/2, with a hundred requests at
    once, or as a websocket, where a request offers that (`Upgrade`) or the first bytes are HTTP/2. Here such a request
    is answered as any other is. Of all connections that share `turn` one reads, and then other tasks run."""

    turn: trio.StrictFIFOLock

    async def _read_data(self) -> None:
        protocol: Any = self.protocol.protocol
        create_stream = protocol._create_stream
        protocol._check_protocol = _keep_protocol
        protocol._create_stream = lambda request: create_stream(_without_upgrade(request))
        with contextlib.suppress(trio.ClosedResourceError, trio.BrokenResourceError):
            while await self._read_some():
                pass
        await self.protocol.handle(Closed())

    async def _read_some(self) -> bool:
        """Whether there may be more."""
        data = bytes(await self.stream.receive_some(READ_BYTES))
        async with self.turn:
            await trio.lowlevel.checkpoint()
        await self.protocol.handle(RawData(data))
        return bool(data)


async def _keep_protocol(request: Any) -> None:
    """For every request."""


def _without_upgrade(request: h11.Request) -> h11.Request:
    fields = [(name, value) for name, value in request.headers if name != b"upgrade"]
    return h11.Request(method=request.method, target=request.target, headers=fields, http_version=request.http_version)


def listener_of(bound: socket.socket) -> trio.SocketListener:
    """Raises OSError."""
    bound.listen(BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


async def serve(
    app: ASGIApp,
    listening: trio.SocketListener,
    door: Door,
    known: Known = known_to_nobody,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Serve the app until cancelled."""
    await door.serve([listening], _Server(app, known, tls).attend)
