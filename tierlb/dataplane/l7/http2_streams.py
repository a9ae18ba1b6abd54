"""The streams of one client's connection over HTTP/2: which there are, what they are given back, and how they end.

Left out: frames that come in (`http2_session`).
"""

from typing import Final

from tierlb.dataplane.l7.client_stream import ClientStream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.http1 import RETRY_AFTER
from tierlb.dataplane.l7.http2_farewell import Farewell
from tierlb.dataplane.l7.http2_output import Output, SendingStream
from tierlb.dataplane.l7.http2_owner import StreamOwner
from tierlb.dataplane.l7.http2_patience import RESPONSE, Patience
from tierlb.dataplane.l7.http2_stream import Http2Stream
from tierlb.model.topology import ClientAbort
from tierlb.wire.http2_frames import CANCEL, ENHANCE_YOUR_CALM, BadConnection, reset_frame, window_frame
from tierlb.wire.http2_states import CLOSED, StreamEvent
from tierlb.wire.http2_windows import ReceiveWindow

CONNECTION_WINDOW: Final = 1024 * 1024
"""What all streams together may send ahead: four of which no host reads the bodies do not stop the others."""
RESETS_KEPT: Final = 200
"""Streams that were reset here lately, of which frames may still be under way."""


class Http2Streams(StreamOwner):
    """`streams`: those that are not over. `last_id`: the last one that the client opened. `resets`: those that this end
    has reset lately. `received`: the window of the connection."""

    __slots__ = ("_resumed", "farewell", "last_id", "patience", "received", "resets", "streams")

    def __init__(self, connection: ClientStream) -> None:
        reactor = connection.reactor
        self.connection = connection
        self.output = output = Output(connection)
        self.farewell = Farewell(reactor, output, self.part, self._on_leaving)
        self.patience = Patience(reactor.now)
        self.streams: dict[int, Http2Stream] = {}
        self.last_id = 0
        self.received = ReceiveWindow(CONNECTION_WINDOW)
        self.resets: dict[int, None] = {}
        self._resumed: list[SendingStream] = []

    def charge(self, cost: float) -> None:
        """The client causes work for nothing. Raises BadConnection."""
        if not self.patience.charge(self.connection.reactor.now, cost):
            raise BadConnection(ENHANCE_YOUR_CALM, "too many frames that cause work for nothing")

    def turn(self) -> None:
        """Once in each turn of the connection: go on with what was resumed, and write."""
        if self._resumed:
            resumed, self._resumed = self._resumed, []
            for stream in resumed:
                stream.go_on()
        self.output.flush()

    def under_way(self) -> list[Exchange]:
        """All exchanges."""
        return [stream.exchange for stream in self.streams.values() if stream.exchange is not None]

    def unanswered(self) -> list[Exchange]:
        """The exchanges of which no response has begun."""
        return [s.exchange for s in self.streams.values() if s.exchange is not None and s.reply is None]

    # What streams ask for.

    def resume(self, stream: SendingStream) -> None:
        self._resumed.append(stream)
        self.connection.reactor.ready.add(self.connection)

    def give_credit(self, stream: SendingStream, count: int) -> None:
        self.give_back(count)
        assert isinstance(stream, Http2Stream)
        if stream.received is not None and not stream.has_ended:
            increment = stream.received.give(count)
            if increment:
                self.output.write(window_frame(stream.id, increment))

    def give_back(self, count: int) -> None:
        """So much of DATA was dealt with, whatever stream it was of."""
        increment = self.received.give(count)
        if increment:
            self.output.write(window_frame(0, increment))

    def on_answered(self) -> None:
        self.patience.earn(RESPONSE)

    def part(self) -> None:
        self.farewell.begin(busy=bool(self.streams))

    def _on_leaving(self) -> int:
        self.connection.reactor.ready.add(self.connection)
        return self.last_id

    # The ends of streams.

    def reset(self, stream: SendingStream, code: int) -> None:
        if stream.state is not CLOSED:
            stream.enter(StreamEvent.RESET)
            self.write_reset(stream.id, code)
        self.close(stream)

    def write_reset(self, stream_id: int, code: int) -> None:
        """RST_STREAM, after which frames that were under way are no error."""
        resets = self.resets
        resets[stream_id] = None
        if len(resets) > RESETS_KEPT:
            del resets[next(iter(resets))]
        self.output.write(reset_frame(stream_id, code))

    def close(self, stream: SendingStream) -> None:
        self.output.drop(stream)
        found = self.streams.pop(stream.id, None)
        if found is not None:
            found.drop()
            if not self.streams:
                self.farewell.on_idle()
                self.connection.on_idle()

    def lose(self, stream: Http2Stream) -> None:
        """The client has reset the stream or disconnected. An exchange that is to be finished goes on, and its response
        is thrown away. A tunnel that has not begun is nothing to finish."""
        stream.enter(StreamEvent.RESET)
        stream.has_left = True
        self.output.drop(stream)
        exchange = stream.exchange
        finishes = self.connection.front.config.snapshot.client_abort is ClientAbort.FINISH
        may_finish = finishes and not stream.demands_switch
        if exchange is not None and may_finish and (exchange.request is None or stream.is_whole):
            exchange.on_downstream_drained()
            return
        if exchange is not None:
            exchange.abandon()
        self.close(stream)

    def lose_all(self) -> None:
        """The client will read no response."""
        for stream in list(self.streams.values()):
            if stream.state is not CLOSED:
                self.lose(stream)

    def cut(self) -> None:
        """The time for answers is over: what has not begun gets one, what has begun is reset."""
        front = self.connection.front
        for stream in list(self.streams.values()):
            exchange = stream.exchange
            if exchange is not None:
                exchange.abandon()
                front.counters.errors += 1
                if stream.reply is None:
                    stream.refuse(503, "this node ends, and the time for answers is over", RETRY_AFTER)
            self.reset(stream, CANCEL)

    def abandon(self) -> None:
        """The connection is over: nothing is wanted any more."""
        self.farewell.close()
        for exchange in self.under_way():
            exchange.abandon()
        for stream in list(self.streams.values()):
            self.close(stream)
