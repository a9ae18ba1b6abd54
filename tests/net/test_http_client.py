"""The client against a server of which the test says every byte, whole and one by one."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from tierlb.net import http_client
from tierlb.net.http_client import BadAnswer, CutAnswer, Head, HttpConnection, demand_request

DEADLINE_S = 10.0
OK = b"HTTP/1.1 200 OK\r\nX-A: 1\r\nx-a: 2\r\nContent-Length: 2\r\n\r\nok"
FIELDS = [("Host", "a.example")]


async def talk(answer: bytes, use: Callable[[HttpConnection], Awaitable[Any]], *, slowly: bool = False) -> Any:
    """What `use` makes of a connection whose other end gives this answer and closes; with what it was asked."""
    ours, theirs = trio.testing.memory_stream_pair()
    heard = b""

    async def serve() -> None:
        nonlocal heard
        heard = bytes(await theirs.receive_some())
        for piece in [answer[at : at + 1] for at in range(len(answer))] if slowly else [answer]:
            await theirs.send_all(piece)
        await theirs.send_eof()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            found = await use(HttpConnection(ours))
    return found, heard


async def whole(http: HttpConnection) -> tuple[int, bytes]:
    head = await http.ask("GET", "/x", FIELDS)
    return head.status, await http.body(100)


BODIES = [
    (OK, b"ok"),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1\r\nk\r\n0\r\n\r\n", b"ok"),
    (b"HTTP/1.0 200 OK\r\n\r\nok", b"ok"),
    (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b""),
]


@pytest.mark.parametrize(("answer", "body"), BODIES)
@pytest.mark.parametrize("slowly", [False, True])
async def test_an_answer_is_read_however_it_is_framed_and_cut(answer: bytes, body: bytes, slowly: bool) -> None:
    found, heard = await talk(answer, whole, slowly=slowly)
    assert found == (200, body)
    assert heard == b"GET /x HTTP/1.1\r\nHost: a.example\r\n\r\n"


async def test_a_body_is_sent_with_its_length() -> None:
    async def post(http: HttpConnection) -> Head:
        return await http.ask("POST", "/", FIELDS, b"{}")

    head, heard = await talk(OK, post)
    assert heard == b"POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 2\r\n\r\n{}"
    assert (head.status, head.reason, head.values("X-A")) == (200, "OK", ("1", "2"))


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", CutAnswer),
        (OK[:9], CutAnswer),
        (OK[:-1], CutAnswer),
        (b"SSH-2.0-x\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 2 * http_client.MAX_ANSWER_HEAD_BYTES, BadAnswer),
        (b"HTTP/1.1 103 Early\r\n\r\n" * (http_client.MAX_INTERIM_BYTES // 10), BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n" + b"x" * 101, BadAnswer),
    ],
)
async def test_what_is_no_whole_answer_or_too_long_is_told_apart(answer: bytes, kind: type[Exception]) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        await talk(answer, whole)
    (error,) = caught.value.exceptions
    assert type(error) is kind
    assert len(str(error)) <= http_client.MAX_FAULT_CHARS


async def test_lines_are_read_one_by_one() -> None:
    async def lines(http: HttpConnection) -> list[bytes | None]:
        await http.ask("GET", "/", FIELDS)
        return [await http.line(10) for _ in range(4)]

    found, _ = await talk(b"HTTP/1.0 200 OK\r\n\r\none\n\ntwo", lines)
    assert found == [b"one", b"", b"two", None]


async def test_a_line_has_a_bound() -> None:
    async def line(http: HttpConnection) -> bytes | None:
        await http.ask("GET", "/", FIELDS)
        return await http.line(10)

    with pytest.raises(ExceptionGroup):
        await talk(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 11, line)


@pytest.mark.parametrize(
    ("answer", "may"),
    [(OK, True), (OK.replace(b"X-A: 1", b"Connection: close"), False), (b"HTTP/1.0 200 OK\r\n\r\nok", False)],
)
async def test_a_connection_may_be_used_again_where_both_ends_agree(answer: bytes, may: bool) -> None:
    async def ask(http: HttpConnection) -> tuple[bool, bool]:
        await http.ask("GET", "/", FIELDS)
        early = http.renew()
        await http.body(100)
        return early, http.renew()

    found, _ = await talk(answer, ask)
    assert found == (False, may)


async def test_a_tunnel_that_was_asked_for_is_a_final_answer() -> None:
    async def ask(http: HttpConnection) -> int:
        return (await http.ask("GET", "/", [*FIELDS, ("Upgrade", "x"), ("Connection", "upgrade")])).status

    found, _ = await talk(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", ask)
    assert found == 101


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        ("GET IT", "/", FIELDS),
        ("", "/", FIELDS),
        ("GET", "/ x", FIELDS),
        ("GET", "/", [("a b", "x")]),
        ("GET", "/", []),
    ],
)
def test_what_is_no_request_is_not_sent(method: str, target: str, fields: list[tuple[str, str]]) -> None:
    with pytest.raises(ValueError, match=r".+"):
        demand_request(method, target, fields)


def test_a_request_without_a_body_is_one() -> None:
    demand_request("DELETE", "/x?y", FIELDS)
