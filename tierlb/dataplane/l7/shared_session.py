"""A connection over HTTP/2 to a host: its streams, and the rules that tie them together (RFC 9113), as a client.

Hosts are not trusted to keep to the protocol either: what breaks it, or is a flood of frames for nothing
(`http2_patience`), ends the connection, and the requests on it as if the host had reset them. Left out: server push,
which is switched off.
"""

import errno
from typing import Final

from tierlb.dataplane.l7.http2_output import Output
from tierlb.dataplane.l7.http2_patience import NEEDLESS, RESPONSE, Patience
from tierlb.dataplane.l7.response_half import MOST_INTERIMS
from tierlb.dataplane.l7.shared_stream import HOST_STREAM_WINDOW, RequestSide, SharedSource, SharedStream
from tierlb.net.stream import Stream
from tierlb.wire.hpack import EMPTY_TABLE, TABLE_BYTES, DynamicTable, HpackError, TooLargeError
from tierlb.wire.http2_blocks import BlockBook
from tierlb.wire.http2_frames import (
    COMPRESSION_ERROR,
    ENABLE_PUSH,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    NO_ERROR,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_ACK,
    BadConnection,
    BadStream,
    ping_ack,
    reset_frame,
    settings_frame,
    window_frame,
)
from tierlb.wire.http2_head import MalformedError, passing_trailers, response_head
from tierlb.wire.http2_reader import FrameReader
from tierlb.wire.http2_states import HALF_LOCAL
from tierlb.wire.http2_windows import ReceiveWindow
from tierlb.wire.http_fields import Header

HOST_CONNECTION_WINDOW: Final = 16 * 1024 * 1024
"""Given back as data comes: what is kept is bounded by the windows of the streams."""
MOST_SHARED: Final = 100
"""Requests at once on one connection, also where the host allows more: a connection that breaks takes them along."""
RESPONSE_BLOCK_BYTES: Final = 64 * 1024
RETIRES_AT: Final = 2**30
"""A connection of which the numbers of streams near their end is replaced."""

_responses: Final = BlockBook(RESPONSE_BLOCK_BYTES, response_head)
"""Header blocks of responses, for all hosts."""


