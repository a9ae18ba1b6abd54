"""The connections that the kernel tracks, as netlink dumps them: how many there are to each host, and in what phase.

A connection is known by two tuples: as its client sends (from the client to where it connected) and as its host answers
(from the host to the client). There may be a hundred thousand, so three slices of each are counted, and what these mean
is decoded once for all that are alike. That works because the tuples come first in a message, with a layout that
depends on the family alone. A message with another layout is passed over.

Each node's rules set a label on the connections that they forward: one bit of 128, which no other process of the
machine uses. So a node knows its own, even where another one forwards from the same port to the same hosts.
A dump is asked for by family, protocol and port; kernels before 5.8 do not know that filter, and send more.

Source: linux/netfilter/nfnetlink_conntrack.h, nf_conntrack_tcp.h; `ctnetlink_fill_info` in nf_conntrack_netlink.c.
"""

import enum
import ipaddress
import struct
from collections.abc import Callable, Iterator
from typing import Final

import attrs

from tierlb.model.address import Address
from tierlb.wire.netlink import IPV4, IPV6, NESTED, attribute, messages, request

CONNECTIONS: Final = 1
"""The subsystem."""
NEW: Final = 0
GET: Final = 1
DELETE: Final = 2
SENT, ADDRESSES, PORTS, FILTER = 1, 1, 2, 25
PROTOCOL, SOURCE_PORT, TARGET_PORT = 1, 2, 3
BY_PROTOCOL_AND_TARGET_PORT = 1 << 3 | 1 << 5
PROTOCOLS: Final = {"tcp": 6, "udp": 17}
STATE_OF_TCP: Final = struct.pack("=HHH", 1 | NESTED, 5, 1)
"""What precedes the state: the type of the group for TCP, length and type of its first attribute."""
STATUS_HEAD: Final = struct.pack("=HH", 8, 3)
"""The head of the attribute with the status, a number of 32 bits in network order."""
STATUS_AT: Final = 7
SEEN_REPLY: Final = 1 << 1
LABELS_HEAD: Final = struct.pack("=HH", 20, 22)
"""The head of the attribute with the labels."""
MOST_LABELS: Final = 128
ANSWERED: Final = 0
"""The state of a connection of a protocol without states. One that was not answered counts as SYN_SENT."""


class ConnectionPhase(enum.Enum):
    """OPENING: the host has not answered. OPEN: it has. OVER: both ends are done, or it was reset."""

    OPENING = "opening"
    OPEN = "open"
    OVER = "over"


SYN_SENT: Final = 1
PHASES: Final = {
    ANSWERED: ConnectionPhase.OPEN,
    SYN_SENT: ConnectionPhase.OPENING,
    2: ConnectionPhase.OPEN,  # SYN_RECV
    3: ConnectionPhase.OPEN,  # ESTABLISHED
    4: ConnectionPhase.OPEN,  # FIN_WAIT: one half is closed
    5: ConnectionPhase.OPEN,  # CLOSE_WAIT
}
"""By the states of `enum tcp_conntrack`. Others (LAST_ACK, TIME_WAIT, CLOSE) are over."""


@attrs.frozen
class Flow:
    """What connections have in common: by which protocol clients connected and where, which host answers, and how far
    it is."""

    protocol: int
    connected_to: Address
    host: Address
    phase: ConnectionPhase


class TupleLayout:
    """Where things are in the attributes of a family whose addresses have `size` bytes. A tuple is a group of two
    groups: two addresses, and the protocol with two ports. Each attribute has a head of four bytes."""

    def __init__(self, family: int, size: int) -> None:
        self.family: Final = family
        self.size: Final = size
        self.tuple_bytes: Final = 44 + 2 * size
        self.sent: Final = 0
        self.answered: Final = self.sent + self.tuple_bytes
        self.rest: Final = self.answered + self.tuple_bytes
        self.mark: Final = struct.pack("=HHHH", self.tuple_bytes, SENT | NESTED, 12 + 2 * size, ADDRESSES | NESTED)
        self.target: Final = self.sent + 16 + size
        self.protocol: Final = self.sent + 24 + 2 * size
        self.target_port: Final = self.sent + 40 + 2 * size
        self.host: Final = self.answered + 12
        self.host_port: Final = self.answered + 32 + 2 * size

    def entries(self, portion: bytes, label: int) -> Iterator[tuple[bytes, bytes]]:
        """Of each connection in it with the label what `decode` explains, and its sent tuple as a whole attribute."""
        offset, bit = _place_of(label)
        sent, rest, mark, tuple_bytes = self.sent, self.rest, self.mark, self.tuple_bytes
        target, after_protocol = self.target, self.protocol + 1
        target_port, after_host = self.target_port, self.host + self.size
        host_port = self.host_port
        for kind, at, end in messages(portion):
            if kind != CONNECTIONS << 8 | NEW or portion[at + sent : at + sent + len(mark)] != mark:
                continue
            labels = portion.find(LABELS_HEAD, at + rest, end)
            if labels < 0 or not portion[labels + offset] & bit:
                continue
            key = (
                portion[at + target : at + after_protocol]
                + portion[at + target_port : at + after_host]
                + portion[at + host_port : at + host_port + 2]
                + _state(portion, at + rest, end)
            )
            yield key, portion[at + sent : at + sent + tuple_bytes]

    def decode(self, key: bytes) -> Flow:
        """What connections with this key have in common."""
        protocol_at = self.protocol - self.target
        port_at = protocol_at + 1
        host_at = port_at + self.host - self.target_port
        return Flow(
            key[protocol_at],
            Address(_ip(key[: self.size]), int.from_bytes(key[port_at : port_at + 2], "big")),
            Address(
                _ip(key[host_at : host_at + self.size]),
                int.from_bytes(key[host_at + self.size : host_at + self.size + 2], "big"),
            ),
            PHASES.get(key[-1], ConnectionPhase.OVER),
        )


