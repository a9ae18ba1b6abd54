"""Every method of what serves HTTP/2 and TLS is made to fail once, in the middle of traffic on both sides.

As in `test_failing_handlers`: each client gets an answer or an end, no count stays up, the failure is counted, the node
serves on. Methods of one class follow each other at one node.
"""

import contextlib
import functools
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import pytest
import trio

from tests.certificates import NAME, Authority
from tests.dataplane.conftest import Lab, l4, l7, send
from tests.dataplane.test_failing_handlers import (
    DEADLINE_S,
    SHORT,
    accept_all,
    connected,
    echo,
    fails_once,
    methods,
    replaces_methods,
    serve_http,
    until_end_or,
)
from tierlb.dataplane.l4 import securing
from tierlb.dataplane.l7 import (
    client_stream,
    http2_connection,
    http2_session,
    http2_stream,
    http2_streams,
    http2_upload,
    shared_connection,
    shared_session,
    shared_stream,
)
from tierlb.model.snapshot import Rule
from tierlb.model.tls import Alpn
from tierlb.model.topology import Match, PoolProtocol
from tierlb.net import tls_layer, wheel
from tierlb.wire.http2_frames import PREFACE, settings_frame

TICK_S = 0.01
LONG = 300_000
PATHS = ("/plain", "/chunked", "/hints", "/cut", "/h2/plain", "/h2/trailers", "/h2/long", "/h2/reset", "/h2/plain")


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheel, "WHEEL_TICK_S", TICK_S)
    monkeypatch.setattr(client_stream, "CLIENT_LINGER_S", 0.1)


async def serve_http2(sock: trio.socket.SocketType) -> None:
    """An endpoint that behaves as the path says, and takes all of each body."""
    engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="ascii"))
    paths: dict[int, str] = {}
    pending: dict[int, int] = {}
    async with trio.SocketStream(sock) as stream:
        engine.initiate_connection()
        while True:
            await stream.send_all(engine.data_to_send())
            data = await stream.receive_some(65536)
            if not data:
                return
            for event in engine.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    paths[event.stream_id] = dict(event.headers)[":path"]
                elif isinstance(event, h2.events.DataReceived):
                    engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                elif isinstance(event, h2.events.StreamReset):
                    paths.pop(event.stream_id, None)
                    pending.pop(event.stream_id, None)
                elif isinstance(event, h2.events.StreamEnded):
                    _answer(engine, event.stream_id, paths.pop(event.stream_id), pending)
            _send_more(engine, pending)


async def until_goaway(sock: trio.socket.SocketType) -> None:
    """Behind GOAWAY `h2` knows of no more frames."""
    with contextlib.suppress(h2.exceptions.ProtocolError, KeyError):
        await serve_http2(sock)


def _answer(engine: h2.connection.H2Connection, number: int, path: str, pending: dict[int, int]) -> None:
    if path == "/h2/reset":
        engine.reset_stream(number, 2)
        return
    engine.send_headers(number, [(":status", "200")])
    if path == "/h2/long":
        pending[number] = LONG
    elif path == "/h2/trailers":
        engine.send_data(number, b"ok")
        engine.send_headers(number, [("grpc-status", "0")], end_stream=True)
    else:
        engine.send_data(number, b"ok", end_stream=True)


def _send_more(engine: h2.connection.H2Connection, pending: dict[int, int]) -> None:
    for number, left in list(pending.items()):
        while left and (room := min(left, engine.local_flow_control_window(number), 16384)):
            left -= room
            engine.send_data(number, bytes(room), end_stream=not left)
        pending[number] = left
        if not left:
            del pending[number]


