"""A GET against servers that the test plays, whole and byte by byte."""

from functools import partial

import pytest
import trio

from tierlb.agent.fetch import AppUnreachable, NoAnswer, Url, fetch, parse_url

DEADLINE_S = 30.0


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8000/load", Url("127.0.0.1", 8000, "/load")),
        ("http://localhost", Url("localhost", 80, "/")),
        ("http://[::1]:8000/load?a=b", Url("::1", 8000, "/load?a=b")),
    ],
)
def test_a_url_is_read(text, url):
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text",
    ["", "127.0.0.1:8000/load", "https://127.0.0.1/", "http:///load", "http://a:b/", "http://u@a/", "http://a:0"],
)
def test_a_url_that_cannot_be_read_says_how_to_write_it(text):
    with pytest.raises(ValueError, match="write it as http://HOST:PORT/PATH"):
        parse_url(text)


async def fetch_from(nursery, answer, *, slowly=False, timeout_s=DEADLINE_S, max_bytes=1000):
    """GET from a server that says `answer`; the result and the request it heard."""
    heard = []

    async def handle(stream):
        async with stream:
            heard.append(await stream.receive_some())
            for part in [answer[at : at + 1] for at in range(len(answer))] if slowly else [answer]:
                await stream.send_all(part)

    listeners = await nursery.start(partial(trio.serve_tcp, handle, 0, host="127.0.0.1"))
    url = Url("127.0.0.1", listeners[0].socket.getsockname()[1], "/load")
    try:
        with trio.fail_after(DEADLINE_S):
            return await fetch(url, timeout_s, max_bytes), heard[0]
    finally:
        nursery.cancel_scope.cancel()


GOOD = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n",
    b"HTTP/1.0 200 OK\r\n\r\n{}",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
]


@pytest.mark.parametrize("answer", GOOD)
@pytest.mark.parametrize("slowly", [False, True])
async def test_a_body_is_read_however_it_is_framed_and_cut(nursery, answer, slowly):
    body, request = await fetch_from(nursery, answer, slowly=slowly)
    assert body == b"{}"
    assert request.startswith(b"GET /load HTTP/1.1\r\n")
    assert b"connection: close" in request.lower()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n", "answers 404"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2000\r\n\r\n" + b"x" * 2000, "more than 1000 bytes"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{}", "127.0.0.1"),
        (b"SSH-2.0-x\r\n", "127.0.0.1"),
        (b"", "127.0.0.1"),
    ],
)
async def test_what_is_no_answer_is_told(nursery, answer, why):
    with pytest.raises(NoAnswer, match=why):
        await fetch_from(nursery, answer)


async def test_a_server_that_hangs_is_left_at_the_deadline(autojump_clock):
    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    url = Url("127.0.0.1", listeners[0].socket.getsockname()[1], "/")
    with trio.fail_after(DEADLINE_S), pytest.raises(NoAnswer, match="nothing in 1 s"):
        await fetch(url, 1.0, 1000)
    await listeners[0].aclose()


async def test_where_nobody_listens_is_unreachable(free_port):
    with trio.fail_after(DEADLINE_S), pytest.raises(AppUnreachable, match="127"):
        await fetch(Url("127.0.0.1", free_port, "/"), DEADLINE_S, 1000)
