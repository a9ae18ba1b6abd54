"""Both ends of the control channel, without a socket: who may say what, and when.

A child connects, says Hello and is accepted or closed with a reason. Then the parent sends snapshots, each
answered by Ack or Refuse in the order sent, and the child reports. `receive(bytes)` returns effects for the
driver to carry out: bytes to transmit, a close, or a received frame that is in order and may be acted upon. A
session that asked for a close ignores what still arrives.

Left out: the transport and its token (net/websocket.py), time, and what the frames mean to either end.
"""

from collections import deque

import attrs

from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.wire.frames import (
    MAX_TEXT_CHARACTERS,
    PROTOCOL_VERSION,
    Ack,
    Configure,
    Drain,
    Frame,
    Hello,
    ProtocolError,
    Refuse,
    Report,
    Welcome,
    decode,
    encode,
)

MAX_UNANSWERED = 16
"""Snapshots a child may leave unanswered. A healthy one answers in milliseconds: more means it is stuck."""


@attrs.frozen
class Transmit:
    """Send these bytes to the peer."""

    data: bytes


@attrs.frozen
class Close:
    """Close the connection and give this reason."""

    reason: str


Effect = Frame | Transmit | Close


@attrs.define
class ParentSession:
    """The parent's end. `receive` gives Hello, Ack, Refuse, Report and Drain frames, and Close."""

    report_interval_s: float
    hello: Hello | None = None
    accepted: bool = False
    closed: bool = False
    _unanswered: deque[Snapshot] = attrs.field(factory=deque, init=False)

    def receive(self, data: bytes) -> list[Effect]:
        """What follows from one message of the child."""
        if self.closed:
            return []
        try:
            return self._on_frame(decode(data))
        except ProtocolError as error:
            self.closed = True
            return [Close(str(error))]

    def accept(self) -> list[Effect]:
        """Welcome the child whose hello was received; only then can it be configured."""
        assert self.hello is not None, "accept comes after hello"
        self.accepted = True
        return [Transmit(encode(Welcome(self.report_interval_s)))]

    def configure(self, snapshot: Snapshot) -> list[Effect]:
        """Send a snapshot; a child that never answers is closed instead of being sent ever more."""
        if self.closed or not self.accepted:
            return []
        if len(self._unanswered) >= MAX_UNANSWERED:
            self.closed = True
            return [Close(f"{MAX_UNANSWERED} snapshots without an answer")]
        self._unanswered.append(snapshot)
        return [Transmit(encode(Configure(snapshot)))]

    def _on_frame(self, frame: Frame) -> list[Effect]:
        if self.hello is None:
            return self._on_first(frame)
        match frame:
            case Report() | Drain():
                return [frame]
            case Ack() | Refuse():
                self._settle(frame)
                return [frame]
            case _:
                raise ProtocolError(f"a {type(frame).__name__.lower()} frame is not for a parent in session")

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
            raise ProtocolError(f"revision {answer.revision} is not the one to be answered")
        snapshot = self._unanswered.popleft()
        if isinstance(answer, Ack) and len(answer.addresses) != len(snapshot.listeners):
            raise ProtocolError(f"ack: {len(answer.addresses)} addresses for {len(snapshot.listeners)} listeners")


@attrs.define
class ChildSession:
    """The child's end. `receive` gives Welcome and Configure frames and Close."""

    hello: Hello
    welcomed: bool = False
    closed: bool = False

    def start(self) -> list[Effect]:
        """The first thing to send."""
        return [Transmit(encode(self.hello))]

    def receive(self, data: bytes) -> list[Effect]:
        """What follows from one message of the parent."""
        if self.closed:
            return []
        try:
            return [self._checked(decode(data))]
        except ProtocolError as error:
            self.closed = True
            return [Close(str(error))]

    def ack(self, revision: int, addresses: tuple[Address, ...]) -> list[Effect]:
        """The snapshot is being served."""
        return self._say(Ack(revision, addresses))

    def refuse(self, revision: int, reason: str) -> list[Effect]:
        """The snapshot cannot be served."""
        return self._say(Refuse(revision, reason[:MAX_TEXT_CHARACTERS] or "no reason given"))

    def report(self, load: NodeLoad) -> list[Effect]:
        """What the node counted until now."""
        return self._say(Report(load))

    def drain(self) -> list[Effect]:
        """The node is about to leave."""
        return self._say(Drain())

    def _say(self, frame: Frame) -> list[Effect]:
        if self.closed or not self.welcomed:
            return []
        return [Transmit(encode(frame))]

    def _checked(self, frame: Frame) -> Frame:
        if isinstance(frame, Welcome) and not self.welcomed:
            self.welcomed = True
            return frame
        if isinstance(frame, Configure) and self.welcomed:
            return frame
        raise ProtocolError(f"a {type(frame).__name__.lower()} frame is not expected here")
