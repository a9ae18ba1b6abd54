"""What goes out on one connection of HTTP/2: frames of all its streams, within both windows, the most urgent first.

Frames are gathered and written at the end of a batch of events, many responses with one system call. What a window or
the socket does not take stays with its stream, which holds one read of its host at most, and that host is not read
meanwhile. Streams that wait take turns of a frame each; a less urgent one waits until no more urgent one can go on (RFC
9218 §4.1 and §10).

Left out: incremental delivery by RFC 9218. All streams of one urgency share the connection.
"""

from collections import deque
from typing import Final

from mypy_extensions import mypyc_attr

from tierlb.dataplane.l7.downstream import Downstream
from tierlb.net.stream import Stream
from tierlb.wire.hpack import NO_TABLE
from tierlb.wire.http2_frames import (
    DATA,
    END_STREAM,
    FIRST_WINDOW,
    FRAME_BYTES,
    LARGEST_WINDOW,
    frame_head,
    headers_frames,
)
from tierlb.wire.http2_head import DEFAULT_URGENCY
from tierlb.wire.http2_states import IDLE, StreamEvent, StreamState, after_stream_event

WRITE_BYTES: Final = 64 * 1024
"""Gathered frames are written when they are so many, or the batch is over."""
URGENCIES: Final = 8
UPDATE_BYTES: Final = 2048
"""One frame of the peer is in order for so much of DATA: some clients update both windows for each 4 KiB they read."""
PIECE_BYTES: Final = 3 * UPDATE_BYTES
"""A frame of DATA counts for so much more if it is short by itself: the peer may update two windows and send a ping.
One that is short because of the peer's window does not, so that tiny windows are not in order."""
MOST_DUE_BYTES: Final = 256 * 1024 * 1024
"""More than this is never on the way to one peer, or not yet read there."""


@mypyc_attr(allow_interpreted_subclasses=True)
class SendingStream(Downstream):
    """The sending side of a stream. `window`: how much it may send still. `pending`: what it may not send yet, of which
    the first `sent` bytes are gone. `ending`: it ends behind that, with `trailers` (a block) if there are any.
    `queued`: it waits for its turn."""

    __slots__ = ("ending", "id", "pending", "queued", "sent", "state", "trailers", "urgency", "window")

    def __init__(self, stream_id: int, window: int) -> None:
        self.id: Final = stream_id
        self.window = window
        self.urgency = DEFAULT_URGENCY
        self.pending = b""
        self.sent = 0
        self.ending = False
        self.trailers = b""
        self.queued = False
        self.state = IDLE

    def enter(self, event: StreamEvent) -> StreamState:
        """The stream changes its state; what it is then. An event that must not happen is a bug of this program, as
        frames of the peer are checked before."""
        state = after_stream_event(self.state, event)
        assert state is not None, f"stream {self.state.name}: {event.name}"
        self.state = state
        return state

    @property
    def is_behind(self) -> bool:
        return bool(self.pending)

    def go_on(self) -> None:
        """The turn after it asked for one (`StreamOwner.resume`)."""
        raise NotImplementedError

    def on_sent_some(self) -> None:
        """A part of what is pending was sent."""

    def on_sent_all(self) -> None:
        """Nothing is pending any more, and it has not ended."""
        raise NotImplementedError

    def on_sent_end(self) -> None:
        """END_STREAM was sent."""
        raise NotImplementedError


