"""A connection of HTTP/2 from a client (RFC 9113): its streams, and the rules that tie them together.

Bytes come in (`receive`), frames go out through `output`; the socket itself is `http2_connection`. What a client may
cause is bounded: streams at once, bytes of a header block, what it sends ahead (`http2_windows`), frames for nothing
(`http2_patience`), and frames in one turn. Errors end one stream or the connection, as RFC 9113 says.

Left out: server push, and priorities by dependencies (RFC 9113 §5.3 deprecates them).
"""

from typing import Final

from tierlb.dataplane.l7.client_identity import HTTP2_BOOKS
from tierlb.dataplane.l7.client_stream import ClientStream
from tierlb.dataplane.l7.http2_patience import NEEDLESS, RESET, TOO_LARGE, UPLOADED_BYTE
from tierlb.dataplane.l7.http2_stream import Http2Stream
from tierlb.dataplane.l7.http2_streams import CONNECTION_WINDOW, Http2Streams
from tierlb.dataplane.l7.http2_upload import STREAM_WINDOW
from tierlb.wire.hpack import EMPTY_TABLE, TABLE_BYTES, DynamicTable, HpackError, TooLargeError
from tierlb.wire.http2_blocks import HeaderBlock
from tierlb.wire.http2_frames import (
    COMPRESSION_ERROR,
    ENABLE_CONNECT_PROTOCOL,
    ENABLE_PUSH,
    ENHANCE_YOUR_CALM,
    FIRST_WINDOW,
    FLOW_CONTROL_ERROR,
    FRAME_BYTES,
    HEADER_TABLE_SIZE,
    INITIAL_WINDOW_SIZE,
    LARGEST_FRAME,
    LARGEST_WINDOW,
    MAX_CONCURRENT_STREAMS,
    MAX_FRAME_SIZE,
    MAX_HEADER_LIST_SIZE,
    NO_RFC7540_PRIORITIES,
    PREFACE,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    SETTINGS_ACK,
    STREAM_CLOSED,
    BadConnection,
    BadStream,
    ping_ack,
    reset_frame,
    settings_frame,
    window_frame,
)
from tierlb.wire.http2_head import MalformedError, passing_trailers, urgency_of
from tierlb.wire.http2_reader import FrameReader
from tierlb.wire.http2_states import CLOSED, StreamEvent
from tierlb.wire.http_fields import BadHead

MOST_STREAMS: Final = 100
"""RFC 9113 §6.5.2 recommends no less."""
FRAMES_A_TURN: Final = 64
"""About 0.5 ms, in which other connections wait."""
BLOCK_FACTOR: Final = 2
"""A block of Huffman codes takes at most 30 bits for a byte, but what is sent takes hardly ever more than the bytes."""