class SharedSession(SharedSource):
    """`streams`: those that are not over. `most`: how many there may be. `is_leaving`: it takes no more. `_touched`: to
    which something came, to be delivered when all was read."""

    __slots__ = ("_next_id", "_patience", "_reader", "_received", "_table", "_touched", "is_leaving", "most", "streams")

    def __init__(self, socket: Stream) -> None:
        self.socket = socket
        self.output = output = Output(socket)
        self.streams: dict[int, SharedStream] = {}
        self.most = MOST_SHARED
        self.is_leaving = False
        self._next_id = 1
        self._reader = FrameReader(self, RESPONSE_BLOCK_BYTES)
        self._patience = Patience(socket.reactor.now)
        self._received = ReceiveWindow(HOST_CONNECTION_WINDOW)
        self._table: DynamicTable = EMPTY_TABLE
        self._touched: list[SharedStream] = []
        settings = ((ENABLE_PUSH, 0), (INITIAL_WINDOW_SIZE, HOST_STREAM_WINDOW))
        output.write(PREFACE + settings_frame(settings) + window_frame(0, HOST_CONNECTION_WINDOW - FIRST_WINDOW))

    @property
    def has_room(self) -> bool:
        """Whether a further request may go on this connection."""
        return len(self.streams) < self.most and not self.is_leaving

    def receive(self, data: bytes, most_frames: int) -> bytes:
        """What the host sent; returns what is left for the next turn. Raises BadConnection."""
        rest = self._reader.feed(data, most_frames)
        if self._touched:
            touched, self._touched = self._touched, []
            for stream in touched:
                stream.deliver()
        return rest

    def lose_all(self, error: OSError) -> None:
        """The connection is over."""
        self.is_leaving = True
        self._reader.forget()
        for stream in list(self.streams.values()):
            stream.lose(error)
        self.streams.clear()

    # What streams ask for.

    def begin(self, stream: SharedStream) -> None:
        stream_id = self._next_id
        self._next_id += 2
        if self._next_id >= RETIRES_AT:
            self.is_leaving = True
        stream.side = RequestSide(stream, stream_id, self.output.first_window)
        self.streams[stream_id] = stream

    def give_credit(self, stream: SharedStream, count: int) -> None:
        increment = 0 if stream.has_ended or stream.closed else stream.received.give(count)
        if increment and stream.side is not None:
            self.output.write(window_frame(stream.side.id, increment))

    def end(self, stream: SharedStream, code: int) -> None:
        side = stream.side
        if side is None or side.id not in self.streams:
            return
        self.output.drop(side)
        if not stream.has_ended or side.state is not HALF_LOCAL:
            self.output.write(reset_frame(side.id, code))
        self._forget(side.id)

    def _charge(self, cost: float) -> None:
        """The host causes work for nothing. Raises BadConnection."""
        if not self._patience.charge(self.socket.reactor.now, cost):
            raise BadConnection(ENHANCE_YOUR_CALM, "too many frames that cause work for nothing")

    def _forget(self, stream_id: int) -> None:
        self._patience.earn(RESPONSE)
        self.streams.pop(stream_id, None)
        if not self.streams:
            self.socket.reactor.ready.add(self.socket)

    # Frames.

    def on_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        try:
            found = _responses.read(self._table, block)
        except TooLargeError as error:
            raise BadConnection(ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as bad:
            raise BadConnection(COMPRESSION_ERROR, str(bad)) from None
        self._table = found.table
        stream = self._stream(stream_id)
        if stream is None:
            self._charge(NEEDLESS)
            return
        try:
            if found.too_large:
                raise MalformedError("a response head is too large")
            if stream.has_head:
                self._take_trailers(stream, found.fields, ended)
            else:
                head = found.head(ended=ended)
                stream.has_head = head[9:10] != b"1"
                stream.interims += 1
                if stream.interims > MOST_INTERIMS + 1:
                    raise MalformedError("too many interim responses")
                stream.unread += head
                if ended and not stream.has_head:
                    raise MalformedError("an interim response that ends the stream")
        except MalformedError as malformed:
            raise BadStream(stream_id, PROTOCOL_ERROR, str(malformed)) from None
        self._touch(stream, ended)

    def _take_trailers(self, stream: SharedStream, fields: tuple[Header, ...], ended: bool) -> None:
        if not ended:
            raise MalformedError("trailers that do not end the stream")
        stream.take_trailers(passing_trailers(fields))

    def on_data(self, stream_id: int, piece: bytes, length: int, ended: bool) -> None:
        if not self._received.take(length):
            raise BadConnection(FLOW_CONTROL_ERROR, "more DATA than the window of the connection")
        if not piece and not ended:
            self._charge(NEEDLESS)
        increment = self._received.give(length)
        if increment:
            self.output.write(window_frame(0, increment))
        stream = self._stream(stream_id)
        if stream is None:
            return
        if not stream.received.take(length) or not stream.has_head:
            raise BadStream(stream_id, FLOW_CONTROL_ERROR, "more DATA than the window of the stream, or before a head")
        if not stream.closed:
            stream.unread += piece
            stream.owed += length
        self._touch(stream, ended)

    def _stream(self, stream_id: int) -> SharedStream | None:
        """None for one that is over."""
        stream = self.streams.get(stream_id)
        if stream is None and (stream_id >= self._next_id or not stream_id & 1):
            raise BadConnection(PROTOCOL_ERROR, "a frame of a stream that was not opened")
        return stream

    def _touch(self, stream: SharedStream, ended: bool) -> None:
        if ended:
            stream.has_ended = True
        if not stream.closed:
            self._touched.append(stream)

    def on_reset(self, stream_id: int, code: int) -> None:
        stream = self._stream(stream_id)
        if stream is None:
            self._charge(NEEDLESS)
            return
        self._settle(stream)
        self.streams.pop(stream_id, None)
        if code == REFUSED_STREAM:
            stream.lose(unprocessed())
        elif code != NO_ERROR or not stream.has_ended:
            stream.lose(OSError(errno.ECONNRESET, "the host reset the stream"))
        self._forget(stream_id)

    def _settle(self, stream: SharedStream) -> None:
        """Deliver what came before the stream broke."""
        if stream in self._touched:
            self._touched.remove(stream)
            stream.deliver()
        if stream.side is not None:
            self.output.drop(stream.side)

    def on_bad_stream(self, error: BadStream) -> None:
        stream = self.streams.pop(error.stream_id, None)
        if stream is not None and stream.side is not None:
            self.output.drop(stream.side)
            self.output.write(reset_frame(error.stream_id, error.code))
            stream.lose(OSError(errno.EPROTO, error.reason))
            self._forget(error.stream_id)

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        output = self.output
        self._charge(NEEDLESS * (1 + len(settings)))
        for name, value in settings:
            if name == MAX_CONCURRENT_STREAMS:
                self.most = min(value, MOST_SHARED)
            elif name == HEADER_TABLE_SIZE and value < TABLE_BYTES:
                output.shrink_table()
            elif name == INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise BadConnection(FLOW_CONTROL_ERROR, "a window that is too large")
                change, output.first_window = value - output.first_window, value
                for stream in self.streams.values():
                    if stream.side is not None:
                        output.grow_stream(stream.side, change)
        output.write(SETTINGS_ACK)
        output.pump()

    def on_settings_ack(self) -> None:
        """Nothing waits for it."""
        self._charge(NEEDLESS)

    def on_ping(self, payload: bytes, is_ack: bool) -> None:
        if not self.output.is_in_return():
            self._charge(NEEDLESS)
        if not is_ack:
            self.output.write(ping_ack(payload))

    def on_goaway(self, last_id: int, code: int, reason: bytes) -> None:
        """Streams behind the last one were not looked at."""
        self._charge(NEEDLESS)
        self.is_leaving = True
        for stream_id, stream in list(self.streams.items()):
            if stream_id > last_id:
                self._settle(stream)
                self.streams.pop(stream_id, None)
                stream.lose(unprocessed())
        if not self.streams:
            self.socket.reactor.ready.add(self.socket)

    def on_window(self, stream_id: int, increment: int) -> None:
        if not self.output.is_in_return():
            self._charge(NEEDLESS)
        if not stream_id:
            if not self.output.grow(increment):
                raise BadConnection(FLOW_CONTROL_ERROR, "a window that becomes too large")
        else:
            stream = self._stream(stream_id)
            side = None if stream is None else stream.side
            if side is not None and not self.output.grow_stream(side, increment):
                raise BadStream(stream_id, FLOW_CONTROL_ERROR, "a window that becomes too large")
        self.output.pump()

    def on_priority(self, stream_id: int, urgency: bytes) -> None:
        """A server has none to say."""
        self._charge(NEEDLESS)

    def on_unknown(self) -> None:
        self._charge(NEEDLESS)


def unprocessed() -> OSError:
    """The error for a request that the host reported as not processed."""
    return OSError(errno.ECONNREFUSED, "the host refused the stream")
