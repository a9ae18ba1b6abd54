"""HTTP/2 as a client, for health checks: one request on a trio stream of its own (RFC 9113).

The stream is the caller's, with its deadlines and its end. What the other end sends is bounded: header blocks here, the
body by the caller. Left out: further requests, requests larger than the first window, priorities, server push. The data
path has a client of its own (dataplane/l7/shared_session.py).
"""

from collections.abc import Iterable
from typing import Final

import attrs
import trio

from tierlb.net.http_client import CLIENT_READ_BYTES, MAX_ANSWER_HEAD_BYTES, BadAnswer, CutAnswer
from tierlb.wire.hpack import EMPTY_TABLE, HpackError, decode_block, encode_field
from tierlb.wire.http2_frames import (
    DATA,
    ENABLE_PUSH,
    END_STREAM,
    FIRST_WINDOW,
    INITIAL_WINDOW_SIZE,
    PREFACE,
    SETTINGS_ACK,
    BadConnection,
    BadStream,
    frame,
    headers_frames,
    ping_ack,
    settings_frame,
    window_frame,
)
from tierlb.wire.http2_reader import FrameReader, FrameTaker
from tierlb.wire.http_fields import Header

STREAM: Final = 1
MOST_FRAMES: Final = 1000
"""Until the end of the answer. A server sends some ten, and one for each 16 KiB of body."""
INTERIM: Final = b"1"
HTTP_1: Final = b"HTTP/1"
"""So an answer of HTTP/1.1 begins."""


@attrs.frozen
class Http2Answer:
    """The final answer. `trailers`: those that came behind its body; `fields` are all there is where the head is the
    end as well."""

    status: int
    fields: tuple[Header, ...]
    body: bytes
    trailers: tuple[Header, ...]


async def ask_http2(
    stream: trio.abc.Stream, fields: Iterable[Header], body: bytes = b"", *, max_bytes: int
) -> Http2Answer:
    """Send a request, pseudo-fields first, and wait for its answer, of whose body `max_bytes` are read at least. Raises
    BadAnswer and what the stream raises."""
    asked = _Asked(max_bytes)
    block = b"".join([encode_field(name, value) for name, value in fields])
    settings = settings_frame(((ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, FIRST_WINDOW + max_bytes)))
    message = PREFACE + settings + window_frame(0, max_bytes) + headers_frames(STREAM, block, ended=not body)
    await stream.send_all(message + (frame(DATA, END_STREAM, STREAM, body) if body else b""))
    reader, first = FrameReader(asked, MAX_ANSWER_HEAD_BYTES), b""
    try:
        while not asked.is_over:
            data = bytes(await stream.receive_some(CLIENT_READ_BYTES))
            if not data:
                raise CutAnswer("the connection ended before the answer did")
            first = (first + data)[: len(HTTP_1)]
            if first == HTTP_1:
                raise BadAnswer("it speaks HTTP/1.1: write protocol: http/1.1 at its pool")
            if reader.feed(data, MOST_FRAMES) or reader.frames > MOST_FRAMES:
                raise BadAnswer("sends very many frames")
            if asked.replies:
                replies, asked.replies = asked.replies, b""
                await stream.send_all(replies)
    except (BadConnection, BadStream, HpackError) as error:
        raise BadAnswer(str(error)) from error
    return asked.answer()


class _Asked(FrameTaker):
    """What came of the answer. `replies`: what is to be sent back."""

    def __init__(self, max_bytes: int) -> None:
        self.is_over = False
        self.replies = b""
        self._has_settings = False
        self._table = EMPTY_TABLE
        self._max_bytes = max_bytes
        self._fields: tuple[Header, ...] = ()
        self._trailers: tuple[Header, ...] = ()
        self._body = b""

    def answer(self) -> Http2Answer:
        """Raises BadAnswer."""
        status = dict(self._fields).get(b":status", b"")
        if len(status) != 3 or not status.isdigit():
            raise BadAnswer("the answer has no status")
        return Http2Answer(int(status), self._fields, self._body, self._trailers)

    def _check(self, stream_id: int) -> None:
        """Servers begin with SETTINGS (RFC 9113 §3.4) and send on the one stream that there is (§5.1)."""
        if stream_id != STREAM or not self._has_settings:
            raise BadAnswer("a frame of a stream that was not opened, or before SETTINGS")

    def on_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        self._check(stream_id)
        decoded = decode_block(self._table, block, MAX_ANSWER_HEAD_BYTES)
        self._table = decoded.table
        if decoded.too_large:
            raise BadAnswer("the head of the answer is too large")
        if self._fields:
            self._trailers = decoded.fields
        elif not dict(decoded.fields).get(b":status", b"").startswith(INTERIM):
            self._fields = decoded.fields
        self.is_over = self.is_over or ended

    def on_data(self, stream_id: int, piece: bytes, length: int, ended: bool) -> None:
        self._check(stream_id)
        if not self._fields:
            raise BadAnswer("a body comes before the head")
        self._body += piece
        self.is_over = self.is_over or ended or len(self._body) > self._max_bytes

    def on_reset(self, stream_id: int, code: int) -> None:
        self._check(stream_id)
        if not self.is_over:
            raise BadAnswer(f"reset the stream (code {code})")

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        self._has_settings = True
        self.replies += SETTINGS_ACK

    def on_settings_ack(self) -> None:
        """Nothing waits for it."""

    def on_ping(self, payload: bytes, is_ack: bool) -> None:
        if not is_ack:
            self.replies += ping_ack(payload)

    def on_goaway(self, last_id: int, code: int, reason: bytes) -> None:
        if last_id < STREAM and not self.is_over:
            raise BadAnswer(f"refused the request (GOAWAY, code {code})")

    def on_window(self, stream_id: int, increment: int) -> None:
        """The request fits into the first window."""

    def on_priority(self, stream_id: int, urgency: bytes) -> None:
        """Servers have none."""

    def on_unknown(self) -> None:
        """To be ignored."""

    def on_bad_stream(self, error: BadStream) -> None:
        raise error
