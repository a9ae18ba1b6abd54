"""Both ends of the control channel, without a socket: which frames each may send, and when.

A child connects, sends Hello, and is welcomed or closed with a reason. Then it reports, and the parent sends guidance
and watches. Only the controller, the root parent, also sends snapshots, each answered by Ack or Refuse in the order
sent, and names the other parents. A child that receives such frames from another parent closes.

`receive(bytes)` returns effects for the driver to carry out: bytes to transmit, a close, or a received frame that is
in order and may be acted upon. A session that asked for a close ignores what still arrives. A child that floods its
parent, or is silent for too long, is closed too.

Left out: the transport and its token (net/), the clock (`now` is a number of seconds), and what the frames mean.
"""

from collections import deque

import attrs

from tierlb.model.load import Guidance
from tierlb.model.snapshot import Snapshot
from tierlb.wire.allowance import EXCEEDED, FRAME_UNIT_BYTES, Allowance
from tierlb.wire.frame_fields import MAX_TEXT_CHARACTERS
from tierlb.wire.frames import (
    MAX_CHILD_FRAME_BYTES,
    PROTOCOL_VERSION,
    Ack,
    Configure,
    Frame,
    Hello,
    Leaving,
    ProtocolError,
    Refuse,
    Report,
    ReportTo,
    Watch,
    Welcome,
    decode_frame,
    encode_frame,
)

MAX_UNANSWERED = 16
"""Snapshots a child may leave unanswered. A healthy one answers in milliseconds: more means it is stuck."""
CHILD_SILENT_S = 30.0
"""A child sends a frame at least every ten seconds, even where it has nothing to report."""


@attrs.frozen
class Transmit:
    """Send these bytes to the peer."""

    data: bytes


@attrs.frozen
class Close:
    """Close the connection and give this reason."""

    reason: str


Effect = Frame | Transmit | Close
ParentFrame = Configure | ReportTo | Guidance | Watch
"""What a parent may send to a child that it has welcomed."""
ChildFrame = Ack | Refuse | Report | Leaving
"""What a child may send once it is welcomed."""


@attrs.define
class ParentSession:
    """The parent's end. `receive` gives Hello, Ack, Refuse, Report and Leaving frames, and Close."""

    report_interval_s: float
    name: str = ""
    """Of the parent, for a child that has only the name of its tier."""
    hello: Hello | None = None
    accepted: bool = False
    closed: bool = False
    received_s: float | None = None
    _allowance: Allowance = attrs.field(factory=Allowance, init=False)
    _unanswered: deque[Snapshot] = attrs.field(factory=deque, init=False)

    def receive(self, data: bytes, now: float) -> list[Effect]:
        """What follows from one message of the child."""
        if self.closed:
            return []
        self.received_s = now
        if not self._allowance.take(1 + len(data) / FRAME_UNIT_BYTES, now):
            return self._close(EXCEEDED)
        try:
            return self._on_frame(decode_frame(data, MAX_CHILD_FRAME_BYTES))
        except ProtocolError as error:
            return self._close(str(error))

    def tick(self, now: float) -> list[Effect]:
        """To be called about every second: what follows from the time that has passed."""
        if self.received_s is None:
            self.received_s = now
        if self.closed or now - self.received_s < CHILD_SILENT_S:
            return []
        return self._close(f"silent for {CHILD_SILENT_S:g} s")

    def accept(self) -> list[Effect]:
        """Welcome the child whose hello was received; before that it can be sent nothing."""
        assert self.hello is not None, "accept comes after hello"
        self.accepted = True
        return [Transmit(encode_frame(Welcome(self.report_interval_s, self.name)))]

    def send(self, frame: ParentFrame) -> list[Effect]:
        """Send a frame, once the child is welcomed. A child that answers no snapshots is closed instead of being sent
        another."""
        if self.closed or not self.accepted:
            return []
        if isinstance(frame, Configure):
            if len(self._unanswered) >= MAX_UNANSWERED:
                return self._close(f"{MAX_UNANSWERED} snapshots without an answer")
            self._unanswered.append(frame.snapshot)
        return [Transmit(encode_frame(frame))]

    def _close(self, reason: str) -> list[Effect]:
        self.closed = True
        return [Close(reason)]

    def _on_frame(self, frame: Frame) -> list[Effect]:
        if self.hello is None:
            return self._on_first(frame)
        if not self.accepted:
            raise ProtocolError("a frame before the welcome")
        match frame:
            case Ack() | Refuse():
                self._settle(frame)
            case Report() | Leaving():
                pass
            case _:
                raise ProtocolError(f"a {type(frame).__name__.lower()} frame is not for a parent in session")
        return [frame]

    def _on_first(self, frame: Frame) -> list[Effect]:
        if not isinstance(frame, Hello):
            raise ProtocolError("the first frame must be hello")
        if frame.version != PROTOCOL_VERSION:
            raise ProtocolError(
                f"the node speaks protocol {frame.version} and its parent {PROTOCOL_VERSION}: "
                "install the same version of tierlb on both"
            )
        self.hello = frame
        return [frame]

    def _settle(self, answer: Ack | Refuse) -> None:
        if not self._unanswered or self._unanswered[0].revision != answer.revision:
            raise ProtocolError(f"snapshot {answer.revision} is not the one to be answered")
        snapshot = self._unanswered.popleft()
        if isinstance(answer, Ack) and len(answer.addresses) != len(snapshot.listeners):
            raise ProtocolError(f"ack: {len(answer.addresses)} addresses for {len(snapshot.listeners)} listeners")


@attrs.define
class ChildSession:
    """The child's end. `receive` gives Welcome, Guidance and Watch frames and Close; if `to_controller`, also
    Configure and ReportTo."""

    hello: Hello
    to_controller: bool = True
    welcomed: bool = False
    closed: bool = False

    def start(self) -> list[Effect]:
        """The first thing to send."""
        return [Transmit(encode_frame(self.hello))]

    def receive(self, data: bytes) -> list[Effect]:
        """What follows from one message of the parent."""
        if self.closed:
            return []
        try:
            return [self._checked(decode_frame(data))]
        except ProtocolError as error:
            self.closed = True
            return [Close(str(error))]

    def send(self, frame: ChildFrame) -> list[Effect]:
        """Send a frame, once this child is welcomed. Of a report that is too long, rows are left out: those are sent
        when they are newer."""
        if self.closed or not self.welcomed:
            return []
        if isinstance(frame, Refuse):
            frame = Refuse(frame.revision, frame.reason[:MAX_TEXT_CHARACTERS] or "no reason given")
        data = encode_frame(frame)
        while isinstance(frame, Report) and frame.rows and len(data) > MAX_CHILD_FRAME_BYTES:
            frame = attrs.evolve(frame, rows=frame.rows[: len(frame.rows) // 2])
            data = encode_frame(frame)
        return [Transmit(data)]

    def _checked(self, frame: Frame) -> Frame:
        match frame:
            case Welcome() if not self.welcomed:
                self.welcomed = True
                return frame
            case Guidance() | Watch() if self.welcomed:
                return frame
            case Configure() | ReportTo() if self.welcomed and self.to_controller:
                return frame
        raise ProtocolError(f"a {type(frame).__name__.lower()} frame is not expected here")
