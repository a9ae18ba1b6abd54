"""HTTP/1.1 heads: bytes to values, refusing everything that two parsers could read in two ways.

Request smuggling needs two implementations that disagree about where a message ends or which host it is for. So this
reader follows the grammar of RFC 9112 and RFC 9110 and uses none of the tolerances they allow: only CRLF ends a line,
names are tokens, there is one Host, at most one framing field, and one coding (`chunked`). What it accepts, h11 and
llhttp read the same way; the tests compare them.

It is written by hand because llhttp calls back for every field and has fewer rules. Bytes are split into lines by the
interpreter's C code, single lines are read by `http_fields.py`, and the whole block after a request line that was seen
before is one look-up in a bounded memo of valid ones, because a client sends the same block again and again and only
the request line changes.

Left out on purpose: obs-fold, leading empty lines, CONNECT, h2c (a tunnel past every route), transfer codings other
than chunked. Whether a message has a body also depends on the request it answers (HEAD, 1xx, 204, 304), which only the
caller knows.
"""

import re
from typing import Final

from tierlb.wire.head_values import Block, RequestHead, ResponseHead
from tierlb.wire.host import host_name
from tierlb.wire.http_fields import (
    HOP_BY_HOP,
    NOT_IN_VALUE,
    BadHead,
    is_token,
    read_field,
    read_fields,
)
from tierlb.wire.memo import Memo

LENGTH_LIMIT: Final = 2**63 - 1  # what other implementations keep in a signed 64-bit integer
OPTIONS_LIMIT: Final = 32  # of Connection; browsers and proxies send one or two
BLOCKS_BUDGET_BYTES: Final = 1024 * 1024
SMALL_BUDGET_BYTES: Final = 128 * 1024
"""The budget of hosts, status lines and Connection fields each: a few hundred of the usual ones."""

_NOT_IN_TARGET: Final = re.compile(rb"[^!\"$-~]")
_ORDINARY_LINE: Final = re.compile(
    rb"(GET|HEAD|POST|PUT|DELETE|OPTIONS|PATCH) (/[!\"$-~]*) HTTP/1\.([01])"
).fullmatch  # decides most request lines at once; the others are read piece by piece, with a reason
_VERSION: Final = re.compile(rb"HTTP/[0-9]\.[0-9]")
_STATUS: Final = re.compile(rb"[1-9][0-9][0-9]")
_ABSOLUTE: Final = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE)

_NEVER_HOP_BY_HOP: Final = frozenset({b"host", b"content-length"})


def find_head_end(buffer: bytes, start: int = 0) -> int:
    """The index just after the first empty line at or after `start`, or -1 while there is none."""
    end = buffer.find(b"\r\n\r\n", start)
    return end if end < 0 else end + 4


def parse_request_head(head: bytes, max_headers: int = 100) -> RequestHead:
    """Read a head that ends with its empty line. Raises BadHead."""
    line, _, rest = head.partition(b"\r\n")
    method, target, minor = _request_line(line)
    block = _blocks[minor].kept.get(rest) or _read_block(rest, minor, max_headers)
    if len(block.fields) > max_headers:
        raise BadHead(431, f"more than {max_headers} header fields")
    if not target.startswith(b"/"):
        target, block = _other_form(method, target, block)
    return RequestHead(method, target, minor, block)


_blocks: tuple[Memo[Block], Memo[Block]] = (Memo(BLOCKS_BUDGET_BYTES), Memo(BLOCKS_BUDGET_BYTES))
"""Valid blocks by their bytes: of HTTP/1.0 heads, and of HTTP/1.1 heads."""


