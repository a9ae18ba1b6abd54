"""What to do with a response head, worked out once per distinct head, and the answers this node makes itself.

How a response ends is decided here, once (RFC 9112 §6.3): not at all for HEAD, 1xx, 204 and 304; by its length;
by the last chunk; or by the close of the connection. Responses that end by a close are re-framed as chunked for
HTTP/1.1 clients, so that a cut is never mistaken for an end.
"""

from http import HTTPStatus
from typing import Final

from tierlb.dataplane.explanation import FIELD, response_fields
from tierlb.dataplane.l7.date import DATE_FIELD
from tierlb.wire import orca
from tierlb.wire.grpc_status import STATUS_FIELD, http_status
from tierlb.wire.head_values import ResponseHead
from tierlb.wire.http_head import parse_response_head
from tierlb.wire.memo import Memo
from tierlb.wire.orca import OrcaBook
from tierlb.wire.orca_report import OrcaReport

REPLIES_BUDGET_BYTES: Final = 1024 * 1024
REPLY_BYTES: Final = 2000
"""What a reply takes beside the characters of its head, a load report included."""

CHUNKED: Final = -1
"""Body length: ends with the last chunk."""
UNTIL_CLOSE: Final = -2
"""Body length: ends when the upstream connection closes."""

BLAMED: Final = frozenset({429, *range(500, 600)} - {501, 505})
"""Answers that more of the same traffic would get too; 501 and 505 are about the request."""

NOT_PASSED: Final = frozenset({b"content-length", orca.ORCA_RESPONSE_FIELD, orca.BIN_FIELD, FIELD})
"""The length is written anew. An endpoint's load, passed on, would be taken for this node's own (envoy #39382), and an
endpoint's lines on choices for a node's."""


class Reply:
    """A response head, checked and ready to be sent on; not changed after it was made.

    `length` is the body's length in bytes, CHUNKED or UNTIL_CLOSE, for a request that was not HEAD. `lines` is the
    client's head without any framing of ours and without the last empty line; `whole` is the head for the commonest
    case: an HTTP/1.1 client that stays connected. `blamed`: the host failed or is overloaded. `orca`: its report of its
    load; such fields are for this node and go no further. `explained`: its lines on how hosts were chosen, complete,
    used only by `ExplainedExchange`. `rated`: the status by which the host is judged; it is that of a gRPC call that is
    an error and nothing else. `block` belongs to the downstream: the head for HTTP/2, empty before it is made.
    """

    __slots__ = (
        "blamed",
        "block",
        "explained",
        "keep_alive",
        "length",
        "lines",
        "orca",
        "rated",
        "status",
        "upgrade",
        "whole",
    )

    def __init__(
        self,
        status: int,
        keep_alive: bool,
        length: int,
        upgrade: bytes | None,
        lines: bytes,
        whole: bytes,
        blamed: bool,
        orca: OrcaReport | None,
        explained: bytes,
        rated: int,
    ) -> None:
        self.status: Final = status
        self.keep_alive: Final = keep_alive
        self.length: Final = length
        self.upgrade: Final = upgrade
        self.lines: Final = lines
        self.whole: Final = whole
        self.blamed: Final = blamed
        self.orca: Final = orca
        self.explained: Final = explained
        self.rated: Final = rated
        self.block = b""


def make_reply(raw: bytes, orca_book: OrcaBook, max_headers: int = 100) -> Reply:
    """Parse and check one complete response head. Raises BadHead."""
    head = parse_response_head(raw, max_headers)
    lines = client_head(head)
    length = body_length(head)
    call = head.get(STATUS_FIELD) if head.status == 200 else None
    rated = head.status if call is None else http_status(call)
    blamed, report = rated in BLAMED, _orca(head, orca_book)
    explained = response_fields(_explaining(head)) if FIELD in raw.lower() else b""
    whole = lines + _body_framing(length)
    keep_alive = _is_reusable(head, length)
    return Reply(head.status, keep_alive, length, head.upgrade, lines, whole, blamed, report, explained, rated)


def _is_reusable(head: ResponseHead, length: int) -> bool:
    """Some servers send the body that they announced with 204 or 304, a moment later; it would be taken for the next
    answer. The exchange handles HEAD."""
    return head.keep_alive and not (length == 0 and (head.chunked or head.content_length))


def _explaining(head: ResponseHead) -> list[bytes]:
    return [field.value for field in head.fields if field.lower == FIELD]


