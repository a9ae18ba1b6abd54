"""The client identity of one connection's requests, and whether its own fields about that are trusted.

A client that connects by itself is known by its address. A connection from a parent begins with a PROXY header: an l4
parent names the client's address, and an l7 parent names the clients in the requests themselves.
"""

import ipaddress
from collections.abc import Sequence

import attrs

from tierlb.dataplane.handoff.taker import Handed
from tierlb.dataplane.parent_identity import ParentIdentity, processes_of
from tierlb.telemetry.tally import Tallies, Tally
from tierlb.wire.proxy_protocol import EXPLAINED, BadProxyHeader, parse_v2

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientIdentity:
    """Not changed after it was made. `address` is the client's. `forwarded_for` is what follows `X-Forwarded-For: ` in
    a request that goes upstream, up to the number of the request. `trusted`: its X-Forwarded-* fields and request ids
    are believed. `tally`: where its items are counted. `processes` are those of the cluster through which the
    connection came, the nearest first, and `explained` are their lines on how they chose (`dataplane.explanation`).
    `handed`: a parent handed it over, and is to learn when it is over. `redirected`: it came to a listener that sends
    all to https."""

    __slots__ = ("address", "explained", "forwarded_for", "handed", "processes", "redirected", "tally", "trusted")

    def __init__(
        self,
        address: str,
        tally: Tally,
        id_prefix: bytes,
        *,
        trusted: bool,
        processes: tuple[str, ...] = (),
        explained: tuple[bytes, ...] = (),
        handed: Handed | None = None,
        redirected: bool = False,
    ) -> None:
        self.address = address.encode()
        self.forwarded_for = b"%b\r\nX-Request-Id: %b" % (self.address, id_prefix)
        self.trusted = trusted
        self.tally = tally
        self.processes = processes
        self.explained = explained
        self.handed = handed
        self.redirected = redirected


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of these networks."""
    if not networks:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


@attrs.frozen
class ParentHeader:
    """What a parent's PROXY header holds. `length`: its bytes. `client`: the address of the client that an l4 parent
    announces, None from an l7 parent."""

    length: int
    client: str | None
    tally: Tally
    processes: tuple[str, ...]
    explained: tuple[bytes, ...]


def forwarded(address: bytes, processes: tuple[str, ...], tallies: Tallies) -> ParentHeader:
    """What is known of a client's connection that a parent forwards in the kernel, in the place of a header. Which of
    the `processes` that do so it was is not known, so the connection moves when one of them leaves."""
    return ParentHeader(0, address.decode(), tallies.forwarded, processes, ())


def read_introduction(buffer: bytes, identity: ParentIdentity, tallies: Tallies) -> ParentHeader | None:
    """Read the PROXY header with which a parent's connection begins; None while it is not complete. Raises
    BadProxyHeader, also for a header without the key of this cluster."""
    header = parse_v2(buffer)
    if header is None:
        return None
    parent = identity.parent(header)
    if parent is None:
        raise BadProxyHeader("it does not know the key of this cluster")
    if header.source is None:
        return ParentHeader(header.length, None, tallies.of(parent), (), ())
    lines = header.tlvs.get(EXPLAINED)
    explained = tuple(lines.split(b"\n")) if lines else ()
    return ParentHeader(header.length, header.source[0], tallies.of(parent), processes_of(parent, header), explained)
