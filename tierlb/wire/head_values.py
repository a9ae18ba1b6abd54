"""HTTP/1.1 heads that were read and found valid (`http_head.py`): plain values, not changed after they were made."""

from typing import Final

from tierlb.wire.http_fields import FIELD_BYTES, Header, HeaderField

BLOCK_BYTES: Final = 1000
"""The memory of a block's objects besides its fields and their characters (CPython 3.11)."""


class _Lookup:
    """Field access shared by the two heads."""

    __slots__ = ()

    fields: tuple[HeaderField, ...]

    @property
    def headers(self) -> tuple[Header, ...]:
        """(name as sent, value), in order."""
        return tuple((field.name, field.value) for field in self.fields)

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field with this lower-case name."""
        for field in self.fields:
            if field.lower == name:
                return field.value
        return None


class Block(_Lookup):
    """The field lines of a request, without the request line; shared by all heads that have the same lines.

    `passing` belongs to the data plane: what it forwards of these fields, for what came without TLS and with it,
    over HTTP/1 and then over HTTP/2, None before that was computed. It is kept for as long as the block is.
    """

    __slots__ = (
        "chunked",
        "content_length",
        "dropped",
        "expect_continue",
        "fields",
        "host",
        "host_name",
        "keep_alive",
        "minor",
        "passing",
        "takes_trailers",
        "upgrade",
    )

    def __init__(
        self,
        minor: int,
        fields: tuple[HeaderField, ...],
        host: bytes,
        host_name: bytes,
        content_length: int | None,
        chunked: bool,
        keep_alive: bool,
        expect_continue: bool,
        upgrade: bytes | None,
        takes_trailers: bool,
        dropped: frozenset[bytes],
    ) -> None:
        self.minor: Final = minor
        self.fields = fields
        self.host: Final = host
        self.host_name: Final = host_name
        self.content_length: Final = content_length
        self.chunked: Final = chunked
        self.keep_alive: Final = keep_alive
        self.expect_continue: Final = expect_continue
        self.upgrade: Final = upgrade
        self.takes_trailers: Final = takes_trailers
        self.dropped: Final = dropped
        self.passing: list[bytes | None] = [None, None, None, None]

    def with_fields(self, fields: tuple[HeaderField, ...], host: bytes, host_name: bytes) -> "Block":
        """The same with other lines, which mean the same but for the host."""
        return Block(
            self.minor,
            fields,
            host,
            host_name,
            self.content_length,
            self.chunked,
            self.keep_alive,
            self.expect_continue,
            self.upgrade,
            self.takes_trailers,
            self.dropped,
        )

    @property
    def kept_bytes(self) -> int:
        """The memory it takes: its fields, each of them four strings, and what is forwarded."""
        return BLOCK_BYTES + sum(FIELD_BYTES + 5 * len(field.line) for field in self.fields)


class RequestHead:
    """A valid request head, not changed after it was made.

    `target` is in origin-form or `*`. `fields` keep names as sent, order and all, except that the one Host equals
    `host`, also where the target was in absolute-form. `host` is empty where that field is, and for HTTP/1.0 without
    one; `host_name` is what routes compare (wire/host.py). `upgrade` is set where Connection names it too.
    `takes_trailers`: from TE. `dropped` are lower-case names that end at this hop.
    """

    __slots__ = ("block", "method", "minor", "target")

    def __init__(self, method: bytes, target: bytes, minor: int, block: Block) -> None:
        self.method: Final = method
        self.target: Final = target
        self.minor: Final = minor
        self.block: Final = block

    @property
    def fields(self) -> tuple[HeaderField, ...]:
        return self.block.fields

    @property
    def headers(self) -> tuple[Header, ...]:
        """(name as sent, value), in order."""
        return self.block.headers

    @property
    def host(self) -> bytes:
        return self.block.host

    @property
    def host_name(self) -> bytes:
        return self.block.host_name

    @property
    def content_length(self) -> int | None:
        return self.block.content_length

    @property
    def chunked(self) -> bool:
        return self.block.chunked

    @property
    def keep_alive(self) -> bool:
        """Whether the client keeps the connection open, from its version and Connection."""
        return self.block.keep_alive

    @property
    def expect_continue(self) -> bool:
        return self.block.expect_continue

    @property
    def upgrade(self) -> bytes | None:
        return self.block.upgrade

    @property
    def dropped(self) -> frozenset[bytes]:
        return self.block.dropped

    def get(self, name: bytes) -> bytes | None:
        """The first value of the field with this lower-case name."""
        return self.block.get(name)


class ResponseHead(_Lookup):
    """A valid response head, not changed after it was made. Without length or chunked, the body ends with the
    connection."""

    __slots__ = (
        "chunked",
        "content_length",
        "dropped",
        "fields",
        "keep_alive",
        "minor",
        "reason",
        "status",
        "upgrade",
    )

    def __init__(
        self,
        status: int,
        reason: bytes,
        minor: int,
        fields: tuple[HeaderField, ...],
        content_length: int | None,
        chunked: bool,
        keep_alive: bool,
        upgrade: bytes | None,
        dropped: frozenset[bytes],
    ) -> None:
        self.status: Final = status
        self.reason: Final = reason
        self.minor: Final = minor
        self.fields = fields
        self.content_length: Final = content_length
        self.chunked: Final = chunked
        self.keep_alive: Final = keep_alive
        self.upgrade: Final = upgrade
        self.dropped: Final = dropped
