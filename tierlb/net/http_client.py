"""HTTP/1.1 as a client, for health checks, agents, etcd and commands: one request at a time on a trio stream.

h11 parses; the stream is the caller's, with its deadlines and its end. Whatever the other end sends, the head of an
answer is bounded here and its body by the caller. Left out: redirects, cookies, proxies, HTTP/2. The data path has a
client of its own (dataplane/l7).
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import attrs
import h11
import trio

CLIENT_READ_BYTES = 16 * 1024
MAX_ANSWER_HEAD_BYTES = 16 * 1024
MAX_INTERIM_BYTES = 256 * 1024
"""Of interim answers (1xx) before the final one, whose number HTTP does not limit."""
MAX_FAULT_CHARS = 120
"""Of h11's words for a bad answer, which may quote a whole head."""


class BadAnswer(Exception):  # noqa: N818 (an event of normal operation)
    """The other end does not answer as HTTP does, or with more than is read."""


class CutAnswer(BadAnswer):
    """The connection ended before the answer did."""


@attrs.frozen
class Head:
    """The head of the final answer."""

    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a field; the name in any case."""
        return tuple(value for field, value in self.fields if field == name.lower())


class HttpConnection:
    """One connection. Besides BadAnswer every method raises what the stream raises."""

    def __init__(self, stream: trio.abc.Stream, max_head_bytes: int = MAX_ANSWER_HEAD_BYTES) -> None:
        self.stream = stream
        self.received_bytes = 0
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_head_bytes)
        self._ended = False
        self._rest = b""

    async def ask(self, method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes = b"") -> Head:
        """Send a request and wait for the head of its answer. Raises ValueError for what is no HTTP request."""
        await self.stream.send_all(encode_request(self._http, method, target, fields, body))
        before = self.received_bytes
        while True:
            event = await self._event()
            if isinstance(event, h11.Response) or (
                isinstance(event, h11.InformationalResponse) and event.status_code == HTTPStatus.SWITCHING_PROTOCOLS
            ):
                pairs = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
                return Head(event.status_code, bytes(event.reason).decode("latin-1"), pairs)
            if self.received_bytes - before > MAX_INTERIM_BYTES:
                raise BadAnswer("gave interim answers only")

    async def chunk(self) -> bytes:
        """The next piece of the body; b"" at its end."""
        event = await self._event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def body(self, max_bytes: int) -> bytes:
        """The rest of the body. Raises BadAnswer if it is longer."""
        pieces, size = [], 0
        while piece := await self.chunk():
            pieces.append(piece)
            size += len(piece)
            if size > max_bytes:
                raise BadAnswer(f"answers more than {max_bytes} bytes")
        return b"".join(pieces)

    async def line(self, max_bytes: int) -> bytes | None:
        """The next line of the body, without its line feed; None at the end. Raises BadAnswer if it is longer."""
        while b"\n" not in self._rest and (piece := await self.chunk()):
            self._rest += piece
            if len(self._rest) > max_bytes:
                raise BadAnswer(f"answers more than {max_bytes} bytes in a line")
        line, _, rest = self._rest.partition(b"\n")
        if not self._rest:
            return None
        self._rest = rest
        return line

    def renew(self) -> bool:
        """Whether another request may follow on this connection, for which it is ready then."""
        http = self._http
        if (http.our_state, http.their_state) != (h11.DONE, h11.DONE) or http.trailing_data[0]:
            return False
        http.start_next_cycle()
        return True

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                data = bytes(await self.stream.receive_some(CLIENT_READ_BYTES))
                self.received_bytes += len(data)
                self._ended = not data
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise (CutAnswer if self._ended else BadAnswer)(str(error)[:MAX_FAULT_CHARS]) from error
        return event


def encode_request(
    http: h11.Connection, method: str, target: str, fields: Iterable[tuple[str, str]], body: bytes = b""
) -> bytes:
    """The request as bytes. Raises ValueError for what is no HTTP request."""
    length = [("Content-Length", str(len(body)))] if body else []
    try:
        parts = [http.send(h11.Request(method=method, target=target, headers=[*fields, *length]))]
        parts += [http.send(h11.Data(body))] if body else []
        return b"".join(part or b"" for part in (*parts, http.send(h11.EndOfMessage())))
    except h11.LocalProtocolError as error:
        raise ValueError(str(error)) from error


def demand_request(method: str, target: str, fields: Iterable[tuple[str, str]]) -> None:
    """Raises ValueError unless this is a request without a body."""
    encode_request(h11.Connection(h11.CLIENT), method, target, fields)
