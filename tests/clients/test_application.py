"""What the application is told of the client, and that nothing on the way holds an event back."""

import json
import socket
from typing import Any

import httpx
import trio

from tests.clients.conftest import Site

DEADLINE_S = 60.0
OTHER_LOOPBACK = "127.0.0.77"


def fields(answer: dict[str, Any], name: str) -> list[str]:
    return [value for field, value in answer["headers"] if field == name]


async def ask(site: Site, request: bytes, local_host: str = "127.0.0.1") -> dict[str, Any]:
    """Send a whole request from a local address of choice; the answer's JSON body."""
    with trio.fail_after(DEADLINE_S):
        with trio.socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
            await sock.bind((local_host, 0))
            await sock.connect(site.sockaddr)
            stream = trio.SocketStream(sock)
            await stream.send_all(request)
            received = b"".join([data async for data in stream])
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 "), received
    return dict(json.loads(body))


def request(*lines: str) -> bytes:
    start = ("GET /headers HTTP/1.1", "Host: shop.example", "Connection: close", *lines)
    return "\r\n".join((*start, "", "")).encode()


async def test_the_application_sees_the_client_s_own_address_through_the_edge(site: Site) -> None:
    answer = await ask(site, request(), OTHER_LOOPBACK)
    assert fields(answer, "x-forwarded-for") == [OTHER_LOOPBACK]


async def test_a_stranger_s_word_on_who_the_client_is_is_not_believed(site: Site) -> None:
    claims = (
        "X-Forwarded-For: 8.8.8.8",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: bank.example",
        "X-Request-Id: mine",
    )
    answer = await ask(site, request(*claims))
    assert fields(answer, "x-forwarded-for") == ["127.0.0.1"]
    assert fields(answer, "x-forwarded-proto") == ["http"]
    assert fields(answer, "x-forwarded-host") == ["shop.example"]
    assert "mine" not in fields(answer, "x-request-id")


async def test_the_application_sees_the_client_s_host_and_the_proxy_in_via(site: Site) -> None:
    answer = await ask(site, request())
    assert fields(answer, "host") == ["shop.example"]
    assert fields(answer, "via") == ["1.1 tierlb"]


async def test_every_request_has_an_id_of_its_own(site: Site) -> None:
    answers = [await ask(site, request()) for _ in range(20)]
    ids = [one for answer in answers for one in fields(answer, "x-request-id")]
    assert len(ids) == len(set(ids)) == 20


async def test_what_concerns_one_connection_only_does_not_reach_the_application(site: Site) -> None:
    hops = (
        "Connection: close, X-Secret",
        "X-Secret: 1",
        "Keep-Alive: timeout=5",
        "TE: trailers",
        "X-Kept: 2",
    )
    answer = await ask(site, request(*hops[1:]).replace(b"Connection: close", hops[0].encode()))
    names = {name for name, _ in answer["headers"]}
    assert names.isdisjoint({"x-secret", "keep-alive"})
    assert fields(answer, "te") == ["trailers"]  # said by the node: it passes trailers on
    assert fields(answer, "x-kept") == ["2"]


async def test_server_sent_events_arrive_one_by_one(site: Site) -> None:
    """The application sends the next event only after the client, having seen the last one, asks for it."""
    received: list[int] = []
    with trio.fail_after(DEADLINE_S):
        async with (
            httpx.AsyncClient(base_url=site.url, trust_env=False, timeout=DEADLINE_S) as http,
            http.stream("GET", "/events") as answer,
        ):
            assert answer.headers["content-type"].startswith("text/event-stream")
            async for line in answer.aiter_lines():
                if line.startswith("data: "):
                    received.append(json.loads(line.removeprefix("data: "))["number"])
                    await http.post("/tick")
    assert received == [0, 1, 2]