class Output:
    """`window`: how much of DATA the connection may carry still, `first_window` that of streams that begin. `written`:
    bytes since it was last set to 0. `_due`: of DATA, for which the peer may still send frames in return."""

    __slots__ = (
        "_connection",
        "_due",
        "_parts",
        "_queues",
        "_shrinks_table",
        "_size",
        "_waiting",
        "first_window",
        "window",
        "written",
    )

    def __init__(self, connection: Stream) -> None:
        self._connection = connection
        self.written = 0
        self._parts: list[bytes] = []
        self._size = 0
        self._queues: list[deque[SendingStream] | None] = [None] * URGENCIES
        self._waiting = 0
        self._shrinks_table = False
        self._due = 0
        self.window = self.first_window = FIRST_WINDOW

    # Frames without flow control.

    def write(self, frames: bytes) -> None:
        if not self._parts:
            self._connection.reactor.ready.add(self._connection)
        self._parts.append(frames)
        self._size += len(frames)

    def write_head(self, stream: SendingStream, block: bytes, *, ended: bool) -> None:
        """HEADERS with this block."""
        if self._shrinks_table:
            self._shrinks_table = False
            block = NO_TABLE + block
        self.write(headers_frames(stream.id, block, ended=ended))

    def shrink_table(self) -> None:
        """The peer's table of headers has become smaller, which the next block must confirm (RFC 7541 §4.2)."""
        self._shrinks_table = True

    def flush(self) -> None:
        """Write what was gathered."""
        if not self._parts:
            return
        parts, self._parts, self._size = self._parts, [], 0
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        self.written += len(data)
        self._connection.send(data)

    # DATA.

    @property
    def _has_room(self) -> bool:
        return self._connection.backlog is None

    def respond(self, stream: SendingStream, block: bytes, body: bytes, trailers: bytes) -> None:
        """A whole response, or the rest of one."""
        if not body and not trailers:
            self.write_head(stream, block, ended=True)
            stream.on_sent_end()
            return
        self.write_head(stream, block, ended=False)
        self.send(stream, body, ended=True, trailers=trailers)

    def send(self, stream: SendingStream, body: bytes, *, ended: bool, trailers: bytes = b"") -> None:
        """A piece of body, and perhaps the end."""
        size = len(body)
        if (
            not stream.pending
            and size <= FRAME_BYTES
            and size <= self.window
            and size <= stream.window
            and self._has_room
            and not trailers
        ):
            self._due += PIECE_BYTES
            self._write_data(stream, body, ended)
            if ended:
                stream.on_sent_end()
            return
        if body and not stream.pending:
            self._connection.reactor.bulk.begin()
        stream.pending = stream.pending[stream.sent :] + body if stream.pending else body
        stream.sent = 0
        stream.ending = ended
        stream.trailers = trailers
        self.queue(stream)
        self.pump()

    def _write_data(self, stream: SendingStream, piece: bytes, ended: bool) -> None:
        size = len(piece)
        self.window -= size
        stream.window -= size
        self._due += size
        if not self._parts:
            self._connection.reactor.ready.add(self._connection)
        self._parts.append(frame_head(size, DATA, END_STREAM if ended else 0, stream.id) + piece)
        self._size += size + 9
        if self._size >= WRITE_BYTES:
            self.flush()

    def queue(self, stream: SendingStream) -> None:
        """The stream has something to send, or may send more of it."""
        if not stream.queued and (stream.pending or stream.ending):
            stream.queued = True
            self._waiting += 1
            queue = self._queues[stream.urgency]
            if queue is None:
                queue = self._queues[stream.urgency] = deque()
            queue.append(stream)

    def drop(self, stream: SendingStream) -> None:
        """The stream ends without what is pending."""
        if stream.pending:
            stream.pending = b""
            self._connection.reactor.bulk.end()
        stream.ending = False
        if stream.queued:
            stream.queued = False
            self._waiting -= 1
            queue = self._queues[stream.urgency]
            assert queue is not None
            queue.remove(stream)

    def prioritise(self, stream: SendingStream, urgency: int) -> None:
        """Change the urgency of a stream."""
        queue = self._queues[stream.urgency]
        if stream.queued and queue is not None:
            queue.remove(stream)
            stream.queued = False
            self._waiting -= 1
        stream.urgency = urgency
        self.queue(stream)

    def pump(self) -> None:
        """Send of what is pending as much as the windows and the socket take."""
        while self._waiting and self._has_room:
            stream = self._next()
            if stream is None:
                return
            left = len(stream.pending) - stream.sent
            size = min(left, FRAME_BYTES, self.window, stream.window)
            if left and size <= 0:
                if stream.window > 0:
                    return  # it is the connection that may send no more
                self._unqueue(stream)  # until its window grows
                continue
            self._send_some(stream, size, left - size)

    def _next(self) -> SendingStream | None:
        for queue in self._queues:
            if queue:
                return queue[0]
        return None

    def _unqueue(self, stream: SendingStream) -> None:
        queue = self._queues[stream.urgency]
        assert queue is not None
        queue.popleft()
        stream.queued = False
        self._waiting -= 1

    def _send_some(self, stream: SendingStream, size: int, left: int) -> None:
        ends = not left and stream.ending
        if size or (ends and not stream.trailers):
            end = stream.sent + size
            piece = stream.pending[stream.sent : end]
            stream.sent = end
            if not left or size == FRAME_BYTES:
                self._due += PIECE_BYTES
            self._write_data(stream, piece, ends and not stream.trailers)
        queue = self._queues[stream.urgency]
        assert queue is not None
        if left:
            queue.rotate(-1)
            stream.on_sent_some()
            return
        self._unqueue(stream)
        if stream.pending:
            stream.pending = b""
            self._connection.reactor.bulk.end()
        stream.sent = 0
        if not ends:
            stream.on_sent_all()
            return
        stream.ending = False
        if stream.trailers:
            self.write_head(stream, stream.trailers, ended=True)
        stream.on_sent_end()

    # Windows.

    def is_in_return(self) -> bool:
        """Whether a frame of the peer, such as an update of a window, is in order for DATA that was sent. Each is
        counted."""
        self._due = due = min(self._due, MOST_DUE_BYTES) - UPDATE_BYTES
        if due >= 0:
            return True
        self._due = 0
        return False

    def grow(self, increment: int) -> bool:
        """The connection may carry more; false if that is more than a window can be."""
        self.window += increment
        return self.window <= LARGEST_WINDOW

    def grow_stream(self, stream: SendingStream, increment: int) -> bool:
        """The stream may send more; false if that is more than a window can be."""
        stream.window += increment
        if stream.window > 0:
            self.queue(stream)
        return stream.window <= LARGEST_WINDOW
