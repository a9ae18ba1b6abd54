"""Large reads, for as long as few streams keep what they could not write."""

import itertools
import subprocess
import sys

import attrs
import pytest

from tierlb.net.bulk import (
    BULK_READ_BYTES,
    GIVE_BACK_EVERY_S,
    MANY_BACKLOGS,
    MOST_BACKLOGS,
    READ_BYTES,
    Bulk,
    give_back,
    malloc_trim,
)


@attrs.define(eq=False)
class Reader:
    read_bytes: int = READ_BYTES


def growing(bulk: Bulk, count: int) -> list[Reader]:
    """Streams that have filled a read."""
    readers = [Reader() for _ in range(count)]
    for reader in readers:
        reader.read_bytes = bulk.bytes_for(reader)
    return readers


def test_with_few_backlogs_whoever_fills_a_read_reads_more() -> None:
    bulk = Bulk(give_back)
    for _ in range(MOST_BACKLOGS):
        bulk.begin()
    assert {reader.read_bytes for reader in growing(bulk, 100)} == {BULK_READ_BYTES}


def test_with_many_backlogs_all_read_little_until_there_are_few_again() -> None:
    bulk = Bulk(give_back)
    before = growing(bulk, 100)
    for _ in range(MOST_BACKLOGS + 1):
        bulk.begin()
    assert {reader.read_bytes for reader in [*before, *growing(bulk, 100)]} == {READ_BYTES}
    bulk.end()
    before[0].read_bytes = bulk.bytes_for(before[0])
    assert [reader.read_bytes for reader in before[:2]] == [BULK_READ_BYTES, READ_BYTES]
    bulk.begin()
    assert before[0].read_bytes == READ_BYTES


def test_streams_that_ended_are_not_kept() -> None:
    bulk = Bulk(give_back)
    ended, going_on = growing(bulk, 2)
    bulk.forget(ended)
    bulk.forget(ended)
    for _ in range(MOST_BACKLOGS + 1):
        bulk.begin()
    assert (ended.read_bytes, going_on.read_bytes) == (BULK_READ_BYTES, READ_BYTES)


def test_memory_is_given_back_when_most_of_many_backlogs_are_gone_and_not_too_often() -> None:
    given_back: list[float] = []
    bulk, now = Bulk(lambda: given_back.append(now)), 100.0

    def passes(seconds: float) -> None:
        nonlocal now
        for _ in range(round(seconds / 0.25)):
            now += 0.25
            bulk.tick(now)

    def begins(count: int) -> None:
        for _ in range(count):
            bulk.begin()
        passes(1.0)

    def ends(count: int) -> None:
        for _ in range(count):
            bulk.end()

    begins(MANY_BACKLOGS - 1)
    ends(MANY_BACKLOGS - 1)
    passes(10.0)
    assert given_back == [], "they were few"
    begins(MANY_BACKLOGS)
    ends(MANY_BACKLOGS // 2)
    passes(10.0)
    assert given_back == [], "half of them are still there"
    ends(MANY_BACKLOGS // 2)
    bulk.tick(now)
    assert given_back == [], "they have only just gone"
    passes(10.0)
    assert len(given_back) == 1
    first = given_back[0]
    for _ in range(4):
        begins(MANY_BACKLOGS)
        ends(MANY_BACKLOGS)
        passes(1.0)
    passes(10.0)
    assert 2 <= len(given_back) <= 4
    assert all(later - earlier >= GIVE_BACK_EVERY_S for earlier, later in itertools.pairwise(given_back))
    assert given_back[0] == first


HELD = """
import gc
from tierlb.net.bulk import give_back

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) / 256

large = bytes(32 * 2**20)  # freeing it raises glibc's threshold for memory of its own
del large
before, pinned = resident_mib(), []
gc.disable()
for _ in range(256):
    cycle = [bytearray(b"x" * 200_000)]
    cycle.append(cycle)
    pinned.append(bytes(5000))
del cycle
held = resident_mib()
give_back()
print(held - before, resident_mib() - before)
"""


@pytest.mark.skipif(malloc_trim is None, reason="NOT TESTED: the C library has no malloc_trim")
def test_what_is_held_by_cycles_and_between_small_pieces_in_use_goes_back_to_the_system() -> None:
    said = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True, timeout=60).stdout
    held_mib, left_mib = map(float, said.split())
    assert held_mib > 20
    assert left_mib < held_mib / 4
