"""One field line of an HTTP/1.1 head: bytes to name and value, and the values of those fields that decide something.

A line is a token, a colon and a value without control characters (RFC 9110 §5, RFC 9112 §5). Nothing that two parsers
could read in two ways is accepted: no blank before the colon, no line that continues the one before, and no name that
becomes that of another field where CGI treats `_` and `-` alike.

Clients and endpoints send the same lines again and again, so a valid line that was seen before is one look-up in a
bounded memo. Lines that hold credentials are never kept.

Left out: request lines, status lines, and what fields mean for a message as a whole (`http_head.py`); fields that
carry the identity of a client (`identity.py`).
"""

import re
from collections.abc import Iterable
from typing import Final, NamedTuple, TypeAlias

from tierlb.wire.identity import is_identity
from tierlb.wire.memo import Memo

Header: TypeAlias = tuple[bytes, bytes]

MEMO_LINE_BYTES: Final = 256
"""The longest line that is kept."""
LINES_BUDGET_BYTES: Final = 1024 * 1024
NAMES_BUDGET_BYTES: Final = 128 * 1024
NAME_BYTES: Final = 140
"""The memory of a name's objects besides their characters: a tuple and a bytes object."""
FIELD_BYTES: Final = 330
"""The memory of the objects besides their characters (CPython 3.11: a tuple of five and four bytes objects)."""

HOP_BY_HOP: Final = frozenset(
    {b"connection", b"proxy-connection", b"keep-alive", b"te", b"transfer-encoding", b"upgrade"}
)  # RFC 9110 §7.6.1

_TOKEN: Final = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
NOT_IN_VALUE: Final = re.compile(rb"[^\t -~\x80-\xff]")
"""Characters that neither a field value nor a reason phrase may hold (RFC 9110 §5.5, RFC 9112 §4)."""

_MEANINGFUL: Final = frozenset(
    {b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade", b"te"}
)
_OF_THIS_HOP: Final = HOP_BY_HOP | _MEANINGFUL | {b"x-request-id"}
_PLAIN_NAME: Final = b"abcdefghijklmnopqrstuvwxyz0123456789-"
_NOT_ALPHANUMERIC: Final = re.compile(rb"[^a-z0-9]")
_LISTS: Final = frozenset({b"connection", b"upgrade", b"expect", b"te"})  # several lines mean one list, RFC 9110 §5.2
_SECRET: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})


class BadHead(ValueError):  # noqa: N818 (a verdict on the input, as in "raise BadHead")
    """A head that must not be forwarded: `status` to answer with (400, 414, 431, 501, 505) and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


class HeaderField(NamedTuple):
    """One field: name as sent, value without surrounding blanks, name in lower case, and `name: value` for sending.

    `special` marks the fields that a proxy reads, writes or withholds itself; all others pass.
    """

    name: bytes
    value: bytes
    lower: bytes
    line: bytes
    special: bool


def read_field(line: bytes) -> HeaderField:
    """One field line without its CRLF. Raises BadHead."""
    name, colon, value = line.partition(b":")
    known = known_names.kept.get(name) if colon else None
    lower, special = known or _read_name(name, colon)
    if NOT_IN_VALUE.search(value):
        raise BadHead(400, "a field value holds a control character")
    value = value.strip(b" \t")
    if len(line) != len(name) + 2 + len(value) or not line.startswith(b": ", len(name)):
        line = b"%b: %b" % (name, value)
    return HeaderField(name, value, lower, line, special)


def _read_name(name: bytes, colon: bytes) -> tuple[bytes, bool]:
    """The name in lower case, and whether it is special. Raises BadHead."""
    if not colon or not is_token(name):
        folded = name.startswith((b" ", b"\t"))
        raise BadHead(400, "a line starts with whitespace" if folded else "a field name is not a token and a colon")
    lower = name.lower()
    if lower.translate(None, _PLAIN_NAME) and _is_special(_NOT_ALPHANUMERIC.sub(b"-", lower)):
        raise BadHead(400, "a field name becomes another one where `_` and `-` are the same (CGI)")
    special = _is_special(lower)
    known_names.offer(name, (lower, special), NAME_BYTES + 2 * len(name))
    return lower, special


def is_token(text: bytes) -> bool:
    """RFC 9110 §5.6.2."""
    return bool(text) and not text.translate(None, _TOKEN)


class FieldLines(dict[bytes, HeaderField]):
    """Reads a line that is not in the memo; a hit is one look-up without a Python call."""

    def __missing__(self, line: bytes) -> HeaderField:
        field = read_field(line)
        if len(line) <= MEMO_LINE_BYTES and field.lower not in _SECRET:
            known_lines.offer(line, field, FIELD_BYTES + 4 * len(line))
        return field


known_names: Memo[tuple[bytes, bool]] = Memo(NAMES_BUDGET_BYTES)
"""Valid names as they were sent: in lower case, and whether they are special."""
known_lines: Memo[HeaderField] = Memo(LINES_BUDGET_BYTES, FieldLines())
"""Valid field lines and their fields."""
_make_field = known_lines.kept.__getitem__


def read_fields(lines: Iterable[bytes]) -> tuple[tuple[HeaderField, ...], dict[bytes, bytes]]:
    """The fields in lines without their CRLF, and by lower-case name the values of those that say where the message
    ends, which host it is for, and what ends at this hop. Raises BadHead, also where one of them may come only once."""
    fields = tuple(map(_make_field, lines))
    meaning: dict[bytes, bytes] = {}
    for _, value, name, _, special in fields:
        if special and name in _MEANINGFUL:
            if name not in meaning:
                meaning[name] = value
            elif name in _LISTS:
                meaning[name] += b", " + value
            else:
                raise BadHead(400, f"more than one {name.decode()} field")
    return fields, meaning


def _is_special(name: bytes) -> bool:
    return name in _OF_THIS_HOP or is_identity(name)
