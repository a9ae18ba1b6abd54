"""What balancers above tell of a client: both versions, the TLVs that are kept, what goes on to nodes and endpoints."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.test_proxy_protocol import ENDPOINTS, _plain
from tierlb.model.listener import ProxyVersion
from tierlb.wire.announcement import (
    ALPN_TLV,
    AUTHORITY,
    CRC32C,
    MOST_KEPT_BYTES,
    UNIQUE_ID,
    Origin,
    crc32c,
    kept_tlvs,
    local_header,
    origin_in,
    parse_any,
    told_origin,
)
from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    PARENT,
    SSL_TLV,
    BadProxyHeader,
    encode_local,
    encode_tlv,
    encode_v2,
    parse_v2,
    read_tlvs,
)
from tierlb.wire.proxy_v1 import encode_v1

CLIENT, SERVICE, HERE = ("192.0.2.7", 4711), ("198.51.100.1", 443), ("10.0.0.1", 8080)
TOLD = {ALPN_TLV: b"h2", AUTHORITY: b"shop.example", SSL_TLV: b"\x01\x00\x00\x00\x00", UNIQUE_ID: b"id-1"}


def encoded(tlvs: dict[int, bytes]) -> bytes:
    return b"".join(encode_tlv(kind, value) for kind, value in tlvs.items())


@given(ENDPOINTS, ENDPOINTS, st.sampled_from([encode_v1, encode_v2]), st.binary(max_size=30))
def test_either_version_is_read(
    source: tuple[str, int], destination: tuple[str, int], encode, following: bytes
) -> None:
    header = encode(source, destination)
    assert all(parse_any(header[:size]) is None for size in range(len(header)))
    read = parse_any(header + following)
    assert read is not None
    assert (read.source, read.destination, read.length) == (_plain(source), _plain(destination), len(header))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_the_beginning_of_one_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadProxyHeader):
        header = parse_any(data)
        assert header is None or header.length <= len(data)


def test_the_tlvs_that_applications_use_are_kept_and_no_others() -> None:
    forged = {PARENT: b"edge-1", DATA_KEY_TLV: b"k", 0xE9: b"1.2.3.4 5", 0xEA: b"aws", 0xEB: b"x"}
    assert read_tlvs(kept_tlvs(TOLD | forged)) == TOLD


def test_what_is_kept_is_bounded() -> None:
    kept = kept_tlvs({SSL_TLV: b"x" * MOST_KEPT_BYTES, UNIQUE_ID: b"id"})
    assert read_tlvs(kept) == {UNIQUE_ID: b"id"}


def test_an_endpoint_gets_all_that_its_version_can_say() -> None:
    origin = Origin(CLIENT, SERVICE, kept_tlvs(TOLD))
    assert origin.header(ProxyVersion.V1, HERE) == encode_v1(CLIENT, SERVICE)
    read = parse_v2(origin.header(ProxyVersion.V2, HERE))
    assert read is not None
    assert (read.source, read.destination, read.tlvs) == (CLIENT, SERVICE, TOLD)
    assert Origin(CLIENT, None).header(ProxyVersion.V1, HERE) == encode_v1(CLIENT, HERE)


@pytest.mark.parametrize("destination", [SERVICE, None, ("2001:db8::1", 443)])
@pytest.mark.parametrize("tlvs", [TOLD, {}])
def test_a_node_below_learns_the_same(destination: tuple[str, int] | None, tlvs: dict[int, bytes]) -> None:
    origin = Origin(CLIENT, destination, kept_tlvs(tlvs))
    found = origin_in(CLIENT, read_tlvs(encode_tlv(PARENT, b"edge-1") + origin.tlvs()))
    if destination is None and not tlvs:
        assert found is None
        return
    assert found is not None
    assert (found.source, found.destination, read_tlvs(found.kept)) == (CLIENT, destination, tlvs)


def test_what_a_parent_relays_has_the_addresses_of_its_header() -> None:
    read = parse_v2(encode_v2(CLIENT, HERE, encode_tlv(PARENT, b"edge-1")))
    assert read is not None
    told = told_origin(read)
    assert told is not None
    assert (told.source, told.destination) == (CLIENT, HERE)
    local = parse_v2(encode_local())
    assert local is not None
    assert told_origin(local) is None


def test_a_check_says_that_it_is_the_nodes_own() -> None:
    assert local_header(None) == b""
    assert local_header(ProxyVersion.V1) == b"PROXY UNKNOWN\r\n"
    assert local_header(ProxyVersion.V2) == encode_local()


def with_checksum(at: int = 0) -> bytes:
    header = encode_v2(CLIENT, SERVICE, encode_tlv(UNIQUE_ID, b"id") + encode_tlv(CRC32C, bytes(4)))
    return header[:-4] + (crc32c(header) ^ at).to_bytes(4)


def test_a_checksum_is_verified() -> None:
    assert crc32c(b"123456789") == 0xE3069283
    read = parse_any(with_checksum() + b"GET")
    assert read is not None
    assert read.source == CLIENT
    with pytest.raises(BadProxyHeader, match="checksum"):
        parse_any(with_checksum(1))


@pytest.mark.parametrize("tail", [b"\x05", b"\x05\x00", b"\x05\x00\x02a"])
def test_a_tlv_that_is_cut_short_is_refused(tail: bytes) -> None:
    with pytest.raises(BadProxyHeader, match="cut short"):
        parse_any(encode_v2(CLIENT, SERVICE, tail))
