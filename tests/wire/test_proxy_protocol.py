"""PROXY protocol v2: bytes given in its specification, round trips, and what is refused when."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    EXPLAINED,
    MAX_ADDRESS_BLOCK_BYTES,
    MAX_HEADER_BYTES,
    PARENT,
    SESSION_KNOWN,
    SESSION_UNKNOWN,
    SIGNATURE,
    BadProxyHeader,
    ProxyHeader,
    encode_local,
    encode_tlv,
    encode_v2,
    parse_v2,
)

V4 = SIGNATURE + bytes.fromhex("2111000c 0a000001 0a000002 d431 0050")
ENDPOINTS = st.tuples(st.ip_addresses().map(str), st.integers(0, 65535))


def test_ipv4_is_written_as_the_specification_says() -> None:
    assert bytes.fromhex("0d0a0d0a000d0a515549540a") == SIGNATURE
    assert encode_v2(("10.0.0.1", 54321), ("10.0.0.2", 80)) == V4


def test_ipv6_is_written_as_the_specification_says() -> None:
    assert encode_v2(("::1", 1), ("2001:db8::2", 443)) == SIGNATURE + bytes.fromhex(
        "21210024" + "00" * 15 + "01" + "20010db8" + "00" * 11 + "02" + "0001" + "01bb"
    )


def test_an_ipv4_end_is_mapped_where_the_other_is_ipv6() -> None:
    mapped = bytes(10) + b"\xff\xff\x0a\x00\x00\x01"
    assert encode_v2(("10.0.0.1", 1), ("::1", 2))[16:32] == mapped
    assert encode_v2(("::1", 1), ("10.0.0.1", 2))[32:48] == mapped


def test_a_scoped_address_is_written_without_its_scope() -> None:
    assert encode_v2(("fe80::1%eth0", 1), ("fe80::2", 2)) == encode_v2(("fe80::1", 1), ("fe80::2", 2))


@pytest.mark.parametrize("host", ["192.0.2.7", "2001:db8::7"])
def test_over_udp_the_family_says_so_and_neither_reader_takes_the_others_header(host: str) -> None:
    source, at = (host, 5353), (host, 53)
    udp, tcp = encode_v2(source, at, datagrams=True), encode_v2(source, at)
    assert (udp[13], len(udp)) == (0x22 if ":" in host else 0x12, len(tcp))
    assert parse_v2(udp + b"data", datagram=True) == ProxyHeader(source, at, len(udp))
    for header, datagram in ((udp, False), (tcp, True)):
        with pytest.raises(BadProxyHeader):
            parse_v2(header, datagram=datagram)


def test_a_childs_words_over_udp_have_no_key_and_no_addresses() -> None:
    for word in (SESSION_KNOWN, SESSION_UNKNOWN):
        header = parse_v2(word, datagram=True)
        assert header is not None
        assert (header.source, header.length, list(header.tlvs.values())) == (None, len(word), [b""])
    assert SESSION_KNOWN != SESSION_UNKNOWN


def test_a_name_is_not_an_address() -> None:
    with pytest.raises(ValueError, match="localhost"):
        encode_v2(("localhost", 1), ("::1", 2))


def test_local_has_no_addresses() -> None:
    assert encode_local() == SIGNATURE + b"\x20\x00\x00\x00"
    assert parse_v2(encode_local() + b"GET /") == ProxyHeader(None, None, 16)


@given(ENDPOINTS, ENDPOINTS, st.binary(max_size=40))
def test_what_is_written_is_read_again_at_its_last_byte(
    source: tuple[str, int], destination: tuple[str, int], following: bytes
) -> None:
    header = encode_v2(source, destination)
    for size in range(len(header)):
        assert parse_v2(header[:size]) is None
    expected = ProxyHeader(_plain(source), _plain(destination), len(header))
    assert parse_v2(header + following) == expected


def _plain(endpoint: tuple[str, int]) -> tuple[str, int]:
    address = ipaddress.ip_address(endpoint[0])
    return str(getattr(address, "ipv4_mapped", None) or address), endpoint[1]


def test_tlvs_are_read_within_the_length() -> None:
    header = SIGNATURE + b"\x21\x11\x00\x13" + V4[16:] + b"\x04\x00\x04abcd"
    assert parse_v2(header[:-1]) is None
    expected = ProxyHeader(("10.0.0.1", 54321), ("10.0.0.2", 80), len(header), {4: b"abcd"})
    assert parse_v2(header + b"x") == expected


@pytest.mark.parametrize(
    "header",
    [
        encode_v2(
            ("10.0.0.1", 1), ("10.0.0.2", 2), encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"k" * 32)
        ),
        encode_v2(("::1", 1), ("::1", 2), encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"k" * 32)),
        encode_local(encode_tlv(PARENT, b"edge-1") + encode_tlv(DATA_KEY_TLV, b"k" * 32)),
    ],
)
def test_a_parent_says_its_name_and_key(header: bytes) -> None:
    read = parse_v2(header + b"GET /")
    assert read is not None
    assert read.length == len(header)
    assert read.tlvs == {PARENT: b"edge-1", DATA_KEY_TLV: b"k" * 32}


def test_the_longest_header_there_may_be_is_read() -> None:
    room = MAX_ADDRESS_BLOCK_BYTES - 12 - len(encode_tlv(EXPLAINED, b""))
    header = encode_v2(("10.0.0.1", 1), ("10.0.0.2", 2), encode_tlv(EXPLAINED, b"e" * room))
    assert len(header) == MAX_HEADER_BYTES
    assert parse_v2(header[:-1]) is None
    read = parse_v2(header + b"GET /")
    assert read is not None
    assert (read.length, read.tlvs) == (MAX_HEADER_BYTES, {EXPLAINED: b"e" * room})


def test_a_tlv_that_is_cut_short_is_left_out() -> None:
    read = parse_v2(encode_local(encode_tlv(PARENT, b"edge-1") + b"\xe1\x00\x09short"))
    assert read is not None
    assert read.tlvs == {PARENT: b"edge-1"}


@pytest.mark.parametrize(
    "header",
    [
        SIGNATURE + b"\x20\x00\x00\x03\xff\xff\xff",
        SIGNATURE + b"\x20\x11\x00\x03abc",
        SIGNATURE + b"\x20\x31\x00\x00",
        SIGNATURE + b"\x21\x00\x00\x00",
        SIGNATURE + b"\x21\x00\x00\x05hello",
        SIGNATURE + b"\x21\x00\x10\x00" + bytes(MAX_ADDRESS_BLOCK_BYTES),
    ],
)
def test_local_and_unspec_leave_the_addresses_of_the_connection(header: bytes) -> None:
    read = parse_v2(header)
    assert read is not None
    assert (read.source, read.destination, read.length) == (None, None, len(header))
    assert parse_v2(header[:-1]) is None


REFUSED = {
    "HTTP": b"G",
    "version 1": b"P",
    "TLS": b"\x16",
    "an empty line before a request": b"\r\nG",
    "a wrong last byte of the signature": SIGNATURE[:-1] + b"\r",
    "version 1 in binary": SIGNATURE + b"\x11",
    "version 3": SIGNATURE + b"\x31",
    "an unknown command": SIGNATURE + b"\x22",
    "UDP over IPv4": SIGNATURE + b"\x21\x12",
    "UDP over IPv6": SIGNATURE + b"\x21\x22",
    "a unix stream": SIGNATURE + b"\x21\x31",
    "a unix datagram": SIGNATURE + b"\x21\x32",
    "IPv4 without a transport": SIGNATURE + b"\x21\x10",
    "a length over 0x10ff": SIGNATURE + b"\x21\x11\x11",
    "a length over the limit": SIGNATURE + b"\x21\x11\x10\x01",
    "a LOCAL over 0x10ff": SIGNATURE + b"\x20\x00\xff",
    "a LOCAL over the limit": SIGNATURE + b"\x20\x00\x10\x01",
    "a length too short for IPv4": SIGNATURE + b"\x21\x11\x00\x0b",
    "a length too short for IPv6": SIGNATURE + b"\x21\x21\x00\x23",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_header_is_refused_at_its_first_wrong_byte(data: bytes) -> None:
    assert parse_v2(data[:-1]) is None
    for following in (b"", b"\x00", bytes(600)):
        with pytest.raises(BadProxyHeader) as caught:
            parse_v2(data + following)
        assert caught.value.reason


@given(st.one_of(st.binary(max_size=64), st.binary(max_size=64).map(lambda tail: SIGNATURE + b"\x21" + tail)))
def test_any_bytes_are_read_refused_or_waited_for(data: bytes) -> None:
    try:
        header = parse_v2(data)
    except BadProxyHeader:
        return
    if header is None:
        assert len(data) < 16 + MAX_ADDRESS_BLOCK_BYTES
    else:
        assert 16 <= header.length <= len(data)
