"""Bodies of requests over HTTP/2: lengths, trailers, backpressure, and clients that stall."""

import errno
from collections.abc import Callable

import pytest

from tests.dataplane.conftest import Lab, l7, taking_nothing
from tests.dataplane.l7.http2 import GET, OK, POST, connects_raw, converses_http2
from tierlb.dataplane.l7.http2_connection import Http2Connection
from tierlb.dataplane.l7.http2_streams import CONNECTION_WINDOW
from tierlb.dataplane.l7.http2_upload import STREAM_WINDOW
from tierlb.model.topology import Limits, Timeouts
from tierlb.net.dial import dial
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import DATA, FLOW_CONTROL_ERROR, FRAME_BYTES, HEADERS, PROTOCOL_ERROR, RST_STREAM, frame

SIZED_BLOCK = b"".join(encode_field(*field) for field in (*POST, (b"content-length", b"10")))


def sized(count: int) -> tuple[tuple[bytes, bytes], ...]:
    return (*POST, (b"content-length", b"%d" % count))


@pytest.mark.parametrize("fields", [POST, sized(4)], ids=["chunked", "sized"])
async def test_a_body_goes_to_the_endpoint(lab: Lab, fields: tuple[tuple[bytes, bytes], ...]) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(fields, b"bo", b"dy")
    voice = await endpoint.accepts()
    message = await voice.hears_message()
    assert message.body == b"body"
    assert ("transfer-encoding" in message) == (fields == POST)
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"


async def test_trailers_go_behind_the_body(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(POST, b"body", trailers=((b"x-sum", b"1"),))
    voice = await endpoint.accepts()
    message = await voice.hears_message()
    assert (message.body, message.trailers) == (b"body", [b"x-sum: 1"])
    await voice.says(OK)
    await client.hears(number)


@pytest.mark.parametrize("pieces", [(b"bod",), (b"bo", b"dies")], ids=["short", "long"])
async def test_a_body_of_another_length_is_an_error(lab: Lab, pieces: tuple[bytes, ...]) -> None:
    client, _ = await converses_http2(lab)
    number = await client.asks(sized(4), *pieces)
    assert (await client.hears(number)).reset == PROTOCOL_ERROR
    assert lab.plane.load().in_flight == 0


async def test_data_for_a_request_that_announced_none_is_an_error(lab: Lab) -> None:
    client, _ = await converses_http2(lab)
    number = await client.asks((*GET, (b"content-length", b"0")), b"x")
    assert (await client.hears(number)).reset == PROTOCOL_ERROR


WRONG: dict[str, Callable[[int], bytes]] = {
    "too long": lambda n: frame(HEADERS, 4, n, SIZED_BLOCK) + frame(DATA, 0, n, bytes(FRAME_BYTES)),
    "behind the end": lambda n: (
        frame(HEADERS, 5, n, b"".join(encode_field(*field) for field in GET)) + frame(DATA, 0, n, bytes(FRAME_BYTES))
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
async def test_data_that_breaks_a_rule_of_its_stream_takes_no_window_of_the_connection(lab: Lab, wrong: str) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, b"")
    await lab.serves(l7(endpoint))
    raw = await connects_raw(lab)
    for number in range(1, 161, 2):
        await raw.voice.says(WRONG[wrong](number))
        assert (await raw.hears_kind(RST_STREAM))[1] == number
    (connection,) = lab.front.clients
    assert isinstance(connection, Http2Connection)
    assert connection.session.received.left >= CONNECTION_WINDOW // 2


async def test_what_comes_before_a_host_is_there_is_held_up_to_the_window(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    lab.front.registry.context.dial = lambda *to, **how: (dial(*to, **how)[0], errno.EINPROGRESS)
    number = await client.asks(POST, b"some", b"body")
    voice = await endpoint.accepts()
    assert (await voice.hears_message()).body == b"somebody"
    await voice.says(OK)
    assert (await client.hears(number)).body == b"ok"


async def test_an_endpoint_that_does_not_read_stops_the_client_at_its_window(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    await client.hears_more()
    number = await client.asks(POST, ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    (exchange,) = lab.front.clients.copy().pop().under_way()
    piece = bytes(16384)
    with taking_nothing(exchange.connection.fd):
        for _ in range(STREAM_WINDOW // 16384):
            client.engine.send_data(number, piece)
            await client.flush()
        await client.voice.hears_nothing() if not client.voice.ahead else None
        assert client.engine.local_flow_control_window(number) == 0
        await client.says_raw(frame(DATA, 0, number, b"x"))
        assert (await client.hears(number)).reset == FLOW_CONTROL_ERROR


async def test_a_body_that_stops_is_408(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab, timeouts=Timeouts(stream=0.2))
    number = await client.asks(POST, b"some", ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    assert (await client.hears(number)).status == 408


async def test_a_body_over_the_limit_is_413(lab: Lab) -> None:
    client, _ = await converses_http2(lab, limits=Limits(body=1000))
    number = await client.asks(POST, bytes(2000), ends=False)
    assert (await client.hears(number)).status == 413


async def test_an_answer_before_the_end_of_the_body_ends_the_stream(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    number = await client.asks(POST, b"some", ends=False)
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(OK)
    answer = await client.hears(number)
    assert (answer.status, answer.body) == (200, b"ok")
    while client.answers[number].reset is None:
        await client.hears_more()
    assert client.answers[number].reset == 0
