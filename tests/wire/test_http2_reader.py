"""Reading frames in any chunking, and what a frame by itself can break."""

from typing import Any

import pytest
from hyperframe.frame import DataFrame, GoAwayFrame, HeadersFrame, PriorityFrame, SettingsFrame
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    PADDED,
    PING,
    PRIORITY,
    PRIORITY_UPDATE,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS_TYPE,
    WINDOW_UPDATE,
    WITH_PRIORITY,
    BadConnection,
    BadStream,
    frame,
    settings_frame,
    window_frame,
)
from tierlb.wire.http2_reader import MOST_CONTINUATIONS, FrameReader, FrameTaker

LIMIT = 40_000


class Taker(FrameTaker):
    """Notes what it is handed."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []

    def on_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        self.events.append(("headers", stream_id, block, ended))

    def on_data(self, stream_id: int, piece: bytes, length: int, ended: bool) -> None:
        self.events.append(("data", stream_id, piece, length, ended))

    def on_reset(self, stream_id: int, code: int) -> None:
        self.events.append(("reset", stream_id, code))

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        self.events.append(("settings", settings))

    def on_settings_ack(self) -> None:
        self.events.append(("settings ack",))

    def on_ping(self, payload: bytes, is_ack: bool) -> None:
        self.events.append(("ping", payload, is_ack))

    def on_goaway(self, last_id: int, code: int, reason: bytes) -> None:
        self.events.append(("goaway", last_id, code, reason))

    def on_window(self, stream_id: int, increment: int) -> None:
        self.events.append(("window", stream_id, increment))

    def on_priority(self, stream_id: int, urgency: bytes) -> None:
        self.events.append(("priority", stream_id, urgency))

    def on_unknown(self) -> None:
        self.events.append(("unknown",))

    def on_bad_stream(self, error: BadStream) -> None:
        self.events.append(("bad", error.stream_id, error.code))


def read(*frames: bytes) -> list[tuple[Any, ...]]:
    taker = Taker()
    FrameReader(taker, LIMIT).feed(b"".join(frames), 10_000)
    return taker.events


CONVERSATION = [
    (settings_frame(((4, 100), (99, 1))), ("settings", [(4, 100), (99, 1)])),
    (SettingsFrame(0, flags=["ACK"]).serialize(), ("settings ack",)),
    (HeadersFrame(1, b"block", flags=["END_HEADERS"]).serialize(), ("headers", 1, b"block", False)),
    (
        HeadersFrame(3, b"block", pad_length=4, flags=["END_HEADERS", "END_STREAM", "PADDED"]).serialize(),
        ("headers", 3, b"block", True),
    ),
    (
        HeadersFrame(5, b"block", depends_on=3, flags=["END_HEADERS", "PRIORITY"]).serialize(),
        ("headers", 5, b"block", False),
    ),
    (
        frame(HEADERS, END_STREAM, 7, b"b") + frame(CONTINUATION, 0, 7, b"lo") + frame(CONTINUATION, 4, 7, b"ck"),
        ("headers", 7, b"block", True),
    ),
    (DataFrame(1, b"piece").serialize(), ("data", 1, b"piece", 5, False)),
    (DataFrame(1, b"piece", pad_length=3, flags=["PADDED", "END_STREAM"]).serialize(), ("data", 1, b"piece", 9, True)),
    (window_frame(0, 5), ("window", 0, 5)),
    (window_frame(1, 0), ("bad", 1, PROTOCOL_ERROR)),
    (frame(PING, 0, 0, b"12345678"), ("ping", b"12345678", False)),
    (frame(PING, ACK, 0, b"12345678"), ("ping", b"12345678", True)),
    (GoAwayFrame(0, last_stream_id=4, error_code=2, additional_data=b"x").serialize(), ("goaway", 4, 2, b"x")),
    (PriorityFrame(9, depends_on=1).serialize(), ("priority", 9, b"")),
    (frame(PRIORITY, 0, 9, b"1234"), ("bad", 9, FRAME_SIZE_ERROR)),
    (frame(PRIORITY, 0, 9, b"\0\0\0\x09\0"), ("bad", 9, PROTOCOL_ERROR)),
    (frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"), ("priority", 1, b"u=1")),
    (frame(RST_STREAM, 0, 1, b"\0\0\0\x08"), ("reset", 1, 8)),
]


@given(st.lists(st.integers(1, 30), min_size=1, max_size=20))
def test_frames_are_the_same_in_any_chunking(sizes: list[int]) -> None:
    data = b"".join(written for written, _ in CONVERSATION)
    taker = Taker()
    reader = FrameReader(taker, LIMIT)
    at = number = 0
    while at < len(data):
        size = sizes[number % len(sizes)]
        rest = reader.feed(data[at : at + size], 10_000)
        assert rest == b""
        at, number = at + size, number + 1
    assert taker.events == [event for _, event in CONVERSATION]
    assert reader.feed(window_frame(0, 7), 1) == b""
    assert taker.events[-1] == ("window", 0, 7)


def test_kinds_that_are_not_known_are_skipped() -> None:
    assert read(frame(0x77, 0xFF, 3, b"what"), window_frame(0, 1)) == [("unknown",), ("window", 0, 1)]


def test_header_blocks_count_by_their_bytes() -> None:
    reader = FrameReader(Taker(), LIMIT)
    data = b"".join(frame(HEADERS, 4, number, bytes(2000)) for number in (1, 3, 5))
    assert reader.feed(data, 20) == data[2 * len(data) // 3 :]


def test_after_so_many_frames_the_rest_waits_for_the_next_call() -> None:
    taker = Taker()
    reader = FrameReader(taker, LIMIT)
    data = b"".join(window_frame(0, n) for n in range(1, 6))
    rest = reader.feed(data + b"\0\0", 3)
    assert rest == window_frame(0, 4) + window_frame(0, 5) + b"\0\0"
    assert reader.feed(rest, 3) == b""
    assert [increment for _, _, increment in taker.events] == [1, 2, 3, 4, 5]
    assert reader.feed(window_frame(0, 6)[2:], 1) == b""
    assert taker.events[-1] == ("window", 0, 6)


BROKEN = {
    "too large": (b"\0\x40\x01\0\0\0\0\0\x01", FRAME_SIZE_ERROR),
    "DATA without a stream": (frame(DATA, 0, 0, b"x"), PROTOCOL_ERROR),
    "more padding than DATA": (frame(DATA, PADDED, 1, b"\x05abc"), PROTOCOL_ERROR),
    "padding that is missing": (frame(DATA, PADDED, 1, b""), PROTOCOL_ERROR),
    "HEADERS without a stream": (frame(HEADERS, END_HEADERS, 0, b"x"), PROTOCOL_ERROR),
    "HEADERS without its priority": (frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, b"abcd"), FRAME_SIZE_ERROR),
    "a stream that depends on itself": (frame(HEADERS, 0x24, 1, b"\0\0\0\x01\0x"), PROTOCOL_ERROR),
    "CONTINUATION of nothing": (frame(CONTINUATION, END_HEADERS, 1, b"x"), PROTOCOL_ERROR),
    "another stream's CONTINUATION": (frame(HEADERS, 0, 1) + frame(CONTINUATION, 4, 3), PROTOCOL_ERROR),
    "a frame in a block": (frame(HEADERS, 0, 1) + frame(PING, 0, 0, b"12345678"), PROTOCOL_ERROR),
    "an unknown frame in a block": (frame(HEADERS, 0, 1) + frame(0x77, 0, 0), PROTOCOL_ERROR),
    "PRIORITY without a stream": (frame(PRIORITY, 0, 0, b"12345"), PROTOCOL_ERROR),
    "RST_STREAM without a stream": (frame(RST_STREAM, 0, 0, b"1234"), PROTOCOL_ERROR),
    "RST_STREAM of another size": (frame(RST_STREAM, 0, 1, b"123"), FRAME_SIZE_ERROR),
    "SETTINGS with a stream": (frame(SETTINGS_TYPE, 0, 1), PROTOCOL_ERROR),
    "SETTINGS of another size": (frame(SETTINGS_TYPE, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "an acknowledgement that says more": (frame(SETTINGS_TYPE, ACK, 0, b"123456"), FRAME_SIZE_ERROR),
    "PUSH_PROMISE": (frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02x"), PROTOCOL_ERROR),
    "PING with a stream": (frame(PING, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "PING of another size": (frame(PING, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "GOAWAY with a stream": (frame(GOAWAY, 0, 1, b"12345678"), PROTOCOL_ERROR),
    "GOAWAY of another size": (frame(GOAWAY, 0, 0, b"1234567"), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE of another size": (frame(WINDOW_UPDATE, 0, 0, b"12345"), FRAME_SIZE_ERROR),
    "WINDOW_UPDATE by nothing": (window_frame(0, 0), PROTOCOL_ERROR),
    "PRIORITY_UPDATE of another size": (frame(PRIORITY_UPDATE, 0, 0, b"123"), FRAME_SIZE_ERROR),
    "a block that is too large": (
        frame(HEADERS, 0, 1, bytes(FRAME_BYTES)) + 2 * frame(CONTINUATION, 0, 1, bytes(FRAME_BYTES)),
        ENHANCE_YOUR_CALM,
    ),
    "a block of nothing": (frame(HEADERS, 0, 1) + (MOST_CONTINUATIONS + 1) * frame(CONTINUATION, 0, 1), 0xB),
}


@pytest.mark.parametrize("name", BROKEN)
def test_frames_that_break_a_rule_end_the_connection(name: str) -> None:
    data, code = BROKEN[name]
    with pytest.raises(BadConnection) as caught:
        read(data)
    assert caught.value.code == code


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_any_bytes_are_read_or_refused(pieces: list[bytes]) -> None:
    reader = FrameReader(Taker(), LIMIT)
    try:
        for piece in pieces:
            reader.feed(piece, 10)
    except BadConnection:
        pass
