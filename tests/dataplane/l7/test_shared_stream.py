"""One request on a connection that is shared: bodies in both directions, trailers, backpressure, cancellation."""

import pytest

from tests.dataplane.conftest import Lab, l7
from tests.dataplane.l7.http2 import GET, POST, Http2Host, Http2Voice, accepts_http2, connects_http2
from tierlb.dataplane.l7.shared_stream import HOST_STREAM_WINDOW, body_length_of, unchunked
from tierlb.model.topology import PoolProtocol
from tierlb.wire.http2_frames import CANCEL
from tierlb.wire.http_body import encode_chunk, last_chunk

H2C = {"protocol": PoolProtocol.H2C}


async def through(
    lab: Lab, fields: tuple[tuple[bytes, bytes], ...] = GET, *pieces: bytes, ends: bool = True
) -> tuple[Http2Voice, int, Http2Host]:
    """A client and a host that both speak HTTP/2, and a request that came."""
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await connects_http2(lab)
    await client.hears_more()
    number = await client.asks(fields, *pieces, ends=ends)
    host = await accepts_http2(endpoint)
    while not host.requests:
        await host.hears_more()
    return client, number, host


@pytest.mark.parametrize("fields", [POST, (*POST, (b"content-length", b"8"))], ids=["chunked", "sized"])
async def test_a_body_comes_to_the_host(lab: Lab, fields: tuple[tuple[bytes, bytes], ...]) -> None:
    client, number, host = await through(lab, fields, b"some", b"body")
    await host.hears_request()
    assert host.bodies[1] == b"somebody"
    assert (b"content-length" in host.requests[1]) == (fields != POST)
    assert b"transfer-encoding" not in host.requests[1]
    await host.answers(1)
    assert (await client.hears(number)).body == b"ok"


