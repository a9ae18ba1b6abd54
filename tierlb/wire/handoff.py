"""What an l4 node and a node below it on the same machine tell each other while accepted sockets are handed down.

There are two SOCK_SEQPACKET sockets between them (dataplane/handoff): one for the connections, and one for everything
else. The socket of a connection travels beside its entry as a descriptor (SCM_RIGHTS), in the same order.

    connections, parent to child:  entry…             each with a descriptor
    control, parent to child:      the PROXY header (LOCAL) with which a parent identifies itself, and a descriptor of
                                   the child's end of the other socket
    control, child to parent:      W  it takes connections from now on
                                   V  likewise, and its network is another one: what it has ends with the parent
                                   N reason  it does not
                                   E number…  these connections have ended
                                   B entry…  it has no room for these, and gives their descriptors back
                                   S  it has no descriptor free: what it has not read is the parent's again
                                   D  it drains, likewise for good

Numbers are the parent's. Integers are in network byte order. What an entry says of the client is what the PROXY header
of a relayed connection says (proxy_protocol.py), TLVs included; addresses are text, because both ends keep them so.
"""

import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from tierlb.wire.proxy_protocol import EXPLAINED, SSL_TLV, VIA, SocketEndpoint, read_destination, read_tlvs
from tierlb.wire.told_tls import passed_on

MAX_ENTRIES: Final = 16
"""Connections in one message. One costs 4 µs of system calls to send and take; in a burst most of that is shared. The
child must have so many descriptors free."""
MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Of a message on either socket: MAX_ENTRIES of 4 KiB at most, as the PROXY header."""
MAX_NUMBERS: Final = 1024
"""Ends of connections in one message."""

WELCOME: Final = b"W"
WELCOME_APART: Final = b"V"
UNWELCOME: Final = b"N"
ENDED: Final = b"E"
BACK: Final = b"B"
SHORTAGE: Final = b"S"
DRAINS: Final = b"D"

_ENTRY: Final = struct.Struct("!QdHBBH")
_NUMBER: Final = struct.Struct("!Q")
_LAST: Final = 1


class BadMessage(ValueError):  # noqa: N818 (a verdict on the input, like BadHead)
    """The other end does not speak this protocol, and why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Entry:
    """One connection. `source` is the client's address, `arrived` when it was accepted (CLOCK_MONOTONIC, which all
    processes of a machine share). `is_last`: no other node has room, so that this
    one answers the client if it has none either. `tlvs`: what else is known of it. `raw`: the entry as it came."""

    __slots__ = ("arrived", "is_last", "number", "raw", "source", "tlvs")

    def __init__(
        self,
        number: int,
        source: tuple[str, int],
        arrived: float,
        tlvs: Mapping[int, bytes],
        raw: bytes,
        *,
        is_last: bool = False,
    ) -> None:
        self.number = number
        self.source = source
        self.arrived = arrived
        self.tlvs = tlvs
        self.raw = raw
        self.is_last = is_last

    @property
    def via(self) -> tuple[str, ...]:
        """The processes above the parent that it passed."""
        above = self.tlvs.get(VIA)
        return tuple(above.decode("latin-1").split("\n")) if above else ()

    @property
    def explained(self) -> tuple[bytes, ...]:
        """How nodes above chose for it, a line each."""
        lines = self.tlvs.get(EXPLAINED)
        return tuple(lines.split(b"\n")) if lines else ()

    @property
    def destination(self) -> SocketEndpoint | None:
        """Where its client connected to, if that is not what its socket says."""
        return read_destination(self.tlvs)

    @property
    def secured(self) -> bool:
        """Whether its client speaks TLS with a node above."""
        return SSL_TLV in self.tlvs

    @property
    def told(self) -> bytes:
        """What came of the handshake there, encoded (`told_tls`)."""
        return passed_on(self.tlvs) if self.secured else b""


NO_TLVS: Final[Mapping[int, bytes]] = {}


def encode_entry(number: int, source: tuple[str, int], arrived: float, tlvs: bytes, *, is_last: bool = False) -> bytes:
    """One entry; several are simply joined. `tlvs` are encoded."""
    host = source[0].encode()
    flags = _LAST if is_last else 0
    return _ENTRY.pack(number, arrived, source[1], flags, len(host), len(tlvs)) + host + tlvs


def decode_entries(message: bytes, position: int = 0) -> list[Entry]:
    """The entries of a message from a position on. Raises BadMessage."""
    entries = []
    size = len(message)
    while position < size:
        begin, start = position, position + _ENTRY.size
        if start > size:
            raise BadMessage("an entry is cut short")
        number, arrived, port, flags, host_bytes, tlv_bytes = _ENTRY.unpack_from(message, position)
        position = start + host_bytes + tlv_bytes
        if position > size:
            raise BadMessage("an entry is cut short")
        host = message[start : start + host_bytes].decode("latin-1")
        tlvs = read_tlvs(message[start + host_bytes : position]) if tlv_bytes else NO_TLVS
        entries.append(
            Entry(
                number,
                (host, port),
                arrived,
                tlvs,
                message[begin:position],
                is_last=bool(flags & _LAST),
            )
        )
    if len(entries) > MAX_ENTRIES:
        raise BadMessage("it has too many entries")
    return entries


def first_number(message: bytes) -> int:
    """The number of the first entry, of whose message this is the beginning. Raises BadMessage."""
    if len(message) < _NUMBER.size:
        raise BadMessage("an entry is cut short")
    number: int = _NUMBER.unpack_from(message)[0]
    return number


def ended_messages(numbers: list[int]) -> Iterator[tuple[bytes, int]]:
    """Messages that say that these connections have ended, each with how many it says it of."""
    for start in range(0, len(numbers), MAX_NUMBERS):
        part = numbers[start : start + MAX_NUMBERS]
        yield ENDED + struct.pack(f"!{len(part)}Q", *part), len(part)


def back_message(entries: Iterable[bytes]) -> bytes:
    """The message with which connections are given back, from their entries as they came."""
    return BACK + b"".join(entries)


def read_numbers(message: bytes, start: int = 1) -> tuple[int, ...]:
    """The numbers from `start` to the end of a message. Raises BadMessage."""
    count, rest = divmod(len(message) - start, 8)
    if rest or count > MAX_NUMBERS:
        raise BadMessage("its numbers are not whole, or too many")
    return struct.unpack_from(f"!{count}Q", message, start)
