"""A connection of HTTP/2: requests at once, the rules of the protocol, and floods."""

import contextlib

import pytest
import trio

from tests.dataplane.conftest import Lab, l7, send
from tests.dataplane.l7.http2 import (
    GET,
    OK,
    POST,
    Answer,
    connects_http2,
    connects_raw,
    converses_http2,
)
from tierlb.dataplane.l7.http2_session import MOST_STREAMS
from tierlb.model.snapshot import Rule
from tierlb.model.topology import Limits, Match, Respond
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import (
    COMPRESSION_ERROR,
    CONTINUATION,
    DATA,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    PRIORITY,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    RST_STREAM,
    SETTINGS_ACK,
    SETTINGS_TYPE,
    STREAM_CLOSED,
    frame,
    reset_frame,
    settings_frame,
    window_frame,
)

HELLO = (Rule(Match(), Respond(200, "hello\n")),)
BLOCK = b"".join(encode_field(*field) for field in GET)
POST_BLOCK = b"".join(encode_field(*field) for field in POST)


def get(stream_id: int) -> bytes:
    return frame(HEADERS, 5, stream_id, BLOCK)


def post(stream_id: int) -> bytes:
    return frame(HEADERS, 4, stream_id, POST_BLOCK)


def malformed(stream_id: int) -> bytes:
    return frame(HEADERS, 4, stream_id, POST_BLOCK + encode_field(b"te", b"x"))


