"""The control channel's transport: websockets (RFC 6455) with a join token on the upgrade request.

A thin wrapper that gives both ends the same small `Channel` and one exception, `Disconnected`, whatever way
the peer went away. The token travels as `Authorization: Bearer` (RFC 6750) and is compared in constant time.

Left out: TLS, and reconnecting, which is the child's business.
"""

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio
from trio_websocket import (
    ConnectionClosed,
    ConnectionRejected,
    HandshakeError,
    WebSocketConnection,
    WebSocketRequest,
    open_websocket_url,
    serve_websocket,
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
    """Open a channel to a parent; raises Disconnected, also when the token is refused."""
    headers = [(b"authorization", b"Bearer " + token.encode())]
    try:
        async with open_websocket_url(
            url,
            subprotocols=[SUBPROTOCOL],
            extra_headers=headers,
            max_message_size=MAX_FRAME_BYTES,
            connect_timeout=CONNECT_TIMEOUT_S,
            disconnect_timeout=CLOSE_TIMEOUT_S,
        ) as connection:
            if connection.subprotocol != SUBPROTOCOL:
                raise Disconnected(f"{url} does not speak {SUBPROTOCOL}")
            yield Channel(connection)
    except ConnectionRejected as error:
        raise Disconnected(f"{url} refused the connection with status {error.status_code}") from error
    except (HandshakeError, ConnectionClosed) as error:
        raise Disconnected(f"{url}: {error.__cause__ or type(error).__name__}") from error


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
