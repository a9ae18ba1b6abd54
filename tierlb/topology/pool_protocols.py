"""Pools whose endpoints may speak HTTP/2, beside what else the file says of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tierlb.model.topology import Kind, PoolProtocol
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape, HealthShape


class HasTarget(Protocol):
    """One edge of the graph: where it leads."""

    @property
    def target(self) -> str: ...


def protocol_faults(file: FileShape, edges: Mapping[str, Sequence[HasTarget]]) -> Iterator[Fault]:
    """A protocol that no tier speaks with the endpoints, or that does not go with `tls` or its absence."""
    for name, pool in (file.pools or {}).items():
        path = ("pools", name)
        asks = isinstance(pool.health, HealthShape) and pool.health.grpc is not None
        if asks and pool.protocol in (None, PoolProtocol.HTTP1):
            message = "gRPC is spoken over HTTP/2: write protocol: h2c at the pool, or protocol: h2 and tls"
            yield Fault((*path, "health", "grpc"), message, at_key=True)
        if pool.protocol is None:
            continue
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
