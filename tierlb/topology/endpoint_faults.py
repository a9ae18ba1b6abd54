"""Settings of endpoints that the way to them cannot carry out: unix sockets, and PROXY headers."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

from tierlb.model.address import Address, Transport
from tierlb.model.topology import Forwarding, Kind, PoolProtocol
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape, PoolShape


class Leads(Protocol):
    """An edge of the graph of tiers and pools."""

    @property
    def target(self) -> str: ...


Senders = Mapping[str, Sequence[Leads]]


def endpoint_faults(file: FileShape, edges: Senders) -> Iterator[Fault]:
    """Faults of pools, by the tiers that send to them."""
    yield from _unix_endpoint_faults(file, edges)
    yield from _announcing_faults(file, edges)


def _unix_endpoint_faults(file: FileShape, edges: Senders) -> Iterator[Fault]:
    """Unix sockets where the way to endpoints leads to an address and a port."""
    for name, pool in (file.pools or {}).items():
        found = [(step, endpoint) for step, endpoint in listed_names(pool) if endpoint.is_unix]
        path = ("pools", name)
        if found and pool.agent_check is not None:
            yield Fault((*path, "agent_check"), f"{found[0][1]} has no host that answers at a port", at_key=True)
        for sender in (tier for tier, each in edges.items() if any(edge.target == name for edge in each)):
            tier = file.tiers[sender]
            if tier.forward is Forwarding.NFTABLES or (tier.protocol or Transport.TCP) is Transport.UDP:
                what = "datagrams" if (tier.protocol or Transport.TCP) is Transport.UDP else "what the kernel forwards"
                for step, _ in found:
                    yield Fault((*path, "endpoints", step), f"{what} from {sender!r} cannot go to a unix socket")


def _announcing_faults(file: FileShape, edges: Senders) -> Iterator[Fault]:
    """PROXY headers to endpoints where this cluster makes no connections to them, or does not know the client."""
    parents: dict[str, list[str]] = {}
    for sender, each in edges.items():
        for edge in each:
            parents.setdefault(edge.target, []).append(sender)
    for name, pool in (file.pools or {}).items():
        if pool.proxy_protocol is None:
            continue
        for sender in (tier for tier, each in edges.items() if any(edge.target == name for edge in each)):
            tier = file.tiers[sender]
            if tier.kind is Kind.L7 and _l7_tiers_above(file, parents, _l7_tiers_above(file, parents, [sender])):
                why = f"the client is known to {sender!r} only through two l7 tiers above, of which one would be named"
                yield Fault(("pools", name, "proxy_protocol"), f"{why}: leave this out", at_key=True)
            elif tier.kind is Kind.L7 and pool.protocol not in (None, PoolProtocol.HTTP1):
                why = "a connection of HTTP/2 carries requests of many clients, and a PROXY header names one"
                yield Fault(("pools", name, "proxy_protocol"), f"{why}: leave this out, or protocol", at_key=True)
            elif (tier.protocol or Transport.TCP) is Transport.UDP:
                why = f"{sender!r} sends datagrams there, which have no PROXY header"
                yield Fault(("pools", name, "proxy_protocol"), f"{why}: leave this out", at_key=True)
            elif tier.forward is Forwarding.NFTABLES:
                why = f"the kernel forwards from {sender!r} and writes no PROXY headers"
                yield Fault(("pools", name, "proxy_protocol"), f"{why}: write forward: auto there", at_key=True)


def _l7_tiers_above(file: FileShape, parents: Mapping[str, list[str]], names: list[str]) -> list[str]:
    """The l7 tiers that send to one of these."""
    return [above for name in names for above in parents.get(name, ()) if file.tiers[above].kind is Kind.L7]


def listed_names(pool: PoolShape) -> Iterator[tuple[str | int, Address]]:
    """The pool's endpoints, each with the last step of the path to it."""
    if isinstance(pool.endpoints, dict):
        yield from ((str(endpoint), endpoint) for endpoint in pool.endpoints)
    else:
        yield from enumerate(pool.endpoints or ())
