"""httpx through edge and l7 tier: pooled connections, streams both ways, many requests at once."""

import hashlib
from collections.abc import AsyncIterator

import httpx
import trio

from tests.clients.app import pattern
from tests.clients.conftest import Site

DEADLINE_S = 60.0
CONCURRENT = 200
PIECE_BYTES = 100_000
ECHO_HEAD = (
    b"POST /echo HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n"
    b"Content-Type: application/octet-stream\r\n\r\n"
)


def client(site: Site, connections: int = 10) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        base_url=site.url,
        trust_env=False,
        timeout=DEADLINE_S,
        limits=httpx.Limits(
            max_connections=connections, max_keepalive_connections=connections, keepalive_expiry=DEADLINE_S
        ),
    )


async def pieces(count: int) -> AsyncIterator[bytes]:
    for number in range(count):
        yield pattern(PIECE_BYTES, number * PIECE_BYTES)


async def test_a_pool_of_one_connection_carries_many_requests(site: Site) -> None:
    traces: list[str] = []

    async def trace(event: str, _: object) -> None:
        traces.append(event)

    with trio.fail_after(DEADLINE_S):
        async with client(site, connections=1) as http:
            for number in range(50):
                answer = await http.get(f"/download/{number}", extensions={"trace": trace})
                assert answer.content == pattern(number)
    assert traces.count("connection.connect_tcp.complete") == 1


async def test_a_streamed_upload_arrives_whole(site: Site) -> None:
    with trio.fail_after(DEADLINE_S):
        async with client(site) as http:
            answer = await http.post("/upload", content=pieces(50))
    assert answer.json() == {
        "bytes": 50 * PIECE_BYTES,
        "sha256": hashlib.sha256(pattern(50 * PIECE_BYTES)).hexdigest(),
        "framing": "chunked",
    }


async def test_a_streamed_download_arrives_whole(site: Site) -> None:
    received = bytearray()
    with trio.fail_after(DEADLINE_S):
        async with client(site) as http, http.stream("GET", "/stream/10000000") as answer:
            async for piece in answer.aiter_bytes():
                received += piece
    assert received == pattern(10_000_000)


async def test_a_body_is_echoed_while_it_is_still_being_sent(site: Site) -> None:
    """Request and response overlap: the second half is only sent once the first has come back."""
    returned = trio.Event()

    received = b""

    async def send(stream: trio.SocketStream) -> None:
        await stream.send_all(ECHO_HEAD + b"5\r\nfirst\r\n")
        await returned.wait()
        await stream.send_all(b"6\r\nsecond\r\n0\r\n\r\n")

    with trio.fail_after(DEADLINE_S):
        async with await trio.open_tcp_stream(*site.sockaddr) as stream, trio.open_nursery() as nursery:
            nursery.start_soon(send, stream)
            async for data in stream:
                received += data
                if b"first" in received:
                    returned.set()
    assert received.startswith(b"HTTP/1.1 200 ")
    assert received.endswith(b"5\r\nfirst\r\n6\r\nsecond\r\n0\r\n\r\n")


async def test_two_hundred_requests_at_once_are_all_answered(site: Site) -> None:
    answers: dict[int, bytes] = {}

    async def get(http: httpx.AsyncClient, number: int) -> None:
        answer = await http.get(f"/slow/{number % 50}" if number % 2 else f"/download/{number * 100}")
        answers[number] = answer.raise_for_status().content

    with trio.fail_after(DEADLINE_S):
        async with client(site, CONCURRENT) as http, trio.open_nursery() as nursery:
            for number in range(CONCURRENT):
                nursery.start_soon(get, http, number)
    assert len(answers) == CONCURRENT
    assert all(body == (b"at last\n" if number % 2 else pattern(number * 100)) for number, body in answers.items())
