"""Responses as HTTP/1 clients get them: their framing, and the end of the connection."""

import contextlib

import pytest
import trio
import trio.testing

from tests.dataplane.conftest import Lab, Voice
from tests.dataplane.l7.conversations import backlog_bytes, exchange, say_much
from tierlb.net import stream

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE_OK = b"HTTP/1.1 200 OK\r\n\r\n"
MIB = 1024 * 1024
BODILESS = [
    (b"HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n", "999"),
    (b"HEAD", CHUNKED_OK, None),
    (b"HEAD", UNTIL_CLOSE_OK, None),
    (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n", None),
    (b"GET", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 999\r\nETag: x\r\n\r\n", "999"),
    (b"GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "0"),
]


@pytest.mark.parametrize("begun", [CHUNKED_OK + b"2\r\nok\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"])
async def test_an_answer_that_breaks_off_is_not_ended(lab: Lab, begun: bytes) -> None:
    client, voice = await exchange(lab, GET, begun)
    await voice.leaves()
    heard = await client.hears_rest()
    assert heard == begun
    assert lab.front.counters.errors == 1


async def test_a_reset_of_an_answer_that_ends_by_close_is_not_an_end(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, UNTIL_CLOSE_OK + b"half")
    await client.hears_up_to(b"half\r\n")
    voice.resets()
    assert await client.hears_rest() == b""


async def test_http_1_0_hears_a_reset_where_its_answer_was_cut(lab: Lab) -> None:
    client, voice = await exchange(lab, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", CHUNKED_OK + b"4\r\nhalf\r\n")
    await client.hears_up_to(b"half")
    await voice.leaves()
    await client.hears_reset()


async def test_http_1_0_hears_all_of_a_cut_answer_that_has_a_length(lab: Lab) -> None:
    begun = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok"
    client, voice = await exchange(lab, b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", begun)
    await voice.leaves()
    assert (await client.hears_rest()).endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("minor", [0, 1])
async def test_what_came_of_a_cut_answer_reaches_a_client_that_reads_late(lab: Lab, minor: int) -> None:
    client, endpoint = await lab.converses()
    client.listens_little()
    await client.says(b"GET / HTTP/1.%d\r\nHost: a\r\n\r\n" % minor)
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(say_until_reset, voice, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 * MIB))
    head = await client.hears_head()
    await lab.until(lambda: backlog_bytes(lab) > 0)
    voice.resets()
    rest = await client.hears_rest()
    assert lab.front.counters.errors == 1
    assert len(head.raw) + len(rest) == lab.front.counters.bytes_out


async def say_until_reset(voice: Voice, head: bytes) -> None:
    with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError, OSError):
        await say_much(voice, head, 64 * MIB)


async def test_a_malformed_chunk_in_an_answer_cuts_it(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + b"2\r\nok\r\nnonsense\r\n")
    assert (await client.hears_rest()).endswith(b"\r\n\r\n")


async def test_a_chunked_answer_and_its_trailers_pass(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED_OK + b"3;x\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n")
    answer = await client.hears_message()
    assert (answer.body, answer.trailers) == (b"abcde", [b"X-Sum: 5"])


async def test_an_answer_that_ends_by_close_becomes_chunked(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, UNTIL_CLOSE_OK + b"some")
    await voice.says(b"thing")
    await voice.leaves()
    answer = await client.hears_message()
    assert (answer["transfer-encoding"], answer.body) == ("chunked", b"something")
    await client.says(GET)
    assert await lab.endpoints[0].accepts()


async def test_a_chunked_answer_ends_by_close_for_http_1_0(lab: Lab) -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n"
    client, _ = await exchange(lab, request, CHUNKED_OK + b"2\r\nok\r\n0\r\n\r\n")
    head = await client.hears_head()
    assert "transfer-encoding" not in head
    assert head["connection"] == "close"
    assert await client.hears_rest() == b"ok"


async def test_an_answer_in_many_pieces_arrives_whole(lab: Lab) -> None:
    client, endpoint = await lab.converses()
    await client.says(GET)
    voice = await endpoint.accepts()
    for byte in b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok":
        await voice.says(bytes([byte]))
        await trio.lowlevel.checkpoint()
    assert (await client.hears_message()).body == b"ok"


@pytest.mark.parametrize(("method", "answer", "length"), BODILESS)
async def test_an_answer_without_a_body_ends_at_its_head(
    lab: Lab, method: bytes, answer: bytes, length: str | None
) -> None:
    request = method + GET[3:]
    client, voice = await exchange(lab, request, answer)
    head = await client.hears_message(bodiless=True)
    assert head.all("content-length") == ([length] if length else [])
    await client.says(request)
    if method == b"HEAD" or b"999" in answer:  # the body may come late
        voice = await lab.endpoints[0].accepts()
    await voice.hears_head()
    await voice.says(answer)
    assert (await client.hears_message(bodiless=True)).first == head.first


async def test_bytes_behind_an_answer_reach_nobody_and_end_the_members_connection(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, OK + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
    assert (await client.hears_message()).body == b"ok"
    await voice.hears_end()
    await client.hears_nothing()


async def test_a_member_that_closes_after_its_answer_is_not_used_again(lab: Lab) -> None:
    client, voice = await exchange(lab, GET, b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
    answer = await client.hears_message()
    assert "connection" not in answer
    await voice.hears_end()
    await client.says(GET)
    await lab.endpoints[0].accepts()


async def test_http_1_0_hears_no_interim_answer(lab: Lab) -> None:
    request = b"GET / HTTP/1.0\r\nHost: a\r\n\r\n"
    client, _ = await exchange(lab, request, b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK)
    assert (await client.hears_message()).status == 200


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
TOGETHER = [
    (OK, b"ok"),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", b"ok"),
    (CHUNKED + b"2\r\nok\r\n", b"2\r\nok\r\n"),
    (CHUNKED + b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n", b"2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n"),
    (b"HTTP/1.1 200 OK\r\n\r\nok", b"2\r\nok\r\n"),
]


@pytest.mark.parametrize("request_head", [GET, GET[:-2] + b"Connection: close\r\n\r\n"], ids=["kept", "close"])
@pytest.mark.parametrize(("answer", "body"), TOGETHER, ids=["whole", "begun", "chunk", "all chunks", "until close"])
async def test_a_head_and_what_came_of_its_body_go_out_in_one_piece(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, request_head: bytes, answer: bytes, body: bytes
) -> None:
    client, endpoint = await lab.converses()
    await client.says(request_head)
    voice = await endpoint.accepts()
    await voice.hears_head()
    sent: list[bytes] = []
    real = stream.send
    monkeypatch.setattr(stream, "send", lambda fd, data: sent.append(bytes(data)) or real(fd, data))
    await voice.says(answer)
    await client.hears_up_to(b"\r\n\r\n" + body)
    assert [piece.partition(b"\r\n\r\n")[2] for piece in sent] == [body]


async def test_a_head_before_a_body_that_cannot_be_passed_on_still_goes_out(lab: Lab) -> None:
    client, _ = await exchange(lab, GET, CHUNKED + b"nonsense\r\n")
    assert (await client.hears_head()).status == 200
    await client.hears_end()
