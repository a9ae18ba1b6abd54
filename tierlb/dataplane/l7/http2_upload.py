"""The body of a request over HTTP/2: what comes in DATA frames goes to the exchange, as far as it takes it.

While the exchange has paused the body, what still comes is held, and the client gets no credit for it: one window for
each stream at most, and one of the connection for all. The exchange gets what was held in the next turn, never within
the call that resumes the body.
"""

from typing import Final

from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.http2_output import SendingStream
from tierlb.dataplane.l7.http2_owner import StreamOwner
from tierlb.dataplane.l7.reply import Reply
from tierlb.dataplane.l7.request_half import RequestHalf
from tierlb.net.alarm import Alarm
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import CANCEL, FLOW_CONTROL_ERROR, PROTOCOL_ERROR, STREAM_CLOSED, BadStream
from tierlb.wire.http2_states import HALF_LOCAL, OPEN, StreamEvent
from tierlb.wire.http2_windows import ReceiveWindow
from tierlb.wire.http_fields import Header

STREAM_WINDOW: Final = 256 * 1024
"""What one stream may send ahead: enough for 20 Mbit/s over a way of 100 ms."""


class UploadingStream(SendingStream):
    """`exchange`: that of the request, None before and after. `body_left`: how much of the body is still to come by its
    content-length, None without one. `is_paused`: the exchange takes nothing now; `is_whole`: it has all of the body.
    `received`: the window of the stream, None before the first piece of body. `reply`: the head of the response that
    was passed on, None before. `_alarm`: for what the client owes."""

    __slots__ = (
        "_alarm",
        "_held",
        "_held_bytes",
        "_trailers",
        "body_left",
        "exchange",
        "is_paused",
        "is_whole",
        "owner",
        "received",
        "reply",
    )

    def __init__(self, owner: StreamOwner, stream_id: int, window: int) -> None:
        super().__init__(stream_id, window)
        self.owner: Final = owner
        self.exchange: Exchange | None = None
        self.body_left: int | None = 0
        self.is_paused = False
        self.received: ReceiveWindow | None = None
        self.is_whole = False
        self.reply: Reply | None = None
        self._alarm: Alarm | None = None
        self._held: list[bytes] = []
        self._held_bytes = 0
        self._trailers: tuple[Header, ...] = ()

    @property
    def has_ended(self) -> bool:
        """Whether the client has ended its side."""
        return self.state is not OPEN and self.state is not HALF_LOCAL

    def take_data(self, piece: bytes, length: int, *, ended: bool) -> None:
        """A DATA frame. `length` counts for flow control. Raises BadStream."""
        if self.has_ended:
            raise BadStream(self.id, STREAM_CLOSED, "DATA behind the end of the stream")
        window = self.received
        if window is None:
            window = self.received = ReceiveWindow(STREAM_WINDOW)
        if not window.take(length):
            raise BadStream(self.id, FLOW_CONTROL_ERROR, "more DATA than the window of the stream")
        left = self.body_left
        if left is not None:
            self.body_left = left = left - len(piece)
            if left < 0 or (ended and left):
                raise BadStream(self.id, PROTOCOL_ERROR, "a body of another length than its content-length")
        if ended:
            self.enter(StreamEvent.RECEIVE_END)
        self._give_credit(length - len(piece))
        self._take(piece)

    def take_trailers(self, trailers: tuple[Header, ...]) -> None:
        """The end of the stream with a header block. Raises BadStream."""
        if self.body_left:
            raise BadStream(self.id, PROTOCOL_ERROR, "a body of another length than its content-length")
        self.enter(StreamEvent.RECEIVE_END)
        self._trailers = trailers
        self._take(b"")

    def _take(self, piece: bytes) -> None:
        exchange = self.exchange
        if exchange is None or exchange.request is None:  # it is thrown away
            self._give_credit(len(piece))
        elif self.is_paused or self._held:
            if piece:
                self._held.append(piece)
                self._held_bytes += len(piece)
        else:
            self._pass_on(exchange.request, piece)
            self._give_credit(len(piece))

    def _pass_on(self, request: RequestHalf, piece: bytes) -> None:
        self.is_whole = ended = self.has_ended
        request.take(piece, self._trailers, ended=ended, raw_bytes=len(piece))

    def _give_credit(self, count: int) -> None:
        """Of a body that no exchange takes, the client may send a window of the stream at most."""
        if not count:
            return
        if self.exchange is None:
            self.owner.give_back(count)
        else:
            self.owner.give_credit(self, count)

    def pause(self) -> None:
        if not self.is_whole:
            self.is_paused = True

    def resume(self) -> None:
        if self.is_paused:
            self.is_paused = False
            self.owner.resume(self)

    def go_on(self) -> None:
        """The turn after the body was resumed: pass on what was held."""
        exchange = self.exchange
        if self.is_paused or self.is_whole or exchange is None or exchange.request is None:
            return
        if self._held or self.has_ended:
            piece = b"".join(self._held)
            self.release()
            self._pass_on(exchange.request, piece)

    def release(self) -> None:
        """What was held is passed on, or there is no exchange any more."""
        count, self._held_bytes = self._held_bytes, 0
        self._held = []
        self._give_credit(count)

    def expect(self, seconds: float) -> None:
        alarm = self._alarm
        if seconds < NEVER:
            if alarm is None:
                alarm = self._alarm = Alarm(self.owner.connection.reactor, self._on_deadline)
            alarm.arm(seconds)
        elif alarm is not None:
            alarm.disarm()

    def await_reading(self) -> None:
        """The exchange is over. What the windows do not take is kept for so long as the client goes on to read."""
        if self.ending:
            self.expect(self.owner.connection.front.config.timeouts.stream)

    def on_sent_some(self) -> None:
        if self.exchange is None or self.reply is not None:
            self.expect(self.owner.connection.front.config.timeouts.stream)

    def _on_deadline(self) -> None:
        """The client owed more of the body, or was to read on."""
        exchange = self.exchange
        if exchange is not None and self.reply is None and not self.is_behind:
            if exchange.request is not None and exchange.request.gets_more_time():
                return
            exchange.refuse_request(408, "the request body stopped coming, or came more slowly than limits.body_rate")
        else:
            if exchange is not None:
                exchange.abandon()
            self.owner.reset(self, CANCEL)
