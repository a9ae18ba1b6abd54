"""Reading frames of HTTP/2 out of any chunks of bytes (RFC 9113 §4 and §6). Pure.

Checked here is what a frame by itself can break: its size, its flags, the kind of its stream, and that the frames of a
header block follow each other. A `FrameTaker` gets what is left, with padding and priorities taken off, and checks what
depends on the state of the stream. Bytes that are kept: one unfinished frame, and one unfinished header block, both
bounded.
"""

from typing import Final

from mypy_extensions import mypyc_attr

from tierlb.wire.http2_frames import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    FRAME_BYTES,
    FRAME_HEAD_BYTES,
    FRAME_SIZE_ERROR,
    GOAWAY,
    HEADERS,
    LAST_ID,
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
)

BLOCK_KINDS: Final = frozenset({HEADERS, CONTINUATION})
BLOCK_BYTES_A_FRAME: Final = 128
"""A header block counts as a further frame of a turn for so much of it. Each byte may be a field."""
MOST_CONTINUATIONS: Final = 64
"""In one header block. Each is 16 KiB where a peer has much to say, so that the limit of bytes comes first."""


@mypyc_attr(allow_interpreted_subclasses=True)
class FrameTaker:
    """What a reader hands frames to. Each method may raise BadConnection, and BadStream if it is about a
    stream."""

    __slots__ = ()

    def on_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        """A whole block of header fields. `ended`: the frame had END_STREAM."""
        raise NotImplementedError

    def on_data(self, stream_id: int, piece: bytes, length: int, ended: bool) -> None:
        """`length` is what counts for flow control: the piece and its padding."""
        raise NotImplementedError

    def on_reset(self, stream_id: int, code: int) -> None:
        raise NotImplementedError

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        raise NotImplementedError

    def on_settings_ack(self) -> None:
        raise NotImplementedError

    def on_ping(self, payload: bytes, is_ack: bool) -> None:
        raise NotImplementedError

    def on_goaway(self, last_id: int, code: int, reason: bytes) -> None:
        raise NotImplementedError

    def on_window(self, stream_id: int, increment: int) -> None:
        """`stream_id` is 0 for the window of the connection."""
        raise NotImplementedError

    def on_priority(self, stream_id: int, urgency: bytes) -> None:
        """`urgency`: the value of a PRIORITY_UPDATE; empty for the deprecated PRIORITY."""
        raise NotImplementedError

    def on_unknown(self) -> None:
        """A frame of a kind that is not known, which is to be ignored (RFC 9113 §5.5)."""
        raise NotImplementedError

    def on_bad_stream(self, error: BadStream) -> None:
        """A frame broke a rule of its stream only."""
        raise NotImplementedError


