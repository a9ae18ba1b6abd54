"""One end of an open websocket (RFC 6455) without its socket: bytes in, whole messages out.

wsproto does the protocol; this keeps what a driver must not forget: fragments are put together up to a cap, pings and
closes are answered, and whatever breaks the rules ends the connection with a reason instead of an exception.

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


class Framing:
    """`ended` says why once nothing can be received any more; `answer` is to be sent after each `feed`."""

    __slots__ = ("_parts", "_size", "_ws", "answer", "ended")

    def __init__(self, ws: WSConnection) -> None:
        self._ws = ws
        self._parts: list[bytes] = []
        self._size = 0
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
            if data is not None:
                self._ws.receive_data(data)
            return self._take()
        except ProtocolError as error:
            self.ended = str(error)
            return []

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
