"""HPACK, the compression of header lists in HTTP/2 (RFC 7541): decoding with both tables, encoding without the dynamic
one. Pure.

The state of a decoder is a value, a `DynamicTable`: a block decoded with one table gives one list of fields and one
next table. So results can be remembered by table and block, and shared by all connections (`http2_blocks`). `key`
names a table by its history: KEY_BYTES of a hash with a secret of this process. No peer can work one out, or make two
tables with the same key.

What is encoded never uses the dynamic table. It costs some bytes on the wire, and makes the block of a response depend
on nothing but the response.

Left out: Huffman coding of what is encoded.
"""

import hashlib
import os
from typing import Final

from tierlb.wire.http_fields import Header
from tierlb.wire.huffman import BadHuffmanError, decode_huffman

TABLE_BYTES: Final = 4096
"""SETTINGS_HEADER_TABLE_SIZE, unless a setting changes it (RFC 9113 §6.5.2). This program never does."""
ENTRY_OVERHEAD_BYTES: Final = 32
"""RFC 7541 §4.1: an entry counts as this much more than its name and its value, also in the size of a header list."""
INTEGER_LIMIT: Final = 2**28
"""Nothing that is allowed here is longer. RFC 7541 §5.1: larger integers are an error."""

KEY_BYTES: Final = 16
"""Of a fixed length, since a key is joined with a block: else bytes of the block could pass for a part of the key."""
FAR_FACTOR: Final = 4
"""A list that is so many times larger than wanted is not decoded to its end, which would let a peer cause much work."""

_KEY_SECRET: Final = os.urandom(32)
_STATIC: Final = """
    :authority
    :method GET
    :method POST
    :path /
    :path /index.html
    :scheme http
    :scheme https
    :status 200
    :status 204
    :status 206
    :status 304
    :status 400
    :status 404
    :status 500
    accept-charset
    accept-encoding gzip, deflate
    accept-language
    accept-ranges
    accept
    access-control-allow-origin
    age
    allow
    authorization
    cache-control
    content-disposition
    content-encoding
    content-language
    content-length
    content-location
    content-range
    content-type
    cookie
    date
    etag
    expect
    expires
    from
    host
    if-match
    if-modified-since
    if-none-match
    if-range
    if-unmodified-since
    last-modified
    link
    location
    max-forwards
    proxy-authenticate
    proxy-authorization
    range
    referer
    refresh
    retry-after
    server
    set-cookie
    strict-transport-security
    transfer-encoding
    user-agent
    vary
    via
    www-authenticate
"""
STATIC_TABLE: Final[tuple[Header, ...]] = tuple(
    (name.encode(), value.encode())
    for name, _, value in (line.strip().partition(" ") for line in _STATIC.strip().splitlines())
)
"""RFC 7541 appendix A, from index 1 on."""
STATIC_ENTRIES: Final = len(STATIC_TABLE)

_WHOLE: Final = {entry: index for index, entry in reversed(list(enumerate(STATIC_TABLE, 1)))}
_NAMES: Final = {name: index for index, (name, _) in reversed(list(enumerate(STATIC_TABLE, 1)))}
_SECRET: Final = frozenset({b"authorization", b"cookie", b"proxy-authorization", b"set-cookie"})


class HpackError(ValueError):
    """A block that cannot be decoded, so that the tables of both ends are no longer the same."""


class TooLargeError(HpackError):
    """A list of fields that is far larger than wanted."""


class DynamicTable:
    """A decoder's state, not changed after it was made. `entries`: the oldest first. `size`: of its entries, as RFC
    7541 counts it; `limit`: how large that may be."""

    __slots__ = ("entries", "key", "limit", "size")

    def __init__(self, entries: tuple[Header, ...], size: int, limit: int, key: bytes) -> None:
        self.entries: Final = entries
        self.size: Final = size
        self.limit: Final = limit
        self.key: Final = key


EMPTY_TABLE: Final = DynamicTable((), 0, TABLE_BYTES, bytes(KEY_BYTES))


class Decoded:
    """What a block holds. `fields` is empty where these are `too_large`, and the table is right nonetheless."""

    __slots__ = ("fields", "size", "table", "too_large")

    def __init__(self, fields: tuple[Header, ...], size: int, table: DynamicTable, *, too_large: bool) -> None:
        self.fields: Final = fields
        self.size: Final = size
        self.table: Final = table
        self.too_large: Final = too_large


def decode_block(table: DynamicTable, block: bytes, most_bytes: int) -> Decoded:
    """Decode a whole block. `most_bytes`: the largest list of fields that is wanted, in the count of RFC 9113 §6.5.2.
    Raises HpackError, and TooLargeError for a list that is FAR_FACTOR times larger."""
    return _Decoder(table, block, most_bytes).run()