class FrameReader:
    """`in_block`: the stream of which a header block is not complete, 0 for none. `frames` counts those that were
    read."""

    __slots__ = ("_block", "_continuations", "_ended", "_kept", "_most_block_bytes", "_taker", "frames", "in_block")

    def __init__(self, taker: FrameTaker, most_block_bytes: int) -> None:
        self._taker = taker
        self._most_block_bytes = most_block_bytes
        self._kept = b""
        self._block = b""
        self._ended = False
        self._continuations = 0
        self.in_block = 0
        self.frames = 0

    @property
    def kept_bytes(self) -> int:
        """Of an unfinished frame and an unfinished header block."""
        return len(self._kept) + len(self._block)

    def forget(self) -> None:
        """No more is to be read: keep nothing, as the objects of a connection that is over may stay for a while."""
        self._kept = self._block = b""

    def feed(self, data: bytes, most_frames: int) -> bytes:
        """Hand on the frames in these bytes, about so many at most; returns the bytes behind them, which come first in
        the next call. Raises BadConnection."""
        if self._kept:
            data, self._kept = self._kept + data, b""
        at, end, count = 0, len(data), 0
        while end - at >= FRAME_HEAD_BYTES:
            if count >= most_frames:
                return data[at:]
            length = data[at] << 16 | data[at + 1] << 8 | data[at + 2]
            if length > FRAME_BYTES:
                raise BadConnection(FRAME_SIZE_ERROR, f"a frame of {length} bytes")
            start = at + FRAME_HEAD_BYTES
            if end - start < length:
                break
            at = start + length
            count += 1
            self.frames += 1
            stream_id = int.from_bytes(data[start - 4 : start], "big") & LAST_ID
            kind = data[start - 6]
            if kind in BLOCK_KINDS:
                count += length // BLOCK_BYTES_A_FRAME
            try:
                self._take(kind, data[start - 5], stream_id, data[start:at])
            except BadStream as error:
                self._taker.on_bad_stream(error)
        self._kept = data[at:]
        return b""

    def _take(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        taker = self._taker
        if self.in_block or kind == CONTINUATION:
            self._continue(kind, flags, stream_id, payload)
        elif kind == DATA:
            length = len(payload)
            if not stream_id:
                raise BadConnection(PROTOCOL_ERROR, "DATA without a stream")
            if flags & PADDED:
                payload = _unpadded(payload)
            taker.on_data(stream_id, payload, length, flags & END_STREAM != 0)
        elif kind == HEADERS:
            self._begin(flags, stream_id, payload)
        elif kind == WINDOW_UPDATE:
            self._take_window(stream_id, payload)
        elif kind == RST_STREAM:
            if not stream_id:
                raise BadConnection(PROTOCOL_ERROR, "RST_STREAM without a stream")
            taker.on_reset(stream_id, _number(payload, "RST_STREAM"))
        elif kind == PRIORITY:
            self._take_priority(stream_id, payload)
        elif kind <= GOAWAY or kind == PRIORITY_UPDATE:
            self._take_of_connection(kind, flags, stream_id, payload)
        else:
            taker.on_unknown()

    def _begin(self, flags: int, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise BadConnection(PROTOCOL_ERROR, "HEADERS without a stream")
        if flags & PADDED:
            payload = _unpadded(payload)
        if flags & WITH_PRIORITY:
            if len(payload) < 5:
                raise BadConnection(FRAME_SIZE_ERROR, "HEADERS is too short for its priority")
            if int.from_bytes(payload[:4], "big") & LAST_ID == stream_id:
                raise BadConnection(PROTOCOL_ERROR, "a stream that depends on itself")
            payload = payload[5:]
        if len(payload) > self._most_block_bytes:
            raise BadConnection(ENHANCE_YOUR_CALM, "a header block is too large")
        if flags & END_HEADERS:
            self._taker.on_headers(stream_id, payload, flags & END_STREAM != 0)
        else:
            self.in_block = stream_id
            self._block = payload
            self._ended = flags & END_STREAM != 0
            self._continuations = 0

    def _continue(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        if kind != CONTINUATION or not self.in_block or stream_id != self.in_block:
            raise BadConnection(PROTOCOL_ERROR, "a header block is interrupted, or continued where there is none")
        self._block += payload
        self._continuations += 1
        if len(self._block) > self._most_block_bytes or self._continuations > MOST_CONTINUATIONS:
            raise BadConnection(ENHANCE_YOUR_CALM, "a header block is too large, or in too many pieces")
        if flags & END_HEADERS:
            block, self._block = self._block, b""
            self.in_block = 0
            self._taker.on_headers(stream_id, block, self._ended)

    def _take_window(self, stream_id: int, payload: bytes) -> None:
        increment = _number(payload, "WINDOW_UPDATE") & LAST_ID
        if not increment and stream_id:
            raise BadStream(stream_id, PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        if not increment:
            raise BadConnection(PROTOCOL_ERROR, "WINDOW_UPDATE by 0")
        self._taker.on_window(stream_id, increment)

    def _take_priority(self, stream_id: int, payload: bytes) -> None:
        if not stream_id:
            raise BadConnection(PROTOCOL_ERROR, "PRIORITY without a stream")
        if len(payload) != 5:
            raise BadStream(stream_id, FRAME_SIZE_ERROR, "PRIORITY of another size than 5")
        if int.from_bytes(payload[:4], "big") & LAST_ID == stream_id:
            raise BadStream(stream_id, PROTOCOL_ERROR, "a stream that depends on itself")
        self._taker.on_priority(stream_id, b"")

    def _take_of_connection(self, kind: int, flags: int, stream_id: int, payload: bytes) -> None:
        taker = self._taker
        if stream_id or kind == PUSH_PROMISE:
            raise BadConnection(PROTOCOL_ERROR, "a frame of the connection with a stream, or PUSH_PROMISE")
        if kind == SETTINGS_TYPE:
            self._take_settings(flags, payload)
        elif kind == PING:
            if len(payload) != 8:
                raise BadConnection(FRAME_SIZE_ERROR, "PING of another size than 8")
            taker.on_ping(payload, flags & ACK != 0)
        elif kind == GOAWAY:
            if len(payload) < 8:
                raise BadConnection(FRAME_SIZE_ERROR, "GOAWAY is too short")
            last_id = int.from_bytes(payload[:4], "big") & LAST_ID
            taker.on_goaway(last_id, int.from_bytes(payload[4:8], "big"), payload[8:])
        else:
            if len(payload) < 4:
                raise BadConnection(FRAME_SIZE_ERROR, "PRIORITY_UPDATE is too short")
            taker.on_priority(int.from_bytes(payload[:4], "big") & LAST_ID, payload[4:])

    def _take_settings(self, flags: int, payload: bytes) -> None:
        if flags & ACK:
            if payload:
                raise BadConnection(FRAME_SIZE_ERROR, "an acknowledgement with settings")
            self._taker.on_settings_ack()
            return
        if len(payload) % 6:
            raise BadConnection(FRAME_SIZE_ERROR, "SETTINGS of a size that is no multiple of 6")
        self._taker.on_settings(
            [
                (int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
                for at in range(0, len(payload), 6)
            ]
        )


def _unpadded(payload: bytes) -> bytes:
    if not payload or payload[0] >= len(payload):
        raise BadConnection(PROTOCOL_ERROR, "more padding than frame")
    return payload[1 : len(payload) - payload[0]]


def _number(payload: bytes, what: str) -> int:
    if len(payload) != 4:
        raise BadConnection(FRAME_SIZE_ERROR, f"{what} of another size than 4")
    return int.from_bytes(payload, "big")
