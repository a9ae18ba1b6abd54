"""The server's end of a connection against bytes that a test sends, whole and one by one."""

from collections.abc import Awaitable, Callable
from typing import Any

import h11
import pytest
import trio
import trio.testing

from tierlb.net.http_server import BadRequest, HttpAnswer, HttpRequest, HttpServerConnection

DEADLINE_S = 10.0
OK = HttpAnswer(200, b"ok", "text/plain", {"X-A": "1"})
GET = b"GET /a%20b?x=1 HTTP/1.1\r\nHost: a\r\nX-B: 1\r\nx-b: 2\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n{}"


async def talk(
    sent: bytes, use: Callable[[HttpServerConnection], Awaitable[Any]], *, slowly: bool = False
) -> tuple[Any, bytes]:
    """What `use` makes of a connection on which these bytes come; and what it sends."""
    ours, theirs = trio.testing.memory_stream_pair()
    connection = HttpServerConnection(ours, trio.StrictFIFOLock(), "10.0.0.9", "10.0.0.5")
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:

            async def send() -> None:
                for piece in [sent[at : at + 1] for at in range(len(sent))] if slowly else [sent]:
                    await theirs.send_all(piece)
                await theirs.send_eof()

            nursery.start_soon(send)
            found = await use(connection)
        await ours.send_eof()
        answer = b"".join([bytes(piece) async for piece in theirs])
    return found, answer


async def read_all(connection: HttpServerConnection) -> list[tuple[str, bytes]]:
    """Every request with its body, each answered."""
    found = []
    while (request := await connection.request()) is not None:
        found.append((request.method, await request.body(100)))
        if not await connection.answer(OK):
            break
    return found


@pytest.mark.parametrize(
    ("sent", "found"),
    [
        (b"", []),
        (GET, [("GET", b"")]),
        (GET + POST + GET, [("GET", b""), ("POST", b"{}"), ("GET", b"")]),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
            [("POST", b"{}")],
        ),
        (GET.replace(b"X-B: 1", b"Connection: close") + GET, [("GET", b"")]),
        (GET.replace(b"X-B: 1", b"Connection: upgrade\r\nUpgrade: h2c") + GET, [("GET", b""), ("GET", b"")]),
    ],
)
@pytest.mark.parametrize("slowly", [False, True])
async def test_requests_are_read_however_they_come(sent: bytes, found: list[tuple[str, bytes]], slowly: bool) -> None:
    assert (await talk(sent, read_all, slowly=slowly))[0] == found


async def test_a_request_says_what_it_is() -> None:
    request, _ = await talk(GET, lambda connection: connection.request())
    assert isinstance(request, HttpRequest)
    assert (request.method, request.path, request.scheme) == ("GET", "/a b", "http")
    assert (request.client, request.server) == ("10.0.0.9", "10.0.0.5")
    assert (request.values("x-b"), request.values("none")) == (["1", "2"], [])


async def test_an_answer_is_what_another_implementation_reads() -> None:
    _, sent = await talk(GET, read_all)
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(sent)
    head, body = client.next_event(), client.next_event()
    fields = dict(head.headers)
    assert (head.status_code, bytes(head.reason), bytes(body.data)) == (200, b"OK", b"ok")
    assert (fields[b"x-a"], fields[b"content-type"], fields[b"content-length"]) == (b"1", b"text/plain", b"2")


async def test_the_answer_to_head_has_no_content() -> None:
    async def answer(connection: HttpServerConnection) -> bool:
        await connection.request()
        return await connection.answer(OK, without_content=True)

    may_go_on, sent = await talk(GET.replace(b"GET", b"HEAD"), answer)
    assert may_go_on
    assert b"Content-Length: 2\r\n" in sent
    assert sent.endswith(b"\r\n\r\n")


async def test_a_client_that_waits_for_it_is_told_to_send_its_body() -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    connection = HttpServerConnection(ours, trio.StrictFIFOLock(), "", "")
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, connection)
            await theirs.send_all(POST[:-2].replace(b"Host", b"Expect: 100-continue\r\nHost"))
            assert await theirs.receive_some() == b"HTTP/1.1 100 Continue\r\n\r\n"
            await theirs.send_all(POST[-2:])
            assert bytes(await theirs.receive_some()).startswith(b"HTTP/1.1 200 OK\r\n")
            await theirs.send_eof()


async def test_after_a_body_that_was_not_read_to_its_end_the_connection_ends() -> None:
    async def answer(connection: HttpServerConnection) -> bool:
        await connection.request()
        return await connection.answer(OK)

    may_go_on, sent = await talk(POST[:-1], answer)
    assert not may_go_on
    assert b"Connection: close\r\n" in sent
    assert (await talk(POST, answer))[0], "the rest of it had come"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\x00" * 100, 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, 431),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (POST.replace(b": 2", b": -1"), 400),
        (POST.replace(b": 2", b": 101"), 413),
        (POST[:-1], 400),
        (
            b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n",
            413,
        ),
    ],
)
async def test_what_is_no_request_or_too_large_is_refused(sent: bytes, status: int) -> None:
    async def refused(connection: HttpServerConnection) -> int:
        try:
            await read_all(connection)
        except BadRequest as problem:
            await connection.answer(HttpAnswer(problem.status, b"", "text/plain"))
            return problem.status
        return 200

    found, answer = await talk(sent, refused)
    assert found == status
    assert answer.startswith(b"HTTP/1.1 %d " % status)
