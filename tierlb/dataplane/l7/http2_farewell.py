"""How a connection of HTTP/2 parts from its client without losing a request (RFC 9113 §6.8).

A first GOAWAY names no last stream: the client is to open no more here. One round trip later, when a ping has come back
or LEAVE_S is over, a second one names the last stream that is served, and later ones are refused, which makes them safe
to repeat. The connection ends with the last of its streams.

Some clients take no answer any more behind a GOAWAY. So the first one waits for a moment without streams, MOMENT_S at
most, and a client with one request at a time gets it behind the answer.
"""

import enum
from collections.abc import Callable
from typing import Final

from tierlb.dataplane.l7.http2_output import Output
from tierlb.net.alarm import Alarm
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import LAST_ID, NO_ERROR, PING, frame, goaway_frame

LEAVE_S: Final = 1.0
"""More than a round trip takes nearly anywhere."""
MOMENT_S: Final = 0.5
"""For a connection on which there is always a stream."""
PAYLOAD: Final = b"farewell"


class FarewellStage(enum.Enum):
    """Of parting."""

    SERVING = "further streams are welcome"
    HOLDING = "it is to part, but not before a moment without streams"
    ANNOUNCED = "the first GOAWAY was sent"
    LEAVING = "the second GOAWAY was sent"


class Farewell:
    """One connection's. `last_id`: the last stream that is served, LAST_ID until that is certain."""

    __slots__ = ("_alarm", "_on_leaving", "_on_time", "_output", "_reactor", "last_id", "stage")

    def __init__(
        self, reactor: Reactor, output: Output, on_time: Callable[[], None], on_leaving: Callable[[], int]
    ) -> None:
        """`on_time`: called when `begin_within` is over. `on_leaving`: called when it comes to the second GOAWAY;
        returns the last stream that came."""
        self._on_time = on_time
        self._alarm = Alarm(reactor, self._on_alarm)
        self._reactor = reactor
        self._output = output
        self._on_leaving = on_leaving
        self.stage = FarewellStage.SERVING
        self.last_id = LAST_ID

    def begin(self, *, busy: bool) -> None:
        """Part, if it has not begun to. `busy`: there are streams."""
        if self.stage is not FarewellStage.SERVING:
            return
        if busy:
            self.stage = FarewellStage.HOLDING
            self._alarm.arm(MOMENT_S)
        else:
            self._announce()

    def on_idle(self) -> None:
        """The last stream is over, and a new one may come."""
        if self.stage is FarewellStage.HOLDING:
            self._announce()

    def _announce(self) -> None:
        """The ping goes first, since some clients take nothing behind a GOAWAY."""
        self.stage = FarewellStage.ANNOUNCED
        self._output.write(frame(PING, 0, 0, PAYLOAD) + goaway_frame(LAST_ID, NO_ERROR))
        self._alarm.arm(LEAVE_S)

    def begin_within(self, seconds: float) -> None:
        """Part after so long at the latest."""
        if self.stage is FarewellStage.SERVING and self._alarm.deadline > self._reactor.now + seconds:
            self._alarm.arm(seconds)

    def on_pong(self, payload: bytes) -> None:
        """A ping came back."""
        if payload == PAYLOAD and self.stage is FarewellStage.ANNOUNCED:
            self._leave()

    def _on_alarm(self) -> None:
        if self.stage is FarewellStage.SERVING:
            self._on_time()
        elif self.stage is FarewellStage.HOLDING:
            self._announce()
        elif self.stage is FarewellStage.ANNOUNCED:
            self._leave()

    def _leave(self) -> None:
        self.stage = FarewellStage.LEAVING
        self._alarm.disarm()
        self.last_id = last_id = self._on_leaving()
        self._output.write(goaway_frame(last_id, NO_ERROR))

    def close(self) -> None:
        """The connection is over."""
        if self._alarm.deadline < NEVER:
            self._alarm.disarm()
