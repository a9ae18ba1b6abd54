"""Every method of what serves a connection is made to fail once, in the middle of traffic of all kinds, and so are the
system calls, before and after they are made: those of compiled modules, too, whose methods cannot be replaced.

Whichever it is: each client gets an answer or an end, no count stays up, the failure is counted, the node serves on.
"""

import contextlib
import functools
import inspect
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Any

import pytest
import trio

from tests.dataplane.conftest import INNER, Lab, l4, l4_parent, l7, send
from tests.hellos import hello
from tierlb.dataplane import pipe
from tierlb.dataplane.l4 import hello as l4_hello
from tierlb.dataplane.l4 import introduction, placing, relay
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l7 import (
    client,
    client_stream,
    exchange,
    http1,
    http1_requests,
    kept_stream,
    pooled,
    request_half,
    retry,
    tunnels,
)
from tierlb.model.build import BUILD
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Match, Timeouts
from tierlb.net import stream, wheel
from tierlb.wire import client_hello

replaces_methods = pytest.mark.skipif(
    BUILD == "compiled", reason="NOT TESTED: compiled code calls methods directly, so none can be replaced"
)
DEADLINE_S = 30.0
SHORT = Timeouts(connect=0.2, head=0.2, response=0.2, stream=0.2, idle=0.2)
"""What a client waits for at most where only a deadline ends it."""
TICK_S = 0.02