def _read_block(rest: bytes, minor: int, max_headers: int) -> Block:
    """The block in the bytes after the request line, from the memo if it was seen before."""
    if rest.count(b"\r\n") - 1 > max_headers:
        raise BadHead(431, f"more than {max_headers} header fields")
    fields, meaning = read_fields(_lines(b"\r\n" + rest)[1:])
    host = meaning.get(b"host", b"")
    name = host_name(host)
    if name is None:
        raise BadHead(400, "the Host field is not a host and port")
    if minor and b"host" not in meaning:
        raise BadHead(400, "the Host field is missing")
    length, chunked = _body_framing(meaning, minor)
    keep_alive, upgrade, dropped = _connection(meaning.get(b"connection"), meaning.get(b"upgrade"), minor)
    expect = minor == 1 and meaning.get(b"expect", b"").lower() == b"100-continue"
    trailers = minor == 1 and _names_trailers(meaning.get(b"te", b""))
    block = Block(minor, fields, host, name, length, chunked, keep_alive, expect, upgrade, trailers, dropped)
    if _blocks[minor].comes_again(rest):
        _blocks[minor].keep(rest, block, block.kept_bytes)
    return block


def parse_response_head(head: bytes, max_headers: int = 100) -> ResponseHead:
    """Read a head that ends with its empty line. Raises BadHead; the proxy then answers 502."""
    if head.count(b"\r\n") - 2 > max_headers:
        raise BadHead(431, f"more than {max_headers} header fields")
    lines = _lines(head)
    minor, status, reason = _status_line(lines.pop(0))
    fields, meaning = read_fields(lines)
    length, chunked = _body_framing(meaning, minor)
    keep_alive, upgrade, dropped = _connection(meaning.get(b"connection"), meaning.get(b"upgrade"), minor)
    return ResponseHead(status, reason, minor, fields, length, chunked, keep_alive, upgrade, dropped)


def check_request_line(line: bytes) -> None:
    """Raise BadHead for a line, without its CRLF, that is no request line."""
    _request_line(line)


def _lines(head: bytes) -> list[bytes]:
    if not head.endswith(b"\r\n\r\n"):
        raise BadHead(400, "the head does not end with an empty line")
    return head[:-4].split(b"\r\n")


def _request_line(line: bytes) -> tuple[bytes, bytes, int]:
    match = _ORDINARY_LINE(line)
    if match is None:
        return _unusual_request_line(line)
    method, target, minor = match.groups()
    return method, target, 1 if minor == b"1" else 0


def _unusual_request_line(line: bytes) -> tuple[bytes, bytes, int]:
    parts = line.split(b" ")
    if len(parts) != 3:
        raise BadHead(400, "the request line is not a method, a target and a version")
    method, target, version = parts
    minor = _minor(version)
    if not is_token(method):
        raise BadHead(400, "the method is not a token")
    if method == b"CONNECT":
        raise BadHead(501, "CONNECT is not supported")
    if not target or _NOT_IN_TARGET.search(target):
        raise BadHead(400, "the target is empty or holds a character that must be escaped")
    return method, target, minor


def _minor(version: bytes) -> int:
    if version == b"HTTP/1.1":
        return 1
    if version == b"HTTP/1.0":
        return 0
    if _VERSION.fullmatch(version):
        raise BadHead(505, "only HTTP/1.0 and HTTP/1.1 are spoken here")
    raise BadHead(400, "the line holds no HTTP version")


_status_lines: Memo[tuple[int, int, bytes]] = Memo(SMALL_BUDGET_BYTES)


def _status_line(line: bytes) -> tuple[int, int, bytes]:
    known = _status_lines.kept.get(line)
    if known is None:
        known = _read_status_line(line)
        _status_lines.offer(line, known, 200 + len(line))
    return known


def _read_status_line(line: bytes) -> tuple[int, int, bytes]:
    version, _, rest = line.partition(b" ")
    minor = _minor(version)
    status, _, reason = rest.partition(b" ")
    if not _STATUS.fullmatch(status):
        raise BadHead(400, "the status is not three digits from 100 on")
    if NOT_IN_VALUE.search(reason):
        raise BadHead(400, "the reason holds a control character")
    return minor, int(status), reason


