"""Header lists of HTTP/2 to and from heads of HTTP/1.1 (RFC 9113 §8). Pure.

A request is turned into the equivalent head of HTTP/1.1, and that head is parsed, checked and routed like any other
(`http_head`): there is one reader of requests. What that reader cannot see any more is refused here: pseudo-fields that
are missing, repeated, unknown or late, names in upper case, fields about a connection, two hosts that disagree, and
whatever would be another line, word or body in HTTP/1.1.

In the other direction the lines of a response become one block that depends on nothing but these lines.
"""

import base64
import hashlib
import os
import re
from typing import Final

from tierlb.wire.hpack import encode_field
from tierlb.wire.http_body import FORBIDDEN_TRAILERS
from tierlb.wire.http_fields import BadHead, Header
from tierlb.wire.identity import is_identity
from tierlb.wire.memo import Memo

OF_THE_CONNECTION: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"}
)
"""RFC 9113 §8.2.2: in HTTP/2 these are malformed, whatever they say."""
PSEUDO: Final = frozenset({b":method", b":scheme", b":authority", b":path", b":protocol"})
WEBSOCKET: Final = b"websocket"
WEBSOCKET_KEY: Final = base64.b64encode(os.urandom(16))
"""What this process asks endpoints of HTTP/1.1 with (RFC 6455 §4.1); over HTTP/2 there is none (RFC 8441 §5)."""
WEBSOCKET_ACCEPT: Final = base64.b64encode(
    hashlib.sha1(WEBSOCKET_KEY + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
)
"""What they have to answer."""
OF_THE_HANDSHAKE: Final = frozenset({b"sec-websocket-key", b"sec-websocket-accept"})
DEFAULT_URGENCY: Final = 3
ENCODED_LINES_BUDGET_BYTES: Final = 256 * 1024
_NO_BODY: Final = frozenset({b"204", b"304"})

_NAME: Final = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+").fullmatch
_NOT_IN_VALUE: Final = re.compile(rb"[\x00\r\n]").search
_NOT_IN_WORD: Final = re.compile(rb"[\x00-\x20\x7f]").search
_URGENCY: Final = re.compile(rb"(?:^|,)[ \t]*u=([0-7])[ \t]*(?:;|,|$)").search


class MalformedError(ValueError):
    """A header list that is no message (RFC 9113 §8.1.1), and why."""


def urgency_of(value: bytes) -> int:
    """The urgency in a priority field (RFC 9218 §4.1): 0 is the most urgent, 7 the least."""
    found = _URGENCY(value)
    return DEFAULT_URGENCY if found is None else int(found[1])


def request_head(fields: tuple[Header, ...], ended: bool) -> bytes:
    """The head of HTTP/1.1 that means the same. `ended`: no body follows. Raises MalformedError, and BadHead for a
    protocol that is not spoken here.

    An extended CONNECT (RFC 8441 §4) becomes a request for an upgrade; nothing else in HTTP/2 does.
    """
    pseudo: dict[bytes, bytes] = {}
    lines: list[bytes] = []
    host: bytes | None = None
    length: bytes | None = None
    cookies: list[bytes] = []
    regular = False
    for name, value in fields:
        _check_value(value)
        if name.startswith(b":"):
            if regular or name in pseudo or name not in PSEUDO:
                raise MalformedError("a pseudo-field is unknown, comes twice, or comes behind other fields")
            pseudo[name] = value
            continue
        regular = True
        _check_name(name, value)
        if name == b"cookie":
            cookies.append(value)
            continue
        if name == b"host":
            if host is not None:
                raise MalformedError("more than one host")
            host = value
            continue
        if name == b"content-length":
            length = value
        lines.append(b"%b: %b" % (name, value))
    host = _host(pseudo.get(b":authority"), host)
    if cookies:
        lines.append(b"cookie: " + b"; ".join(cookies))
    if b":protocol" in pseudo:
        _check_tunnel(pseudo, ended=ended, has_length=length is not None)
        lines = [line for line in lines if line.partition(b":")[0] not in OF_THE_HANDSHAKE]
        lines += [b"connection: upgrade", b"upgrade: " + WEBSOCKET, b"sec-websocket-key: " + WEBSOCKET_KEY]
    elif length is None and not ended:
        lines.append(b"transfer-encoding: chunked")
    elif ended and length is not None and length.strip(b"0"):
        raise MalformedError("a content-length without a body")
    if host is not None:
        lines.insert(0, b"host: " + host)
    return b"\r\n".join([_request_line(pseudo, host), *lines, b"", b""])


def _check_tunnel(pseudo: dict[bytes, bytes], *, ended: bool, has_length: bool) -> None:
    if pseudo.get(b":method") != b"CONNECT" or not pseudo.get(b":authority"):
        raise MalformedError(":protocol without CONNECT, or without an authority")
    if ended or has_length:
        raise MalformedError("a tunnel with a content-length, or that ends with its head")
    if pseudo[b":protocol"] != WEBSOCKET:
        raise BadHead(501, "the only protocol that :protocol may name here is websocket")


def _check_value(value: bytes) -> None:
    if _NOT_IN_VALUE(value) or value.strip(b" \t") != value:
        raise MalformedError("a value holds NUL, CR or LF, or a blank at one of its ends")


def _check_name(name: bytes, value: bytes) -> None:
    if not _NAME(name):
        raise MalformedError("the name of a field is no token in lower case")
    if name in OF_THE_CONNECTION or (name == b"te" and value != b"trailers"):
        raise MalformedError(f"{name.decode()} is about a connection of HTTP/1.1")


def _host(authority: bytes | None, host: bytes | None) -> bytes | None:
    if authority is not None and host is not None and authority != host:
        raise MalformedError(":authority and host disagree")
    return host if authority is None else authority


def _request_line(pseudo: dict[bytes, bytes], host: bytes | None) -> bytes:
    method, path, scheme = pseudo.get(b":method"), pseudo.get(b":path"), pseudo.get(b":scheme")
    if not method:
        raise MalformedError(":method is missing or empty")
    if b":protocol" in pseudo and scheme and path:
        method = b"GET"
    if method == b"CONNECT":
        if path is not None or scheme is not None or not host:
            raise MalformedError("CONNECT with a path or a scheme, or without an authority")
        path = host
    elif not scheme or not path:
        raise MalformedError(":scheme or :path is missing or empty")
    elif not path.startswith(b"/") and not (path == b"*" and method == b"OPTIONS"):
        raise MalformedError(":path does not begin with /")
    if _NOT_IN_WORD(method) or _NOT_IN_WORD(path):
        raise MalformedError(":method or :path holds a blank or a control character")
    return b"%b %b HTTP/1.1" % (method, path)


def passing_trailers(fields: tuple[Header, ...]) -> tuple[Header, ...]:
    """The trailer fields that may be passed on. Raises MalformedError."""
    for name, value in fields:
        _check_value(value)
        _check_name(name, value)  # pseudo-fields are no tokens
    return tuple((name, value) for name, value in fields if name not in FORBIDDEN_TRAILERS and not is_identity(name))


def response_block(lines: bytes) -> bytes:
    """The block of a head of HTTP/1.1: its status line and its fields, each ended by CRLF, without those about the
    connection."""
    status, *fields = lines.split(b"\r\n")
    parts = [encode_field(b":status", status[9:12])]
    for line in fields:
        name, colon, value = line.partition(b":")
        if colon:
            name = name.lower()
            if name not in OF_THE_CONNECTION:
                parts.append(encode_field(name, value.strip(b" \t")))
    return b"".join(parts)


def tunnel_block(lines: bytes) -> bytes:
    """The block that opens a tunnel, of the head of a 101 response. Raises MalformedError where an endpoint did not
    understand what it accepts."""
    _, *fields = lines.split(b"\r\n")
    named = [(line, line.partition(b":")) for line in fields]
    accepts = [value.strip(b" \t") for _, (name, _, value) in named if name.lower() == b"sec-websocket-accept"]
    if accepts != [WEBSOCKET_ACCEPT]:
        raise MalformedError("the endpoint's sec-websocket-accept is wrong or missing")
    passing = [line for line, (name, _, _) in named if name.lower() not in OF_THE_HANDSHAKE]
    return response_block(b"\r\n".join([b"HTTP/1.1 200 OK", *passing]))


def trailers_block(trailers: tuple[Header, ...]) -> bytes:
    return b"".join([encode_field(name.lower(), value) for name, value in trailers])


# Towards endpoints.

_known_lines: Memo[bytes] = Memo(ENCODED_LINES_BUDGET_BYTES)
"""Encoded fields by their lines."""


def request_block(head: bytes, *, secured: bool) -> bytes:
    """The block of a request's head of HTTP/1.1, which this program has written: with its empty line, or without.
    `secured`: it goes over TLS."""
    first, *lines = head.split(b"\r\n")
    method, target, _ = first.split(b" ")
    fields, authority = [], b""
    for line in lines:
        known = _known_lines.kept.get(line)
        if known is None:
            name, colon, value = line.partition(b":")
            name, value = name.lower(), value.strip(b" \t")
            if name == b"host":
                authority = value
                continue
            known = b"" if not colon or name in OF_THE_CONNECTION else encode_field(name, value)
            _known_lines.offer(line, known, len(known))
        fields.append(known)
    return b"".join(
        [
            encode_field(b":method", method),
            encode_field(b":scheme", b"https" if secured else b"http"),
            encode_field(b":authority", authority),
            encode_field(b":path", target),
            *fields,
        ]
    )


def response_head(fields: tuple[Header, ...], ended: bool) -> bytes:
    """The head of HTTP/1.1 that means the same as this header list of a response. `ended`: no body follows. Raises
    MalformedError."""
    status, has_length = b"", False
    lines: list[bytes] = []
    for name, value in fields:
        _check_value(value)
        if name == b":status" and not status and not lines:
            status = value
            continue
        _check_name(name, value)
        has_length = has_length or name == b"content-length"
        lines.append(b"%b: %b\r\n" % (name, value))
    if len(status) != 3 or not status.isdigit() or status == b"101":
        raise MalformedError(":status is missing, or no status of HTTP/2")
    if ended and not has_length and status not in _NO_BODY:
        lines.append(b"content-length: 0\r\n")
    return b"HTTP/1.1 %b \r\n%b\r\n" % (status, b"".join(lines))
