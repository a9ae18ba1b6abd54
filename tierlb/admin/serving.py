"""The admin API's connections, accepted by a door of its own.

Any client that can connect can ask, so a connection is a stranger's, except while a request with the token is being
answered (net/door.py). The command line sends the token, so it gets in beside any number of others. Each state of a
connection has a deadline, whatever its peer does: until a whole request has come, and until its answer has gone.

Left out: which requests are answered (access.py).
"""

import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable

import attrs
import trio

from tierlb.net.door import Door, Visit
from tierlb.net.http_server import BadRequest, HttpAnswer, HttpRequest, HttpServerConnection
from tierlb.net.page import say_goodbye

MOST_ADMIN_STRANGERS = 64
ADMIN_REQUEST_S = 10.0
"""For a whole request head, from the first byte or the end of the answer before."""
ADMIN_ANSWER_S = 60.0
"""From the head to the last byte of the answer, the body of a request included. The largest topology is 1 MiB."""
ADMIN_BACKLOG = 1024

RequestHandler = Callable[[HttpRequest], Awaitable[HttpAnswer]]
ShowsToken = Callable[[HttpRequest], bool]
"""Whether a request shows the token."""


def shows_nothing(request: HttpRequest) -> bool:
    """Where there is no token to show."""
    return False


@attrs.frozen(eq=False)
class _Server:
    """Each connection's task."""

    handle: RequestHandler
    known: ShowsToken
    tls: ssl.SSLContext | None
    turn: trio.StrictFIFOLock = attrs.field(factory=trio.StrictFIFOLock)

    async def attend(self, visit: Visit) -> None:
        """One connection, from its first byte to its last."""
        visit.allow(ADMIN_REQUEST_S)
        with contextlib.suppress(OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            server = str(visit.stream.socket.getsockname()[0])
            connection = HttpServerConnection(self._stream(visit), self.turn, visit.host, server)
            try:
                while (request := await connection.request()) is not None:
                    if not await self._answer(visit, connection, request):
                        break
            except BadRequest as problem:
                await connection.answer(_bad_request_answer(problem))
            await say_goodbye(visit.stream)

    def _stream(self, visit: Visit) -> trio.abc.Stream:
        if self.tls is None:
            return visit.stream
        return trio.SSLStream(visit.stream, self.tls, server_side=True, https_compatible=True)

    async def _answer(self, visit: Visit, connection: HttpServerConnection, request: HttpRequest) -> bool:
        """Whether another request may follow."""
        visit.allow(ADMIN_ANSWER_S)
        if self.known(request):
            visit.settle()
        else:
            visit.unsettle()  # the newest stranger: those that have asked nothing go first
        try:
            answer = await self.handle(request)
            return await connection.answer(answer, without_content=request.method == "HEAD")
        finally:
            visit.allow(ADMIN_REQUEST_S)
            visit.unsettle()


def _bad_request_answer(problem: BadRequest) -> HttpAnswer:
    return HttpAnswer(problem.status, f"{problem}\n".encode(), "text/plain; charset=utf-8", {"Connection": "close"})


def listener_of(bound: socket.socket) -> trio.SocketListener:
    """Raises OSError."""
    bound.listen(ADMIN_BACKLOG)
    return trio.SocketListener(trio.socket.from_stdlib_socket(bound))


async def serve_requests(
    handle: RequestHandler,
    listening: trio.SocketListener,
    door: Door,
    known: ShowsToken = shows_nothing,
    tls: ssl.SSLContext | None = None,
) -> None:
    """Answer requests until cancelled."""
    await door.serve([listening], _Server(handle, known, tls).attend)
