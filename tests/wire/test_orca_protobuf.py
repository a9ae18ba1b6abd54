"""The message is read and written as the protobuf package does it."""

import struct

import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given
from hypothesis import strategies as st

from tests.wire.orca_oracle import FULL, Message, as_message, as_report, names, reports
from tierlb.wire.orca_protobuf import read_message, write_message
from tierlb.wire.orca_report import MAX_METRICS, BadOrca, OrcaReport


@given(reports(names))
@example(FULL)
@example(OrcaReport())
def test_what_is_written_is_what_protobuf_reads_and_what_we_read(report):
    message = write_message(report)
    assert as_report(Message.FromString(message)) == report
    assert read_message(message) == report


@given(reports(names), st.integers(0, 10**12))
def test_what_protobuf_writes_is_read(report, rps):
    message = as_message(report)
    message.rps = rps
    assert read_message(message.SerializeToString()) == as_report(message)


@given(st.binary(max_size=60))
@example(b"\x0a\x00")  # a double's number with another type is an unknown field
@example(b"\x42\x00")  # an entry with neither name nor value
@example(b"\x18" + b"\xff" * 9 + b"\x7f")  # a varint of more than 64 bits
@example(as_message(FULL).SerializeToString()[:-1])
@example(as_message(FULL).SerializeToString() * 2)  # two messages in a row are merged
def test_whatever_bytes_are_accepted_protobuf_reads_the_same_way(data):
    try:
        report = read_message(data)
    except BadOrca:
        return
    try:
        message = Message.FromString(data)
    except DecodeError:
        raise AssertionError(f"protobuf refuses {data!r}") from None
    assert as_report(message) == report


@given(reports(names), st.data())
def test_a_message_with_a_flipped_bit_is_refused_or_read_as_protobuf_does(report, data):
    written = bytearray(as_message(report).SerializeToString() or b"\0")
    at = data.draw(st.integers(0, len(written) * 8 - 1))
    written[at // 8] ^= 1 << at % 8
    try:
        read = read_message(bytes(written))
    except BadOrca:
        return
    assert read == as_report(Message.FromString(bytes(written)))


CPU = b"\x09" + struct.pack("<d", 0.5)


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"\x09" + struct.pack("<d", float("nan")), "not a number"),
        (b"\x09" + struct.pack("<d", -0.5), "negative"),
        (CPU[:-1], "cut short"),
        (b"\x80", "cut short"),
        (CPU + b"\x42\x05\x0a", "cut short"),
        (b"\x00\x00", "not a protobuf message"),
        (b"\x0b", "not a protobuf message"),
        (b"\x18" + b"\xff" * 10, "not a protobuf message"),
        (b"\x42\x02\x18\x01", "more than a name and a number"),
        (b"\x42\x03\x0a\x01\xff", "not UTF-8"),
        (b"".join(b"\x42\x04\x0a\x02%02d" % number for number in range(MAX_METRICS + 1)), "more than 64 metrics"),
    ],
)
def test_what_is_no_message_is_refused_with_the_reason(message, why):
    with pytest.raises(BadOrca, match=why):
        read_message(message)


def test_unknown_fields_are_skipped():
    assert read_message(b"\x78\x01" + CPU + b"\x7a\x02ab\x7d1234") == OrcaReport(cpu=0.5)