@pytest.fixture(autouse=True)
def short_ticks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that several hundred of these tests take a minute."""
    monkeypatch.setattr(wheel, "WHEEL_TICK_S", TICK_S)
    monkeypatch.setattr(client_stream, "CLIENT_LINGER_S", 0.1)
    monkeypatch.setattr(introduction, "HEADER_S", 0.2)


GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
ANSWERS = {
    b"/plain": OK,
    b"/chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
    b"/tiny": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 600 + b"0\r\n\r\n",
    b"/hints": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    b"/long": b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3000000),
    b"/bad": b"SSH-2.0-x\r\n\r\n",
}
ENDING = {
    b"/close": b"HTTP/1.1 200 OK\r\n\r\nok",
    b"/cut": b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok",
    b"/drop": b"",
}


async def serve_http(sock: trio.socket.SocketType) -> None:
    """An endpoint that behaves as the path says."""
    stream = trio.SocketStream(sock)
    data = b""
    async with stream:
        while True:
            while b"\r\n\r\n" not in data:
                more = await stream.receive_some(65536)
                if not more:
                    return
                data += more
            head, _, data = data.partition(b"\r\n\r\n")
            path = head.split(b" ")[1]
            if b"content-length: 4" in head.lower():
                while len(data) < 4:
                    data += await stream.receive_some(65536)
                data = data[4:]
            elif b"chunked" in head:
                while b"0\r\n\r\n" not in data:
                    data += await stream.receive_some(65536)
                data = b""
            if path == b"/upgrade":
                await stream.send_all(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi")
                while more := await stream.receive_some(65536):
                    await stream.send_all(more)
                return
            if path == b"/silent":
                await trio.sleep_forever()
            if path in ENDING:
                await stream.send_all(ENDING[path])
                return
            await stream.send_all(ANSWERS[path])


async def echo(sock: trio.socket.SocketType) -> None:
    async with trio.SocketStream(sock) as stream:
        while more := await stream.receive_some(65536):
            await stream.send_all(more)
        await stream.send_eof()


async def accept_all(listening: trio.socket.SocketType, serve: Callable[[Any], Any]) -> None:
    async def one(sock: trio.socket.SocketType) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            await serve(sock)

    async with trio.open_nursery() as nursery:
        while True:
            sock, _ = await listening.accept()
            nursery.start_soon(one, sock)


@contextlib.asynccontextmanager
async def connected(lab: Lab) -> AsyncIterator[trio.SocketStream]:
    """Whatever ends it is an end."""
    with contextlib.suppress(trio.BrokenResourceError), trio.socket.socket() as sock:
        with contextlib.suppress(OSError):  # it may be reset at once, which the first use of the stream finds as well
            await sock.connect(lab.at.sockaddr)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield trio.SocketStream(sock)


async def until_end_or(stream: trio.SocketStream, end: bytes) -> bytes:
    data = b""
    while end not in data and (more := await stream.receive_some(1 << 20)):
        data += more
    return data


async def ask(lab: Lab, *pieces: bytes, end: bytes, times: int = 1) -> None:
    async with connected(lab) as stream:
        for _ in range(times):
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.002)
            if not (await until_end_or(stream, end)).endswith(end):
                return


async def serves_http(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(accept_all, endpoint.sock, serve_http)
    await lab.serves(l7(endpoint, await lab.nobody(), timeouts=SHORT))


async def serves_tcp(lab: Lab, *, inner: bool) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(accept_all, endpoint.sock, echo)
    options = {"listener": INNER} if inner else {}
    await lab.serves(l4(endpoint, await lab.nobody(), timeouts=SHORT, **options))


async def http_traffic(lab: Lab) -> None:
    """One of everything, each on a connection of its own."""
    post = b"POST /plain HTTP/1.1\r\nHost: a\r\n"
    async with trio.open_nursery() as nursery:
        go = functools.partial(nursery.start_soon)

        async def leave_early() -> None:
            async with connected(lab) as stream:
                await stream.send_all(GET % b"/silent")
                await trio.sleep(0.02)

        async def upgrade() -> None:
            async with connected(lab) as stream:
                await stream.send_all(
                    b"GET /upgrade HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n"
                )
                if b"hi" in await until_end_or(stream, b"hi"):
                    await stream.send_all(b"over")
                    await until_end_or(stream, b"over")
                    await stream.send_eof()
                    await until_end_or(stream, b"never")

        async def read_late() -> None:
            async with connected(lab) as stream:
                await stream.send_all(GET % b"/long")
                await trio.sleep(0.05)
                await until_end_or(stream, b"never")

        for path in (b"/plain", b"/chunked", b"/tiny", b"/hints"):
            end = b"0\r\n\r\n" if path in (b"/chunked", b"/tiny") else b"ok"
            go(functools.partial(ask, lab, GET % path, end=end, times=2))
        for path in (b"/close", b"/cut", b"/drop", b"/bad", b"/silent"):
            go(functools.partial(ask, lab, GET % path, end=b"never"))
        go(functools.partial(ask, lab, (GET % b"/plain") * 20, end=b"ok" * 0 + b"never", times=1))
        go(functools.partial(ask, lab, post + b"Content-Length: 4\r\n\r\n", b"bo", b"dy", end=b"ok", times=2))
        chunks = b"1\r\nx\r\n" * 600
        go(functools.partial(ask, lab, post + b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n", end=b"ok"))
        go(functools.partial(ask, lab, post + b"Content-Length: 4\r\n\r\n", b"bo", end=b"never"))
        go(functools.partial(ask, lab, b"GET / HTTP/1.1\r\n\r\n", end=b"never"))
        go(functools.partial(ask, lab, b"GET /pl", end=b"never"))
        go(leave_early)
        go(upgrade)
        go(read_late)


async def tcp_traffic(lab: Lab) -> None:
    async def one(*pieces: bytes) -> None:
        async with connected(lab) as stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.002)
            await stream.send_eof()
            await until_end_or(stream, b"never")

    async with trio.open_nursery() as nursery:
        inner = b"" if not lab.plane.serving.snapshot.listeners[0].inner else l4_parent()  # type: ignore[union-attr]
        nursery.start_soon(one, inner + b"hello", b"again")
        nursery.start_soon(one, inner[:20], inner[20:] + b"in two")
        nursery.start_soon(one, inner + bytes(3_000_000))
        nursery.start_soon(one, b"no header")
        nursery.start_soon(one, inner)


async def serves_tls(lab: Lab) -> None:
    """Routes that depend on the ClientHello."""
    endpoint = await lab.endpoint()
    lab.background.start_soon(accept_all, endpoint.sock, echo)
    rules = (Rule(Match(sni=("a",)), send(endpoint)), Rule(Match(), send(endpoint, await lab.nobody())))
    await lab.serves(l4(rules=rules, timeouts=SHORT))


async def tls_traffic(lab: Lab) -> None:
    async def one(*pieces: bytes, ends: bool = True) -> None:
        async with connected(lab) as stream:
            for piece in pieces:
                await stream.send_all(piece)
                await trio.sleep(0.002)
            if ends:
                await stream.send_eof()
            await until_end_or(stream, b"never")

    asked = hello("a", [f"protocol-{number}" for number in range(30)])
    async with trio.open_nursery() as nursery:
        for cut in (3, 100, len(asked) - 1):
            nursery.start_soon(one, asked[:cut], asked[cut:])
        nursery.start_soon(one, asked)
        nursery.start_soon(one, hello("b"))
        nursery.start_soon(one, asked[:100], asked[100:200])
        nursery.start_soon(functools.partial(one, asked[:100], ends=False))
        nursery.start_soon(functools.partial(one, ends=False))
        nursery.start_soon(one)


def methods(*classes: type) -> Iterator[tuple[type, str]]:
    for each in classes:
        for name, value in vars(each).items():
            if inspect.isfunction(value) and name not in ("__str__", "__repr__"):
                yield each, name


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, *, at_call: int, after: bool) -> list[int]:
    """Make it fail at its so many-th call, before it does anything or after all is done; the number of calls."""
    original, calls = getattr(owner, name), [0]

    @functools.wraps(original)
    def failing(*args: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] != at_call:
            return original(*args, **options)
        if after:
            original(*args, **options)
        raise RuntimeError("injected")

    monkeypatch.setattr(owner, name, failing)
    return calls


async def is_all_right_after(lab: Lab, traffic: Callable[[Lab], Any], last: bytes, calls: list[int], at: int) -> None:
    with trio.fail_after(DEADLINE_S):
        await traffic(lab)
        front = lab.front
        await lab.until(lambda: front.drained)
    failed = calls[0] >= at
    calls[0] += at  # what follows does not fail
    load = lab.plane.load()
    assert (load.connections, load.in_flight) == (0, 0)
    assert [endpoint.in_flight for endpoint in load.hosts] == [0 for _ in load.hosts]
    assert all(host.in_flight == host.parked == 0 for host in front.registry.hosts)
    assert load.parked == lab.plane.subtree().parked == 0
    counts = lab.plane.errors.counts
    assert counts["connection"] + counts["tick"] >= failed, "regular work looks at pipes, too, where a test takes long"
    assert load.internal_errors == lab.plane.errors.counts.total()
    lab.log.events.clear()
    with trio.fail_after(DEADLINE_S):
        async with connected(lab) as stream:
            await stream.send_all(last)
            assert b"ok" in await until_end_or(stream, b"ok")


def in_order(found: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return sorted(found, key=lambda each: (each[0].__name__, *each[1:]))


ATTEMPTS = (retry.Attempts, exchange.Exchange)
L7 = in_order(
    [
        *(
            (*each, False)
            for each in methods(
                client.ClientConnection,
                client_stream.ClientStream,
                kept_stream.KeptStream,
                http1_requests.Http1Requests,
                http1.Http1Downstream,
                retry.Attempts,
                exchange.Exchange,
                request_half.RequestHalf,
                tunnels.Tunnels,
                pooled.PooledConnection,
                pipe.Pipe,
                pipe.End,
            )
        ),
        *((*each, True) for each in methods(*ATTEMPTS) if each[1] != "__init__"),
    ]
)
L4 = in_order(
    [
        *methods(introduction.Introduction, relay.Handshake, pipe.Pipe, pipe.End),
        (L4Context, "join"),
        (L4Context, "give_up"),
        (placing, "_place"),
    ]
)


def named(each: object) -> str:
    if isinstance(each, bool):
        return "after" if each else "before"
    return str(getattr(each, "__name__", each)).rpartition(".")[2]


@replaces_methods
@pytest.mark.parametrize(
    ("owner", "name", "after", "long"),
    [
        *((*each, False) for each in L7),
        *((*each, True) for each in L7 if each[0] in (retry.Attempts, exchange.Exchange) and not each[2]),
    ],
    ids=named,
)
async def test_no_failure_of_an_l7_handler_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, after: bool, long: bool
) -> None:
    """`long`: all requests are parked from their beginning."""
    await serves_http(lab)
    kinds = lab.front.registry.kinds
    kinds.long[:] = [long] * len(kinds.long)
    calls = fails_once(monkeypatch, owner, name, at_call=2, after=after)
    await is_all_right_after(lab, http_traffic, GET % b"/plain", calls, 2)


@replaces_methods
@pytest.mark.parametrize("inner", [False, True], ids=["public", "inner"])
@pytest.mark.parametrize(("owner", "name"), L4, ids=named)
async def test_no_failure_of_an_l4_handler_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, inner: bool
) -> None:
    await serves_tcp(lab, inner=inner)
    calls = fails_once(monkeypatch, owner, name, at_call=2, after=False)
    await is_all_right_after(lab, tcp_traffic, (l4_parent() if inner else b"") + b"ok", calls, 2)


@replaces_methods
@pytest.mark.parametrize("at_call", [1, 2, 3])
@pytest.mark.parametrize(
    ("owner", "name"),
    in_order(
        [
            *methods(l4_hello.HelloWait, client_hello.HelloReader),
            *((l4_hello, name) for name in ("recv_peek", "wake_at")),
            *((placing, name) for name in ("_route_of", "hello_known")),
        ]
    ),
    ids=named,
)
async def test_no_failure_while_a_hello_is_awaited_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at_call: int
) -> None:
    await serves_tls(lab)
    calls = fails_once(monkeypatch, owner, name, at_call=at_call, after=False)
    await is_all_right_after(lab, tls_traffic, b"ok", calls, at_call)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at_call", [1, 2, 3, 5, 8, 13, 21, 34])
@pytest.mark.parametrize(("owner", "name"), [(stream, "recv"), (stream, "send"), (pipe, "copy")], ids=named)
async def test_no_failure_around_a_system_call_of_an_l7_node_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at_call: int, after: bool
) -> None:
    await serves_http(lab)
    calls = fails_once(monkeypatch, owner, name, at_call=at_call, after=after)
    await is_all_right_after(lab, http_traffic, GET % b"/plain", calls, at_call)


@pytest.mark.parametrize("inner", [False, True], ids=["public", "inner"])
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("at_call", [1, 2, 3, 5, 8])
@pytest.mark.parametrize(("owner", "name"), [(stream, "send"), (pipe, "copy")], ids=named)
async def test_no_failure_around_a_system_call_of_an_l4_node_leaves_anybody_waiting(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at_call: int, after: bool, inner: bool
) -> None:
    await serves_tcp(lab, inner=inner)
    calls = fails_once(monkeypatch, owner, name, at_call=at_call, after=after)
    await is_all_right_after(lab, tcp_traffic, (l4_parent() if inner else b"") + b"ok", calls, at_call)