def _body_framing(length: int) -> bytes:
    return b"Transfer-Encoding: chunked\r\n\r\n" if length < 0 else b"\r\n"


def _orca(head: ResponseHead, book: OrcaBook) -> OrcaReport | None:
    """The host's report of its load. If there are two, gRPC's binary form counts, if it can be read."""
    found: OrcaReport | None = None
    for field in head.fields:
        if field.lower == orca.BIN_FIELD and (report := book.read_bin(field.value)) is not None:
            return report
        if field.lower == orca.ORCA_RESPONSE_FIELD and found is None:
            found = book.read(field.value)
    return found


def with_lines(reply: Reply, extra: bytes) -> Reply:
    """The same with further complete lines before the host's own."""
    status, _, rest = reply.lines.partition(b"\r\n")
    lines = b"%b\r\n%b%b" % (status, extra, rest)
    whole = lines + _body_framing(reply.length)
    return Reply(
        *(reply.status, reply.keep_alive, reply.length, reply.upgrade, lines, whole),
        *(reply.blamed, reply.orca, reply.explained, reply.rated),
    )


def body_length(head: ResponseHead) -> int:
    """The body's length, or CHUNKED, or UNTIL_CLOSE, if the request was not HEAD."""
    if head.status < 200 or head.status in (204, 304):
        return 0
    if head.chunked:
        return CHUNKED
    return UNTIL_CLOSE if head.content_length is None else head.content_length


def client_head(head: ResponseHead) -> bytes:
    """Status line and end-to-end fields, each ended by CRLF. The length stays (HEAD and 304 announce one too)."""
    lines = [b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)]
    dropped = head.dropped
    lines += [
        field.line + b"\r\n" for field in head.fields if field.lower not in dropped and field.lower not in NOT_PASSED
    ]
    if head.status == 426:
        lines += _upgrade_required(head)
    if head.content_length is not None and head.status >= 200 and head.status != 204:
        lines.append(b"Content-Length: %d\r\n" % head.content_length)
    return b"".join(lines)


def _upgrade_required(head: ResponseHead) -> list[bytes]:
    """RFC 9110 §15.5.22: a 426 names the protocol to upgrade to, and the field is of this hop."""
    protocols = [field.value for field in head.fields if field.lower == b"upgrade"]
    return [b"Connection: upgrade\r\nUpgrade: %b\r\n" % b", ".join(protocols)] if protocols else []


def frame_for(reply: Reply, *, is_head: bool, minor: int, keep_alive: bool) -> bytes:
    """The client's head for any case: version, body or none, kept alive or not."""
    fields = []
    if reply.length < 0 and not is_head and minor:
        fields.append(b"Transfer-Encoding: chunked\r\n")
    if not keep_alive:
        fields.append(b"Connection: close\r\n")
    elif not minor:
        fields.append(b"Connection: keep-alive\r\n")
    return reply.lines + b"".join(fields) + b"\r\n"


class ReplyBook:
    """Replies of the response heads that came more than once, which are `known`; shaped like PlanBook."""

    __slots__ = ("_memo", "known", "max_headers", "orca")

    def __init__(self, max_headers: int = 100) -> None:
        self.orca = OrcaBook()
        self.max_headers = max_headers
        self._memo: Memo[Reply] = Memo(REPLIES_BUDGET_BYTES)
        self.known = self._memo.kept

    def reply(self, raw: bytes) -> Reply:
        """The reply for a complete head. Raises BadHead."""
        reply = self.known.get(raw)
        if reply is None:
            reply = make_reply(raw, self.orca, self.max_headers)
            self._memo.offer(raw, reply, REPLY_BYTES + 5 * len(raw))
        return reply


def own_answer(
    status: int,
    body: bytes,
    *,
    keep_alive: bool,
    minor: int = 1,
    is_head: bool = False,
    content_type: str = "text/plain; charset=utf-8",
    extra: bytes = b"",
) -> bytes:
    """A whole response made by this node. `extra` holds further complete header lines."""
    phrase = HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else "Unknown"
    head = b"HTTP/1.1 %d %b\r\n%b%b" % (status, phrase.encode(), DATE_FIELD.line(), extra)
    if status not in (204, 304):
        head += b"Content-Type: %b\r\nContent-Length: %d\r\n" % (content_type.encode(), len(body))
    if not keep_alive:
        head += b"Connection: close\r\n"
    elif not minor:
        head += b"Connection: keep-alive\r\n"
    return head + b"\r\n" + (b"" if is_head or status in (204, 304) else body)
