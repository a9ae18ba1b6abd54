"""An endpoint's side of one long request: the answer begins, goes on in pieces, and ends, by timers of its process.

It knows no sockets: `Host` is the process that has them.
"""

from collections.abc import Callable
from typing import Protocol

from scripts.benchmarks.bodies import Body, chunk
from scripts.benchmarks.items import Item

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
PIECEMEAL = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Accel-Buffering: no\r\nTransfer-Encoding: chunked\r\n\r\n"
)
"""Applications that stream ask nginx in this way not to collect the answer."""
BULK = b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n"
BLOCK = bytes(65536)


class Host(Protocol):
    """What the endpoint's process does for a long request."""

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` once, unless the connection has ended by then. The endpoint's phase stretches the time."""

    def occupy(self, seconds: float, then: Callable[[], None]) -> None:
        """Take a slot for that long as soon as one is free, and call `then` at that moment."""

    def send(self, data: bytes) -> int:
        """How many of these bytes the connection took."""

    def await_room(self, then: Callable[[], None] | None) -> None:
        """Call `then` whenever the connection takes bytes again; None ends that."""

    def done(self) -> None:
        """The answer is complete."""


class Parked:
    """One long request at endpoint `number`."""

    def __init__(self, host: Host, item: Item, number: int, body: Body) -> None:
        self._host = host
        self._item = item
        self._number = number
        self._body = body
        self._pieces = item.pieces
        self._bulk = item.bulk_bytes
        self._early = b""
        self._begun = False

    @property
    def rest(self) -> bytes:
        """What came after the request's end."""
        return self._body.rest

    def begin(self) -> None:
        """The request's head has come."""
        if self._item.slot:
            self._host.occupy(self._item.whole_s(self._number), self._start)
        elif self._item.messages or self._body.ended:
            self._start()

    def receive(self, data: bytes) -> None:
        """Bytes of the request's body."""
        if self._body.ended:
            return
        payload = self._body.feed(data)
        if self._item.messages:
            self._echo(payload)
        elif self._body.ended and not self._item.slot:
            self._start()

    def _start(self) -> None:
        self._host.after(self._item.head_s(self._number), self._answer)

    def _answer(self) -> None:
        self._begun = True
        if self._item.messages:
            self._host.send(PIECEMEAL)
            early, self._early = self._early, b""
            self._echo(early)
        elif self._bulk:
            self._host.send(BULK % self._bulk)
            self._host.await_room(self._pump)
        elif self._pieces:
            self._host.send(PIECEMEAL)
            self._host.after(self._item.every_s, self._piece)
        else:
            self._host.send(OK)
            self._host.done()

    def _piece(self) -> None:
        self._host.send(chunk(b"." * self._item.piece_bytes))
        self._pieces -= 1
        if self._pieces:
            self._host.after(self._item.every_s, self._piece)
        else:
            self._end()

    def _echo(self, payload: bytes) -> None:
        """What comes before the answer's head goes out after it."""
        if not self._begun:
            self._early += payload
            return
        if payload:
            self._host.send(chunk(payload))
        if self._body.ended:
            self._end()

    def _end(self) -> None:
        self._host.send(chunk(b""))
        self._host.done()

    def _pump(self) -> None:
        while self._bulk:
            block = BLOCK[: self._bulk]
            taken = self._host.send(block)
            self._bulk -= taken
            if taken < len(block):
                return
        self._host.await_room(None)
        self._host.done()
