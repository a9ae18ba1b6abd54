"""Messages of the kernel's netfilter over netlink ↔ values: framing, the tables that there are, and their counters.

Rules are written by nft(8); here is only what is read often. A message is a header, the family, and attributes (length,
type, value) that may be nested. What is dumped comes in portions of many messages, and the last one says so.

Source: linux/netlink.h, linux/netfilter/nfnetlink.h and nf_tables.h.
"""

import errno
import struct
from collections.abc import Iterator

REQUEST, ACK, DUMP = 0x1, 0x4, 0x300
DUMP_INTERRUPTED = 0x10
"""In the messages of a portion that does not go with those before, because of a change in between."""
ERROR, DONE = 2, 3
UNSPECIFIED, INET, IPV4, IPV6 = 0, 1, 2, 10
"""Families: those of addresses, and that of tables for both."""
NF_TABLES = 10
"""The subsystem of nf_tables."""
NEW_TABLE, GET_TABLE, NEW_OBJECT, GET_OBJECT = 0, 1, 18, 19
TABLE_NAME, OBJECT_TABLE, OBJECT_NAME, OBJECT_TYPE, OBJECT_DATA, COUNTER_PACKETS = 1, 1, 2, 3, 4, 2
COUNTER = 1
NESTED = 0x8000
HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence, port."""
BODY_AT = HEADER.size + 4
"""Where the attributes begin: after the header and the family."""
_LENGTH_TYPE = struct.Struct("=IH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")


NetlinkMessage = tuple[int, int, int]
"""One message of a portion: its kind (subsystem and type), and from where to where its attributes are."""


def request(subsystem: int, kind: int, family: int, attributes: bytes = b"", *, flags: int = DUMP) -> bytes:
    """A whole message."""
    length = BODY_AT + len(attributes)
    header = HEADER.pack(length, subsystem << 8 | kind, REQUEST | flags, 0, 0)
    return header + struct.pack("=BBH", family, 0, 0) + attributes


def attribute(kind: int, value: bytes, *, nested: bool = False) -> bytes:
    """With what fills it up to four bytes."""
    length = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(length, kind | (NESTED if nested else 0)) + value + bytes(-length % 4)


def messages(portion: bytes) -> Iterator[NetlinkMessage]:
    """The messages of a portion. What is cut off or malformed ends it."""
    at, size = 0, len(portion)
    while at + HEADER.size <= size:
        length, kind = _LENGTH_TYPE.unpack_from(portion, at)
        if length < HEADER.size or at + length > size:
            return
        yield kind, at + BODY_AT, at + length
        at += length + (-length % 4)


def outcome(portion: bytes) -> int | None:
    """None while more of a dump is to come; 0 at its end; else the errno of what the kernel refused, or EINTR where the
    portions do not belong together."""
    if len(portion) >= HEADER.size and HEADER.unpack_from(portion)[2] & DUMP_INTERRUPTED:
        return errno.EINTR
    for kind, start, end in messages(portion):
        if kind == DONE:
            return 0
        if kind == ERROR and end >= start:
            return -int(_ERROR.unpack_from(portion, start - BODY_AT + HEADER.size)[0])
    return None


def attributes(data: bytes, start: int, end: int) -> dict[int, bytes]:
    """By type, without the nesting flags."""
    found: dict[int, bytes] = {}
    at = start
    while at + _ATTRIBUTE.size <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = data[at + _ATTRIBUTE.size : min(end, at + length)]
        at += length + (-length % 4)
    return found


def ask_tables() -> bytes:
    """A request for the names of all tables of the family inet."""
    return request(NF_TABLES, GET_TABLE, INET)


def table_names(portion: bytes) -> list[str]:
    """Those in a portion of the answer."""
    tables = [(start, end) for kind, start, end in messages(portion) if kind == NF_TABLES << 8 | NEW_TABLE]
    return [_text(attributes(portion, *each).get(TABLE_NAME, b"")) for each in tables]


def ask_counters(table: str) -> bytes:
    """A request for the named counters of a table of the family inet."""
    named = attribute(OBJECT_TABLE, table.encode() + b"\0")
    return request(NF_TABLES, GET_OBJECT, INET, named + attribute(OBJECT_TYPE, struct.pack(">I", COUNTER)))


def counters(portion: bytes) -> dict[str, int]:
    """The packets of each in a portion of the answer."""
    found: dict[str, int] = {}
    for kind, start, end in messages(portion):
        if kind == NF_TABLES << 8 | NEW_OBJECT:
            each = attributes(portion, start, end)
            data = each.get(OBJECT_DATA, b"")
            packets = attributes(data, 0, len(data)).get(COUNTER_PACKETS, b"")
            found[_text(each.get(OBJECT_NAME, b""))] = int.from_bytes(packets, "big")
    return found


def _text(value: bytes) -> str:
    return value.rstrip(b"\0").decode("latin-1")