async def test_a_request_says_which_version_it_came_by_also_where_one_of_http1_has_the_same_head(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    await client.asks()
    voice = await endpoint.accepts()
    assert (await voice.hears_head())["via"] == "2 tierlb"
    await voice.says(OK)
    other = await lab.connects()
    await other.says(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
    assert (await voice.hears_head())["via"] == "1.1 tierlb"


async def still_answers(lab: Lab) -> None:
    """Others are unharmed, and nothing counts on."""
    client = await connects_http2(lab)
    assert (await client.hears(await client.asks((*GET[:3], (b":path", b"/here"))))).body == b"here"
    await client.voice.leaves()
    await lab.until(lambda: not lab.front.clients)
    load = lab.plane.load()
    assert (load.connections, load.in_flight) == (0, 0)
    assert all(host.in_flight == 0 for host in load.hosts)


HERE = Rule(Match(path="/here"), Respond(200, "here"))


async def test_requests_come_and_answers_go_in_any_order(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    first = await client.asks((*GET[:3], (b":path", b"/first")))
    voice = await endpoint.accepts()
    head = await voice.hears_head()
    assert head.first == "GET /first HTTP/1.1"
    assert (head["host"], head["x-forwarded-for"]) == ("a", "127.0.0.1")
    second = await client.asks((*GET[:3], (b":path", b"/second")))
    other = await endpoint.accepts()
    assert (await other.hears_head()).first == "GET /second HTTP/1.1"
    await other.says(OK)
    assert (await client.hears(second)).body == b"ok"
    await voice.says(OK)
    answer = await client.hears(first)
    assert (answer.status, answer["content-length"], answer.body) == (200, b"2", b"ok")
    assert lab.plane.load().in_flight == 0


async def test_bytes_one_by_one_are_the_same_requests(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await lab.connects()
    for byte in PREFACE + settings_frame(()) + get(1):
        client.says_now(bytes((byte,)))
        await trio.lowlevel.checkpoint()
    await client.hears_up_to(b"hello\n")


async def test_more_streams_than_are_allowed_are_refused(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    lab.background.start_soon(endpoint.answers_all, b"")
    await client.hears_more()
    raw = b"".join(get(2 * n + 1) for n in range(MOST_STREAMS + 1))
    client.answers = {2 * n + 1: Answer() for n in range(MOST_STREAMS + 1)}
    await client.says_raw(raw)
    heard = await client.voice.hears_up_to(REFUSED_STREAM.to_bytes(4, "big"))
    assert heard[-13:] == reset_frame(2 * MOST_STREAMS + 1, REFUSED_STREAM)
    assert lab.plane.load().in_flight == MOST_STREAMS


async def test_what_is_malformed_ends_its_stream_only(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await connects_http2(lab)
    bad = await client.asks((*GET, (b"connection", b"close")))
    good = await client.asks()
    assert (await client.hears(bad)).reset == PROTOCOL_ERROR
    assert (await client.hears(good)).body == b"hello\n"
    assert lab.front.counters.rejected == 1


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ((*GET, *((b"x-%d" % n, b"1") for n in range(101))), 431),
        ((*GET, (b"x", b"1" * 9000), (b"y", b"1" * 9000)), 431),
        ((GET[0], GET[1], (b":authority", b"a b"), GET[3]), 400),
        ((GET[0], GET[1], GET[3]), 400),
        (((b":method", b"CONNECT"), (b":authority", b"a:1")), 501),
        ((*POST, (b"content-length", b"1000000")), 413),
    ],
)
async def test_requests_that_are_not_allowed_are_answered_as_over_http_1(
    lab: Lab, fields: tuple[tuple[bytes, bytes], ...], status: int
) -> None:
    await lab.serves(l7(rules=HELLO, limits=Limits(body=1000, head=16_000)))
    client = await connects_http2(lab)
    answer = await client.hears(await client.asks(fields, ends=status != 413))
    assert answer.status == status
    assert (await client.hears(await client.asks())).status == 200, "the connection goes on"


BROKEN = {
    "another preface": (b"PRI * HTTP/2.0\r\n\r\nSX\r\n\r\n", PROTOCOL_ERROR),
    "no settings first": (PREFACE + get(1), PROTOCOL_ERROR),
    "a ping first": (PREFACE + frame(PING, 0, 0, bytes(8)), PROTOCOL_ERROR),
    "an even stream": (PREFACE + settings_frame(()) + get(2), PROTOCOL_ERROR),
    "a stream that is over": (PREFACE + settings_frame(()) + get(3) + get(1), STREAM_CLOSED),
    "DATA before HEADERS": (PREFACE + settings_frame(()) + frame(DATA, 0, 1, b"x"), PROTOCOL_ERROR),
    "RST_STREAM before HEADERS": (PREFACE + settings_frame(()) + reset_frame(1, 8), PROTOCOL_ERROR),
    "a window before HEADERS": (PREFACE + settings_frame(()) + window_frame(1, 1), PROTOCOL_ERROR),
    "a broken block": (PREFACE + settings_frame(()) + frame(HEADERS, 5, 1, b"\x80"), COMPRESSION_ERROR),
    "push that is neither": (PREFACE + settings_frame(((2, 2),)), PROTOCOL_ERROR),
    "frames that are too small": (PREFACE + settings_frame(((5, 100),)), PROTOCOL_ERROR),
    "a window of settings": (PREFACE + settings_frame(((4, 2**31),)), FLOW_CONTROL_ERROR),
    "a window of the connection": (PREFACE + settings_frame(()) + window_frame(0, 2**31 - 1), FLOW_CONTROL_ERROR),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_breaks_the_protocol_ends_the_connection_with_the_reason(lab: Lab, name: str) -> None:
    said, code = BROKEN[name]
    await lab.serves(l7(rules=(HERE, *HELLO)))
    raw = await connects_raw(lab)
    raw.voice = await lab.connects()
    await raw.voice.says(said)
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == code
    assert payload[8:]
    await raw.voice.hears_rest()
    assert lab.front.counters.rejected >= 1


FLOODS = {
    "resets": lambda n: get(2 * n + 1) + reset_frame(2 * n + 1, 8),
    "resets by this end": lambda n: get(2 * n + 1) + window_frame(2 * n + 1, 0),
    "malformed requests": lambda n: malformed(2 * n + 1),
    "pings": lambda _: frame(PING, 0, 0, bytes(8)),
    "settings": lambda _: settings_frame(()),
    "priorities": lambda n: frame(PRIORITY, 0, 1, b"\0\0\0\0\0"),
    "priority updates": lambda n: frame(0x10, 0, 0, b"\0\0\0\x01u=1"),
    "windows": lambda _: window_frame(0, 1),
    "malformed requests, and DATA on a stream that was reset": lambda n: (
        malformed(2 * n + 1) + frame(DATA, 0, 1, b"x") * 6
    ),
    "DATA on a stream that was reset": lambda n: malformed(1) if n == 0 else frame(DATA, 0, 1, b"x"),
    "HEADERS on a stream that was reset": lambda _: malformed(1),
    "acknowledgements of settings": lambda _: SETTINGS_ACK,
    "acknowledgements of pings": lambda _: frame(PING, 1, 0, bytes(8)),
    "unknown frames": lambda _: frame(0x77, 0, 0),
    "heads that are too large": lambda n: frame(HEADERS, 5, 2 * n + 1, BLOCK + b"\x82" * 1000 + b"%c" % (0x82 + n % 6)),
    "empty DATA": lambda n: (post(1) if n == 0 else b"") + frame(DATA, 0, 1),
    "padding": lambda n: (post(1) if n == 0 else b"") + frame(DATA, 8, 1, b"\x05" + bytes(5)),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_floods_end_with_enhance_your_calm_and_harm_nobody(lab: Lab, name: str) -> None:
    endpoint = await lab.endpoint()
    lab.background.start_soon(endpoint.answers_all, OK)
    await lab.serves(l7(rules=(HERE, Rule(Match(), send(endpoint)))))
    raw = await connects_raw(lab)
    flood = FLOODS[name]
    data = b"".join(flood(n) for n in range(4000))

    async def says() -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await raw.voice.stream.send_all(data)

    lab.background.start_soon(says)
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM
    await raw.voice.leaves()
    await still_answers(lab)


async def test_a_body_byte_by_byte_pays_for_no_resets(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    raw = await connects_raw(lab, post(1))
    await (await endpoint.accepts()).hears_head()
    for number in range(3, 1003, 2):
        with contextlib.suppress(trio.BrokenResourceError):
            await raw.voice.says(frame(DATA, 0, 1, b"x") * 6, malformed(number))
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM


async def test_windows_that_are_opened_byte_by_byte_are_a_flood(lab: Lab) -> None:
    await lab.serves(l7(rules=(Rule(Match(), Respond(200, "x" * 10_000)), *HELLO)))
    raw = await connects_raw(lab, settings_frame(((4, 0),)), get(1))
    with contextlib.suppress(trio.BrokenResourceError):
        await raw.voice.says(window_frame(1, 1) * 4000)
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM


async def test_a_flood_of_continuations_ends_before_it_takes_memory(lab: Lab) -> None:
    await lab.serves(l7(rules=(HERE, *HELLO)))
    raw = await connects_raw(lab, frame(HEADERS, 1, 1, BLOCK))
    for _ in range(70):
        await raw.voice.says(frame(CONTINUATION, 0, 1, b""))
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM
    await still_answers(lab)


async def test_a_bomb_of_references_is_answered_with_431(lab: Lab) -> None:
    await lab.serves(l7(rules=(HERE, *HELLO)))
    client = await connects_http2(lab)
    assert (await client.hears(await client.asks((*GET, (b"x", b"1" * 3900))))).status == 200
    number = await client.asks((*GET, *((b"x", b"1" * 3900) for _ in range(30))))
    assert (await client.hears(number)).status == 431
    assert (await client.hears(await client.asks())).status == 200, "the tables of both ends are the same"


async def test_a_bomb_of_indices_ends_the_connection(lab: Lab) -> None:
    await lab.serves(l7(rules=(HERE, *HELLO)))
    raw = await connects_raw(lab, frame(HEADERS, 5, 1, b"\x82" * FRAME_BYTES))
    _, _, payload = await raw.hears_kind(GOAWAY)
    assert int.from_bytes(payload[4:8]) == ENHANCE_YOUR_CALM
    await still_answers(lab)


async def test_more_data_than_the_window_ends_the_connection(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(rules=(HERE, Rule(Match(), send(endpoint)))))
    lab.front.registry.context.dial = lambda *to, **how: (-1, 111)
    raw = await connects_raw(lab, *(post(2 * n + 1) for n in range(5)))
    lab.front.config.books[0]
    for number in range(1, 11, 2):
        for _ in range(14):
            await raw.voice.says(frame(DATA, 0, number, bytes(16384)))
    await lab.until(lambda: True)
    await raw.voice.leaves()
    await still_answers(lab)


async def test_settings_are_acknowledged_and_smaller_tables_confirmed(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await connects_http2(lab, HEADER_TABLE_SIZE=0)
    answer = await client.hears(await client.asks())
    assert answer.body == b"hello\n"
    raw = await connects_raw(lab)
    await raw.hears_kind(SETTINGS_TYPE)
    assert (await raw.hears_kind(SETTINGS_TYPE))[0] == 1
    await raw.voice.says(SETTINGS_ACK)


async def test_pings_come_back(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    client = await connects_http2(lab)
    client.engine.ping(b"12345678")
    await client.flush()
    while not client.pongs:
        await client.hears_more()
    assert client.pongs == [b"12345678"]


async def test_data_behind_the_end_of_a_stream_is_an_error_of_it(lab: Lab) -> None:
    client, endpoint = await converses_http2(lab)
    await client.asks()
    await endpoint.accepts()
    await client.says_raw(frame(DATA, 0, 1, b"x"))
    assert (await client.hears(1)).reset == STREAM_CLOSED


async def test_frames_that_cross_a_reset_are_no_error(lab: Lab) -> None:
    await lab.serves(l7(rules=HELLO))
    raw = await connects_raw(lab, frame(HEADERS, 4, 1, BLOCK + encode_field(b"te", b"x")))
    _, stream_id, payload = await raw.hears_kind(RST_STREAM)
    assert (stream_id, int.from_bytes(payload)) == (1, PROTOCOL_ERROR)
    await raw.voice.says(frame(DATA, 1, 1, b"x"), reset_frame(1, 8), window_frame(1, 1), get(3))
    _, stream_id, _ = await raw.hears_kind(HEADERS)
    assert stream_id == 3


@pytest.mark.parametrize("read_bytes", [FRAME_BYTES, 4096], ids=["each frame", "each read of 4 KiB"])
async def test_a_client_may_update_both_windows_for_all_that_it_reads(lab: Lab, read_bytes: int) -> None:
    size = 24_000_000
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    raw = await connects_raw(lab, window_frame(0, 4_000_000), settings_frame(((4, 4_000_000),)), get(1))
    voice = await endpoint.accepts()
    await voice.hears_head()
    lab.background.start_soon(voice.says, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
    got = 0
    while got < size:
        kind, _, _, payload = await raw.hears_frame()
        assert kind != GOAWAY, (got, payload)
        if kind == DATA:
            got += len(payload)
            parts = [min(read_bytes, len(payload) - at) for at in range(0, len(payload), read_bytes)]
            await raw.voice.says(*(window_frame(0, part) + window_frame(1, part) for part in parts))


async def test_a_client_may_answer_each_of_many_small_pieces(lab: Lab) -> None:
    endpoint = await lab.endpoint()
    await lab.serves(l7(endpoint))
    raw = await connects_raw(lab, get(1))
    voice = await endpoint.accepts()
    await voice.hears_head()
    await voice.says(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await raw.hears_kind(HEADERS)
    for _ in range(3000):
        await voice.says(b"1\r\nx\r\n")
        kind, _, _, payload = await raw.hears_frame()
        while kind != DATA:
            assert kind != GOAWAY, payload
            kind, _, _, payload = await raw.hears_frame()
        await raw.voice.says(window_frame(0, 1), window_frame(1, 1), frame(PING, 0, 0, bytes(8)))
