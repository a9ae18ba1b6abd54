"""Pools whose endpoints may speak HTTP/2, beside what else the file says of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tierlb.model.topology import Kind, PoolProtocol
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape


class HasTarget(Protocol):
    """One edge of the graph: where it leads."""

    @property
    def target(self) -> str: ...


def protocol_faults(file: FileShape, edges: Mapping[str, Sequence[HasTarget]]) -> Iterator[Fault]:
    """A protocol that no tier speaks with the endpoints, or that does not go with `tls` or its absence."""
    for name, pool in (file.pools or {}).items():
        if pool.protocol is None:
            continue
        path = ("pools", name)
        senders = [file.tiers[tier] for tier, each in edges.items() if any(edge.target == name for edge in each)]
        if senders and all(tier.kind is Kind.L4 for tier in senders):
            message = "has no effect under an l4 tier, which passes bytes on as they are: it acts under l7 tiers"
            yield Fault((*path, "protocol"), message, at_key=True)
        if pool.protocol is PoolProtocol.H2C and pool.tls is not None:
            message = "h2c is HTTP/2 without TLS: leave out tls here, or write protocol: h2"
            yield Fault((*path, "protocol"), message, at_key=True)
        if pool.protocol in (PoolProtocol.H2, PoolProtocol.AUTO) and pool.tls is None:
            meaning = "HTTP/2 over TLS" if pool.protocol is PoolProtocol.H2 else "chosen in the TLS handshake (ALPN)"
            message = f"{pool.protocol.value} is {meaning}: write tls as well, or protocol: h2c for HTTP/2 without TLS"
            yield Fault((*path, "protocol"), message, at_key=True)
