"""The parent's end of an open websocket (RFC 6455) without its socket: bytes in, whole messages out.

wsproto does the protocol; this keeps what a driver must not forget: fragments are put together up to a cap, pings and
closes are answered, and whatever breaks the rules ends the connection with a reason instead of an exception. Control
frames and fragments, of which any number makes no message, have an allowance (allowance.py). So have the messages that
come at once: a session would count them too, but only once thousands had been taken apart.

A report is one short, masked, binary frame, and a parent of a hundred children gets four hundred in a second. That one
kind of frame is taken apart here, in a third of the time; every other frame, and all from the first on that has 64 KiB
or no mask, is wsproto's.

Left out: the upgrade request, the child's end (net/websocket.py), and text: a text message is handed on as its UTF-8
bytes.
"""

from wsproto import WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, Pong, TextMessage
from wsproto.utilities import ProtocolError

from tierlb.wire.allowance import EXCEEDED, MAX_UNITS, Allowance
from tierlb.wire.frames import MAX_CHILD_FRAME_BYTES

CLOSE_CODE = 4000
"""The private range (RFC 6455, 7.4.2): the reason has the details."""
MAX_REASON_BYTES = 120
"""A close frame has 125 bytes, two of them the code (RFC 6455, 5.5)."""
WHOLE_BINARY = 0x82
MASKED = 0x80
TWO_MORE = 126
"""The length that says that the next two bytes are the length (RFC 6455, 5.2)."""


def unmasked(data: bytes, mask_at: int, end: int) -> bytes:
    """The payload behind a mask of four bytes (RFC 6455, 5.3)."""
    begin = mask_at + 4
    size = end - begin
    mask = data[mask_at:begin] * (size // 4 + 1)
    return (int.from_bytes(data[begin:end]) ^ int.from_bytes(mask[:size])).to_bytes(size)


def close_text(reason: str) -> str:
    """The reason, cut between characters to what a close frame holds."""
    return reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")


class Framing:
    """`ended`: why nothing can be received any more, None until then; `answer` is to be sent after each `feed`.
    `gave_up`: it ended because the child sent too much, of which more may be on its way."""

    __slots__ = (
        "_allowance",
        "_begun",
        "_held",
        "_now",
        "_part",
        "_plain",
        "_ws",
        "answer",
        "ended",
        "gave_up",
    )

    def __init__(self, ws: WSConnection) -> None:
        self._ws = ws
        self._part = bytearray()
        self._begun = False
        self._allowance = Allowance()
        self._now = 0.0
        self._held: bytes = b""
        self._plain = True
        self.answer = b""
        self.ended: str | None = None
        self.gave_up = False

    def feed(self, data: bytes, now: float = 0.0) -> list[bytes]:
        """The messages that are whole at `now`. No bytes at all are the child's end."""
        self.answer = b""
        self._now = now
        if self.ended is not None:
            return []
        if not data:
            self.ended = "the connection was lost"
            return []
        try:
            if self._plain:
                return self._take_short(self._held + data if self._held else data)
            self._ws.receive_data(data)
            return self._take([])
        except ProtocolError as error:
            self.ended = str(error)
            return []

    def _take_short(self, data: bytes) -> list[bytes]:
        """Frame by frame, for as long as all are short; the beginning of one waits for its rest."""
        whole: list[bytes] = []
        at, size = 0, len(data)
        while at + 2 <= size and self.ended is None:
            length, mask_at = data[at + 1] - MASKED, at + 2
            if not 0 <= length <= TWO_MORE:
                self._plain, self._held = False, b""
                self._ws.receive_data(data[at:])
                return self._take(whole)
            if length == TWO_MORE:
                length, mask_at = int.from_bytes(data[at + 2 : at + 4]), at + 4
            end = mask_at + 4 + length
            if end > size:
                break
            if data[at] == WHOLE_BINARY and not self._begun:
                self._hand_on(unmasked(data, mask_at, end), whole)
            else:
                self._ws.receive_data(data[at:end])
                self._take(whole)
            at = end
        self._held = data[at:]
        return whole

    def pack(self, message: bytes) -> bytes:
        """One message as bytes to send; none once the connection is closing."""
        return self._ws.send(BytesMessage(message)) if self._ws.state is ConnectionState.OPEN else b""

    def close(self, reason: str) -> bytes:
        """The bytes that end the connection with this reason."""
        if self._ws.state is not ConnectionState.OPEN:
            return b""
        return self._ws.send(CloseConnection(CLOSE_CODE, close_text(reason)))

    def _take(self, whole: list[bytes]) -> list[bytes]:
        """With the messages that wsproto finds."""
        for event in self._ws.events():
            match event:
                case BytesMessage() | TextMessage():
                    self._gather(event, whole)
                case Ping():
                    if self._count() and self._ws.state is ConnectionState.OPEN:  # no answer once this end has closed
                        self.answer += self._ws.send(event.response())
                case Pong():
                    self._count()
                case CloseConnection():
                    self._end(event)
            if self.ended is not None:
                break
        return whole

    def _gather(self, event: BytesMessage | TextMessage, whole: list[bytes]) -> None:
        self._part += event.data.encode() if isinstance(event.data, str) else event.data
        if len(self._part) > MAX_CHILD_FRAME_BYTES:
            self._give_up(f"a message of more than {MAX_CHILD_FRAME_BYTES} bytes")
        elif event.message_finished:
            self._hand_on(bytes(self._part), whole)
            self._part.clear()
            self._begun = False
        else:
            self._begun = True
            if event.frame_finished:
                self._count()

    def _hand_on(self, message: bytes, whole: list[bytes]) -> None:
        if len(whole) < MAX_UNITS:
            whole.append(message)
        else:
            self._give_up(EXCEEDED)

    def _count(self) -> bool:
        """One frame more that is no message; whether it is allowed."""
        if self._allowance.take(1.0, self._now):
            return True
        self._give_up(EXCEEDED)
        return False

    def _give_up(self, reason: str) -> None:
        self.ended, self.gave_up = reason, True
        self._part.clear()
        self.answer += self.close(reason)

    def _end(self, close: CloseConnection) -> None:
        self.ended = close.reason or f"closed with code {int(close.code)}"
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            self.answer += self._ws.send(close.response())
        elif self._ws.state is ConnectionState.OPEN:  # not the peer's close, but its breach of the rules
            self.answer += self._ws.send(close)
