"""One request to a host on a connection over HTTP/2 that it shares with others: to its exchange, a pooled connection.

The exchange writes the bytes of HTTP/1.1 that it writes to any host, and reads such bytes. Here a head becomes a header
block, and a header block a head; the chunks of a body, which are this program's own, become DATA. What comes of a
response has no framing: it ends as one that ends with its connection. So retries, backpressure, deadlines and balancing
know nothing of the protocol.

What came while the exchange does not read is held, up to the window of the stream.
"""

import errno
from collections import deque
from typing import Final

from tierlb.dataplane.l7.http2_output import Output, SendingStream
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.response_half import ResponseHalf
from tierlb.dataplane.upstream.host import Host
from tierlb.net.reactor import Reactor
from tierlb.net.stream import Stream
from tierlb.wire.http2_frames import CANCEL, NO_ERROR
from tierlb.wire.http2_head import request_block, trailers_block
from tierlb.wire.http2_reader import FrameTaker
from tierlb.wire.http2_states import CLOSED, HALF_LOCAL, StreamEvent
from tierlb.wire.http2_windows import ReceiveWindow
from tierlb.wire.http_fields import Header

HOST_STREAM_WINDOW: Final = 128 * 1024
"""What a host may send ahead on one stream. Streams of one connection are of many clients, so that the window of the
connection never closes."""


class Http2Response(ResponseHalf):
    """`own_trailers`: those that came with the end of the stream, with which alone a response ends."""

    __slots__ = ("own_trailers",)

    def __init__(self) -> None:
        super().__init__()
        self.ends_by_length = False
        self.own_trailers: tuple[Header, ...] = ()

    @property
    def trailers(self) -> tuple[Header, ...]:
        return self.own_trailers


class SharedSource(FrameTaker):
    """A connection over HTTP/2 to a host, as its streams see it."""

    __slots__ = ("output", "socket")

    socket: Stream
    output: Output

    def begin(self, stream: "SharedStream") -> None:
        """Give the stream its number."""
        raise NotImplementedError

    def give_credit(self, stream: "SharedStream", count: int) -> None:
        """So much was passed on."""
        raise NotImplementedError

    def end(self, stream: "SharedStream", code: int) -> None:
        """The stream is over for its exchange; with RST_STREAM, unless it is over by itself."""
        raise NotImplementedError


class RequestSide(SendingStream):
    """The sending side of one stream."""

    __slots__ = ("stream",)

    def __init__(self, stream: "SharedStream", stream_id: int, window: int) -> None:
        super().__init__(stream_id, window)
        self.stream = stream

    def on_sent_all(self) -> None:
        self.stream.on_window_open()

    def on_sent_end(self) -> None:
        self.enter(StreamEvent.SEND_END)
        self.stream.on_window_open()


