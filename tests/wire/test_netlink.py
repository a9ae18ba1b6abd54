"""Messages as the kernel sends them (Linux 6.18, captured), and whatever else may come."""

import errno
import struct

from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.netlink import (
    DONE,
    DUMP_INTERRUPTED,
    ERROR,
    HEADER,
    ask_counters,
    ask_tables,
    attribute,
    attributes,
    counters,
    messages,
    outcome,
    table_names,
)

TABLE = bytes.fromhex(
    "48000000000a0200000000002d0500000100000217000100746965726c625f73686f705f656467652d3100000800030000000009"
    "0c00040000000000000000020800020000000000"
)
TWO_COUNTERS = bytes.fromhex(
    "70000000120a0208000000002d0500000100000217000100746965726c625f73686f705f656467652d3100000b000200686f7374"
    "5f31000008000300000000010c000600000000000000000308000500000000011c0004000c000100000000000000003c0c000200"
    "0000000000000001"
    "70000000120a0208000000002d0500000100000217000100746965726c625f73686f705f656467652d3100000b000200686f7374"
    "5f32000008000300000000010c000600000000000000000608000500000000011c0004000c00010000000000000000500c000200"
    "0000000000000001"
)
END = bytes.fromhex("1400000003000200000000002d05000000000000")


def refused(code: int) -> bytes:
    return HEADER.pack(HEADER.size + 4, ERROR, 0, 0, 0) + struct.pack("=i", -code)


def test_names_of_tables() -> None:
    assert table_names(TABLE + END) == ["tierlb_shop_edge-1"]
    assert table_names(TWO_COUNTERS) == []


def test_packets_of_counters() -> None:
    assert counters(TWO_COUNTERS + END) == {"host_1": 1, "host_2": 1}
    assert counters(TABLE) == {}


def test_how_a_dump_ended() -> None:
    assert outcome(TABLE) is None
    assert outcome(TABLE + END) == 0
    assert outcome(refused(errno.EPERM)) == errno.EPERM
    assert outcome(refused(0)) == 0
    broken_off = HEADER.pack(HEADER.size + 4, DONE, DUMP_INTERRUPTED, 0, 0) + bytes(4)
    assert outcome(broken_off) == errno.EINTR


def test_what_is_asked_is_one_whole_message() -> None:
    for request in (ask_tables(), ask_counters("tierlb_shop_edge-1")):
        ((_, start, end),) = messages(request)
        assert end == len(request)
        assert len(attributes(request, start, end)) in (0, 2)


def test_attributes_of_any_length_are_found() -> None:
    data = b"".join(attribute(kind, bytes(kind), nested=kind % 2 == 0) for kind in range(1, 9))
    assert attributes(data, 0, len(data)) == {kind: bytes(kind) for kind in range(1, 9)}


@given(st.binary(max_size=200))
def test_any_bytes_are_read_to_an_end(data: bytes) -> None:
    for portion in (data, TWO_COUNTERS[: len(data)] + data):
        assert isinstance(counters(portion), dict)
        assert isinstance(table_names(portion), list)
        outcome(portion)
        assert all(0 <= end <= len(portion) for _, _, end in messages(portion))
