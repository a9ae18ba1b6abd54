"""Large reads, for as long as few streams keep what they could not write."""

import gc

import attrs

from tierlb.net.bulk import BULK_READ_BYTES, MOST_BACKLOGS, READ_BYTES, Bulk


@attrs.define(eq=False, weakref_slot=True)
class Reader:
    read_bytes: int = READ_BYTES


def growing(bulk: Bulk, count: int) -> list[Reader]:
    """Streams that have filled a read."""
    readers = [Reader() for _ in range(count)]
    for reader in readers:
        reader.read_bytes = bulk.bytes_for(reader)
    return readers


def test_with_few_backlogs_whoever_fills_a_read_reads_more() -> None:
    bulk = Bulk()
    for _ in range(MOST_BACKLOGS):
        bulk.begin()
    assert {reader.read_bytes for reader in growing(bulk, 100)} == {BULK_READ_BYTES}


def test_with_many_backlogs_all_read_little_until_there_are_few_again() -> None:
    bulk = Bulk()
    before = growing(bulk, 100)
    for _ in range(MOST_BACKLOGS + 1):
        bulk.begin()
    assert {reader.read_bytes for reader in [*before, *growing(bulk, 100)]} == {READ_BYTES}
    bulk.end()
    before[0].read_bytes = bulk.bytes_for(before[0])
    assert [reader.read_bytes for reader in before[:2]] == [BULK_READ_BYTES, READ_BYTES]
    bulk.begin()
    assert before[0].read_bytes == READ_BYTES


def test_streams_that_are_gone_are_not_kept() -> None:
    bulk = Bulk()
    growing(bulk, 100)
    gc.collect()
    assert len(bulk._streams) == 0
