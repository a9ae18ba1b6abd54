"""Header blocks, remembered: by the state of the decoder and the block, what the block holds and the next state. Pure.

Clients send the same block again and again once their fields are in the dynamic table, and clients of one kind send the
same first blocks. So a block is nearly always one look-up, in a memory that all connections share.
"""

from collections.abc import Callable
from typing import Final

from tierlb.wire.hpack import Decoded, DynamicTable, decode_block
from tierlb.wire.http2_head import DEFAULT_URGENCY, MalformedError, request_head, urgency_of
from tierlb.wire.http_fields import Header
from tierlb.wire.memo import Memo

HEADER_BLOCKS_BUDGET_BYTES: Final = 2 * 1024 * 1024
_BLOCK_BYTES: Final = 800
"""What a block takes beside its characters."""
_FIELD_BYTES: Final = 200
"""What each of its fields takes, and each entry of the next state, beside its characters."""


MakeHead = Callable[[tuple[Header, ...], bool], bytes]
"""Of fields, and whether the message ends with them. Raises MalformedError."""


class HeaderBlock:
    """A block that was decoded, not changed after it was made but for what is worked out from it when it is first asked
    for. `table`: the state after it. `too_large`: its fields are more than the limit, and are not here. `_make_head`:
    what makes the head of HTTP/1.1."""

    __slots__ = ("_closed", "_make_head", "_open", "fields", "table", "too_large", "urgency")

    def __init__(self, decoded: Decoded, make_head: MakeHead) -> None:
        self._make_head = make_head
        self.fields: Final = decoded.fields
        self.table: Final = decoded.table
        self.too_large: Final = decoded.too_large
        priority = [value for name, value in decoded.fields if name == b"priority"]
        self.urgency: Final = urgency_of(priority[0]) if priority else DEFAULT_URGENCY
        self._closed: bytes | MalformedError | None = None
        self._open: bytes | MalformedError | None = None

    def head(self, *, ended: bool) -> bytes:
        """The equivalent head of HTTP/1.1, of a message that is `ended` by this block or not. Raises MalformedError."""
        head = self._closed if ended else self._open
        if head is None:
            try:
                head = self._make_head(self.fields, ended)
            except MalformedError as error:
                head = error
            if ended:
                self._closed = head
            else:
                self._open = head
        if isinstance(head, MalformedError):
            raise MalformedError(str(head))
        return head


class BlockBook:
    """Blocks that came more than once, which are `known` by the key of the state before them and their bytes.
    `most_bytes`: the largest list of fields that is wanted."""

    __slots__ = ("_make_head", "_memo", "known", "most_bytes")

    def __init__(self, most_bytes: int, make_head: MakeHead = request_head) -> None:
        self.most_bytes = most_bytes
        self._make_head = make_head
        self._memo: Memo[HeaderBlock] = Memo(HEADER_BLOCKS_BUDGET_BYTES)
        self.known = self._memo.kept

    def read(self, table: DynamicTable, block: bytes) -> HeaderBlock:
        """Raises HpackError."""
        key = table.key + block
        found = self.known.get(key)
        if found is None:
            decoded = decode_block(table, block, self.most_bytes)
            found = HeaderBlock(decoded, self._make_head)
            self._memo.offer(key, found, _kept_bytes(decoded.fields, decoded.table))
        return found


def _kept_bytes(fields: tuple[Header, ...], table: DynamicTable) -> int:
    """The memory of a block: its fields and its two heads, and the state after it."""
    characters = sum(len(name) + len(value) for name, value in fields)
    return _BLOCK_BYTES + 3 * characters + table.size + _FIELD_BYTES * (len(fields) + len(table.entries))
