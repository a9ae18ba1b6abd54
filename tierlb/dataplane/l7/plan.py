"""What to do with a request, worked out once per distinct head.

Parsing, checking, routing and re-serialising a request head depend on nothing but its bytes, the snapshot, whether the
peer is trusted, and whether it speaks TLS and HTTP/2; so the result, a `RequestPlan`, is a value that can be kept.
Kept-alive clients repeat their heads a lot, and a `PlanBook` remembers the latest of them: a hit costs one dictionary
look-up instead of a parse. Nothing is forwarded that was not parsed: the bytes in a plan are written from the parsed
head.
"""

from typing import Final

from tierlb.balance.kind_places import KindPlace
from tierlb.balance.kinds import Kinds
from tierlb.dataplane.explanation import FIELD
from tierlb.dataplane.l7.max_forwards import forwards_left, one_hop_less
from tierlb.dataplane.l7.routes import Routes
from tierlb.model.snapshot import Send, Snapshot
from tierlb.model.topology import ForwardedFields, Match
from tierlb.wire.forwarded import FORWARDED, clients_of, converted, read_forwarded, token_or_quoted, written_forwarded
from tierlb.wire.head_values import Block, RequestHead
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head
from tierlb.wire.identity import is_identity
from tierlb.wire.memo import Memo

PLANS_BUDGET_BYTES = 2 * 1024 * 1024
"""Of a book: some 500 plans of the heads that browsers send, 1000 of short ones. There are eight books,
most of which stay empty: clients of one kind use one."""
PLAN_BYTES: Final = 600
"""What a plan takes beside the characters of its head and the block."""

