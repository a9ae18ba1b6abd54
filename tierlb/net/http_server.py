"""HTTP/1.1 as a server, for the admin API: one request after the other on a connection that was accepted.

h11 parses. A request that offers another protocol (`Upgrade`) is answered as any other, and first bytes of HTTP/2 are a
bad request. Left out: deadlines, which are the caller's, and answers in pieces.
"""

from email.utils import formatdate
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote

import attrs
import h11
import trio

REQUEST_READ_BYTES = 1024
"""In one turn. Chunks of one byte are the most work, of which these are 170 and 2 ms. The same thread serves the
nodes, so a flood of requests may not hold it for longer."""
MAX_REQUEST_HEAD_BYTES = 64 * 1024


class BadRequest(Exception):  # noqa: N818 (an event of normal operation)
    """The bytes are not an HTTP request, or its body is longer than is read; `status` is HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


@attrs.frozen
class HttpAnswer:
    """A whole answer. `fields` come beside those of the content."""

    status: int
    content: bytes
    content_type: str
    fields: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class HttpRequest:
    """The head of a request, and the connection to read its body from. `path` is decoded and without the query; names
    of fields are lower case. `client` and `server` are the IP addresses of the connection's ends."""

    method: str
    path: str
    fields: tuple[tuple[str, str], ...]
    client: str
    server: str
    scheme: str = "http"
    connection: "HttpServerConnection | None" = None

    def values(self, name: str) -> list[str]:
        """All values of a field."""
        return [value for field, value in self.fields if field == name]

    async def body(self, max_bytes: int) -> bytes:
        """The whole body. Raises BadRequest."""
        length = self.values("content-length")
        if length and int(length[0]) > max_bytes:
            raise BadRequest(413, f"at most {max_bytes} bytes are read")
        return b"" if self.connection is None else await self.connection.body(max_bytes)


class HttpServerConnection:
    """The connection of one client. Of all connections that share `turn` one reads, and then other tasks run. Besides
    BadRequest every method raises what the stream raises."""

    def __init__(self, stream: trio.abc.Stream, turn: trio.StrictFIFOLock, client: str, server: str) -> None:
        self._stream = stream
        self._turn = turn
        self._ends = client, server
        self._scheme = "https" if isinstance(stream, trio.SSLStream) else "http"
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_REQUEST_HEAD_BYTES)

    async def request(self) -> HttpRequest | None:
        """The next request; None where the client asks no more."""
        event = await self._event()
        if not isinstance(event, h11.Request):
            return None
        if not event.http_version.startswith(b"1."):
            raise BadRequest(505, "only HTTP/1.1 is spoken here")
        path = unquote(event.target.partition(b"?")[0].decode("latin-1"))
        fields = tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in event.headers)
        return HttpRequest(event.method.decode("latin-1"), path, fields, *self._ends, self._scheme, self)

    async def body(self, max_bytes: int) -> bytes:
        """The whole body of the request. A connection that breaks meanwhile raises BadRequest, too."""
        content = bytearray()
        try:
            while isinstance(event := await self._event(), h11.Data):
                content += event.data
                if len(content) > max_bytes:
                    raise BadRequest(413, f"at most {max_bytes} bytes are read")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise BadRequest(400, "the connection broke before the end of the body") from error
        return bytes(content)

    async def answer(self, answer: HttpAnswer, *, without_content: bool = False) -> bool:
        """Send the answer; whether another request may follow. `without_content`: as for HEAD."""
        http = self._http
        if http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return False
        fields = {
            "Date": formatdate(usegmt=True),
            "Content-Type": answer.content_type,
            "Content-Length": str(len(answer.content)),
            **answer.fields,
        }
        if not self._has_whole_request():
            fields["Connection"] = "close"
        head = h11.Response(
            status_code=answer.status, headers=[*fields.items()], reason=HTTPStatus(answer.status).phrase
        )
        content = h11.Data(b"" if without_content else answer.content)
        parts = [http.send(head), http.send(content), http.send(h11.EndOfMessage())]
        await self._stream.send_all(b"".join(part or b"" for part in parts))
        return self._renew()

    def _has_whole_request(self) -> bool:
        """Whether the end of the request has come; what has come of its body and was not read is passed over."""
        try:
            while self._http.their_state is h11.SEND_BODY and isinstance(self._http.next_event(), h11.Data):
                pass
        except h11.RemoteProtocolError:
            return False
        return self._http.their_state is not h11.SEND_BODY

    def _renew(self) -> bool:
        """Whether another request may follow, for which the connection is ready then."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        self._http.start_next_cycle()
        return True

    async def _event(self) -> Any:
        try:
            while (event := self._http.next_event()) is h11.NEED_DATA:
                if self._http.they_are_waiting_for_100_continue:
                    go_on = h11.InformationalResponse(status_code=100, headers=[], reason="Continue")
                    await self._stream.send_all(self._http.send(go_on) or b"")
                data = bytes(await self._stream.receive_some(REQUEST_READ_BYTES))
                async with self._turn:
                    await trio.lowlevel.checkpoint()
                self._http.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise BadRequest(error.error_status_hint, str(error)[:200]) from error
        return event
