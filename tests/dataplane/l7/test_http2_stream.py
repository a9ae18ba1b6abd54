"""One request over HTTP/2: what of the response comes to the client, and how it ends otherwise."""

import inspect

import pytest
import trio

from tests.dataplane.conftest import Lab, l7, send
from tests.dataplane.l7.http2 import GET, OK, POST, connects_http2, connects_raw, converses_http2
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.http2_stream import Http2Stream
from tierlb.dataplane.l7.http2_upload import STREAM_WINDOW
from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Rule
from tierlb.model.topology import ForwardedFields, Limits, Match, Respond, Timeouts
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import (
    CANCEL,
    DATA,
    FRAME_BYTES,
    HEADERS,
    INTERNAL_FAILURE,
    PING,
    RST_STREAM,
    WINDOW_UPDATE,
    frame,
    settings_frame,
    window_frame,
)

NO_WINDOW = settings_frame(((4, 0),))
BLOCK = b"".join(encode_field(*field) for field in GET)
HEAD = ((b":method", b"HEAD"), *GET[1:])


def test_http_2_keeps_every_promise() -> None:
    promised = {
        name for name, value in vars(Downstream).items() if inspect.isfunction(value) or type(value) is property
    }
    assert [name for name in promised if getattr(Http2Stream, name) is getattr(Downstream, name)] == []


async def test_interim_responses_pass(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK)
    answer = await client.hears(number)
    assert (answer.interims, answer.status) == ([b"103"], 200)


async def test_a_chunked_response_comes_in_pieces_with_its_trailers(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks((*GET, (b"te", b"trailers")))
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["te"] == "trailers"
    await voice.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    while client.answers[number].body != b"abc":
        await client.hears_more()
    await voice.says(b"1\r\nd\r\n0\r\nX-Sum: 1\r\n\r\n")
    answer = await client.hears(number)
    assert (answer.body, answer.trailers) == (b"abcd", [(b"x-sum", b"1")])
    assert not [name for name, _ in answer.fields if name in (b"transfer-encoding", b"connection")]


async def test_trailers_of_a_response_that_comes_whole_pass(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Sum: 1\r\n\r\n")
    answer = await client.hears(number)
    assert (answer.body, answer.trailers) == (b"", [(b"x-sum", b"1")])


async def test_the_answer_to_head_has_a_length_and_no_body(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(HEAD)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    answer = await client.hears(number)
    assert (answer["content-length"], answer.body) == (b"1000", b"")


async def test_a_response_that_breaks_off_resets_the_stream(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok")
    await voice.leaves()
    answer = await client.hears(number)
    assert (answer.body, answer.reset) == (b"ok", INTERNAL_FAILURE)


async def test_where_no_host_answers_there_is_502_and_the_connection_goes_on(lab: Lab) -> None:
    nobody = await lab.nobody()
    await lab.serves(l7(rules=(Rule(Match(path="/here"), Respond(200, "here")), Rule(Match(), send(nobody)))))
    client = await connects_http2(lab)
    answer = await client.hears(await client.asks())
    assert answer.status == 502
    assert b"cannot be reached" in answer.body
    assert (await client.hears(await client.asks((*GET[:3], (b":path", b"/here"))))).body == b"here"


async def test_an_answer_that_cannot_be_passed_on_is_502(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"SSH-2.0-x\r\n\r\n")
    assert (await client.hears(number)).status == 502


async def test_an_endpoint_cannot_switch_protocols_of_a_stream(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks()
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
    assert (await client.hears(number)).status == 502


async def test_requests_are_counted_and_timed_like_others(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    lab.background.start_soon(endpoint.answers_all, OK)
    for _ in range(3):
        await client.hears(await client.asks())
    tally = lab.front.counters.tallies.outside
    assert (tally.arrivals, tally.done, tally.in_flight, tally.connections) == (3, 3, 0, 1)
    assert lab.front.latencies.count == 3


@pytest.mark.parametrize("answer", ["own", "whole", "in pieces", "with trailers"])
async def test_answers_that_a_client_has_no_window_for_are_reset_in_time(lab: Lab, answer: str) -> None:
    endpoint = await lab.endpoint()
    rule = Rule(Match(), Respond(200, "small") if answer == "own" else send(endpoint))
    await lab.serves(l7(rules=(rule,), timeouts=Timeouts(stream=0.2, idle=0.3)))
    raw = await connects_raw(lab, NO_WINDOW, *(frame(HEADERS, 5, number, BLOCK) for number in (1, 3)))
    if answer != "own":
        for _ in range(2):
            voice = await endpoint.accepts()
            await voice.hears_head()
            if answer == "with trailers":
                await voice.says(
                    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"
                )
            elif answer == "whole":
                await voice.says(OK)
            else:
                await voice.says(OK[:-1])
                await voice.says(OK[-1:])
    resets = [await raw.hears_kind(RST_STREAM) for _ in range(2)]
    assert sorted(resets) == [(0, number, CANCEL.to_bytes(4, "big")) for number in (1, 3)]
    assert lab.plane.reactor.bulk.backlogs == 0
    await raw.voice.hears_rest()


async def test_a_client_that_reads_slowly_gets_all_of_an_answer(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "x" * 8)),), timeouts=Timeouts(stream=0.3)))
    raw = await connects_raw(lab, NO_WINDOW, frame(HEADERS, 5, 1, BLOCK))
    for number in range(8):
        await trio.sleep(0.1)
        await raw.voice.says(window_frame(1, 1))
        assert await raw.hears_kind(DATA) == (number == 7, 1, b"x")


async def test_behind_an_answer_that_waits_no_more_than_a_window_of_the_body_is_taken(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, limits=Limits(body=1000)))
    block = b"".join(encode_field(*field) for field in POST)
    raw = await connects_raw(lab, NO_WINDOW, frame(HEADERS, 4, 1, block), *[frame(DATA, 0, 1, bytes(1001))])
    await raw.hears_kind(HEADERS)
    left = STREAM_WINDOW - 1001
    await raw.voice.says(*(frame(DATA, 0, 1, bytes(FRAME_BYTES)) for _ in range(left // FRAME_BYTES)))
    await raw.voice.says(frame(PING, 0, 0, bytes(8)))
    kind = 0
    while kind != PING:
        kind, _, stream_id, _ = await raw.hears_frame()
        assert (kind, stream_id) != (WINDOW_UPDATE, 1)


async def test_at_a_listener_that_redirects_to_https_so_is_each_stream(lab: Lab) -> None:
    listener = Listener(Address("127.0.0.1", 0), redirect_https=443)
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "here")),), listener=listener))
    client = await connects_http2(lab)
    answer = await client.hears(await client.asks())
    assert (answer.status, answer["location"]) == (308, b"https://a/")


@pytest.mark.parametrize("fields", [ForwardedFields.RFC_7239, ForwardedFields.BOTH])
async def test_endpoints_get_forwarded_of_requests_over_http_2(lab: Lab, fields: ForwardedFields) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint, forwarded=fields))
    client = await connects_http2(lab)
    await client.asks()
    head = await (await endpoint.accepts()).hears_head()
    assert head.all("forwarded") == ["proto=http;host=a;for=127.0.0.1"]
    assert head.all("x-forwarded-for") == (["127.0.0.1"] if fields is ForwardedFields.BOTH else [])
