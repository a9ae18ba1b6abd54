"""What parents and children say while connections are handed over: what is written is read, anything else refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.handoff import (
    BACK,
    ENDED,
    MAX_ENTRIES,
    MAX_NUMBERS,
    BadMessage,
    back_message,
    decode_entries,
    encode_entry,
    ended_messages,
    first_number,
    read_numbers,
)
from tierlb.wire.proxy_protocol import EXPLAINED, VIA, encode_tlv

CLIENT = ("192.0.2.7", 4711)
ENTRY = encode_entry(7, CLIENT, 12.5, b"")


def test_an_entry_is_read_as_it_was_written() -> None:
    tlvs = encode_tlv(VIA, b"edge-1/b1") + encode_tlv(EXPLAINED, b"line")
    written = encode_entry(2**40, ("2001:db8::1", 80), 0.25, tlvs, is_last=True)
    first, second = decode_entries(ENTRY + written)
    assert (first.number, first.source, first.arrived, dict(first.tlvs)) == (7, CLIENT, 12.5, {})
    assert (first.is_last, first.raw) == (False, ENTRY)
    assert (second.number, second.source, second.arrived) == (2**40, ("2001:db8::1", 80), 0.25)
    assert (second.is_last, second.raw) == (True, written)
    assert second.tlvs == {VIA: b"edge-1/b1", EXPLAINED: b"line"}


def test_the_first_number_is_known_from_the_beginning_of_a_message() -> None:
    assert first_number((ENTRY + ENTRY)[:8]) == 7


@pytest.mark.parametrize("size", range(1, len(ENTRY)))
def test_an_entry_that_is_cut_short_is_refused(size: int) -> None:
    with pytest.raises(BadMessage, match="cut short"):
        decode_entries(ENTRY + ENTRY[:size])


def test_a_message_without_a_number_is_refused() -> None:
    with pytest.raises(BadMessage):
        first_number(b"1234567")


def test_a_message_has_a_limited_number_of_entries() -> None:
    assert len(decode_entries(ENTRY * MAX_ENTRIES)) == MAX_ENTRIES
    with pytest.raises(BadMessage, match="too many"):
        decode_entries(ENTRY * (MAX_ENTRIES + 1))


def test_ends_are_divided_among_messages() -> None:
    numbers = list(range(2 * MAX_NUMBERS + 1))
    messages = list(ended_messages(numbers))
    assert [count for _, count in messages] == [MAX_NUMBERS, MAX_NUMBERS, 1]
    assert {message[:1] for message, _ in messages} == {ENDED}
    assert [number for message, _ in messages for number in read_numbers(message)] == numbers


def test_nothing_has_ended_without_a_message() -> None:
    assert list(ended_messages([])) == []


@pytest.mark.parametrize("message", [ENDED + b"1234567", ENDED + bytes(8 * (MAX_NUMBERS + 1))])
def test_numbers_that_are_not_whole_or_too_many_are_refused(message: bytes) -> None:
    with pytest.raises(BadMessage):
        read_numbers(message)


def test_what_is_given_back_is_given_back_as_it_came() -> None:
    message = back_message(entry.raw for entry in decode_entries(ENTRY * 2))
    assert message == BACK + ENTRY * 2
    assert [entry.number for entry in decode_entries(message, 1)] == [7, 7]


@given(st.binary(max_size=400))
def test_any_bytes_are_read_or_refused(message: bytes) -> None:
    for read in (decode_entries, read_numbers):
        try:
            read(message)
        except BadMessage:
            continue


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2**64 - 1),
            st.tuples(st.ip_addresses().map(str), st.integers(0, 2**16 - 1)),
            st.floats(0, 1e9),
            st.binary(max_size=50).map(lambda value: encode_tlv(VIA, value)),
            st.booleans(),
        ),
        max_size=MAX_ENTRIES,
    )
)
def test_all_entries_are_read_as_they_were_written(given_entries: list[tuple]) -> None:
    parts = [encode_entry(*rest, is_last=last) for *rest, last in given_entries]
    read = decode_entries(b"".join(parts))
    found = [(each.number, each.source, each.arrived, encode_tlv(VIA, each.tlvs[VIA]), each.is_last) for each in read]
    assert found == given_entries