def _other_form(method: bytes, target: bytes, block: Block) -> tuple[bytes, Block]:
    """`*` is unchanged; absolute-form becomes origin-form, and its authority replaces Host (RFC 9112 §3.2.2)."""
    if target == b"*" and method == b"OPTIONS":
        return target, block
    match = _ABSOLUTE.fullmatch(target)
    if match is None:
        raise BadHead(400, "the target is neither a path nor an http URL")
    authority, path = match.groups()
    name = host_name(authority)
    if not name:  # RFC 9110 §4.2.1: an empty host is no http URL
        raise BadHead(400, "the target's authority is not a host and port")
    if not path.startswith(b"/"):
        path = b"*" if method == b"OPTIONS" and not path else b"/" + path
    others = tuple(field for field in block.fields if field.lower != b"host")
    fields = (read_field(b"Host: " + authority), *others)
    return path, block.with_fields(fields, authority, name)


def _body_framing(meaning: dict[bytes, bytes], minor: int) -> tuple[int | None, bool]:
    length = meaning.get(b"content-length")
    coding = meaning.get(b"transfer-encoding")
    if coding is not None:
        if length is not None:
            raise BadHead(400, "both Transfer-Encoding and Content-Length")
        _check_chunked(coding, minor)
        return None, True
    if length is None:
        return None, False
    if not length.isdigit() or len(length) > 19 or int(length) > LENGTH_LIMIT:
        raise BadHead(400, "Content-Length is not a number below 2^63")
    return int(length), False


def _check_chunked(coding: bytes, minor: int) -> None:
    if minor == 0:
        raise BadHead(400, "Transfer-Encoding in HTTP/1.0")
    codings = [name.strip(b" \t") for name in coding.lower().split(b",")]
    if codings == [b"chunked"]:
        return
    if codings[-1] == b"chunked" and codings.count(b"chunked") == 1 and all(map(is_token, codings)):
        raise BadHead(501, "the only transfer coding known here is chunked")
    raise BadHead(400, "Transfer-Encoding does not end with one chunked")


_options: Memo[frozenset[bytes]] = Memo(SMALL_BUDGET_BYTES)


def _connection(
    options: bytes | None, upgrade: bytes | None, minor: int
) -> tuple[bool, bytes | None, frozenset[bytes]]:
    """Whether the connection may be kept, the upgrade asked for, and the names that end at this hop."""
    if options is None:
        return minor == 1, None, HOP_BY_HOP
    names = _options.kept.get(options)
    if names is None:
        names = _read_options(options)
        _options.offer(options, names, 500 + 120 * len(names))
    keep_alive = b"close" not in names and (minor == 1 or b"keep-alive" in names)
    wanted = upgrade if minor == 1 and b"upgrade" in names and not _is_h2c(upgrade) else None
    further = names - HOP_BY_HOP - {b"close"}
    return keep_alive, wanted, HOP_BY_HOP | further if further else HOP_BY_HOP


def _names_trailers(te: bytes) -> bool:
    """RFC 9110 §10.1.4."""
    return bool(te) and any(part.strip(b" \t") == b"trailers" for part in te.lower().split(b","))


def _read_options(options: bytes) -> frozenset[bytes]:
    """The names in a Connection field."""
    if options.count(b",") > OPTIONS_LIMIT:
        raise BadHead(400, f"Connection names more than {OPTIONS_LIMIT} options")
    names = frozenset(name for part in options.lower().split(b",") if (name := part.strip(b" \t")))
    if len(names) > OPTIONS_LIMIT:
        raise BadHead(400, f"Connection names more than {OPTIONS_LIMIT} options")
    if not all(map(is_token, names)):
        raise BadHead(400, "a Connection option is not a token")
    if names & _NEVER_HOP_BY_HOP:
        raise BadHead(400, "Connection names a field that every recipient needs")
    return names


def _is_h2c(upgrade: bytes | None) -> bool:
    return upgrade is None or any(p.strip(b" \t") == b"h2c" for p in upgrade.lower().split(b","))
