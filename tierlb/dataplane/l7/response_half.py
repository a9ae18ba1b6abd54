"""What came of the response on one connection to a host: heads and body, read from HTTP/1 bytes. Pure.

Each connection has one for as long as it lasts. It begins anew with every request that the connection carries
(`states.RESPONSE_TABLE`). Bodies may be longer than their heads announce: what lies behind the end of a response is
found here, and such a connection carries no further request.

Left out: what is done with a response (`exchange`), and how it is framed for the client (`downstream`).
"""

from typing import Final

from tierlb.dataplane.l7.reply import CHUNKED, UNTIL_CLOSE, Reply, ReplyBook
from tierlb.dataplane.l7.states import (
    AWAITED,
    BODY,
    DONE,
    ResponseEvent,
    after_response_event,
)
from tierlb.wire.http_body import BadBody, ChunkedDecoder
from tierlb.wire.http_fields import BadHead, Header
from tierlb.wire.http_start import why_no_response

MOST_INTERIMS: Final = 16
"""Responses of status 1xx to one request: a 100, a few hints, a 102 now and then. A bad endpoint never stops."""


class BadResponseError(Exception):
    """A response that must not be passed on, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ResponseHalf:
    """`reply`: the final head, from BODY on. `rest`: the bytes that the last call did not take. `interims`: how many
    1xx responses came, 0 from BODY on. `is_clean`: once it is DONE, whether nothing came behind its end.
    `ends_by_length`: whether one whose length is known is over as soon as all of that came; else trailers may follow,
    and the end comes by `end_by_close`. The connection sets `state` from DONE to AWAITED when it is kept
    (`PooledConnection.keep`)."""

    __slots__ = ("_decoder", "_left", "_part", "ends_by_length", "interims", "is_clean", "reply", "rest", "state")

    def __init__(self) -> None:
        self.state = AWAITED
        self.reply: Reply | None = None
        self.rest = b""
        self.interims = 0
        self.is_clean = False
        self.ends_by_length = True
        self._part = b""
        self._left = 0
        self._decoder: ChunkedDecoder | None = None

    def read_head(self, data: bytes, replies: ReplyBook, limit: int, is_head: bool) -> Reply | None:
        """The next complete head, interim or final; `rest` is what came behind it. None if more bytes are needed. If
        `rest` is all of the body, the response is DONE. `is_head`: the response is to a HEAD request. Raises
        BadResponseError."""
        if self._part:
            data = self._part + data
        end = data.find(b"\r\n\r\n") + 4
        if not 3 < end <= limit:
            self._await_head(data, end, limit)
            return None
        head = data[:end]
        reply = replies.known.get(head) or self._read(head, replies)
        self._part = b""
        self.rest = rest = data[end:]
        if reply.status < 200:
            self._note_interim(reply)
            return reply
        self.reply = reply
        self.interims = 0
        self.state = BODY  # HEAD
        self._left = left = 0 if is_head else reply.length
        if left == len(rest):
            if self.ends_by_length:
                self.state = DONE  # END
                self.is_clean = not (is_head and reply.length)
        else:
            self._begin_body(left)
        return reply

    def _await_head(self, data: bytes, end: int, limit: int) -> None:
        """There is no complete head in the data, or one that is too large."""
        if end > limit or len(data) > limit:
            raise self._bad(f"its response head is larger than the {limit} bytes allowed here")
        reason = why_no_response(data, len(self._part))
        if reason is not None:
            raise self._bad(reason)
        self._part = data
        self.state = after_response_event(self.state, ResponseEvent.PART)

    def _read(self, head: bytes, replies: ReplyBook) -> Reply:
        try:
            return replies.reply(head)
        except BadHead as error:
            raise self._bad(why_no_response(head, 0) or error.reason) from None

    def _note_interim(self, reply: Reply) -> None:
        if reply.status == 101:
            self.state = after_response_event(self.state, ResponseEvent.SWITCH)
            return
        self.interims += 1
        if self.interims > MOST_INTERIMS:
            raise self._bad(f"more than {MOST_INTERIMS} interim answers")
        self.state = after_response_event(self.state, ResponseEvent.INTERIM)

    def _begin_body(self, left: int) -> None:
        """The rest is not all of the body, or more than that."""
        if left == CHUNKED:
            self._decoder = ChunkedDecoder()
        elif left == 0:
            self.rest = b""
            self.state = after_response_event(self.state, ResponseEvent.END)
            self.is_clean = False

    def read_body(self, data: bytes, now: float) -> bytes:
        """The body in these bytes. In a body of very many chunks, `rest` may be left for the next turn. Raises
        BadResponseError."""
        left = self._left
        self.rest = b""
        if left >= 0:
            size = len(data)
            if size >= left and (size > left or self.ends_by_length):
                self.state = DONE  # END
                self.is_clean = size == left
                return data if size == left else data[:left]
            self._left = left - size
            return data
        return self._read_chunks(data, now) if left == CHUNKED else data

    def _read_chunks(self, data: bytes, now: float) -> bytes:
        decoder = self._decoder
        assert decoder is not None
        try:
            pieces, self.rest = decoder.feed(data, now)
        except BadBody as error:
            raise self._bad(error.reason) from None
        if decoder.done:
            self.state = DONE  # END
            self.is_clean = not self.rest
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    @property
    def trailers(self) -> tuple[Header, ...]:
        """The trailer fields to pass on with the end of the body."""
        return self._decoder.trailers if self._left == CHUNKED and self._decoder is not None else ()

    def end_by_close(self) -> bool:
        """The host closed the connection in the middle of the body; whether that ends the response as it should."""
        if self._left == UNTIL_CLOSE or self._left == 0:
            self.state = after_response_event(self.state, ResponseEvent.END)
            self.is_clean = False
            return True
        self.state = after_response_event(self.state, ResponseEvent.FAIL)
        return False

    def _bad(self, reason: str) -> BadResponseError:
        self.state = after_response_event(self.state, ResponseEvent.FAIL)
        return BadResponseError(reason)
