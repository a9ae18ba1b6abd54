"""The rules of HTTP/2 towards hosts: refusals, resets, GOAWAY, and hosts that break them."""

import contextlib

import pytest
import trio

from tests.dataplane.conftest import FakeEndpoint, Lab, Voice, l7
from tests.dataplane.l7.http2 import Http2Host, accepts_http2
from tierlb.model.topology import PoolProtocol
from tierlb.wire.http2_frames import (
    PREFACE,
    REFUSED_STREAM,
    SETTINGS_ACK,
    frame,
    goaway_frame,
    reset_frame,
    settings_frame,
    window_frame,
)

H2C = {"protocol": PoolProtocol.H2C}
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"


async def asked(lab: Lab, request: bytes = GET) -> tuple[Voice, Http2Host, FakeEndpoint]:
    """A request that came to one of two hosts; the other."""
    endpoints = [await lab.endpoint(**H2C) for _ in range(2)]
    await lab.serves(l7(*endpoints))
    client = await lab.connects()
    await client.says(request)
    endpoint, voice = await lab.accepts(*endpoints)
    host = await Http2Host(voice).begins()
    await host.hears_request()
    (other,) = [each for each in endpoints if each is not endpoint]
    return client, host, other


@pytest.mark.parametrize("request_", [GET, POST], ids=["GET", "POST"])
@pytest.mark.parametrize("refusal", [reset_frame(1, REFUSED_STREAM), goaway_frame(0, 0)], ids=["reset", "goaway"])
async def test_a_request_that_a_host_refuses_goes_to_another_one(lab: Lab, request_: bytes, refusal: bytes) -> None:
    client, host, endpoint = await asked(lab, request_)
    await host.voice.says(refusal)
    other = await accepts_http2(endpoint)
    number = await other.hears_request()
    assert other.bodies[number] == (b"body" if request_ is POST else b"")
    await other.answers(number)
    assert (await client.hears_message()).body == b"ok"
    assert lab.plane.load().in_flight == 0


async def test_streams_before_the_last_one_of_goaway_are_answered(lab: Lab) -> None:
    client, host, _ = await asked(lab)
    await host.voice.says(goaway_frame(1, 0))
    host.engine.state_machine.state = type(host.engine.state_machine.state).SERVER_OPEN
    await host.answers(1)
    assert (await client.hears_message()).body == b"ok"
    while not host.is_over:
        await host.hears_more()


async def test_a_post_that_a_host_resets_is_not_repeated(lab: Lab) -> None:
    client, host, other = await asked(lab, POST)
    await host.voice.says(reset_frame(1, 2))
    assert (await client.hears_message()).status == 502
    await other.is_left_alone()


async def test_a_response_that_is_reset_is_cut(lab: Lab) -> None:
    client, host, _ = await asked(lab)
    host.engine.send_headers(1, ((b":status", b"200"),))
    host.engine.send_data(1, b"half")
    await host.flush()
    await client.hears_up_to(b"half\r\n")
    await host.voice.says(reset_frame(1, 2))
    assert await client.hears_rest() == b"", "without a last chunk"


BROKEN = {
    "a stream that was not opened": frame(1, 5, 7, b"\x88"),
    "an even stream": frame(1, 5, 2, b"\x88"),
    "PUSH_PROMISE": frame(5, 4, 1, b"\0\0\0\x02\x88"),
    "a broken block": frame(1, 5, 1, b"\x80"),
    "a window that is too large": window_frame(0, 2**31 - 1),
    "too large a frame": b"\xff\xff\xff\0\0\0\0\0\x01",
}


FLOODS = {
    "pings": frame(6, 0, 0, bytes(8)),
    "settings": settings_frame(()),
    "acknowledgements": SETTINGS_ACK,
    "windows": window_frame(0, 1),
    "empty DATA": frame(0, 0, 1),
    "unknown frames": frame(0x77, 0, 0),
    "priorities": frame(2, 0, 1, bytes(5)),
    "GOAWAY": goaway_frame(1, 0),
    "a bomb of indices": frame(1, 5, 1, b"\x88" * 16384),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_host_that_floods_loses_its_connection(lab: Lab, name: str) -> None:
    client, host, endpoint = await asked(lab)
    count = 1 if name == "a bomb of indices" else 3000

    async def says() -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await host.voice.stream.send_all(FLOODS[name] * count)

    lab.background.start_soon(says)
    other = await accepts_http2(endpoint)
    await other.answers(await other.hears_request())
    assert (await client.hears_message()).body == b"ok", "a GET is repeated"


async def test_interim_responses_without_end_are_not_kept_for_a_client_that_reads_none(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    await client.says(GET)
    host = await accepts_http2(endpoint)
    await host.hears_request()
    (connection,) = lab.host(endpoint).idle
    connection.session.streams[1].pause()
    await host.voice.says(frame(1, 4, 1, b"\x08\x03103") * 30)
    await lab.until(lambda: 1 not in connection.session.streams)
    assert not connection.closed


@pytest.mark.parametrize("name", BROKEN)
async def test_a_host_that_breaks_the_protocol_loses_its_connection(lab: Lab, name: str) -> None:
    client, host, endpoint = await asked(lab)
    await host.voice.says(BROKEN[name])
    other = await accepts_http2(endpoint)
    await other.answers(await other.hears_request())
    assert (await client.hears_message()).body == b"ok", "a GET is repeated"


MALFORMED = {
    "no status": frame(1, 4, 1, b"\x00\x01x\x01y"),
    "DATA before a head": frame(0, 0, 1, b"x"),
    "a field of the connection": frame(1, 4, 1, b"\x88\x00\x0aconnection\x05close"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_response_ends_its_stream_and_is_502_at_last(lab: Lab, name: str) -> None:
    client, host, endpoint = await asked(lab)
    await host.voice.says(MALFORMED[name])
    other = await accepts_http2(endpoint)
    await other.hears_request()
    await other.voice.says(MALFORMED[name])
    assert (await client.hears_message()).status == 502
    assert lab.plane.load().in_flight == 0


async def test_what_the_host_is_sent_first(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    await client.says(GET)
    voice = await endpoint.accepts()
    await voice.hears(PREFACE)
    head = await voice.hears_count(9)
    assert head[3] == 4
    await voice.says(settings_frame(()), frame(6, 0, 0, b"12345678"))
    await voice.hears_up_to(frame(6, 1, 0, b"12345678"))