class Client:
    """One connection over HTTP/2, until all that was asked is answered or the connection ends."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.engine = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="ascii"))
        self.engine.initiate_connection()
        self.open: set[int] = set()
        self.bodies: dict[int, bytes] = {}

    def asks(self, path: str, body: bytes | None = None, *, ends: bool = True) -> int:
        number = self.engine.get_next_available_stream_id()
        method = "GET" if body is None else "POST"
        fields = [(":method", method), (":scheme", "http"), (":authority", NAME), (":path", path)]
        self.engine.send_headers(number, fields, end_stream=body is None)
        if body is not None:
            self.engine.send_data(number, body, end_stream=ends)
        self.open.add(number)
        return number

    async def hears_all(self) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):  # as in `until_goaway`
            while self.open:
                await self.stream.send_all(self.engine.data_to_send())
                data = await self.stream.receive_some(65536)
                if not data:
                    return
                for event in self.engine.receive_data(data):
                    if isinstance(event, h2.events.DataReceived):
                        self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
                        self.engine.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    elif isinstance(event, h2.events.StreamEnded | h2.events.StreamReset):
                        self.open.discard(event.stream_id)


Connect = Callable[[Lab], Any]


async def traffic(lab: Lab, connect: Connect) -> None:
    async def together() -> None:
        async with connect(lab) as stream:
            client = Client(stream)
            for path in PATHS:
                client.asks(path)
            client.asks("/plain", bytes(16_000))
            client.asks("/h2/plain", bytes(16_000))
            await client.hears_all()

    async def cancels() -> None:
        async with connect(lab) as stream:
            client = Client(stream)
            numbers = [client.asks(path, b"some", ends=False) for path in ("/plain", "/h2/plain")]
            await stream.send_all(client.engine.data_to_send())
            await trio.sleep(0.01)
            for number in numbers:
                client.engine.reset_stream(number, 8)
                client.open.discard(number)
            client.asks("/plain")
            await client.hears_all()

    async def leaves() -> None:
        async with connect(lab) as stream:
            client = Client(stream)
            client.asks("/silent")
            client.asks("/h2/long")
            await stream.send_all(client.engine.data_to_send())
            await trio.sleep(0.01)

    async def breaks_the_protocol() -> None:
        async with connect(lab) as stream:
            await stream.send_all(PREFACE + settings_frame(()) + b"\0\0\1\1\4\0\0\0\0\xff")
            await until_end_or(stream, b"never")

    async with trio.open_nursery() as nursery:
        for each in (together, cancels, leaves, breaks_the_protocol):
            nursery.start_soon(each)


async def serves_http2(lab: Lab, **options: Any) -> None:
    http1 = await lab.endpoint()
    http2 = await lab.endpoint(protocol=PoolProtocol.H2C)
    lab.background.start_soon(accept_all, http1.sock, serve_http)
    lab.background.start_soon(accept_all, http2.sock, until_goaway)
    rules = (Rule(Match(path_prefix="/h2"), send(http2)), Rule(Match(), send(http1)))
    await lab.serves(l7(rules=rules, timeouts=SHORT, **options))


async def each_fails(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, found: Iterator[tuple[type, str]], connect: Connect, at_call: int
) -> None:
    """One after the other, with the same claims each time."""
    for owner, name in found:
        errors = lab.plane.errors.counts.total()
        with monkeypatch.context() as patch:
            calls = fails_once(patch, owner, name, at_call=at_call, after=False)
            await is_all_right_after(lab, connect, f"{owner.__name__}.{name}", calls, at_call, errors)


async def is_all_right_after(
    lab: Lab, connect: Connect, what: str, calls: list[int], at_call: int, errors: int
) -> None:
    try:
        with trio.fail_after(DEADLINE_S):
            await traffic(lab, connect)
            await lab.until(lambda: lab.front.drained)
    except trio.TooSlowError:
        raise AssertionError(f"{what}: a client still waits") from None
    has_failed = calls[0] >= at_call
    calls[0] += at_call  # what follows does not fail
    load = lab.plane.load()
    assert (load.connections, load.in_flight) == (0, 0), what
    assert [endpoint.in_flight for endpoint in load.hosts] == [0 for _ in load.hosts], what
    assert all(host.in_flight == host.parked == 0 for host in lab.front.registry.hosts), what
    assert lab.plane.errors.counts.total() - errors >= has_failed, what
    lab.log.events.clear()
    try:
        with trio.fail_after(DEADLINE_S):
            for path in ("/plain", "/h2/plain"):
                while not await is_served(lab, connect, path):  # noqa: ASYNC110 (asking is what is waited for)
                    await trio.sleep(0.05)
    except trio.TooSlowError:
        raise AssertionError(f"{what}: no client is served any more") from None


async def is_served(lab: Lab, connect: Connect, path: str) -> bool:
    """An answer may be an error where the machine is so busy that an endpoint is late."""
    async with connect(lab) as stream:
        client = Client(stream)
        number = client.asks(path)
        await client.hears_all()
        return client.bodies.get(number) == b"ok"
    return False


@replaces_methods
@pytest.mark.parametrize(
    "owner",
    [
        http2_connection.Http2Connection,
        http2_session.Http2Session,
        http2_streams.Http2Streams,
        http2_stream.Http2Stream,
        http2_upload.UploadingStream,
        shared_connection.SharedConnection,
        shared_session.SharedSession,
        shared_stream.SharedStream,
        shared_stream.RequestSide,
    ],
)
async def test_no_failure_of_what_serves_http2_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: type
) -> None:
    await serves_http2(lab)
    await each_fails(lab, monkeypatch, methods(owner), connected, 1)


@contextlib.asynccontextmanager
async def secured(context: ssl.SSLContext, lab: Lab) -> Any:
    """Whatever ends it is an end."""
    async with connected(lab) as plain:
        yield trio.SSLStream(plain, context, server_hostname=NAME, https_compatible=True)


@replaces_methods
@pytest.mark.parametrize("at_call", [1, 2])
async def test_no_failure_of_tls_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_call: int
) -> None:
    authority = Authority(tmp_path)
    await serves_http2(lab, tls=authority.tls(alpn=tuple(Alpn)))
    context = authority.client()
    context.set_alpn_protocols(["h2"])
    await each_fails(lab, monkeypatch, methods(tls_layer.TlsLayer), functools.partial(secured, context), at_call)


@replaces_methods
@pytest.mark.parametrize("at_call", [1, 2])
async def test_no_failure_where_an_l4_node_ends_tls_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_call: int
) -> None:
    authority = Authority(tmp_path)
    endpoint = await lab.endpoint()
    lab.background.start_soon(accept_all, endpoint.sock, echo)
    await lab.serves(l4(endpoint, timeouts=SHORT, tls=authority.tls()))
    connect = functools.partial(secured, authority.client())
    for owner, name in (*methods(securing.Securing), *methods(tls_layer.TlsLayer)):
        what = f"{owner.__name__}.{name}"
        with monkeypatch.context() as patch:
            calls = fails_once(patch, owner, name, at_call=at_call, after=False)
            with trio.fail_after(DEADLINE_S):
                for _ in range(2):
                    await is_echoed(lab, connect)
                await lab.until(lambda: lab.front.drained)
            calls[0] += at_call
        load = lab.plane.load()
        assert (load.connections, load.in_flight) == (0, 0), what
        lab.log.events.clear()
        try:
            with trio.fail_after(DEADLINE_S):
                while not await is_echoed(lab, connect):  # noqa: ASYNC110 (a busy machine may be later than its deadlines)
                    await trio.sleep(0.05)
        except trio.TooSlowError:
            raise AssertionError(f"{what}: no client is served any more") from None


async def is_echoed(lab: Lab, connect: Connect) -> bool:
    async with connect(lab) as stream:
        await stream.send_all(b"ok")
        return b"ok" in await until_end_or(stream, b"ok")
    return False


@replaces_methods
async def test_nothing_is_left_at_an_l4_node_of_a_connection_whose_tls_could_not_begin(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its deadline would close a socket of the same number."""
    authority = Authority(tmp_path)
    await lab.serves(l4(await lab.endpoint(), tls=authority.tls()))
    calls = fails_once(monkeypatch, tls_layer.TlsLayer, "__init__", at_call=1, after=False)
    async with connected(lab) as stream:
        await until_end_or(stream, b"never")
    assert calls == [1]
    assert not lab.front.connections.pending
    assert lab.front.drained
    lab.log.events.clear()