class _Decoder:
    """One block on its way. `entries` are changed in place, once they are `own`."""

    __slots__ = ("at", "block", "entries", "fields", "limit", "most_bytes", "own", "size", "table", "total")

    def __init__(self, table: DynamicTable, block: bytes, most_bytes: int) -> None:
        self.table = table
        self.block = block
        self.most_bytes = most_bytes
        self.at = 0
        self.entries = list(table.entries)
        self.own = False
        self.size = table.size
        self.limit = table.limit
        self.fields: list[Header] = []
        self.total = 0

    def run(self) -> Decoded:
        block, end = self.block, len(self.block)
        while self.at < end:
            first = block[self.at]
            if first & 0x80:
                self._add(self._entry(self._integer(0x7F)))
            elif first & 0x40:
                entry = self._literal(0x3F)
                self._insert(entry)
                self._add(entry)
            elif first & 0x20:
                self._resize(self._integer(0x1F))
            else:
                self._add(self._literal(0x0F))
        too_large = self.total > self.most_bytes
        return Decoded(() if too_large else tuple(self.fields), self.total, self._result(), too_large=too_large)

    def _result(self) -> DynamicTable:
        if not self.own:
            return self.table
        key = hashlib.blake2b(self.table.key + self.block, digest_size=KEY_BYTES, key=_KEY_SECRET).digest()
        return DynamicTable(tuple(self.entries), self.size, self.limit, key)

    def _add(self, field: Header) -> None:
        self.total += len(field[0]) + len(field[1]) + ENTRY_OVERHEAD_BYTES
        if self.total <= self.most_bytes:
            self.fields.append(field)
        elif self.total > FAR_FACTOR * self.most_bytes:
            raise TooLargeError(f"more than {FAR_FACTOR} times the {self.most_bytes} bytes of fields allowed here")

    def _entry(self, index: int) -> Header:
        if 0 < index <= STATIC_ENTRIES:
            return STATIC_TABLE[index - 1]
        back = index - STATIC_ENTRIES
        if not 0 < back <= len(self.entries):
            raise HpackError(f"no table has an entry {index}")
        return self.entries[-back]

    def _literal(self, mask: int) -> Header:
        index = self._integer(mask)
        name = self._entry(index)[0] if index else self._string()
        return name, self._string()

    def _insert(self, entry: Header) -> None:
        size = len(entry[0]) + len(entry[1]) + ENTRY_OVERHEAD_BYTES
        self.own = True
        self._shrink(self.limit - size)
        if size <= self.limit:
            self.entries.append(entry)
            self.size += size

    def _resize(self, limit: int) -> None:
        if self.fields or self.total:
            raise HpackError("the size of the table changes behind a field")
        if limit > TABLE_BYTES:
            raise HpackError(f"the table is to be larger than {TABLE_BYTES} bytes")
        self.own = True
        self.limit = limit
        self._shrink(limit)

    def _shrink(self, limit: int) -> None:
        """Drop the oldest entries until the rest has this size at most."""
        entries, dropped = self.entries, 0
        while self.size > limit and dropped < len(entries):
            name, value = entries[dropped]
            self.size -= len(name) + len(value) + ENTRY_OVERHEAD_BYTES
            dropped += 1
        if dropped:
            del entries[:dropped]

    def _integer(self, mask: int) -> int:
        """RFC 7541 §5.1: `mask` are the bits of the first byte that belong to it."""
        block, at = self.block, self.at
        value = block[at] & mask
        at += 1
        if value == mask:
            shift = 0
            while True:
                if at >= len(block):
                    raise HpackError("the block ends in an integer")
                byte = block[at]
                at += 1
                value += (byte & 0x7F) << shift
                shift += 7
                if value >= INTEGER_LIMIT or shift > 35:
                    raise HpackError("an integer is too large")
                if byte < 0x80:
                    break
        self.at = at
        return value

    def _string(self) -> bytes:
        if self.at >= len(self.block):
            raise HpackError("the block ends before a string")
        coded = self.block[self.at] & 0x80
        length = self._integer(0x7F)
        end = self.at + length
        if end > len(self.block):
            raise HpackError("the block ends in a string")
        text = self.block[self.at : end]
        self.at = end
        if not coded:
            return text
        try:
            return decode_huffman(text)
        except BadHuffmanError as error:
            raise HpackError(str(error)) from None


# Encoding.

NO_TABLE: Final = b"\x20"
"""Before the fields of a block: the dynamic table holds nothing from here on. It is due where the peer has made the
table smaller (RFC 7541 §4.2)."""


def encode_field(name: bytes, value: bytes) -> bytes:
    """One field. `name` is in lower case. What holds credentials is marked as never to be put into a table."""
    index = _WHOLE.get((name, value), 0)
    if index:
        return _integer(index, 0x7F, 0x80)
    index = _NAMES.get(name, 0)
    start = _integer(index, 0x0F, 0x10 if name in _SECRET else 0)
    if not index:
        start += _integer(len(name), 0x7F, 0) + name
    return start + _integer(len(value), 0x7F, 0) + value


def _integer(value: int, mask: int, pattern: int) -> bytes:
    if value < mask:
        return bytes((pattern | value,))
    found = bytearray((pattern | mask,))
    value -= mask
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