class Http2Session(Http2Streams):
    """`is_ready`: the preface and the first SETTINGS came. `reader`: of what comes behind the preface."""

    __slots__ = ("_preface", "_table", "is_ready", "reader")

    def __init__(self, connection: ClientStream) -> None:
        super().__init__(connection)
        front, output = connection.front, self.output
        self.reader = FrameReader(self, BLOCK_FACTOR * front.config.snapshot.limits.head)
        self.is_ready = False
        self._preface = PREFACE
        self._table: DynamicTable = EMPTY_TABLE
        settings = (
            (MAX_CONCURRENT_STREAMS, MOST_STREAMS),
            (INITIAL_WINDOW_SIZE, STREAM_WINDOW),
            (MAX_HEADER_LIST_SIZE, front.config.snapshot.limits.head),
            (NO_RFC7540_PRIORITIES, 1),
            (ENABLE_CONNECT_PROTOCOL, 1),
        )
        output.write(settings_frame(settings) + window_frame(0, CONNECTION_WINDOW - FIRST_WINDOW))

    def receive(self, data: bytes) -> bytes:
        """What the client sent; returns what is left for the next turn. Raises BadConnection."""
        if self._preface:
            size = min(len(self._preface), len(data))
            if data[:size] != self._preface[:size]:
                raise BadConnection(PROTOCOL_ERROR, "the preface is not that of HTTP/2")
            self._preface, data = self._preface[size:], data[size:]
        return self.reader.feed(data, FRAMES_A_TURN) if data else b""

    # Streams.

    def on_headers(self, stream_id: int, block: bytes, ended: bool) -> None:
        self._check_ready()
        found = self._read_block(block)
        stream = self.streams.get(stream_id)
        if stream is not None:
            self._take_trailers(stream, found, ended)
        elif stream_id <= self.last_id:
            if stream_id not in self.resets:
                raise BadConnection(STREAM_CLOSED, "HEADERS on a stream that is over")
            self.charge(RESET)
        elif not stream_id & 1:
            raise BadConnection(PROTOCOL_ERROR, "a client opens a stream with an even number")
        else:
            self._open(stream_id, found, ended)

    def _read_block(self, block: bytes) -> HeaderBlock:
        try:
            found = self.connection.front.exchanges.blocks.read(self._table, block)
        except TooLargeError as error:
            raise BadConnection(ENHANCE_YOUR_CALM, str(error)) from None
        except HpackError as bad:
            raise BadConnection(COMPRESSION_ERROR, str(bad)) from None
        self._table = found.table
        return found

    def _open(self, stream_id: int, block: HeaderBlock, ended: bool) -> None:
        self.last_id = stream_id
        connection = self.connection
        front = connection.front
        if stream_id > self.farewell.last_id or len(self.streams) >= MOST_STREAMS:
            self._refuse(stream_id)
            return
        stream = Http2Stream(self, stream_id, self.output.first_window)
        stream.urgency = block.urgency
        stream.enter(StreamEvent.RECEIVE_END if ended else StreamEvent.RECEIVE_HEADERS)
        if not self.streams:
            connection.on_busy()
        self.streams[stream_id] = stream
        try:
            if block.too_large:
                raise BadHead(
                    431, f"the request head is larger than the {front.exchanges.blocks.most_bytes} bytes allowed here"
                )
            head = block.head(ended=ended)
            book = front.config.books[HTTP2_BOOKS + stream.identity.book]
            plan = book.known.get(head) or book.plan(head)
        except MalformedError as error:
            raise BadStream(stream_id, PROTOCOL_ERROR, str(error)) from None
        except BadHead as refused:
            front.counters.rejected += 1
            if refused.status == 431:
                self.charge(TOO_LARGE)
            stream.body_left = None
            stream.refuse(refused.status, refused.reason)
            return
        stream.begin(plan)

    def _refuse(self, stream_id: int) -> None:
        """Nothing was done for this stream, so it may be tried again elsewhere."""
        self.charge(RESET)
        self.write_reset(stream_id, REFUSED_STREAM)

    def _take_trailers(self, stream: Http2Stream, block: HeaderBlock, ended: bool) -> None:
        if stream.has_ended:
            raise BadStream(stream.id, STREAM_CLOSED, "HEADERS behind the end of the stream")
        if not ended:
            raise BadStream(stream.id, PROTOCOL_ERROR, "trailers that do not end the stream")
        if block.too_large:
            raise BadStream(stream.id, ENHANCE_YOUR_CALM, "the trailers are too large")
        try:
            trailers = passing_trailers(block.fields)
        except MalformedError as error:
            raise BadStream(stream.id, PROTOCOL_ERROR, str(error)) from None
        stream.take_trailers(trailers)

    def on_data(self, stream_id: int, piece: bytes, length: int, ended: bool) -> None:
        self._check_ready()
        if not self.received.take(length):
            raise BadConnection(FLOW_CONTROL_ERROR, "more DATA than the window of the connection")
        if not piece and not ended:
            self.charge(NEEDLESS)
        stream = self.streams.get(stream_id)
        if stream is not None:
            try:
                stream.take_data(piece, length, ended=ended)
            except BadStream:
                self.give_back(length)
                raise
            if stream.exchange is not None:
                self.patience.earn(UPLOADED_BYTE * len(piece))
            return
        self.give_back(length)
        self.charge(NEEDLESS)
        if stream_id > self.last_id:
            raise BadConnection(PROTOCOL_ERROR, "DATA on a stream that was not opened")
        if stream_id not in self.resets:
            raise BadStream(stream_id, STREAM_CLOSED, "DATA on a stream that is over")

    def on_reset(self, stream_id: int, code: int) -> None:
        if stream_id > self.last_id:
            raise BadConnection(PROTOCOL_ERROR, "RST_STREAM on a stream that was not opened")
        stream = self.streams.get(stream_id)
        if stream is None or stream.state is CLOSED:
            self.charge(NEEDLESS)
            return
        self.charge(RESET)
        self.lose(stream)

    def on_bad_stream(self, error: BadStream) -> None:
        self.connection.front.counters.rejected += 1
        self.charge(RESET)
        stream = self.streams.get(error.stream_id)
        if stream is None:
            if error.stream_id > self.last_id:
                raise BadConnection(PROTOCOL_ERROR, error.reason)
            self.output.write(reset_frame(error.stream_id, error.code))
            return
        if stream.exchange is not None:
            stream.exchange.abandon()
        self.reset(stream, error.code)

    # The connection.

    def _check_ready(self) -> None:
        if not self.is_ready:
            raise BadConnection(PROTOCOL_ERROR, "the first frame is not SETTINGS")

    def on_settings(self, settings: list[tuple[int, int]]) -> None:
        if self.is_ready:
            self.charge(NEEDLESS * (1 + len(settings)))
        self.is_ready = True
        for name, value in settings:
            if name == INITIAL_WINDOW_SIZE:
                self._resize_windows(value)
            elif name == HEADER_TABLE_SIZE:
                if value < TABLE_BYTES:
                    self.output.shrink_table()
            elif (name == MAX_FRAME_SIZE and not FRAME_BYTES <= value <= LARGEST_FRAME) or (
                name == ENABLE_PUSH and value > 1
            ):
                raise BadConnection(PROTOCOL_ERROR, "a setting that must not be")
        self.output.write(SETTINGS_ACK)

    def _resize_windows(self, size: int) -> None:
        if size > LARGEST_WINDOW:
            raise BadConnection(FLOW_CONTROL_ERROR, "a window that is too large")
        output = self.output
        change, output.first_window = size - output.first_window, size
        for stream in self.streams.values():
            if not output.grow_stream(stream, change):
                raise BadConnection(FLOW_CONTROL_ERROR, "a window that becomes too large")
        output.pump()

    def on_settings_ack(self) -> None:
        self._check_ready()
        self.charge(NEEDLESS)

    def on_ping(self, payload: bytes, is_ack: bool) -> None:
        self._check_ready()
        if is_ack:
            self.charge(NEEDLESS)
            self.farewell.on_pong(payload)
        else:
            if not self.output.is_in_return():
                self.charge(NEEDLESS)
            self.output.write(ping_ack(payload))

    def on_goaway(self, last_id: int, code: int, reason: bytes) -> None:
        """The client opens no more streams; those that there are go on."""
        self.charge(NEEDLESS)
        self.part()

    def on_window(self, stream_id: int, increment: int) -> None:
        self._check_ready()
        output = self.output
        if not output.is_in_return():
            self.charge(NEEDLESS)
        if not stream_id:
            if not output.grow(increment):
                raise BadConnection(FLOW_CONTROL_ERROR, "a window that becomes too large")
        else:
            stream = self.streams.get(stream_id)
            if stream is None:
                if stream_id > self.last_id:
                    raise BadConnection(PROTOCOL_ERROR, "WINDOW_UPDATE on a stream that was not opened")
                return
            if not output.grow_stream(stream, increment):
                raise BadStream(stream_id, FLOW_CONTROL_ERROR, "a window that becomes too large")
        output.pump()

    def on_priority(self, stream_id: int, urgency: bytes) -> None:
        self._check_ready()
        self.charge(NEEDLESS)
        stream = self.streams.get(stream_id)
        if stream is not None and urgency:
            self.output.prioritise(stream, urgency_of(urgency))

    def on_unknown(self) -> None:
        self.charge(NEEDLESS)

    @property
    def in_head(self) -> bool:
        """Whether the client owes the rest of its preface or of a header block."""
        return not self.is_ready or self.reader.in_block != 0
