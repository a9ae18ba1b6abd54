"""Plain HTTP where websockets are expected: pages for whoever asks, and nothing for those that would do harm."""

from contextlib import asynccontextmanager, suppress

import attrs
import h11
import pytest
import trio
import trio.testing

from tests.joining import admit
from tierlb.model.address import Address
from tierlb.net import page as page_module
from tierlb.net import websocket_upgrade
from tierlb.net.page import Page
from tierlb.net.tls import client_context, server_context
from tierlb.net.websocket import connect
from tierlb.net.websocket_server import WebsocketServer

DEADLINE_S = 30.0
LISTEN = Address("127.0.0.1", 0)
GET = b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n"
LARGE = bytes(range(256)) * 40_000


class Echo:
    def __init__(self, connection):
        self.connection = connection

    def receive(self, data, now):
        self.connection.send(data)

    def ended(self, reason):
        pass


@attrs.define
class Port:
    """A server that has pages; `asked` are the paths that were looked for."""

    address: Address
    asked: list
    crashes: list

    async def hears(self, *pieces):
        """All that comes back after these bytes, one after the other, until the end."""
        with trio.fail_after(DEADLINE_S):
            async with await trio.open_tcp_stream(*self.address.sockaddr) as stream:
                with suppress(trio.BrokenResourceError):
                    for piece in pieces:
                        await stream.send_all(piece)
                return await read_all(stream)

    async def asks(self, *pieces):
        return parsed(await self.hears(*pieces))

    @asynccontextmanager
    async def greets(self, tls=None):
        scheme = "ws" if tls is None else "wss"
        with trio.fail_after(DEADLINE_S):
            async with connect(f"{scheme}://{self.address}", "secret", tls) as channel:
                await channel.send(b"x")
                assert await channel.receive() == b"x"
                yield channel


@pytest.fixture
async def start(nursery):
    async def start(tls=None):
        asked, crashes = [], []

        def pages(path):
            asked.append(path)
            if path == "/crash":
                raise RuntimeError("a bug")
            return {"/metrics": Page("text/plain", b"a 1\n"), "/large": Page("image/gif", LARGE)}.get(path)

        server = WebsocketServer(Echo, admit, crashes.append, tls and (lambda: tls), pages)
        return Port(await nursery.start(server.serve, LISTEN), asked, crashes)

    return start


@pytest.fixture
async def port(start):
    return await start()


async def read_all(stream):
    data = b""
    with suppress(trio.BrokenResourceError):
        while chunk := await stream.receive_some(65536):
            data += chunk
    return data


def parsed(data):
    """Status, type and body, as another implementation reads them."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    client.receive_data(b"")
    head, body = client.next_event(), b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert dict(head.headers)[b"connection"] == b"close"
    assert client.trailing_data == (b"", True)
    return head.status_code, dict(head.headers)[b"content-type"].decode(), body


@pytest.mark.parametrize("target", [b"/metrics", b"/metrics?collect=all", b"http://a/metrics"])
async def test_a_page_is_for_who_asks_without_a_token(port, target):
    assert await port.asks(GET.replace(b"/metrics", target)) == (200, "text/plain", b"a 1\n")
    assert port.asked == ["/metrics"]


async def test_a_head_may_come_byte_by_byte(port):
    assert (await port.asks(*(GET[at : at + 1] for at in range(len(GET)))))[0] == 200


async def test_a_large_page_comes_whole(port):
    assert await port.asks(GET.replace(b"metrics", b"large")) == (200, "image/gif", LARGE)


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 404),
        (b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"HEAD /metrics HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", 400),
        (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nHost: a\r\nfolded\r\n\r\n", 400),
        (b"GET /metrics HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET /" + b"x" * 40_000, 431),
    ],
)
async def test_anything_else_is_refused_in_one_line(port, request_, status):
    got, kind, body = await port.asks(request_)
    assert (got, kind) == (status, "text/plain; charset=utf-8")
    assert body.count(b"\n") == 1
    assert "/metrics" not in port.asked


@pytest.mark.parametrize("first", [b"\x16\x03\x01\x02\x00\x01", b"\r\n\r\n", b"get / HTTP/1.1\r\n\r\n", b"\x00"])
async def test_what_is_no_http_is_closed_at_once(port, first, monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "UPGRADE_TIMEOUT_S", 2 * DEADLINE_S)
    assert await port.hears(first) == b""


async def test_a_bug_in_a_page_is_told_and_costs_nobody_else_anything(port):
    assert (await port.asks(GET.replace(b"metrics", b"crash")))[0] == 500
    with trio.fail_after(DEADLINE_S):
        while not port.crashes:  # noqa: ASYNC110 (a real socket says goodbye first)
            await trio.sleep(0.005)
    assert [str(error) for error in port.crashes] == ["a bug"]
    assert (await port.asks(GET))[0] == 200


async def test_one_that_never_finishes_its_head_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "UPGRADE_TIMEOUT_S", 0.05)
    assert await port.hears(GET[:-2]) == b""


async def test_one_that_does_not_read_its_page_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(websocket_upgrade, "UPGRADE_TIMEOUT_S", 0.1)
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*port.address.sockaddr) as stream:
            stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
            await stream.send_all(GET.replace(b"metrics", b"large"))
            await trio.sleep(0.3)
            await trio.testing.wait_all_tasks_blocked()
            assert len(await read_all(stream)) < len(LARGE)


async def test_one_that_stays_after_its_page_is_left(port, monkeypatch):
    monkeypatch.setattr(page_module, "LAST_READ_S", 0.05)
    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*port.address.sockaddr) as stream:
            await stream.send_all(GET)
            assert parsed(await read_all(stream))[0] == 200
            with suppress(trio.BrokenResourceError):
                while True:
                    await stream.send_all(b"more")


async def test_many_that_ask_and_many_that_hang_keep_no_child_away(port):
    async with trio.open_nursery() as nursery, port.greets() as channel:
        for _ in range(50):
            nursery.start_soon(port.asks, GET)
            nursery.start_soon(port.hears, b"GET /")
        await channel.send(b"y")
        assert await channel.receive() == b"y"
        nursery.cancel_scope.cancel()
    async with port.greets():
        pass


async def test_without_pages_only_children_are_answered(nursery):
    address = await nursery.start(WebsocketServer(Echo, admit, pytest.fail).serve, LISTEN)
    assert await Port(address, [], []).hears(GET) == b""


async def test_with_tls_a_page_is_for_who_has_a_certificate(start, authority):
    tls = authority.issue("127.0.0.1")
    port = await start(server_context(tls))
    assert await port.hears(GET) == b"", "no plain text"
    with trio.fail_after(DEADLINE_S):
        tcp = await trio.open_tcp_stream(*port.address.sockaddr)
        stream = trio.SSLStream(tcp, client_context(tls), server_hostname="127.0.0.1", https_compatible=True)
        await stream.send_all(GET)
        assert parsed(await read_all(stream)) == (200, "text/plain", b"a 1\n")
        await stream.aclose()
    async with port.greets(client_context(tls)):
        pass
