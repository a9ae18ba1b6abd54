"""PROXY protocol version 2: the client's address, sent once at the start of a connection.

The format is HAProxy's (proxy-protocol.txt). An l4 parent writes the header, an l7 child reads it before the first byte
of HTTP. TCP and UDP over IPv4 and IPv6 are supported, and LOCAL, which a parent's own probe uses: then the addresses of
the connection itself count.

Over UDP the header precedes the first datagrams of a session, up to the first that comes back from the child: before
each one it would make those of full length too long for the network. A child that gets a datagram without a header and
has no session for it says so (`SESSION_UNKNOWN`), and the parent sends the header again. For sessions without answers
it says that it has one (`SESSION_KNOWN`). Neither carries the key, because anyone who sends to the port gets them. A
parent that ends says that its sessions are over (`OVER_TLV`, with the key).

The addresses may be followed by TLVs. The types for applications (0xE0 to 0xEF) carry, between nodes of a cluster, the
parent's name, the key that proves that it belongs to the cluster, and at times how the parent chose; all others are
skipped.

The reader refuses at the first byte that cannot be part of a header, so that a stray HTTP client is closed at once
instead of waiting for a header to complete. Left out: version 1.
"""

import ipaddress
import struct
from collections.abc import Mapping
from typing import Final, TypeAlias

import attrs

from tierlb.wire.memo import Memo

SocketEndpoint: TypeAlias = tuple[str, int]

SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
MAX_ADDRESS_BLOCK_BYTES: Final = 4096
"""The most that may follow the fixed part. An ordinary header has a tenth of it and fits the smallest segment, as the
protocol intends; one that explains a choice is longer."""

SSL_TLV: Final = 0x20
"""TLV: the client speaks TLS with the sender or a node above."""
PARENT: Final = 0xE0
"""TLV: the sending node's name."""
DATA_KEY_TLV: Final = 0xE1
"""TLV: the cluster's data key."""
PROCESS: Final = 0xE3
"""TLV: the boot id of the sending node's process."""
VIA: Final = 0xE4
"""TLV: the processes above the sending node through which the connection came, one per line."""
EXPLAINED: Final = 0xE2
"""TLV: how the sending node chose, as text."""
DESTINATION: Final = 0xE8
"""TLV: the host and port that the client connected to. Only where connections are handed over, whose sockets have
another one if the connection was relayed before."""
NETWORK = 0xE7
"""TLV: the sending process's network namespace. Only where connections are handed over."""

KNOWN_TLV: Final = 0xE5
"""TLV of a child over UDP: it has a session for what the parent sent."""
UNKNOWN_TLV: Final = 0xE6
"""TLV of a child over UDP: it has none, and needs the header."""

OVER_TLV: Final = 0xE7
"""TLV of a parent over UDP: the session is over."""

KNOWN_HEADERS_BYTES: Final = 128 * 1024
"""The budget for packed addresses: some 500."""

_FIXED_BYTES: Final = 16
MAX_HEADER_BYTES: Final = _FIXED_BYTES + MAX_ADDRESS_BLOCK_BYTES
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
_UNSPEC: Final = 0x00
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_UDP4: Final = 0x12
_UDP6: Final = 0x22
_V4_BLOCK, _V6_BLOCK = struct.Struct("!4s4sHH"), struct.Struct("!16s16sHH")
_BLOCKS: Final = {_UNSPEC: struct.Struct("!"), _TCP4: _V4_BLOCK, _TCP6: _V6_BLOCK, _UDP4: _V4_BLOCK, _UDP6: _V6_BLOCK}
_OF_STREAMS: Final = frozenset((_UNSPEC, _TCP4, _TCP6))
_OF_DATAGRAMS: Final = frozenset((_UNSPEC, _UDP4, _UDP6))


