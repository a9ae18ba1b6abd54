"""The parent's half of the upgrade to a websocket (RFC 6455, section 4.2), with a credential on the request.

The credential travels as `Authorization: Bearer` (RFC 6750). A request without one that proves a principal, or for
another subprotocol, is refused; a plain request for a page is answered (page.py). With TLS, no byte is read before the
handshake, in which both ends show a certificate.

Left out: the open websocket (websocket_server.py), and the child's half (websocket.py).
"""

import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NoReturn

import attrs
import trio
from wsproto import WSConnection
from wsproto.connection import ConnectionType
from wsproto.events import AcceptConnection, Event, RejectConnection, RejectData, Request
from wsproto.utilities import ProtocolError

from tierlb.net.control_stream import ControlStream, tcp_socket
from tierlb.net.page import Pages, say_goodbye, upgrade_or_page
from tierlb.wire.credentials import Principal
from tierlb.wire.frames import SUBPROTOCOL

UPGRADE_TIMEOUT_S = 5.0
"""From the first byte of a connection to the end of its upgrade request."""
UPGRADE_READ_BYTES = 64 * 1024
BEARER = b"Bearer "

Admit = Callable[[str], Principal | None]
"""The principal that a credential proves, or None."""


class NotUpgraded(Exception):  # noqa: N818 (an event of normal operation)
    """The connection became no websocket; the text says why."""


@attrs.frozen
class ProvenPeer:
    """The peer that opened a connection: what its credential proves, and the IP address it came from."""

    principal: Principal
    host: str


@asynccontextmanager
async def accepted_stream(tcp: trio.SocketStream, tls: ssl.SSLContext | None) -> AsyncIterator[ControlStream]:
    """The stream of an accepted connection, closed at the end. A peer that goes away is no error."""
    stream = tcp if tls is None else trio.SSLStream(tcp, tls, server_side=True, https_compatible=True)
    try:
        async with stream:
            yield stream
    except (NotUpgraded, trio.BrokenResourceError, trio.ClosedResourceError):
        return


async def accept_upgrade(
    stream: ControlStream, admit: Admit, pages: Pages | None = None
) -> tuple[WSConnection, ProvenPeer]:
    """Answer the upgrade request, and name the peer that sent it.

    With `pages`, a plain request is answered with one of them, without a credential. Raises NotUpgraded after a page
    or a refusal, and if no request comes in time.
    """
    with trio.move_on_after(UPGRADE_TIMEOUT_S):
        ws = WSConnection(ConnectionType.SERVER)
        request = await _request(stream, ws, pages)
        given = next((value for name, value in request.extra_headers if name.lower() == b"authorization"), b"")
        principal = admit(given[len(BEARER) :].decode("latin-1")) if given.startswith(BEARER) else None
        if principal is None:
            await _reject(stream, ws, 401, b"the join token is missing or wrong\n")
        if SUBPROTOCOL not in request.subprotocols:
            await _reject(stream, ws, 400, b"speak " + SUBPROTOCOL.encode() + b"\n")
        caller = ProvenPeer(principal, _peer_host(stream))
        await stream.send_all(ws.send(AcceptConnection(subprotocol=SUBPROTOCOL)))
        return ws, caller
    raise NotUpgraded("no upgrade request came in time")


async def _request(stream: ControlStream, ws: WSConnection, pages: Pages | None) -> Request:
    data = b"" if pages is None else await upgrade_or_page(stream, pages)
    if pages is not None and not data:
        raise NotUpgraded("that was no upgrade request")
    while True:
        data = data or bytes(await stream.receive_some(UPGRADE_READ_BYTES))
        if not data:
            raise NotUpgraded("it closed the connection")
        event = _first_event(ws, data)
        if isinstance(event, Request):
            return event
        if event is not None:
            raise NotUpgraded("that was no upgrade request")
        data = b""


def _first_event(ws: WSConnection, data: bytes) -> Event | None:
    try:
        ws.receive_data(data)
        return next(ws.events(), None)
    except ProtocolError as error:
        raise NotUpgraded(str(error)) from error


async def _reject(stream: ControlStream, ws: WSConnection, status: int, body: bytes) -> NoReturn:
    length = (b"content-length", str(len(body)).encode())
    data = ws.send(RejectConnection(status_code=status, headers=[length], has_body=True))
    await stream.send_all(data + ws.send(RejectData(data=body, body_finished=True)))
    if isinstance(stream, trio.SocketStream):
        await say_goodbye(stream)
    raise NotUpgraded(f"refused with {status}")


def _peer_host(stream: ControlStream) -> str:
    """Where the peer is: an IPv4 address as such, also where the listener is one of IPv6."""
    try:
        host = tcp_socket(stream).getpeername()[0].partition("%")[0]
    except OSError as error:
        raise NotUpgraded("the connection was lost") from error
    address = ipaddress.ip_address(host)
    return str((address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address)