IDEMPOTENT: Final = frozenset({b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"})
"""RFC 9110 §9.2.2: these may be sent again when nothing of the answer has arrived."""

SEGMENT_BYTES: Final = 64
"""Of a path, in which its first segment is looked for."""

WRITTEN_HERE: Final = frozenset({b"host", b"content-length", b"x-forwarded-for"})


CONTINUED: Final[dict[ForwardedFields, frozenset[bytes]]] = {
    ForwardedFields.X_FORWARDED: frozenset(),
    ForwardedFields.RFC_7239: frozenset({FORWARDED, b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}),
    ForwardedFields.BOTH: frozenset({FORWARDED}),
}
"""What is written anew besides, where endpoints get Forwarded."""
NO_KIND: Final = KindPlace()


class RequestPlan:
    """A request head, checked, routed and ready to be sent on; not changed after it was made.

    `opening` is the upstream head up to and including `X-Forwarded-For: `; the client connection appends its
    peer's address, `X-Request-Id` unless `has_id`, and the empty line. Where endpoints get Forwarded, it ends with
    `for=`, and `behind_node` is what follows the address there: the beginning of X-Forwarded-For, or nothing if they
    get none; else None. `rule` is a position in the snapshot's
    rules, their number where this node is the final recipient (max_forwards.py), or None. `body_bytes` is 0 for no
    body, None for a chunked one. `nonce`: it asks to be explained.
    `kind`: its place in `Kinds`; NO_KIND where this node answers itself.
    """

    __slots__ = (
        "behind_node",
        "body_bytes",
        "has_id",
        "head",
        "is_head",
        "keep_alive",
        "kind",
        "nonce",
        "opening",
        "repeatable",
        "rule",
    )

    def __init__(
        self,
        head: RequestHead,
        rule: int | None,
        opening: bytes,
        has_id: bool,
        body_bytes: int | None,
        keep_alive: bool,
        repeatable: bool,
        is_head: bool,
        nonce: bytes | None,
        kind: KindPlace,
        behind_node: bytes | None = None,
    ) -> None:
        self.head: Final = head
        self.rule: Final = rule
        self.opening: Final = opening
        self.has_id: Final = has_id
        self.body_bytes: Final = body_bytes
        self.keep_alive: Final = keep_alive
        self.repeatable: Final = repeatable
        self.is_head: Final = is_head
        self.nonce: Final = nonce
        self.kind: Final = kind
        self.behind_node: Final = behind_node

    def with_node(self, passed: bytes, address: bytes, node: bytes) -> bytes:
        """The head where endpoints get Forwarded. `passed`: what follows `X-Forwarded-For: `, the address first."""
        behind = self.behind_node
        told = passed if behind else passed[len(address) :]
        return b"%b%b%b%b\r\n\r\n" % (self.opening, node, behind or b"", told)


def make_plan(
    raw: bytes,
    snapshot: Snapshot,
    routes: Routes,
    kinds: Kinds | None = None,
    *,
    trusted: bool,
    secured: bool = False,
    http2: bool = False,
) -> RequestPlan:
    """Parse, check and route one complete head, that of a request over HTTP/2 among them. Raises BadHead (with the
    status to answer)."""
    head = parse_request_head(raw, snapshot.limits.headers)
    method = head.method
    left = forwards_left(head)
    if left:
        head = one_hop_less(head, left)
    block = head.block
    length = block.content_length
    if length and snapshot.limits.body is not None and length > snapshot.limits.body:
        raise BadHead(413, f"the body is larger than the {snapshot.limits.body} bytes allowed here")
    body_bytes = None if block.chunked else (length or 0)
    rule, head = routes.find(head)
    kind = NO_KIND
    if rule is not None and isinstance(snapshot.rules[rule].action, Send):
        if left == 0:
            rule = len(snapshot.rules)
        elif kinds is not None:
            kind = kinds.place(kind_key(snapshot.rules[rule].match, head))
    behind_node: bytes | None = None
    if snapshot.forwarded is not ForwardedFields.X_FORWARDED:
        elements = _elements_of_forwarded(head) if trusted else []
        written = ForwardedFields.RFC_7239 if elements else snapshot.forwarded
        passing = _passing(block, trusted=trusted, http2=http2, forwarded=written)
        passing += _element(head, elements, trusted=trusted, secured=secured)
        behind_node = b""
        if snapshot.forwarded is ForwardedFields.BOTH:
            behind_node = b"\r\n"
            if elements:
                behind_node += _translated(head, elements, secured=secured)
            else:
                behind_node += _continued(head, trusted=trusted, secured=secured)
    elif trusted:
        passing = _passing(block, trusted=True, http2=http2) + _continued(head, trusted=True, secured=secured)
    else:
        passing = block.passing[2 * http2 + secured] or _passing_untrusted(block, secured=secured, http2=http2)
    return RequestPlan(
        head,
        rule,
        b"%b %b HTTP/1.%d\r\n%b" % (method, head.target, 1 if block.host or block.minor else 0, passing),
        trusted and block.get(b"x-request-id") is not None,
        body_bytes,
        block.keep_alive,
        method in IDEMPOTENT and body_bytes == 0 and block.upgrade is None,
        method == b"HEAD",
        block.get(FIELD),
        kind,
        behind_node,
    )


def kind_key(match: Match, head: RequestHead) -> tuple[Match, bytes, bytes]:
    """What requests of one kind have in common: the route, the method and the first segment of the path."""
    path = head.target[:SEGMENT_BYTES].partition(b"?")[0]
    end = path.find(b"/", 1)
    return match, head.method, path if end < 0 else path[:end]


def _passing_untrusted(block: Block, *, secured: bool, http2: bool) -> bytes:
    """The fields to send on for a client whose word about itself does not count, open at its end; the block keeps
    them."""
    passing = b"%bX-Forwarded-Proto: %b\r\n%bX-Forwarded-For: " % (
        _passing(block, trusted=False, http2=http2),
        b"https" if secured else b"http",
        _host_asked(block),
    )
    block.passing[2 * http2 + secured] = passing
    return passing


def _passing(
    block: Block, *, trusted: bool, http2: bool, forwarded: ForwardedFields = ForwardedFields.X_FORWARDED
) -> bytes:
    """The lines to send on (RFC 9110 §7.6: hop-by-hop fields do not pass) and those that this hop writes anew.

    A request without a host (HTTP/1.0) goes on as one: no server takes HTTP/1.1 without, and few an empty one.
    """
    dropped, continued = block.dropped, CONTINUED[forwarded]
    lines = [b"Host: " + block.host] if block.host or block.minor else []
    lines += [
        line
        for _, _, lower, line, special in block.fields
        if lower not in dropped
        and (not special or _passes(lower, block.minor, trusted))
        and not (special and lower in continued)
    ]
    if block.content_length is not None:
        lines.append(b"Content-Length: %d" % block.content_length)
    elif block.chunked:
        lines.append(b"Transfer-Encoding: chunked")
    lines += _of_this_hop(block)
    lines.append(b"Via: 2 tierlb\r\n" if http2 else b"Via: 1.%d tierlb\r\n" % block.minor)
    return b"\r\n".join(lines)


def _of_this_hop(block: Block) -> list[bytes]:
    """The lines about this hop's own connection."""
    if not block.host and not block.minor:
        return [b"Connection: close"]
    lines, options = [], []
    if block.upgrade is not None:
        options.append(b"upgrade")
        lines.append(b"Upgrade: " + block.upgrade)
    if block.takes_trailers:
        options.append(b"TE")
        lines.append(b"TE: trailers")
    return [b"Connection: " + b", ".join(options), *lines] if options else []


def _host_asked(block: Block) -> bytes:
    return b"X-Forwarded-Host: %b\r\n" % block.host if block.host else b""


def _elements_of_forwarded(head: RequestHead) -> list[dict[bytes, bytes]]:
    """Those of a trusted peer that writes Forwarded alone, and by its grammar. Where there is X-Forwarded-For, that
    decides: a peer that knows no Forwarded passes on what its client wrote there."""
    if _values(head, b"x-forwarded-for").strip(b", \t"):
        return []
    return read_forwarded(_values(head, FORWARDED)) or []


def _element(head: RequestHead, elements: list[dict[bytes, bytes]], *, trusted: bool, secured: bool) -> bytes:
    """Forwarded, up to the address of the peer. Behind a trusted peer its elements stand before, or those made of its
    X-Forwarded-*."""
    before = b""
    if elements:
        before = written_forwarded(elements)
    elif trusted:
        proto, host = head.get(b"x-forwarded-proto") or b"", head.get(b"x-forwarded-host") or b""
        before = converted(_values(head, b"x-forwarded-for"), proto, host)
    asked = b";host=" + token_or_quoted(head.block.host) if head.block.host else b""
    own = b"https" if secured else b"http"
    return b"Forwarded: %b%bproto=%b%b;for=" % (before, b", " if before else b"", own, asked)


def _translated(head: RequestHead, elements: list[dict[bytes, bytes]], *, secured: bool) -> bytes:
    """The end of the head, made of a trusted peer's Forwarded: protocol and host are those of the first client."""
    first = elements[0]
    host = first.get(b"host") or head.block.host
    return b"X-Forwarded-Proto: %b\r\n%bX-Forwarded-For: %b, " % (
        first.get(b"proto") or (b"https" if secured else b"http"),
        b"X-Forwarded-Host: %b\r\n" % host if host else b"",
        clients_of(elements),
    )


def _values(head: RequestHead, name: bytes) -> bytes:
    """Of all fields of this name, as one list."""
    return b", ".join(field.value for field in head.fields if field.lower == name and field.value)


def _continued(head: RequestHead, *, trusted: bool, secured: bool) -> bytes:
    """The end of the head. Behind a trusted peer its fields about the client stand, and are completed."""
    if not trusted:
        own = b"https" if secured else b"http"
        return b"X-Forwarded-Proto: %b\r\n%bX-Forwarded-For: " % (own, _host_asked(head.block))
    named = b"".join(field.value + b", " for field in head.fields if field.lower == b"x-forwarded-for" and field.value)
    own = b"X-Forwarded-Proto: https\r\n" if secured else b"X-Forwarded-Proto: http\r\n"
    proto = b"" if head.get(b"x-forwarded-proto") else own
    host = b"" if head.get(b"x-forwarded-host") else _host_asked(head.block)
    return b"%b%bX-Forwarded-For: %b" % (proto, host, named)


def _passes(name: bytes, minor: int, trusted: bool) -> bool:
    """Whether a special field is sent on. RFC 9110 §10.1.1: an expectation of HTTP/1.0 is ignored."""
    if name in WRITTEN_HERE or (name == b"expect" and not minor):
        return False
    return trusted or (name != b"x-request-id" and not is_identity(name))


class PlanBook:
    """Plans of heads that came more than once, for one snapshot, one level of trust, with TLS or without, and over
    HTTP/2 or HTTP/1."""

    __slots__ = ("_http2", "_kinds", "_memo", "_routes", "_secured", "_snapshot", "_trusted", "known")

    def __init__(
        self,
        snapshot: Snapshot,
        kinds: Kinds | None = None,
        *,
        trusted: bool,
        secured: bool = False,
        http2: bool = False,
    ) -> None:
        self._http2 = http2
        self._kinds = kinds
        self._snapshot = snapshot
        self._routes = Routes(snapshot.rules, snapshot.paths)
        self._trusted = trusted
        self._secured = secured
        self._memo: Memo[RequestPlan] = Memo(PLANS_BUDGET_BYTES)
        self.known = self._memo.kept

    def plan(self, raw: bytes) -> RequestPlan:
        """The plan for a complete head. Raises BadHead; what is refused is not remembered."""
        plan = self.known.get(raw)
        if plan is None:
            plan = make_plan(
                *(raw, self._snapshot, self._routes, self._kinds),
                trusted=self._trusted,
                secured=self._secured,
                http2=self._http2,
            )
            if self._memo.comes_again(raw):
                self._memo.keep(raw, plan, PLAN_BYTES + 3 * len(raw) + plan.head.block.kept_bytes)
        return plan

    def plan_whole(self, data: bytes) -> RequestPlan | None:
        """The plan of what is exactly one head, as nearly all that comes is. None for anything else, heads that must be
        refused among it."""
        size = len(data)
        if data.find(b"\r\n\r\n") != size - 4 or size > self._snapshot.limits.head or data.startswith(b"\r\n"):
            return None
        try:
            return self.plan(data)
        except BadHead:
            return None

    def forget(self) -> None:
        """Heads are planned anew as they come, for their kinds may have other places now."""
        self._memo.forget()
