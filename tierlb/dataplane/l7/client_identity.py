"""The client identity of one connection's requests, and whether its own fields about that are trusted.

A client that connects by itself is known by its address. A connection from a parent begins with a PROXY header: an l4
parent names the client's address, and an l7 parent names the clients in the requests themselves.
"""

import ipaddress
from collections.abc import Sequence
from typing import Final

import attrs

from tierlb.dataplane.handoff.taker import Handed
from tierlb.dataplane.parent_identity import ParentIdentity, processes_of
from tierlb.telemetry.tally import Tallies, Tally
from tierlb.wire.announcement import Origin, told_origin
from tierlb.wire.client_certificate import CLIENT_CERTIFICATE_FIELD
from tierlb.wire.forwarded import forwarded_node
from tierlb.wire.proxy_protocol import EXPLAINED, SSL_TLV, BadProxyHeader, parse_v2
from tierlb.wire.shown_certificate import ShownCertificate
from tierlb.wire.told_tls import NOTHING_TOLD, ToldTls, passed_on, read_told

SECURED_BOOKS: Final = 2
"""The first of the books of plans for what came over TLS. Of each two, the second is for clients that are trusted."""
HTTP2_BOOKS: Final = 4
"""The first of the books for what came over HTTP/2, in the same order."""
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ClientIdentity:
    """Not changed after it was made. `address` is the client's. `passed` is what follows `X-Forwarded-For: ` in a
    request that goes upstream, with the certificate that the client showed, and `forwarded_for` the same up to the
    number of the request. `node`: the address as Forwarded has it. `trusted`: its X-Forwarded-* fields and request
    ids are believed. `secured`: the client speaks TLS, with this node or a parent. `book`: which of the books of
    plans is for its requests. `tally`: where its items are counted. `processes` are those of the cluster through
    which the connection came, the nearest first, and `explained` are their lines on how they chose
    (`dataplane.explanation`). `handed`: a parent handed it over, and is to learn when it is over. `shown`: what it
    was shown over TLS, where that depends on the name that it asked for. `redirected`: it came to a listener that
    sends all to https, at this port; else 0. `is_usual`: rules alone decide about its requests. `origin`: the whole
    addresses, and what a balancer above the cluster told, where that is passed on."""

    __slots__ = (
        "address",
        "book",
        "explained",
        "forwarded_for",
        "handed",
        "is_usual",
        "node",
        "origin",
        "passed",
        "processes",
        "redirected",
        "secured",
        "shown",
        "tally",
        "trusted",
    )

    def __init__(
        self,
        address: str,
        tally: Tally,
        id_prefix: bytes,
        *,
        trusted: bool,
        secured: bool = False,
        processes: tuple[str, ...] = (),
        explained: tuple[bytes, ...] = (),
        handed: Handed | None = None,
        redirected: int = 0,
        certificate: bytes = b"",
        shown: ShownCertificate | None = None,
        origin: Origin | None = None,
    ) -> None:
        self.address = address.encode()
        self.shown = shown
        self.node = forwarded_node(self.address) if b":" in self.address else self.address
        self.passed = self.address + (b"\r\n%b: %b" % (CLIENT_CERTIFICATE_FIELD, certificate) if certificate else b"")
        self.forwarded_for = b"%b\r\nX-Request-Id: %b" % (self.passed, id_prefix)
        self.trusted = trusted
        self.secured = secured
        self.book = int(trusted) + (SECURED_BOOKS if secured else 0)
        self.tally = tally
        self.processes = processes
        self.explained = explained
        self.handed = handed
        self.redirected = redirected
        self.is_usual = redirected == 0 and shown is None
        self.origin = origin


def after_handshake(
    before: ClientIdentity, id_prefix: bytes, certificate: bytes, shown: ShownCertificate | None
) -> ClientIdentity:
    """The identity of a client that was secured: with what it showed, and what it was shown."""
    return ClientIdentity(
        before.address.decode(),
        before.tally,
        id_prefix,
        trusted=before.trusted,
        secured=True,
        processes=before.processes,
        explained=before.explained,
        handed=before.handed,
        certificate=certificate,
        shown=shown,
        origin=before.origin,
    )


def is_in(address: str, networks: Sequence[Network]) -> bool:
    """Whether an address lies in one of these networks."""
    if not networks:
        return False
    parsed = ipaddress.ip_address(address)
    return any(parsed in network for network in networks)


@attrs.frozen
class ParentHeader:
    """What a parent's PROXY header holds. `length`: its bytes. `client`: the address of the client that an l4 parent
    announces, None from an l7 parent. `secured`: the client speaks TLS with a parent. `origin`: all that it tells of
    where the connection comes from, and `told` of the client's TLS."""

    length: int
    client: str | None
    tally: Tally
    processes: tuple[str, ...]
    explained: tuple[bytes, ...]
    secured: bool = False
    origin: Origin | None = None
    told: ToldTls = NOTHING_TOLD


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
    processes, secured = processes_of(parent, header), SSL_TLV in header.tlvs
    told, tally = told_origin(header), tallies.of(parent)
    of_tls = read_told(passed_on(header.tlvs)) if secured else NOTHING_TOLD
    return ParentHeader(header.length, header.source[0], tally, processes, explained, secured, told, of_tls)
