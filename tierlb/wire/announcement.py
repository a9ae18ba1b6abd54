"""PROXY headers of a balancer above the cluster, in either version, and those that nodes send to endpoints.

From a balancer that is not of this cluster the addresses are taken, and of the TLVs those that applications use: how
the client's TLS ended there (SSL), the protocol and the name it asked for (ALPN, AUTHORITY), and the connection's id
(UNIQUE_ID). All others are dropped, those among them by which nodes of a cluster know each other.
"""

from collections.abc import Mapping
from typing import Final

from tierlb.model.listener import ProxyVersion
from tierlb.wire.proxy_protocol import (
    SSL_TLV,
    BadProxyHeader,
    ProxyHeader,
    SocketEndpoint,
    encode_local,
    encode_tlv,
    encode_v2,
    may_be_v2,
    parse_v2,
    read_tlvs,
    ssl_value,
)
from tierlb.wire.proxy_v1 import LOCAL_V1, encode_v1, may_be_v1, parse_v1

ALPN_TLV: Final = 0x01
AUTHORITY: Final = 0x02
UNIQUE_ID: Final = 0x05
KEPT: Final = (ALPN_TLV, AUTHORITY, UNIQUE_ID, SSL_TLV)
ANNOUNCED: Final = 0xE9
"""TLV between nodes: the address that the client connected to at a balancer above, as text."""
ANNOUNCED_TLVS: Final = 0xEA
"""TLV between nodes: the TLVs that are kept, as they came. What nodes say of TLS themselves is another matter."""
MOST_KEPT_BYTES: Final = 1024
"""Of all kept TLVs, so that a header holds them beside what nodes tell each other. SSL with the name of the client's
certificate takes some 100."""


CRC32C: Final = 0x03
_FIXED_BYTES: Final = 16
_ADDRESS_BYTES: Final = {1: 12, 2: 36}
"""Of addresses and ports, by family."""


def _crc_entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (0x82F63B78 if byte & 1 else 0)
    return byte


_CRC_TABLE: Final = tuple(_crc_entry(byte) for byte in range(256))


class Origin:
    """Where a connection comes from: the client, the address that it connected to (None: that of the socket), and the
    TLVs that are kept, encoded."""

    __slots__ = ("destination", "kept", "source")

    def __init__(self, source: SocketEndpoint, destination: SocketEndpoint | None, kept: bytes = b"") -> None:
        self.source = source
        self.destination = destination
        self.kept = kept

    def tlvs(self) -> bytes:
        """The destination and the kept TLVs, encoded for a node below. The header around them names the client."""
        kept = encode_tlv(ANNOUNCED_TLVS, self.kept) if self.kept else b""
        if self.destination is None:
            return kept
        return kept + encode_tlv(ANNOUNCED, b"%b %d" % (self.destination[0].encode(), self.destination[1]))

    def header(self, version: ProxyVersion, here: SocketEndpoint, *, secured: bool = False) -> bytes:
        """The header that an endpoint gets first. `here`: the address of the socket. `secured`: this cluster ends the
        client's TLS, which the header says unless a balancer above has ended TLS."""
        destination = self.destination or here
        if version is ProxyVersion.V1:
            return encode_v1(self.source, destination)
        tlvs = self.kept
        if secured and SSL_TLV not in read_tlvs(tlvs):
            tlvs += encode_tlv(SSL_TLV, ssl_value())
        return encode_v2(self.source, destination, tlvs)


def origin_in(source: SocketEndpoint, tlvs: Mapping[int, bytes]) -> Origin | None:
    """The origin that a parent passes on for a connection from a balancer above; None where there is none."""
    if not tlvs:
        return None
    kept, told = tlvs.get(ANNOUNCED_TLVS, b""), tlvs.get(ANNOUNCED, b"").split()
    if not kept and not told:
        return None
    destination = (told[0].decode("latin-1"), int(told[1])) if len(told) == 2 and told[1].isdigit() else None
    return Origin(source, destination, kept)


def told_origin(header: ProxyHeader) -> Origin | None:
    """Where a connection comes from that a parent relays, by its header; None for the parent's own."""
    if header.source is None:
        return None
    return origin_in(header.source, header.tlvs) or Origin(header.source, header.destination)


def local_header(version: ProxyVersion | None) -> bytes:
    """What an endpoint is sent first on a connection that this node makes on its own behalf."""
    if version is None:
        return b""
    return LOCAL_V1 if version is ProxyVersion.V1 else encode_local()


def parse_any(buffer: bytes) -> ProxyHeader | None:
    """The header of either version at the start of `buffer`, or None while it is unfinished. Raises BadProxyHeader."""
    if may_be_v2(buffer):
        header = parse_v2(buffer) if buffer else None
        if header is not None:
            _check_tlvs(buffer[: header.length])
        return header
    if may_be_v1(buffer):
        return parse_v1(buffer)
    raise BadProxyHeader("the connection does not begin with a PROXY header")


def _check_tlvs(header: bytes) -> None:
    """What the specification has a receiver verify (§2.2.3): that TLVs are whole, and the checksum, where there is one.
    Raises BadProxyHeader."""
    position, end = _FIXED_BYTES + _ADDRESS_BYTES.get(header[13] >> 4, 0), len(header)
    while position < end:
        value = position + 3
        after = value + int.from_bytes(header[position + 1 : value])
        if after > end or value > end:
            raise BadProxyHeader("a TLV is cut short")
        if header[position] == CRC32C:
            zeroed = header[:value] + bytes(after - value) + header[after:]
            if after - value != 4 or crc32c(zeroed) != int.from_bytes(header[value:after]):
                raise BadProxyHeader("the checksum (CRC32C) is wrong")
        position = after


def crc32c(data: bytes) -> int:
    """The CRC of RFC 3720 appendix B.4 (Castagnoli, reflected)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = _CRC_TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


def kept_tlvs(tlvs: Mapping[int, bytes]) -> bytes:
    """The TLVs to pass on, encoded, as many as there is room for."""
    if not tlvs:
        return b""
    kept = b""
    for kind in KEPT:
        if kind in tlvs and len(kept) + 3 + len(tlvs[kind]) <= MOST_KEPT_BYTES:
            kept += encode_tlv(kind, tlvs[kind])
    return kept
