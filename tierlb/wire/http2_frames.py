"""Frames of HTTP/2 (RFC 9113 §4 to §7): their numbers, and how they are written. Pure.

Left out: reading (`http2_reader`), and what the header blocks in frames mean (`hpack`, `http2_head`).
"""

from collections.abc import Iterable
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
PREFACE_LINE: Final = b"PRI * HTTP/2.0\r\n"
FRAME_HEAD_BYTES: Final = 9
FRAME_BYTES: Final = 16384
"""SETTINGS_MAX_FRAME_SIZE unless a setting changes it, and the least that it may be: nothing larger is sent."""
LARGEST_FRAME: Final = 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1
FIRST_WINDOW: Final = 65535
"""Of a connection, and of its streams unless a setting changes it."""
LAST_ID: Final = 2**31 - 1

DATA: Final = 0x0
HEADERS: Final = 0x1
PRIORITY: Final = 0x2
RST_STREAM: Final = 0x3
SETTINGS_TYPE: Final = 0x4
PUSH_PROMISE: Final = 0x5
PING: Final = 0x6
GOAWAY: Final = 0x7
WINDOW_UPDATE: Final = 0x8
CONTINUATION: Final = 0x9
PRIORITY_UPDATE: Final = 0x10  # RFC 9218 §7.1

END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 0x1
ENABLE_PUSH: Final = 0x2
MAX_CONCURRENT_STREAMS: Final = 0x3
INITIAL_WINDOW_SIZE: Final = 0x4
MAX_FRAME_SIZE: Final = 0x5
MAX_HEADER_LIST_SIZE: Final = 0x6
ENABLE_CONNECT_PROTOCOL: Final = 0x8  # RFC 8441 §3
NO_RFC7540_PRIORITIES: Final = 0x9  # RFC 9218 §2.1

NO_ERROR: Final = 0x0
PROTOCOL_ERROR: Final = 0x1
INTERNAL_FAILURE: Final = 0x2
FLOW_CONTROL_ERROR: Final = 0x3
STREAM_CLOSED: Final = 0x5
FRAME_SIZE_ERROR: Final = 0x6
REFUSED_STREAM: Final = 0x7
CANCEL: Final = 0x8
COMPRESSION_ERROR: Final = 0x9
ENHANCE_YOUR_CALM: Final = 0xB


class BadConnection(Exception):  # noqa: N818 (a verdict on the peer, as BadHead)
    """The peer broke the protocol in a way that ends the connection, with this code in GOAWAY."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class BadStream(Exception):  # noqa: N818 (a verdict on the peer, as BadHead)
    """The peer broke the protocol in a way that ends one stream, with this code in RST_STREAM."""

    def __init__(self, stream_id: int, code: int, reason: str) -> None:
        super().__init__(reason)
        self.stream_id = stream_id
        self.code = code
        self.reason = reason


def is_http2(start: bytes) -> bool:
    """Whether a connection that begins with these bytes may be one of HTTP/2, as far as HTTP/1 has no such method."""
    return start.startswith(PREFACE_LINE)


def frame_head(length: int, kind: int, flags: int, stream_id: int) -> bytes:
    """The nine bytes before a payload of this length."""
    return (length << 48 | kind << 40 | flags << 32 | stream_id).to_bytes(9, "big")


def frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    return frame_head(len(payload), kind, flags, stream_id) + payload


def headers_frames(stream_id: int, block: bytes, *, ended: bool) -> bytes:
    """A whole block of header fields, in CONTINUATION frames as well where it is long."""
    flags = END_STREAM if ended else 0
    if len(block) <= FRAME_BYTES:
        return frame_head(len(block), HEADERS, flags | END_HEADERS, stream_id) + block
    last = (len(block) - 1) // FRAME_BYTES * FRAME_BYTES
    further = [
        frame(CONTINUATION, END_HEADERS if at == last else 0, stream_id, block[at : at + FRAME_BYTES])
        for at in range(FRAME_BYTES, len(block), FRAME_BYTES)
    ]
    return frame(HEADERS, flags, stream_id, block[:FRAME_BYTES]) + b"".join(further)


def settings_frame(settings: Iterable[tuple[int, int]]) -> bytes:
    payload = b"".join([name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in settings])
    return frame(SETTINGS_TYPE, 0, 0, payload)


SETTINGS_ACK: Final = frame(SETTINGS_TYPE, ACK, 0)


def ping_ack(payload: bytes) -> bytes:
    return frame(PING, ACK, 0, payload)


def reset_frame(stream_id: int, code: int) -> bytes:
    return frame(RST_STREAM, 0, stream_id, code.to_bytes(4, "big"))


def goaway_frame(last_id: int, code: int, reason: str = "") -> bytes:
    """`reason` helps to debug the peer."""
    return frame(GOAWAY, 0, 0, last_id.to_bytes(4, "big") + code.to_bytes(4, "big") + reason.encode())


def window_frame(stream_id: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream_id, increment.to_bytes(4, "big"))