MOST_OPENING: Final = 1024
"""More connects that wait for their hosts say nothing new."""
LAYOUTS: Final = {IPV4: TupleLayout(IPV4, 4), IPV6: TupleLayout(IPV6, 16)}


class Census:
    """What was counted of the portions of one dump, of connections with this label, by keys that `TupleLayout.decode`
    explains. `_opening`: the sent tuples of those whose host has not answered, each with its key; no more than
    `MOST_OPENING`."""

    def __init__(self, family: int, label: int) -> None:
        self._layout: Final = LAYOUTS[family]
        self._label: Final = label
        self._counts: dict[bytes, int] = {}
        self._opening: dict[bytes, bytes] = {}

    def take(self, portion: bytes) -> None:
        """Count the connections in it."""
        counts, opening = self._counts, self._opening
        for key, sent in self._layout.entries(portion, self._label):
            counts[key] = counts.get(key, 0) + 1
            if key[-1] == SYN_SENT and len(opening) < MOST_OPENING:
                opening[sent] = key

    def flows(self) -> dict[Flow, int]:
        """How many there are of each."""
        found: dict[Flow, int] = {}
        for key, count in self._counts.items():
            flow = self._layout.decode(key)
            found[flow] = found.get(flow, 0) + count
        return found

    def opening(self) -> dict[bytes, Flow]:
        """Those whose host has not answered, each by something that is its own."""
        return {sent: self._layout.decode(key) for sent, key in self._opening.items()}


def ask_connections(family: int, protocol: str, port: int) -> bytes:
    """A request for the connections to a port, wherever they went from there."""
    flags = attribute(1, struct.pack("=I", BY_PROTOCOL_AND_TARGET_PORT)) + attribute(2, struct.pack("=I", 0))
    number = attribute(PROTOCOL, bytes([PROTOCOLS[protocol]]))
    ports = attribute(PORTS, number + attribute(TARGET_PORT, port.to_bytes(2, "big")), nested=True)
    wanted = attribute(FILTER, flags, nested=True) + attribute(SENT, ports, nested=True)
    return request(CONNECTIONS, GET, family, wanted)


def deletions(portion: bytes, family: int, label: int, unwanted: Callable[[Flow], bool]) -> bytes:
    """Requests to forget those connections in a portion that have the label and are `unwanted`."""
    layout = LAYOUTS[family]
    verdicts: dict[bytes, bool] = {}
    found = []
    for key, sent in layout.entries(portion, label):
        verdict = verdicts.get(key)
        if verdict is None:
            verdict = verdicts[key] = unwanted(layout.decode(key))
        if verdict:
            found.append(request(CONNECTIONS, DELETE, family, sent, flags=0))
    return b"".join(found)


def _state(portion: bytes, start: int, end: int) -> bytes:
    found = portion.find(STATE_OF_TCP, start, end)
    if found >= 0:
        return portion[found + len(STATE_OF_TCP) : found + len(STATE_OF_TCP) + 1]
    status = portion.find(STATUS_HEAD, start, end)
    answered = status >= 0 and portion[status + STATUS_AT] & SEEN_REPLY
    return bytes((ANSWERED if answered else SYN_SENT,))


def _place_of(label: int) -> tuple[int, int]:
    """The offset of the byte in the attribute of labels, and the bit in it."""
    words = struct.pack("=QQ", *(1 << label % 64 if label // 64 == word else 0 for word in (0, 1)))
    offset = next(index for index, byte in enumerate(words) if byte)
    return offset + len(LABELS_HEAD), words[offset]


def _ip(packed: bytes) -> str:
    return str(ipaddress.ip_address(packed))
