"""One end of an open websocket (RFC 6455) without its socket: bytes in, whole messages out.

wsproto does the protocol; this keeps what a driver must not forget: fragments are put together up to a cap, pings and
closes are answered, and whatever breaks the rules ends the connection with a reason instead of an exception.

A report is one short, masked, binary frame, and a parent of a hundred children gets four hundred in a second. That one
kind of frame is taken apart here, in a third of the time; every other frame, and all from the first on that has 64 KiB
or no mask, is wsproto's.

Left out: the upgrade request, and text: a text message is handed on as its UTF-8 bytes.
"""

from wsproto import WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import ProtocolError

from tierlb.wire.frames import MAX_FRAME_BYTES

CLOSE_CODE = 4000
"""The private range (RFC 6455, 7.4.2): the reason says the rest."""
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


class Framing:
    """`ended` says why once nothing can be received any more; `answer` is to be sent after each `feed`."""

    __slots__ = ("_held", "_parts", "_plain", "_size", "_ws", "answer", "ended")

    def __init__(self, ws: WSConnection) -> None:
        self._ws = ws
        self._parts: list[bytes] = []
        self._size = 0
        self._held: bytes = b""
        self._plain = not ws.client
        self.answer = b""
        self.ended: str | None = None

    def feed(self, data: bytes | None) -> list[bytes]:
        """The messages that are whole now. No bytes at all are the peer's end; None: what came with the upgrade."""
        self.answer = b""
        if self.ended is not None:
            return []
        if data == b"":
            self.ended = "the connection was lost"
            return []
        try:
            if data is not None and self._plain:
                return self._take_short(self._held + data if self._held else data)
            if data is not None:
                self._ws.receive_data(data)
            return self._take()
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
                return whole + self._take()
            if length == TWO_MORE:
                length, mask_at = int.from_bytes(data[at + 2 : at + 4]), at + 4
            end = mask_at + 4 + length
            if end > size:
                break
            if data[at] == WHOLE_BINARY and not self._parts:
                whole.append(unmasked(data, mask_at, end))
            else:
                self._ws.receive_data(data[at:end])
                whole += self._take()
            at = end
        self._held = data[at:]
        return whole

    def pack(self, message: bytes) -> bytes:
        """One message as bytes to send; none once the connection is closing."""
        return self._ws.send(BytesMessage(message)) if self._ws.state is ConnectionState.OPEN else b""

    def close(self, reason: str) -> bytes:
        """The bytes that end the connection and tell why."""
        if self._ws.state is not ConnectionState.OPEN:
            return b""
        text = reason.encode()[:MAX_REASON_BYTES].decode(errors="ignore")
        return self._ws.send(CloseConnection(CLOSE_CODE, text))

    def _take(self) -> list[bytes]:
        whole: list[bytes] = []
        for event in self._ws.events():
            match event:
                case BytesMessage() | TextMessage():
                    self._gather(event, whole)
                case Ping() if self._ws.state is ConnectionState.OPEN:  # none is owed once this end has closed
                    self.answer += self._ws.send(event.response())
                case CloseConnection():
                    self._end(event)
            if self.ended is not None:
                break
        return whole

    def _gather(self, event: BytesMessage | TextMessage, whole: list[bytes]) -> None:
        data = event.data.encode() if isinstance(event.data, str) else bytes(event.data)
        self._size += len(data)
        if self._size > MAX_FRAME_BYTES:
            self.ended = f"a message of more than {MAX_FRAME_BYTES} bytes"
            self.answer += self.close(self.ended)
        elif not event.message_finished:
            self._parts.append(data)
        else:
            whole.append(b"".join((*self._parts, data)) if self._parts else data)
            self._parts, self._size = [], 0

    def _end(self, close: CloseConnection) -> None:
        self.ended = close.reason or f"closed with code {int(close.code)}"
        if self._ws.state is ConnectionState.REMOTE_CLOSING:
            self.answer += self._ws.send(close.response())
        elif self._ws.state is ConnectionState.OPEN:  # not the peer's close, but its breach of the rules
            self.answer += self._ws.send(close)
