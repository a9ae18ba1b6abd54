"""Pools whose endpoints speak HTTP/2, beside what else the file says of them."""

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
    """A protocol that nobody speaks, and health checks in another one."""
    for name, pool in (file.pools or {}).items():
        if pool.protocol is None:
            continue
        path = ("pools", name)
        senders = [file.tiers[tier] for tier, each in edges.items() if any(edge.target == name for edge in each)]
        if senders and all(tier.kind is Kind.L4 for tier in senders):
            message = "has no effect under an l4 tier, which passes bytes on as they are: it acts under l7 tiers"
            yield Fault((*path, "protocol"), message, at_key=True)
        if pool.protocol is PoolProtocol.H2C and pool.tls is not None:
            message = "h2c is HTTP/2 without TLS: leave out tls here, or protocol (over TLS endpoints speak HTTP/1.1)"
            yield Fault((*path, "protocol"), message, at_key=True)
        if pool.protocol is PoolProtocol.H2C and isinstance(pool.health, HealthShape) and pool.health.path is not None:
            message = "checks by path speak HTTP/1.1, which these endpoints (protocol: h2c) do not: write health: tcp"
            yield Fault((*path, "health", "path"), message, at_key=True)
