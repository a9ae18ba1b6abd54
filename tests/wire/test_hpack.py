"""HPACK, beside `hpack` in both directions: what it encodes is decoded here, and what is encoded here it decodes."""

import hpack
import pytest
from hpack.table import HeaderTable
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.hpack import (
    EMPTY_TABLE,
    KEY_BYTES,
    NO_TABLE,
    STATIC_TABLE,
    TABLE_BYTES,
    HpackError,
    TooLargeError,
    decode_block,
    encode_field,
)

MUCH = 1_000_000
NAMES = st.one_of(st.sampled_from([name for name, _ in STATIC_TABLE]), st.binary(min_size=1, max_size=20))
FIELD = st.tuples(NAMES, st.binary(max_size=300))
BLOCKS = st.lists(
    st.tuples(st.lists(FIELD, max_size=8), st.booleans(), st.sampled_from([None, None, 0, 60, 400, TABLE_BYTES])),
    max_size=10,
)


def test_the_static_table_is_that_of_the_rfc() -> None:
    assert STATIC_TABLE == HeaderTable.STATIC_TABLE


@given(BLOCKS)
def test_blocks_of_an_encoder_with_a_table_are_decoded(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    encoder, table = hpack.Encoder(), EMPTY_TABLE
    for fields, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        decoded = decode_block(table, encoder.encode(fields, huffman=huffman), MUCH)
        table = decoded.table
        assert list(decoded.fields) == fields
        assert decoded.size == sum(len(name) + len(value) + 32 for name, value in fields)
        assert table.size == sum(len(name) + len(value) + 32 for name, value in table.entries) <= table.limit


@given(st.lists(FIELD, max_size=20))
def test_what_is_encoded_here_is_decoded_by_others_and_needs_no_table(fields: list[tuple[bytes, bytes]]) -> None:
    block = b"".join(encode_field(*field) for field in fields)
    decoder = hpack.Decoder()
    decoder.max_header_list_size = MUCH
    decoded = decoder.decode(block, raw=True)
    assert [tuple(field) for field in decoded] == fields
    assert not decoder.header_table.dynamic_entries


def test_credentials_are_marked_as_never_to_be_stored() -> None:
    (field,) = hpack.Decoder().decode(encode_field(b"set-cookie", b"a=1"), raw=True)
    assert isinstance(field, hpack.NeverIndexedHeaderTuple)


def test_a_block_that_adds_nothing_leaves_the_very_table() -> None:
    table = decode_block(EMPTY_TABLE, hpack.Encoder().encode([(b"x", b"1")]), MUCH).table
    assert table is not EMPTY_TABLE
    assert decode_block(table, b"\xbe", MUCH).table is table
    assert decode_block(table, b"\xbe", MUCH).fields == ((b"x", b"1"),)


def test_tables_of_the_same_history_have_the_same_key() -> None:
    blocks = [hpack.Encoder().encode([(b"x", value)]) for value in (b"1", b"2")]
    first, again, other = [decode_block(EMPTY_TABLE, block, MUCH).table.key for block in (blocks[0], *blocks)]
    assert first == again != other


def test_a_list_that_is_too_large_is_dropped_but_keeps_the_table_right() -> None:
    encoder = hpack.Encoder()
    decoded = decode_block(EMPTY_TABLE, encoder.encode([(b"x", b"1" * 100), (b"y", b"2")]), 150)
    assert decoded.too_large
    assert decoded.fields == ()
    after = decode_block(decoded.table, encoder.encode([(b"y", b"2"), (b"x", b"1" * 100)]), MUCH)
    assert after.fields == ((b"y", b"2"), (b"x", b"1" * 100))


def test_a_bomb_of_references_takes_no_more_memory_than_its_block() -> None:
    table = decode_block(EMPTY_TABLE, hpack.Encoder().encode([(b"x", b"1" * 4000)]), MUCH).table
    decoded = decode_block(table, b"\xbe" * 30, 32_768)
    assert decoded.too_large
    assert decoded.size == 30 * 4033
    with pytest.raises(TooLargeError):
        decode_block(table, b"\xbe" * 30_000, 32_768)


def test_the_confirmation_of_a_smaller_table_clears_it() -> None:
    table = decode_block(EMPTY_TABLE, hpack.Encoder().encode([(b"x", b"1")]), MUCH).table
    after = decode_block(table, NO_TABLE + encode_field(b"y", b"2"), MUCH)
    assert after.table.entries == ()
    assert after.table.limit == 0


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (b"\x80", "entry 0"),
        (b"\xbe", "entry 62"),
        (b"\x7f\x80\x01", "entry"),
        (b"\x82\x20", "behind a field"),
        (b"\x3f\xe2\x1f", "larger than"),
        (b"\x40", "before a string"),
        (b"\x40\x05ab", "in a string"),
        (b"\xff", "in an integer"),
        (b"\xff\xff\xff\xff\xff\x7f", "too large"),
        (b"\x7f" + b"\x80" * 20 + b"\x00", "too large"),
        (b"\x00\x81\x00\x00", "symbol"),
    ],
)
def test_broken_blocks_are_refused(block: bytes, reason: str) -> None:
    with pytest.raises(HpackError, match=reason):
        decode_block(EMPTY_TABLE, block, MUCH)


@given(st.binary(max_size=200))
def test_any_bytes_are_decoded_as_by_another_decoder_or_refused(block: bytes) -> None:
    decoder = hpack.Decoder()
    decoder.max_header_list_size = MUCH
    try:
        expected = [tuple(field) for field in decoder.decode(block, raw=True)]
    except hpack.HPACKError:
        expected = None
    try:
        decoded = decode_block(EMPTY_TABLE, block, MUCH)
    except HpackError:
        return
    assert list(decoded.fields) == expected


@pytest.mark.parametrize("field", [b"\x82", b"\xbe"], ids=["static", "dynamic"])
def test_lists_that_are_far_too_large_are_not_decoded_to_their_end(field: bytes) -> None:
    table = decode_block(EMPTY_TABLE, b"\x40\x01x\x01y", 1000).table
    assert decode_block(table, field * 40, 1000).too_large
    with pytest.raises(TooLargeError):
        decode_block(table, field * 200 + b"\xff", 1000)


def test_keys_of_tables_have_one_length_and_depend_on_all_blocks_before() -> None:
    block = b"\x40\x01x\x01y"
    once = decode_block(EMPTY_TABLE, block, 1000).table
    keys = {EMPTY_TABLE.key, once.key, decode_block(once, block, 1000).table.key}
    assert len(keys) == 3
    assert {len(key) for key in keys} == {KEY_BYTES}
