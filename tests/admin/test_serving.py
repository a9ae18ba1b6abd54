"""The admin API's connections on real sockets: slow, silent and many ones beside those that count."""

import contextlib
import os
import socket

import attrs
import h11
import httpx
import pytest
import trio

from tierlb.admin import serving as serving_module
from tierlb.admin.serving import MOST_ADMIN_STRANGERS, listener_of, serve_requests
from tierlb.net import door as door_module
from tierlb.net.door import Door
from tierlb.net.http_server import HttpAnswer

DEADLINE_S = 60.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
KNOWN = b"GET /hold HTTP/1.1\r\nHost: a\r\nAuthorization: me\r\n\r\n"


@attrs.define
class Site:
    """What is served: `/` answers at once, `/hold` when `go` is set, `/long` with more than the kernel buffers."""

    port: int = 0
    go: trio.Event = attrs.field(factory=trio.Event)
    crashes: list = attrs.field(factory=list)
    holding: int = 0

    async def handle(self, request):
        if request.path == "/hold":
            self.holding += 1
            await self.go.wait()
        if request.path == "/read":
            await request.body(20_000)
        return HttpAnswer(200, b"x" * 50_000_000 if request.path == "/long" else b"ok", "text/plain")

    async def open(self, data=b""):
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        await stream.send_all(data)
        return stream


@pytest.fixture
async def site(nursery):
    site = Site()
    bound = socket.create_server(("127.0.0.1", 0))
    site.port = bound.getsockname()[1]
    listening = listener_of(bound)
    door = Door(site.crashes.append, most_strangers=MOST_ADMIN_STRANGERS)
    nursery.start_soon(
        serve_requests, site.handle, listening, door, lambda request: request.values("authorization") == ["me"]
    )
    return site


@pytest.fixture
def hasty(monkeypatch):
    """Deadlines that a test can wait for."""
    monkeypatch.setattr(serving_module, "ADMIN_REQUEST_S", 0.3)
    monkeypatch.setattr(serving_module, "ADMIN_ANSWER_S", 0.3)
    monkeypatch.setattr(door_module, "SWEEP_EVERY_S", 0.05)


async def rest(stream):
    data = b""
    with contextlib.suppress(trio.BrokenResourceError):
        while piece := await stream.receive_some(65536):
            data += piece
    return data


async def test_an_answer_and_another_on_the_same_connection(site):
    with trio.fail_after(DEADLINE_S):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{site.port}") as http:
            for _ in range(3):
                assert (await http.get("/")).text == "ok"


async def test_whoever_asks_is_answered_beside_any_number_of_silent_connections(site):
    with trio.fail_after(DEADLINE_S):
        async with contextlib.AsyncExitStack() as stack:
            for number in range(3 * MOST_ADMIN_STRANGERS):
                await stack.enter_async_context(await site.open(b"GET /" if number % 2 else b""))
            async with await site.open(GET) as stream:
                assert b"200" in await stream.receive_some(4096)


async def test_a_request_with_the_token_stays_whatever_others_ask(site):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(KNOWN) as known, contextlib.AsyncExitStack() as stack:
            while not site.holding:  # noqa: ASYNC110 (real sockets)
                await trio.sleep(0.005)
            for _ in range(2 * MOST_ADMIN_STRANGERS):
                stranger = await stack.enter_async_context(await site.open(KNOWN.replace(b"me", b"you")))
            while site.holding < 2 * MOST_ADMIN_STRANGERS:  # noqa: ASYNC110
                await trio.sleep(0.005)
            site.go.set()
            assert b"200" in await known.receive_some(4096)
            assert b"200" in await stranger.receive_some(4096)


@pytest.mark.parametrize("data", [b"", b"GET / HTTP/1.1\r\nHo", GET], ids=["silent", "half a head", "idle"])
async def test_a_connection_without_a_whole_request_ends(site, hasty, data):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(data) as stream:
            assert (b"200" in await rest(stream)) is (data == GET)


async def test_a_head_that_comes_byte_by_byte_for_ever_ends(site, hasty):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(b"GET / HTTP/1.1\r\nX: ") as stream:
            with pytest.raises(trio.BrokenResourceError):  # noqa: PT012
                while True:
                    await stream.send_all(b"x")
                    await trio.sleep(0.01)


@pytest.mark.parametrize(
    "data",
    [
        GET.replace(b"/ ", b"/long "),
        GET.replace(b"/ ", b"/hold "),
        b"POST /read HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nx",
    ],
    ids=["is not read", "takes too long", "has a slow body"],
)
async def test_an_answer_that_does_not_get_done_ends(site, hasty, data):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(data) as stream:
            await trio.sleep(1.0)
            assert len(await rest(stream)) < 50_000_000
        async with await site.open(GET) as stream:
            assert b"200" in await stream.receive_some(4096)
    assert site.crashes == []


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
H2C = (
    GET[:-2]
    + b"Upgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\nConnection: upgrade, http2-settings\r\n\r\n"
)


@pytest.mark.parametrize("data", [PREFACE, GET + PREFACE, H2C + PREFACE])
async def test_http_2_is_not_spoken(site, data):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(data) as stream:
            answer = await rest(stream)
            assert b"\x00\x00" not in answer
            assert b"101" not in answer


async def test_a_request_that_offers_http_2_is_answered_in_http_1(site, hasty):
    with trio.fail_after(DEADLINE_S):
        async with await site.open(H2C) as stream:
            answer = await rest(stream)
            assert answer.startswith(b"HTTP/1.1 200")
            assert answer.endswith(b"ok")


@pytest.mark.parametrize(
    "data",
    [
        b"\x00" * 100,
        b"\r\n" * 10_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 20_000,
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n"
        b"Connection: upgrade, http2-settings\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\n",
    ],
)
async def test_odd_bytes_are_the_end_of_nothing_but_their_connection(site, hasty, data):
    with trio.fail_after(DEADLINE_S):
        async with await site.open() as stream:
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.send_all(data)
            await rest(stream)
        async with await site.open(GET) as stream:
            assert b"200" in await stream.receive_some(4096)


async def test_an_offered_websocket_is_answered_as_a_request_and_the_connection_goes_on(site):
    offer = (
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with trio.fail_after(DEADLINE_S):
        async with await site.open(offer + GET.replace(b"a\r\n", b"a\r\nConnection: close\r\n")) as stream:
            assert (await rest(stream)).count(b"HTTP/1.1 200") == 2
    assert site.crashes == []


async def test_between_two_pieces_of_bodies_in_tiny_chunks_other_tasks_run(site, monkeypatch):
    """Counted: what the parser finds between two turns of another task, with eight connections that send at once."""
    found, next_event = [0], h11.Connection.next_event

    def counted(connection):
        found[-1] += 1
        return next_event(connection)

    async def run_in_between():
        while True:
            found.append(0)
            await trio.lowlevel.checkpoint()

    head = b"POST /read HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    flood = head + b"1\r\na\r\n" * 10_000 + b"0\r\n\r\n"
    with trio.fail_after(DEADLINE_S):
        async with contextlib.AsyncExitStack() as stack, trio.open_nursery() as nursery:
            streams = [await stack.enter_async_context(await site.open(GET)) for _ in range(8)]
            for stream in streams:
                await stream.receive_some(4096)
            monkeypatch.setattr(h11.Connection, "next_event", counted)
            nursery.start_soon(run_in_between)
            for stream in streams:
                os.write(stream.socket.fileno(), flood)
            for stream in streams:
                await rest(stream)
            nursery.cancel_scope.cancel()
    assert 150 < max(found) < 512, "1 KiB at a time are 171 chunks; two connections may fall together"
