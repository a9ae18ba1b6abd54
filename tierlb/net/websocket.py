"""The control channel's transport: websockets (RFC 6455) with a credential on the upgrade request.

Both ends get the same small `Channel` and one exception, `Disconnected`, whatever way the peer went away. The
credential travels as `Authorization: Bearer` (RFC 6750); whom it proves (`Admit`), a parent's channel keeps. With TLS
the URL begins with wss://, and a child that has a certificate speaks nothing but TLS: a credential never travels in the
clear by a mistake in a URL.

Left out: reconnecting, which is the child's business, and parents of many children (websocket_server.py).
"""

import ipaddress
import socket
import ssl
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NoReturn
from urllib.parse import urlsplit

import attrs
import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, RejectConnection, RejectData, Request
from wsproto.utilities import ProtocolError

from tierlb.model.address import Address
from tierlb.net.door import Door, Visit
from tierlb.net.page import Pages, say_goodbye, upgrade_or_page
from tierlb.net.self_connect import open_stream
from tierlb.net.tls import explain
from tierlb.wire.credentials import Principal
from tierlb.wire.frames import SUBPROTOCOL
from tierlb.wire.websocket import Framing

CLOSE_TIMEOUT_S = 1.0
CONNECT_TIMEOUT_S = 5.0
VANISHED_S = 6.0
"""Then the kernel gives a connection up whose peer's machine or network is gone without a word."""
ASK_AFTER_S, ASK_EVERY_S = 2, 1
"""On a connection on which nothing is said the kernel asks whether the peer is there. No process is woken for it."""
READ_BYTES = 64 * 1024
GATHER_S = 0.005
"""Between two reads of what one child sends, so that many small pieces cost few turns. A child that says something now
and then is heard at once."""
GOODBYE_READS = 64
BEARER = b"Bearer "

Stream = trio.SocketStream | trio.SSLStream[trio.SocketStream]
Admit = Callable[[str], Principal | None]
"""The principal that a credential proves, or None."""


class Disconnected(Exception):  # noqa: N818 (an event of normal operation)
    """The peer is gone or never was there; the text says what is known."""


