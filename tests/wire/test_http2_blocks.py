"""Header blocks are remembered by the state of the decoder and their bytes."""

import hpack
import pytest

from tierlb.wire.hpack import EMPTY_TABLE, HpackError, decode_block
from tierlb.wire.http2_blocks import BlockBook
from tierlb.wire.http2_head import MalformedError

GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"), (b"x", b"y")]


def test_a_block_that_comes_again_in_the_same_state_is_the_very_object() -> None:
    book = BlockBook(10_000)
    block = hpack.Encoder().encode(GET)
    first, second, third = [book.read(EMPTY_TABLE, block) for _ in range(3)]
    assert first is not second
    assert second is third
    assert first.table.key == second.table.key


def test_connections_share_what_is_remembered_of_later_blocks_too() -> None:
    book = BlockBook(10_000)
    ends = []
    for _ in range(4):
        encoder, table = hpack.Encoder(), EMPTY_TABLE
        for fields in (GET, [*GET, (b"z", b"1")], GET):
            found = book.read(table, encoder.encode(fields))
            assert list(found.fields) == fields
            table = found.table
        ends.append(found)
    assert ends[2] is ends[3]


def test_the_same_bytes_mean_something_else_in_another_state() -> None:
    book = BlockBook(10_000)
    tables = [book.read(EMPTY_TABLE, hpack.Encoder().encode([(b"x", value)])).table for value in (b"1", b"2")]
    for _ in range(3):
        assert [book.read(table, b"\xbe").fields for table in tables] == [((b"x", b"1"),), ((b"x", b"2"),)]


def test_the_head_depends_on_whether_a_body_follows() -> None:
    found = BlockBook(10_000).read(EMPTY_TABLE, hpack.Encoder().encode(GET))
    assert b"chunked" not in found.head(ended=True)
    assert b"chunked" in found.head(ended=False)
    assert found.head(ended=True) is found.head(ended=True)


def test_a_malformed_list_is_refused_each_time() -> None:
    found = BlockBook(10_000).read(EMPTY_TABLE, hpack.Encoder().encode(GET[1:]))
    for _ in range(2):
        with pytest.raises(MalformedError):
            found.head(ended=True)


def test_lists_over_the_limit_are_known_as_such() -> None:
    assert BlockBook(50).read(EMPTY_TABLE, hpack.Encoder().encode(GET)).too_large


def test_the_urgency_comes_from_the_priority_field() -> None:
    found = BlockBook(10_000).read(EMPTY_TABLE, hpack.Encoder().encode([*GET, (b"priority", b"u=1")]))
    assert found.urgency == 1


def test_blocks_that_never_come_again_fill_no_memory() -> None:
    book = BlockBook(10_000)
    for number in range(1000):
        book.read(EMPTY_TABLE, hpack.Encoder().encode([(b"x", b"%d" % number)]))
    assert len(book.known) < 10


def test_a_block_that_begins_with_the_key_of_a_state_is_not_taken_for_a_later_one() -> None:
    """The bytes of a key that happen to be a block would else be remembered for clients in that state."""
    found = 0
    for number in range(5000):
        table = decode_block(EMPTY_TABLE, hpack.Encoder().encode([(b"x", b"%d" % number)]), 10_000).table
        book = BlockBook(10_000)
        try:
            for _ in range(3):
                book.read(EMPTY_TABLE, table.key + b"\xbe")
        except HpackError:
            continue
        found += 1
        assert book.read(table, b"\xbe").fields == ((b"x", b"%d" % number),)
    assert found
