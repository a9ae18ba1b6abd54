"""The control channel's transport: websockets (RFC 6455) with a join token on the upgrade request.

A thin wrapper that gives both ends the same small `Channel` and one exception, `Disconnected`, whatever way
the peer went away. The token travels as `Authorization: Bearer` (RFC 6750) and is compared in constant time.

Left out: TLS, and reconnecting, which is the child's business.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    serve_websocket,
    wrap_client_stream,
)

from tierlb.model.address import Address
from tierlb.wire.frames import MAX_FRAME_BYTES, SUBPROTOCOL

CLOSE_CODE = 4000
"""The private range (RFC 6455, 7.4.2): the reason says the rest."""
MAX_REASON_BYTES = 120
"""A close frame has 125 bytes, two of them the code (RFC 6455, 5.5)."""
CLOSE_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 5.0


class Disconnected(Exception):  # noqa: N818 (an event of normal operation)
    """The peer is gone or never was there; the text says what is known."""


@attrs.frozen
class Channel:
    """One open websocket that carries binary messages."""

    _connection: WebSocketConnection

    async def send(self, data: bytes) -> None:
        """Send one message; raises Disconnected."""
        try:
            await self._connection.send_message(data)
        except ConnectionClosed as error:
            raise Disconnected(_reason(error)) from error

    async def receive(self) -> bytes:
        """The next message, text as its UTF-8 bytes; raises Disconnected."""
        try:
            message = await self._connection.get_message()
        except ConnectionClosed as error:
            raise Disconnected(_reason(error)) from error
        return message if isinstance(message, bytes) else message.encode()

    async def close(self, reason: str) -> None:
        """Close and tell the peer why."""
        text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            await self._connection.aclose(CLOSE_CODE, text)


@asynccontextmanager
async def connect(url: str, token: str) -> AsyncIterator[Channel]:
    """Open a channel to a parent; raises Disconnected, also when the token is refused.

    The stream is opened and closed here, because trio-websocket leaves a client's socket to the garbage
    collector when the parent was the first to close.
    """
    stream, host, path = await _dial(url)
    try:
        async with stream, trio.open_nursery() as nursery:
            connection = await _upgrade(nursery, stream, host, path, token)
            try:
                yield Channel(connection)
            finally:
                with trio.move_on_after(CLOSE_TIMEOUT_S):
                    await connection.aclose()
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise _plain(_only(group), host) from None


async def _dial(url: str) -> tuple[trio.SocketStream, str, str]:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or 80
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            stream = await trio.open_tcp_stream(host, port)
    except (OSError, trio.TooSlowError) as error:
        raise Disconnected(f"{url}: {error or 'no answer'}") from error
    return stream, parts.netloc, parts.path or "/"


async def _upgrade(
    nursery: trio.Nursery, stream: trio.SocketStream, host: str, path: str, token: str
) -> WebSocketConnection:
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            connection = await wrap_client_stream(
                nursery,
                stream,
                host,
                path,
                subprotocols=[SUBPROTOCOL],
                extra_headers=[(b"authorization", b"Bearer " + token.encode())],
                max_message_size=MAX_FRAME_BYTES,
            )
    except (HandshakeError, ConnectionClosed, trio.TooSlowError) as error:
        raise Disconnected(f"{host} does not answer as a parent ({type(error).__name__})") from error
    if connection.subprotocol != SUBPROTOCOL:
        raise Disconnected(f"{host} does not speak {SUBPROTOCOL}")
    return connection


def _plain(error: BaseException, host: str) -> BaseException:
    """A refusal shows in trio-websocket's reader task, as its own exception."""
    if isinstance(error, ConnectionRejected):
        return Disconnected(f"{host} refused the connection with status {error.status_code}")
    return error


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception in the group where it holds just one, as if there had been no nursery."""
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


async def serve(
    handler: Callable[[Channel], Awaitable[None]],
    token: str,
    listen: Address,
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept children for ever; each has its own task, and what goes wrong in one stays there."""

    async def on_request(request: WebSocketRequest) -> None:
        if not _admitted(request, token):
            await request.reject(401, body=b"the join token is missing or wrong\n")
        elif SUBPROTOCOL not in request.proposed_subprotocols:
            await request.reject(400, body=b"speak " + SUBPROTOCOL.encode() + b"\n")
        else:
            connection = await request.accept(subprotocol=SUBPROTOCOL)
            await handler(Channel(connection))

    async def start(*, task_status: trio.TaskStatus[object]) -> None:
        await serve_websocket(
            _contained(on_request),
            listen.host,
            listen.port,
            None,
            max_message_size=MAX_FRAME_BYTES,
            connect_timeout=CONNECT_TIMEOUT_S,
            disconnect_timeout=CLOSE_TIMEOUT_S,
            task_status=task_status,
        )

    async with trio.open_nursery() as nursery:
        server = await nursery.start(start)
        task_status.started(Address(listen.host, server.port))


async def converse(*parts: Callable[[], Awaitable[None]]) -> str:
    """Run all parts of a conversation until one ends or finds the peer gone; the reason is returned."""
    reasons = []

    async def run(part: Callable[[], Awaitable[None]], scope: trio.CancelScope) -> None:
        try:
            await part()
        except Disconnected as gone:
            reasons.append(str(gone))
        scope.cancel()

    async with trio.open_nursery() as nursery:
        for part in parts:
            nursery.start_soon(run, part, nursery.cancel_scope)
    return reasons[0] if reasons else "the conversation is over"


def _contained(
    handler: Callable[[WebSocketRequest], Awaitable[None]],
) -> Callable[[WebSocketRequest], Awaitable[None]]:
    async def run(request: WebSocketRequest) -> None:
        try:
            await handler(request)
        except (Disconnected, ConnectionClosed, HandshakeError, trio.BrokenResourceError):
            return

    return run


def _admitted(request: WebSocketRequest, token: str) -> bool:
    given = dict(request.headers).get(b"authorization", b"")
    return hmac.compare_digest(given, b"Bearer " + token.encode())


def _reason(error: ConnectionClosed) -> str:
    closed = error.reason
    return str(closed.reason or closed.name) if closed is not None else "the connection was lost"