class BadProxyHeader(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """The connection does not start with a supported header, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@attrs.frozen
class ProxyHeader:
    """A complete header. Both ends are None for LOCAL and UNSPEC; `length` is how many bytes to consume."""

    source: SocketEndpoint | None
    destination: SocketEndpoint | None
    length: int
    tlvs: Mapping[int, bytes] = {}


def encode_tlv(kind: int, value: bytes) -> bytes:
    """One TLV; several are simply joined."""
    return struct.pack("!BH", kind, len(value)) + value


def ssl_value() -> bytes:
    """What SSL_TLV holds for a client that speaks TLS and shows no certificate (§2.2.6: PP2_CLIENT_SSL, verify)."""
    return struct.pack("!BI", 0x01, 1)


def encode_v2(
    source: SocketEndpoint, destination: SocketEndpoint, tlvs: bytes = b"", *, datagrams: bool = False
) -> bytes:
    """The header for a TCP connection or, with `datagrams`, a session over UDP; if one end is IPv6, an IPv4 end is
    written as ::ffff:a.b.c.d.

    Raises ValueError for a host that is not an IP address.
    """
    source_host, destination_host = _packed(source[0]), _packed(destination[0])
    family = _TCP4 if len(source_host) == len(destination_host) == 4 else _TCP6
    if family == _TCP6:
        source_host, destination_host = _mapped(source_host), _mapped(destination_host)
    block = _BLOCKS[family].pack(source_host, destination_host, source[1], destination[1])
    return _fixed(_PROXY, family + datagrams, len(block) + len(tlvs)) + block + tlvs


def encode_local(tlvs: bytes = b"") -> bytes:
    """The header of a connection that a parent makes on its own behalf."""
    return _fixed(_LOCAL, _UNSPEC, len(tlvs)) + tlvs


def may_be_v2(buffer: bytes) -> bool:
    """Whether a header may begin like this."""
    return SIGNATURE.startswith(buffer[: len(SIGNATURE)])


def parse_v2(buffer: bytes, *, datagram: bool = False) -> ProxyHeader | None:
    """The header at the start of `buffer`, or None while it is unfinished. Raises BadProxyHeader, also for that of a
    stream before a `datagram`, and the reverse.

    Mapped addresses (::ffff:a.b.c.d) are given back as IPv4, so that one client has one name.
    """
    _check_fixed(buffer[:_FIXED_BYTES], _OF_DATAGRAMS if datagram else _OF_STREAMS)
    if len(buffer) < _FIXED_BYTES:
        return None
    length = _FIXED_BYTES + int.from_bytes(buffer[14:16])
    if len(buffer) < length:
        return None
    family = buffer[13] if buffer[13] in _BLOCKS else _UNSPEC
    tlvs = read_tlvs(buffer[_FIXED_BYTES + _BLOCKS[family].size : length])
    if buffer[12] == _LOCAL or family == _UNSPEC:
        return ProxyHeader(None, None, length, tlvs)
    source, destination, source_port, destination_port = _BLOCKS[family].unpack_from(buffer, _FIXED_BYTES)
    return ProxyHeader((_ascii_text(source), source_port), (_ascii_text(destination), destination_port), length, tlvs)


def read_tlvs(data: bytes) -> dict[int, bytes]:
    """The TLVs by type, the last of each; what is cut short at the end is left out."""
    found: dict[int, bytes] = {}
    position = 0
    while position + 3 <= len(data):
        end = position + 3 + int.from_bytes(data[position + 1 : position + 3])
        if end > len(data):
            break
        found[data[position]] = data[position + 3 : end]
        position = end
    return found


def destination_tlv(destination: SocketEndpoint) -> bytes:
    """The host and port that a client connected to."""
    return encode_tlv(DESTINATION, b"%b %d" % (destination[0].encode(), destination[1]))


def read_destination(tlvs: Mapping[int, bytes]) -> SocketEndpoint | None:
    """The same, read; None if it is not there, or is none."""
    host, _, port = tlvs.get(DESTINATION, b"").partition(b" ")
    if not (host and port.isdigit() and len(port) <= 5):
        return None
    return host.decode("latin-1"), int(port)


def _check_fixed(fixed: bytes, families: frozenset[int]) -> None:
    """Check as much of the fixed part as has arrived."""
    if not SIGNATURE.startswith(fixed[:12]):
        raise BadProxyHeader("no PROXY protocol signature")
    if len(fixed) > 12 and fixed[12] not in (_LOCAL, _PROXY):
        raise BadProxyHeader("not version 2 with LOCAL or PROXY")
    if len(fixed) > 13 and fixed[12] == _PROXY and fixed[13] not in families:
        transport = "TCP" if _TCP4 in families else "UDP"
        raise BadProxyHeader(f"neither {transport} over IPv4 nor over IPv6")
    if len(fixed) > 14 and fixed[14] > MAX_ADDRESS_BLOCK_BYTES >> 8:
        raise BadProxyHeader("the header is too long")
    if len(fixed) > 15:
        _check_length(fixed)


def _check_length(fixed: bytes) -> None:
    length = int.from_bytes(fixed[14:16])
    if length > MAX_ADDRESS_BLOCK_BYTES:
        raise BadProxyHeader("the header is too long")
    if fixed[12] == _PROXY and length < _BLOCKS[fixed[13]].size:
        raise BadProxyHeader("the header is too short for its addresses")


def _fixed(command: int, family: int, length: int) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, length)


_known: Memo[bytes] = Memo(KNOWN_HEADERS_BYTES)


def _packed(host: str) -> bytes:
    """The bytes of an address. Raises ValueError."""
    key = host.encode()
    packed = _known.kept.get(key)
    if packed is None:
        packed = ipaddress.ip_address(host).packed
        _known.offer(key, packed, 50)
    return packed


def _mapped(packed: bytes) -> bytes:
    return packed if len(packed) == 16 else bytes(10) + b"\xff\xff" + packed


def _ascii_text(packed: bytes) -> str:
    if packed.startswith(bytes(10) + b"\xff\xff") and len(packed) == 16:
        packed = packed[12:]
    return str(ipaddress.ip_address(packed))


SESSION_KNOWN: Final = encode_local(encode_tlv(KNOWN_TLV, b""))
SESSION_UNKNOWN: Final = encode_local(encode_tlv(UNKNOWN_TLV, b""))
"""What a child sends a parent in place of an answer of its own hosts."""
