"""The child's end of a control connection: a websocket (RFC 6455) by trio-websocket, with a credential on the request.

`Channel` narrows the library to what a child needs, and raises one exception, `Disconnected`, however a parent goes
away. The credential travels as `Authorization: Bearer` (RFC 6750). With TLS the URL begins with wss://, and a child
that has a certificate speaks nothing but TLS: a credential never travels in the clear by a mistake in a URL.

Some work is done here instead of by the library:
* dialling and the TLS handshake, because the caller may choose among the addresses of a name, and because errors of TLS
  need explanations for operators;
* noticing that the parent ends the connection during the upgrade: the library would wait on (`_OpeningStream`);
* making one exception of the groups with which the library's reading task ends (`_why_reading_ended`).

Left out: limits on control frames and on the fragments of one message, which the library does not have. A parent is
trusted that far: its URL and its certificate are the controller's choice. Reconnecting (channel/) and the parent's end
(websocket_server.py) are elsewhere.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from urllib.parse import urlsplit

import h11
import trio
from wsproto.utilities import ProtocolError

from tierlb.net.brief_imports import versions_only
from tierlb.net.control_stream import ControlStream, notice_if_vanished, tcp_socket
from tierlb.net.self_connect import open_stream
from tierlb.net.tls import explain_tls_problem
from tierlb.wire.frames import MAX_FRAME_BYTES, SUBPROTOCOL
from tierlb.wire.websocket import CLOSE_CODE, close_text

with versions_only():
    from trio_websocket import (
        CloseReason,
        ConnectionClosed,
        ConnectionRejected,
        HandshakeError,
        WebSocketConnection,
        wrap_client_stream,
    )

CLOSE_TIMEOUT_S = 1.0
"""For the parent to answer a close: it is on its way out anyway."""
OPENING_TIMEOUT_S = 5.0
"""For each of the TCP connection, the TLS handshake and the upgrade."""
MESSAGE_READ_BYTES = 64 * 1024
LOST_CODE = 1006
"""Stands for a connection that ended without a close frame (RFC 6455, section 7.4.1)."""
LOST = "the connection was lost"
NO_UPGRADE = ": that is no answer to an upgrade request"


class Disconnected(Exception):  # noqa: N818 (an event of normal operation)
    """The peer is gone or never was there; the text says what is known."""


class Channel:
    """One open websocket that carries binary messages: any task may send, one receives."""

    def __init__(self, ws: WebSocketConnection, local_host: str) -> None:
        self._ws = ws
        self.local_host = local_host
        """The IP address under which the parent sees this end, as far as is known here."""

    async def send(self, data: bytes) -> None:
        """Send one message; raises Disconnected."""
        try:
            await self._ws.send_message(data)
        except (ConnectionClosed, ProtocolError) as error:
            raise Disconnected(_text_of(self._ws.closed)) from error

    async def receive(self) -> bytes:
        """The next message, text as its UTF-8 bytes; raises Disconnected."""
        try:
            message = await self._ws.get_message()
        except ConnectionClosed as error:
            raise Disconnected(_text_of(error.reason)) from error
        return message.encode() if isinstance(message, str) else message

    async def close(self, reason: str) -> None:
        """Send the parent the reason, and give it a moment to answer."""
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            try:
                await self._ws.aclose(CLOSE_CODE, close_text(reason))
            except ProtocolError:  # it is closing already, after a breach of the rules
                return


@asynccontextmanager
async def connect(url: str, token: str, tls: ssl.SSLContext | None = None, at: str = "") -> AsyncIterator[Channel]:
    """Open a channel to a parent, by one of the addresses of its host (`at`) if that is named; raises Disconnected,
    also when the token is refused or none was given."""
    if not (token.isascii() and token.isprintable() and token):
        raise Disconnected(f"{url}: there is no token for it")
    stream, host, path = await _dial(url, tls, at)
    failure: BaseException | None = None
    try:
        async with stream, trio.open_nursery() as nursery:  # the library reads in a task of its own
            try:
                channel = await _upgrade(nursery, stream, host, path, token)
                try:
                    yield channel
                finally:
                    await channel.close("")
            except Exception as error:
                failure = error
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        failure = failure or _why_reading_ended(group, host, stream)
    if failure is not None:
        raise failure  # here, where no group is made of it


async def _dial(url: str, tls: ssl.SSLContext | None, at: str) -> tuple[ControlStream, str, str]:
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    if secure is not (tls is not None):
        lack = "no certificate is given here" if secure else "a certificate is given here: join by wss://"
        raise Disconnected(f"{url}: {lack}")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    try:
        with trio.fail_after(OPENING_TIMEOUT_S):
            stream = await open_stream(at or host, port)
    except (OSError, trio.TooSlowError) as error:
        raise Disconnected(f"{url}{f' ({at})' if at else ''}: {error or 'no answer'}") from error
    notice_if_vanished(stream)
    path = parts.path or "/"
    return (stream if tls is None else await _secure(stream, tls, host)), parts.netloc, path


async def _secure(stream: trio.SocketStream, tls: ssl.SSLContext, host: str) -> trio.SSLStream[trio.SocketStream]:
    secured = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        with trio.fail_after(OPENING_TIMEOUT_S):
            await secured.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        await trio.aclose_forcefully(stream)
        raise Disconnected(explain_tls_problem(error, host)) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


class _NoAnswerError(Exception):
    """The parent ended the connection during the upgrade."""


class _OpeningStream:
    """What trio-websocket uses of a stream. Until the upgrade is over, the end of the stream raises _NoAnswerError."""

    def __init__(self, stream: ControlStream) -> None:
        self._stream = stream
        self.opened = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        try:
            await self._stream.send_all(data)
        except trio.BrokenResourceError:
            self._note_end("")
            raise

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        data = b""
        try:
            data = bytes(await self._stream.receive_some(max_bytes))
        except trio.BrokenResourceError:
            self._note_end("")
            raise
        if not data:
            self._note_end(": it closed the connection")
        return data

    async def aclose(self) -> None:
        await self._stream.aclose()
        self._note_end(NO_UPGRADE)

    def _note_end(self, why: str) -> None:
        if not self.opened:
            raise _NoAnswerError(why)


async def _upgrade(nursery: trio.Nursery, stream: ControlStream, host: str, path: str, token: str) -> Channel:
    opening = _OpeningStream(stream)
    try:
        with trio.fail_after(OPENING_TIMEOUT_S):
            ws = await wrap_client_stream(
                nursery,
                cast(ControlStream, opening),
                host,
                path,
                subprotocols=[SUBPROTOCOL],
                extra_headers=[(b"authorization", b"Bearer " + token.encode())],
                max_message_size=MAX_FRAME_BYTES,
                receive_buffer_size=MESSAGE_READ_BYTES,
            )
    except trio.TooSlowError as error:
        raise Disconnected(f"{host} does not answer as a parent") from error
    if ws.subprotocol != SUBPROTOCOL:
        raise Disconnected(f"{host} does not speak {SUBPROTOCOL}")
    opening.opened = True
    return Channel(ws, tcp_socket(stream).getsockname()[0])


def _why_reading_ended(group: BaseExceptionGroup[BaseException], host: str, stream: ControlStream) -> BaseException:
    """What ended the library's reading task; the group itself if that was not the parent's doing."""
    expected, others = group.split((_NoAnswerError, HandshakeError, ConnectionClosed, ProtocolError, h11.ProtocolError))
    if expected is None or others is not None:
        return group
    error: BaseException = expected
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    match error:
        case ConnectionRejected():
            return Disconnected(f"{host} refused the connection with status {error.status_code}")
        case _NoAnswerError() | h11.ProtocolError():  # the library tries to refuse an answer that is no HTTP
            why = str(error) if isinstance(error, _NoAnswerError) else NO_UPGRADE
            if isinstance(stream, trio.SSLStream):  # trio's server closes without OpenSSL's alert being sent
                why += ". Is this node's certificate signed by the parent's CA?"
            return Disconnected(f"{host} does not answer as a parent{why}")
    return Disconnected(LOST)


def _text_of(close: CloseReason | None) -> str:
    if close is None:
        return "the parent broke the rules of websockets"
    return close.reason or (LOST if close.code == LOST_CODE else f"closed with code {int(close.code)}")