async def test_a_request_with_trailers_and_te_keeps_both(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await connects_http2(lab)
    await client.asks((*POST, (b"te", b"trailers")), b"x", trailers=((b"x-sum", b"1"),))
    host = await accepts_http2(endpoint)
    await host.hears_request()
    assert host.requests[1][b"te"] == b"trailers"
    assert host.trailers[1] == [(b"x-sum", b"1")]


async def test_messages_go_both_ways_at_once(lab: Lab) -> None:
    client, number, host = await through(lab, POST, ends=False)
    host.engine.send_headers(1, ((b":status", b"200"),))
    await host.flush()
    for text in (b"one", b"two", b"three"):
        client.engine.send_data(number, text)
        await client.flush()
        while not host.bodies[1].endswith(text):
            await host.hears_more()
        host.engine.send_data(1, text.upper())
        await host.flush()
        while not client.answers[number].body.endswith(text.upper()):
            await client.hears_more()
    client.engine.end_stream(number)
    await client.flush()
    await host.hears_request()
    host.engine.send_headers(1, ((b"grpc-status", b"0"),), end_stream=True)
    await host.flush()
    answer = await client.hears(number)
    assert (answer.body, answer.trailers) == (b"ONETWOTHREE", [(b"grpc-status", b"0")])


@pytest.mark.parametrize("body", [b"", b"ok"])
@pytest.mark.parametrize("at_once", [True, False])
async def test_trailers_follow_a_body_whose_length_is_known(lab: Lab, body: bytes, at_once: bool) -> None:
    client, number, host = await through(lab)
    host.engine.send_headers(1, ((b":status", b"200"), (b"content-length", b"%d" % len(body))))
    if body:
        host.engine.send_data(1, body)
    if not at_once:
        await host.flush()
        while not client.answers[number].fields or client.answers[number].body != body:
            await client.hears_more()
        assert not client.answers[number].is_over
    host.engine.send_headers(1, ((b"grpc-status", b"0"),), end_stream=True)
    await host.flush()
    answer = await client.hears(number)
    assert (answer.body, answer.trailers) == (body, [(b"grpc-status", b"0")])
    assert lab.plane.load().in_flight == 0


async def test_a_client_of_http1_gets_a_body_of_known_length_and_asks_again(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    for number in (1, 3):
        await client.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        if number == 1:
            host = await accepts_http2(endpoint)
        while number not in host.requests:
            await host.hears_more()
        host.engine.send_headers(number, ((b":status", b"200"), (b"content-length", b"2")))
        host.engine.send_data(number, b"ok")
        await host.flush()
        await client.hears_up_to(b"\r\n\r\nok")
        host.engine.send_headers(number, ((b"x-sum", b"1"),), end_stream=True)
        await host.flush()


async def test_a_head_that_is_all_of_the_response_stays_so(lab: Lab) -> None:
    client, number, host = await through(lab)
    await host.answers(1, b"", (b"grpc-status", b"5"), alone=True)
    answer = await client.hears(number)
    assert (dict(answer.fields)[b"grpc-status"], answer.body, answer.trailers) == (b"5", b"", [])


async def test_interim_responses_pass(lab: Lab) -> None:
    client, number, host = await through(lab)
    host.engine.send_headers(1, ((b":status", b"103"), (b"link", b"</x>")))
    await host.flush()
    await host.answers(1)
    answer = await client.hears(number)
    assert (answer.interims, answer.body) == ([b"103"], b"ok")


async def test_a_cancelled_request_is_cancelled_at_the_host_at_once_and_alone(lab: Lab) -> None:
    client, number, host = await through(lab)
    other = await client.asks()
    await host.hears_request(2)
    client.engine.reset_stream(number, CANCEL)
    await client.flush()
    while not host.resets:
        await host.hears_more()
    assert host.resets == {1: CANCEL}
    await host.answers(3)
    assert (await client.hears(other)).body == b"ok"
    assert lab.plane.load().in_flight == 0


async def test_a_client_that_does_not_read_stops_its_own_stream_only(lab: Lab) -> None:
    client, number, host = await through(lab)
    client.gives_credit = False
    sent = 0
    host.engine.send_headers(1, ((b":status", b"200"),))
    while sent < 65535 + HOST_STREAM_WINDOW:
        room = min(host.engine.local_flow_control_window(1), 16384)
        if not room:
            break
        host.engine.send_data(1, bytes(room))
        sent += room
        await host.flush()
        if host.engine.local_flow_control_window(1) == 0 and sent < 65535 + HOST_STREAM_WINDOW // 2:
            await host.hears_more()
    while len(client.answers[number].body) < 65535:
        await client.hears_more()
    other = await connects_http2(lab)
    again = await other.asks()
    await host.hears_request(2)
    await host.answers(3)
    assert (await other.hears(again)).body == b"ok"
    client.gives_credit = True
    client.engine.acknowledge_received_data(65535, number)
    await client.flush()
    host.engine.end_stream(1)
    await host.flush()
    assert len((await client.hears(number)).body) == sent


async def test_a_host_that_gives_no_window_stops_the_client(lab: Lab) -> None:
    endpoint = await lab.endpoint(**H2C)
    await lab.serves(l7(endpoint))
    client = await connects_http2(lab)
    await client.hears_more()
    number = await client.asks(POST, ends=False)
    host = await accepts_http2(endpoint)
    host.gives_credit = False
    size = 65535 + 200_000
    sent = 0
    while sent < size:
        room = min(client.engine.local_flow_control_window(number), 16384, size - sent)
        if not room:
            break
        client.engine.send_data(number, bytes(room))
        await client.flush()
        sent += room
    while len(host.bodies.get(1, b"")) < 65535:
        await host.hears_more()
    host.gives_credit = True
    host.engine.acknowledge_received_data(65535, 1)
    await host.flush()
    client.engine.end_stream(number)
    await client.flush()
    await host.hears_request()
    assert len(host.bodies[1]) == sent
    await host.answers(1)
    assert (await client.hears(number)).body == b"ok"


async def test_a_response_ends_with_its_stream_where_its_length_is_known(lab: Lab) -> None:
    client, number, host = await through(lab)
    host.engine.send_headers(1, ((b":status", b"200"), (b"content-length", b"2")))
    host.engine.send_data(1, b"ok")
    await host.flush()
    while client.answers[number].body != b"ok":
        await client.hears_more()
    assert not client.answers[number].is_over
    host.engine.end_stream(1)
    await host.flush()
    assert (await client.hears(number)).ended
    other = await client.asks()
    await host.hears_request(2)
    await host.answers(3)
    await client.hears(other)
    assert host.resets == {}


async def test_an_answer_before_the_end_of_the_body_stops_the_upload(lab: Lab) -> None:
    client, number, host = await through(lab, POST, b"some", ends=False)
    await host.answers(1)
    assert (await client.hears(number)).body == b"ok"
    while not host.resets:
        await host.hears_more()
    assert host.resets == {1: 0}


@pytest.mark.parametrize("pieces", [[], [b"x"], [b"abc", b"\r\n0\r\n\r\n", bytes(5000)]])
@pytest.mark.parametrize("ends", [False, True])
def test_own_chunks_are_taken_apart(pieces: list[bytes], ends: bool) -> None:
    data = b"".join(encode_chunk(piece) for piece in pieces) + (last_chunk(((b"X-Sum", b"1"),)) if ends else b"")
    body, trailers, ended = unchunked(data)
    assert (body, ended) == (b"".join(pieces), ends)
    assert (b"x-sum" in trailers) is ends


@pytest.mark.parametrize(
    ("head", "length"),
    [
        (b"GET / HTTP/1.1\r\nHost: a", 0),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\nVia: x", 12),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7", 7),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nVia: x", -1),
    ],
)
def test_the_length_of_a_body_is_read_from_the_own_head(head: bytes, length: int) -> None:
    assert body_length_of(head) == length


async def test_an_answer_to_head_that_ends_later_puts_nothing_before_the_next_answer(lab: Lab) -> None:
    endpoint = await lab.endpoint(protocol=PoolProtocol.H2C)
    await lab.serves(l7(endpoint))
    client = await lab.connects()
    await client.says(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n")
    host = await accepts_http2(endpoint)
    await host.hears_request()
    host.engine.send_headers(1, [(b":status", b"200"), (b"x", b"y")])
    await host.flush()
    assert (await client.hears_head())["x"] == "y"
    host.engine.end_stream(1)
    await host.flush()
    await lab.until(lambda: lab.plane.load().in_flight == 0)
    await client.says(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
    number = await host.hears_request(2)
    await host.answers(number, b"ok")
    assert (await client.hears_message()).body == b"ok"
