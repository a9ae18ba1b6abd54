"""What to do with a request, worked out once per distinct head.

Parsing, checking, routing and re-serialising a request head depend on nothing but its bytes, the snapshot and
whether the peer is trusted; so the result, a `Plan`, is a value that can be kept. Kept-alive clients repeat their
heads a lot, and a `PlanBook` remembers the latest of them: a hit costs one dictionary look-up instead of a
parse. Nothing is forwarded that was not parsed: the bytes in a plan are written from the parsed head.

The book is bounded in entries and in entry size, and forgets in halves (the older generation goes when the younger is
full), so a client that sends a new head every time costs an insertion and never more memory than the cap.
"""

import attrs

from tierlb.dataplane.l7.routes import find_rule
from tierlb.model.snapshot import Snapshot
from tierlb.wire.http_head import BadHead, RequestHead, parse_request_head

GENERATION_ENTRIES = 512
REMEMBERED_HEAD_BYTES = 2048
"""With both generations full of the largest heads: 2 × 512 × ~5 KiB ≈ 5 MiB a book."""

IDEMPOTENT = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""RFC 9110 §9.2.2: these may be sent again when nothing of the answer has arrived."""

FORWARDED = frozenset({b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"})
REQUEST_ID = b"x-request-id"


@attrs.frozen(slots=True, eq=False)
class Plan:
    """A request head, checked, routed and ready to be sent on.

    `opening` is the upstream head up to and including `X-Forwarded-For: `; the client connection appends its peer's
    address, `X-Request-Id` unless `has_id`, and the empty line. `rule` is a position in the snapshot's rules or None.
    `body_bytes` is 0 for no body, None for a chunked one.
    """

    head: RequestHead
    rule: int | None
    opening: bytes
    has_id: bool
    body_bytes: int | None
    keep_alive: bool
    repeatable: bool
    is_head: bool


def make_plan(raw: bytes, snapshot: Snapshot, *, trusted: bool) -> Plan:
    """Parse, check and route one complete head. Raises BadHead (with the status to answer)."""
    head = parse_request_head(raw, snapshot.limits.headers)
    if snapshot.limits.body is not None and (head.content_length or 0) > snapshot.limits.body:
        raise BadHead(413, f"the body is larger than the {snapshot.limits.body} bytes allowed here")
    body_bytes = None if head.chunked else (head.content_length or 0)
    return Plan(
        head=head,
        rule=find_rule(snapshot.rules, head),
        opening=upstream_head(head, trusted=trusted),
        has_id=trusted and head.get(REQUEST_ID) is not None,
        body_bytes=body_bytes,
        keep_alive=head.keep_alive,
        repeatable=head.method in IDEMPOTENT and body_bytes == 0 and head.upgrade is None,
        is_head=head.method == b"HEAD",
    )


def upstream_head(head: RequestHead, *, trusted: bool) -> bytes:
    """The head to send on, open at its end: `… X-Forwarded-For: ` (RFC 9110 §7.6: hop-by-hop fields do not pass).

    A trusted peer's word on the client is kept and added to; anybody else's is replaced.
    """
    lines = [b"%b %b HTTP/1.1" % (head.method, head.target), b"Host: " + head.host]
    lines += [b"%b: %b" % (name, value) for name, value in head.headers if _passes(head, name.lower(), trusted)]
    if head.content_length is not None:
        lines.append(b"Content-Length: %d" % head.content_length)
    if head.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    if head.upgrade is not None:
        lines.append(b"Connection: upgrade\r\nUpgrade: " + head.upgrade)
    lines.append(b"Via: 1.%d tierlb" % head.minor)
    if not trusted or head.get(b"x-forwarded-proto") is None:
        lines.append(b"X-Forwarded-Proto: http")
    if not trusted or head.get(b"x-forwarded-host") is None:
        lines.append(b"X-Forwarded-Host: " + head.host)
    before = [value for name, value in head.headers if trusted and name.lower() == b"x-forwarded-for" and value]
    lines.append(b"X-Forwarded-For: " + b"".join(value + b", " for value in before))
    return b"\r\n".join(lines)


REWRITTEN = frozenset({b"host", b"content-length", b"x-forwarded-for"})


def _passes(head: RequestHead, name: bytes, trusted: bool) -> bool:
    if name in REWRITTEN or name in head.dropped:
        return False
    return trusted or (name not in FORWARDED and name != REQUEST_ID)


class PlanBook:
    """Plans of the heads seen latest, for one snapshot and one level of trust."""

    __slots__ = ("_older", "_snapshot", "_trusted", "younger")

    def __init__(self, snapshot: Snapshot, *, trusted: bool) -> None:
        self._snapshot = snapshot
        self._trusted = trusted
        self.younger: dict[bytes, Plan] = {}
        self._older: dict[bytes, Plan] = {}

    def plan(self, raw: bytes) -> Plan:
        """The plan for a complete head. Raises BadHead; what is refused is not remembered."""
        plan = self.younger.get(raw)
        if plan is not None:
            return plan
        plan = self._older.get(raw) or make_plan(raw, self._snapshot, trusted=self._trusted)
        if len(raw) <= REMEMBERED_HEAD_BYTES:
            if len(self.younger) >= GENERATION_ENTRIES:
                self._older, self.younger = self.younger, {}
            self.younger[raw] = plan
        return plan