class SharedStream(PooledConnection):
    """`side`: its sending side, None before it has a number. `received`: its window, of which `owed` is held.
    `has_ended`: the host ended the stream, and what is held is the rest. `has_head`: the head of the response came,
    the last of `interims` heads. `_left`: of the request's body, -1 while it comes in chunks."""

    __slots__ = (
        "_drained",
        "_host_response",
        "_left",
        "has_ended",
        "has_head",
        "interims",
        "owed",
        "received",
        "side",
        "source",
    )

    def __init__(self, reactor: Reactor, source: SharedSource, host: Host) -> None:
        super().__init__(reactor, source.socket.fd, host)
        self.source: Final = source
        self.side: RequestSide | None = None
        self.received = ReceiveWindow(HOST_STREAM_WINDOW)
        self.has_ended = self.has_head = False
        self.owed = self.interims = 0
        self._left = 0
        self._drained = False
        self._host_response = Http2Response()
        self.response = self._host_response

    # What the exchange does with a connection.

    def send(self, data: bytes | memoryview) -> None:
        if self.closed:
            return
        data = bytes(data)
        if self.side is None:
            head, _, data = data.partition(b"\r\n\r\n")
            self._begin(head, data)
        elif data:
            self._send_body(data)

    def _begin(self, head: bytes, body: bytes) -> None:
        source = self.source
        source.begin(self)
        side = self.side
        assert side is not None
        self._left = body_length_of(head)
        side.enter(StreamEvent.SEND_HEADERS if self._left else StreamEvent.SEND_END)
        secured = source.socket.layer is not None
        source.output.write_head(side, request_block(head, secured=secured), ended=not self._left)
        if body:
            self._send_body(body)

    def _send_body(self, data: bytes) -> None:
        """Whole chunks, or a piece of a body whose length is known."""
        side = self.side
        assert side is not None
        if side.state is CLOSED or side.state is HALF_LOCAL or side.ending:
            return
        trailers = b""
        if self._left < 0:
            data, trailers, ended = unchunked(data)
        else:
            self._left -= len(data)
            ended = self._left <= 0
        if data or ended:
            self.source.output.send(side, data, ended=ended, trailers=trailers)
            if side.pending and self.backlog is None:
                self.backlog = deque()

    def on_window_open(self) -> None:
        """All that was pending is sent."""
        if self.backlog is not None:
            self.backlog = None
            self._drained = True
            self.reactor.ready.add(self)

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        if self.paused and not self.closed:
            self.paused = False
            if self.unread or self.has_ended:
                self.reactor.ready.add(self)

    def put_back(self, data: bytes) -> None:
        if not self.closed and data:
            self.unread = data + self.unread
            self.reactor.ready.add(self)

    def is_clean(self) -> bool:
        return True

    def is_unread(self) -> bool:
        return False

    def is_alive(self) -> bool:
        return True

    def keep(self) -> None:
        """Streams carry one request each."""
        self.exchange = None
        self.close()

    def close(self) -> None:
        if self.closed:
            return
        self.closed = True
        self.queued = False
        self.unread = b""
        self.backlog = None
        self.reactor.wheel.forget(self)
        self.source.end(self, NO_ERROR if self.has_ended else CANCEL)

    def reset(self) -> None:
        self.close()

    def detach(self) -> int:
        """There are no tunnels: 101 does not come over HTTP/2."""
        raise NotImplementedError

    # What the connection reports.

    def on_made(self) -> None:
        """The connection was made, so that the request can go."""
        self.connecting = False
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        try:
            exchange.on_connected()
        except Exception as error:
            exchange.failed(error)

    def on_not_made(self, code: int) -> None:
        """The connection could not be made."""
        exchange = self.exchange
        self.exchange = None
        self.close()
        if exchange is not None:
            try:
                exchange.on_connect_failed(code)
            except Exception as error:
                exchange.failed(error)

    def deliver(self) -> None:
        """Hand on what is held, and the end."""
        if self.closed:
            return
        if self._drained:
            self._drained = False
            self.on_drained()
        if self.paused or self.closed:
            return
        data, self.unread = self.unread, b""
        owed, self.owed = self.owed, 0
        self._host_response.ends_by_length = self.has_ended
        if data:
            self.on_data(data)
        if owed:
            self.source.give_credit(self, owed)
        if self.has_ended and not (self.unread or self.paused or self.closed):
            self.on_eof()

    def on_turn(self) -> None:
        self.deliver()

    def take_trailers(self, trailers: tuple[Header, ...]) -> None:
        """The end of the response with a header block."""
        self._host_response.own_trailers = trailers
        self.has_ended = True

    def lose(self, error: OSError) -> None:
        """The stream is over before the response is."""
        if not self.closed:
            self.has_ended = True
            self.refused = error.errno == errno.ECONNREFUSED
            self.on_broken(error)

    def on_deadline(self) -> None:
        if self.connecting:
            self.on_not_made(errno.ETIMEDOUT)
        else:
            super().on_deadline()


def body_length_of(head: bytes) -> int:
    """How long the body is behind a head that this program has written; -1 if it comes in chunks."""
    at = head.rfind(b"\r\nContent-Length: ")
    if at >= 0:
        return int(head[at + 18 :].partition(b"\r\n")[0])
    return -1 if b"\r\nTransfer-Encoding: chunked" in head else 0


def unchunked(data: bytes) -> tuple[bytes, bytes, bool]:
    """The body in chunks that this program has made, the block of its trailers, and whether it ends with these."""
    pieces: list[bytes] = []
    at = 0
    while at < len(data):
        line_end = data.index(b"\r\n", at)
        size = int(data[at:line_end], 16)
        at = line_end + 2
        if not size:
            fields = [line.partition(b": ") for line in data[at:].split(b"\r\n") if line]
            return b"".join(pieces), trailers_block(tuple((name, value) for name, _, value in fields)), True
        pieces.append(data[at : at + size])
        at += size + 2
    return b"".join(pieces), b"", False
