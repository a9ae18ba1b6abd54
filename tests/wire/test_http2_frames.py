"""Frames as they are written, read by `hyperframe`."""

import pytest
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from tierlb.wire.http2_frames import (
    FRAME_BYTES,
    PREFACE,
    goaway_frame,
    headers_frames,
    is_http2,
    ping_ack,
    reset_frame,
    settings_frame,
    window_frame,
)


def frames_of(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        frame.parse_body(memoryview(data[9 : 9 + length]))
        found.append(frame)
        data = data[9 + length :]
    return found


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("size", [0, 10, FRAME_BYTES, FRAME_BYTES + 1, 3 * FRAME_BYTES, 3 * FRAME_BYTES + 5])
def test_a_header_block_of_any_size_is_one_sequence(size: int, ended: bool) -> None:
    block = bytes(n % 251 for n in range(size))
    first, *others = frames_of(headers_frames(7, block, ended=ended))
    assert isinstance(first, HeadersFrame)
    assert all(isinstance(each, ContinuationFrame) for each in others)
    assert ("END_STREAM" in first.flags) == ended
    assert b"".join(bytes(each.data) for each in (first, *others)) == block
    assert ["END_HEADERS" in each.flags for each in (first, *others)] == [False] * len(others) + [True]
    assert {each.stream_id for each in (first, *others)} == {7}


def test_small_frames_are_what_they_say() -> None:
    data = settings_frame(((3, 100), (4, 65536))) + ping_ack(b"12345678") + reset_frame(5, 8)
    settings, ping, reset, goaway, window = frames_of(data + goaway_frame(9, 11, "calm") + window_frame(1, 2**31 - 1))
    assert isinstance(settings, SettingsFrame)
    assert settings.settings == {3: 100, 4: 65536}
    assert isinstance(ping, PingFrame)
    assert (ping.opaque_data, "ACK" in ping.flags) == (b"12345678", True)
    assert isinstance(reset, RstStreamFrame)
    assert (reset.stream_id, reset.error_code) == (5, 8)
    assert isinstance(goaway, GoAwayFrame)
    assert (goaway.last_stream_id, goaway.error_code, goaway.additional_data) == (9, 11, b"calm")
    assert isinstance(window, WindowUpdateFrame)
    assert (window.stream_id, window.window_increment) == (1, 2**31 - 1)


@pytest.mark.parametrize(
    ("start", "said"), [(PREFACE, True), (PREFACE[:16], True), (PREFACE[:15], False), (b"", False)]
)
def test_a_connection_of_http_2_is_known_by_its_first_line(start: bytes, said: bool) -> None:
    assert is_http2(start) is said