class Channel:
    """One open websocket that carries binary messages: any task may send, one receives. `caller` is known at the end
    that accepted it."""

    def __init__(self, stream: Stream, ws: WSConnection, caller: "Caller | None" = None) -> None:
        self._stream = stream
        self.caller = caller
        self._framing = Framing(ws)
        self._messages = deque(self._framing.feed(None, trio.current_time()))
        self._gathers = not ws.client
        self._read_s = -GATHER_S
        self._sending = trio.StrictFIFOLock()
        self._receiving = False
        self._over = trio.Event()

    @property
    def local_host(self) -> str:
        """Under which IP address the peer sees this end, as far as is known here."""
        return _socket_of(self._stream).getsockname()[0]  # type: ignore[no-any-return]

    async def send(self, data: bytes) -> None:
        """Send one message; raises Disconnected."""
        async with self._sending:
            await self._transmit(self._framing.pack(data))
        if self._framing.ended is not None:
            raise Disconnected(self._framing.ended)

    async def receive(self) -> bytes:
        """The next message, text as its UTF-8 bytes; raises Disconnected."""
        while not self._messages:
            if self._framing.ended is not None:
                self._over.set()
                raise Disconnected(self._framing.ended)
            self._messages += self._framing.feed(await self._read(), trio.current_time())
            if self._framing.answer:
                async with self._sending:
                    await self._transmit(self._framing.answer)
        return self._messages.popleft()

    async def close(self, reason: str) -> None:
        """Tell the peer why, and give it a moment to read that.

        A socket that is closed with unread bytes resets the connection, and the reason would be lost.
        """
        with trio.move_on_after(CLOSE_TIMEOUT_S):
            try:
                async with self._sending:
                    await self._transmit(self._framing.close(reason))
                if self._receiving:
                    await self._over.wait()
                for _ in range(GOODBYE_READS):
                    if self._framing.ended is not None and not self._framing.gave_up:
                        return
                    data = await self._read()
                    if not data:
                        return
                    self._framing.feed(data, trio.current_time())
            except Disconnected:
                return

    async def _transmit(self, data: bytes) -> None:
        try:
            await self._stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Disconnected("the connection was lost") from error

    async def _read(self) -> bytes:
        self._receiving = True
        try:
            if self._gathers:
                await trio.sleep_until(self._read_s + GATHER_S)
                self._read_s = trio.current_time()
            return bytes(await self._stream.receive_some(READ_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""
        finally:
            self._receiving = False


@attrs.frozen
class Caller:
    """The peer that opened a connection: what its credential proves, and the IP address it came from."""

    principal: Principal
    host: str


@asynccontextmanager
async def connect(url: str, token: str, tls: ssl.SSLContext | None = None, at: str = "") -> AsyncIterator[Channel]:
    """Open a channel to a parent, by one of the addresses of its host (`at`) if that is named; raises Disconnected,
    also when the token is refused or none was given."""
    if not (token.isascii() and token.isprintable() and token):
        raise Disconnected(f"{url}: there is no token for it")
    stream, host, path = await _dial(url, tls, at)
    async with stream:
        channel = await _upgrade(stream, host, path, token)
        try:
            yield channel
        finally:
            await channel.close("")


async def serve(
    handler: Callable[[Channel], Awaitable[None]],
    admit: Admit,
    listen: Address,
    tls: ssl.SSLContext | None = None,
    pages: Pages | None = None,
    door: Door | None = None,
    *,
    task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept children for ever; each has its own task, and what goes wrong in one stays there. Who asks plainly gets a
    page, if there are any."""

    async def attend(visit: Visit) -> None:
        notice_if_vanished(visit.stream)
        async with guarded(visit.stream, tls) as stream:
            ws, caller = await welcome(stream, admit, pages)
            visit.settle()
            channel = Channel(stream, ws, caller)
            await handler(channel)
            await channel.close("")

    listeners = await trio.open_tcp_listeners(listen.port, host=listen.host)
    async with trio.open_nursery() as nursery:
        nursery.start_soon((door or Door()).serve, listeners, attend)
        task_status.started(Address(*listeners[0].socket.getsockname()[:2]))


@asynccontextmanager
async def guarded(tcp: trio.SocketStream, tls: ssl.SSLContext | None) -> AsyncIterator[Stream]:
    """The stream of an accepted connection, closed at the end; that the peer went away is no error."""
    stream = tcp if tls is None else trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
    try:
        async with stream:
            yield stream
    except (Disconnected, trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def welcome(stream: Stream, admit: Admit, pages: Pages | None = None) -> tuple[WSConnection, Caller]:
    """Answer the upgrade request, and say who sent it; raises Disconnected when that was the end of it, or none came in
    time.

    With `pages`, who asks plainly gets one of them, without a token, and that is the end of it too.
    """
    with trio.move_on_after(CONNECT_TIMEOUT_S):
        ws = WSConnection(ConnectionType.SERVER)
        first = b"" if pages is None else await upgrade_or_page(stream, pages)
        if pages is not None and not first:
            raise Disconnected("that was no upgrade request")
        request = await _await_event(stream, ws, first)
        if not isinstance(request, Request):
            raise Disconnected("that was no upgrade request")
        given = next((value for name, value in request.extra_headers if name.lower() == b"authorization"), b"")
        principal = admit(given[len(BEARER) :].decode("latin-1")) if given.startswith(BEARER) else None
        if principal is None:
            await _reject(stream, ws, 401, b"the join token is missing or wrong\n")
        if SUBPROTOCOL not in request.subprotocols:
            await _reject(stream, ws, 400, b"speak " + SUBPROTOCOL.encode() + b"\n")
        caller = Caller(principal, _peer_host(stream))
        await stream.send_all(ws.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
        return ws, caller
    raise Disconnected("no upgrade request came in time")


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


async def _dial(url: str, tls: ssl.SSLContext | None, at: str) -> tuple[Stream, str, str]:
    parts = urlsplit(url)
    secure = parts.scheme == "wss"
    if secure is not (tls is not None):
        lack = "no certificate is given here" if secure else "a certificate is given here: join by wss://"
        raise Disconnected(f"{url}: {lack}")
    host, port = parts.hostname or "", parts.port or (443 if secure else 80)
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            stream = await open_stream(at or host, port)
    except (OSError, trio.TooSlowError) as error:
        raise Disconnected(f"{url}{f' ({at})' if at else ''}: {error or 'no answer'}") from error
    notice_if_vanished(stream)
    path = parts.path or "/"
    return (stream if tls is None else await _secure(stream, tls, host)), parts.netloc, path


def notice_if_vanished(tcp: trio.SocketStream) -> None:
    tcp.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, ASK_AFTER_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, ASK_EVERY_S)
    tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, round(VANISHED_S * 1000))


def _peer_host(stream: Stream) -> str:
    """Where the peer is, an IPv4 address as such also where the listener is one of IPv6. Raises Disconnected."""
    try:
        host = _socket_of(stream).getpeername()[0].partition("%")[0]
    except OSError as error:
        raise Disconnected("the connection was lost") from error
    address = ipaddress.ip_address(host)
    return str((address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address)


def _socket_of(stream: Stream) -> trio.socket.SocketType:
    tcp = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    assert isinstance(tcp, trio.SocketStream)
    return tcp.socket


async def _secure(stream: trio.SocketStream, tls: ssl.SSLContext, host: str) -> trio.SSLStream[trio.SocketStream]:
    secured = trio.SSLStream(stream, tls, server_hostname=host, https_compatible=True)
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            await secured.do_handshake()
    except (trio.BrokenResourceError, trio.TooSlowError) as error:
        await trio.aclose_forcefully(stream)
        raise Disconnected(explain(error, host)) from error
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


async def _upgrade(stream: Stream, host: str, path: str, token: str) -> Channel:
    ws = WSConnection(ConnectionType.CLIENT)
    bearer = (b"authorization", BEARER + token.encode())
    request = Request(host=host, target=path, subprotocols=[SUBPROTOCOL], extra_headers=[bearer])
    try:
        with trio.fail_after(CONNECT_TIMEOUT_S):
            await stream.send_all(ws.send(request))
            answer = await _await_event(stream, ws)
    except (trio.BrokenResourceError, trio.TooSlowError, Disconnected) as error:
        why = f": {error}" if isinstance(error, Disconnected) else ""
        if isinstance(stream, trio.SSLStream):  # trio's server closes without OpenSSL's alert being sent
            why += ". Is this node's certificate signed by the parent's CA?"
        raise Disconnected(f"{host} does not answer as a parent{why}") from error
    if isinstance(answer, RejectConnection):
        raise Disconnected(f"{host} refused the connection with status {answer.status_code}")
    if not isinstance(answer, AcceptConnection) or answer.subprotocol != SUBPROTOCOL:
        raise Disconnected(f"{host} does not speak {SUBPROTOCOL}")
    return Channel(stream, ws)


async def _await_event(stream: Stream, ws: WSConnection, first: bytes = b"") -> object:
    """The peer's half of the upgrade, of which `first` has come; raises Disconnected if it says nothing or something
    else."""
    data = first
    while True:
        data = data or bytes(await stream.receive_some(READ_BYTES))
        if not data:
            raise Disconnected("it closed the connection")
        try:
            ws.receive_data(data)
            for event in ws.events():
                return event
        except ProtocolError as error:
            raise Disconnected(str(error)) from error
        data = b""


async def _reject(stream: Stream, ws: WSConnection, status: int, body: bytes) -> NoReturn:
    length = (b"content-length", str(len(body)).encode())
    data = ws.send(RejectConnection(status_code=status, headers=[length], has_body=True))
    await stream.send_all(data + ws.send(RejectData(data=body, body_finished=True)))
    if isinstance(stream, trio.SocketStream):
        await say_goodbye(stream)
    raise Disconnected(f"refused with {status}")
