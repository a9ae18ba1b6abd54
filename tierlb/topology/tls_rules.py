"""Where `tls` of a tier or pool would have no effect: no TLS of a client arrives, or nothing speaks it to endpoints."""

from collections.abc import Iterator, Mapping

from tierlb.model.topology import Kind
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import FileShape, TierShape


def tls_faults(file: FileShape, targets: Mapping[str, set[str]]) -> Iterator[Fault]:
    """`targets`: the names that each tier sends to."""
    for name, tier in file.tiers.items():
        senders = [file.tiers[sender] for sender, each in targets.items() if name in each]
        passes = any(sender.kind is Kind.L4 and sender.tls is None for sender in senders)
        if tier.tls is not None and tier.listen is None and not passes:
            message = "has no effect: no client connects to this tier, and no tier above passes the TLS of clients on"
            yield Fault(("tiers", name, "tls"), f"{message}: write listen, or leave it out", at_key=True)
        yield from _hello_faults(name, tier, senders)
    for name, pool in (file.pools or {}).items():
        senders_of = [sender for sender, each in targets.items() if name in each]
        plain = next((sender for sender in senders_of if file.tiers[sender].kind is Kind.L4), None)
        if pool.tls is not None and plain is not None:
            message = f"the l4 tier {plain!r} passes bytes on as they come, and speaks no TLS: send there by an l7 tier"
            yield Fault(("pools", name, "tls"), message, at_key=True)


def _hello_faults(name: str, tier: TierShape, senders: list[TierShape]) -> Iterator[Fault]:
    """Conditions on a ClientHello that no connection of an l4 tier meets."""
    if tier.kind is not Kind.L4:
        return
    ended = tier.listen is None and bool(senders) and all(sender.tls is not None for sender in senders)
    for index, route in enumerate(tier.routes or ()):
        for key in ("sni", "alpn"):
            if getattr(route.match, key, None) is None:
                continue
            path = ("tiers", name, "routes", index, "match", key)
            if ended:
                yield Fault(path, "can never match: the tier above ends TLS, and what comes is plain", at_key=True)
            elif key == "alpn" and tier.tls is not None:
                message = "can never match: a tier with tls agrees on no protocol with its clients: match sni or source"
                yield Fault(path, message, at_key=True)
