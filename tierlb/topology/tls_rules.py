"""Where `tls` of a tier, a listener or a pool would have no effect: no TLS of a client arrives, or nothing speaks it to
endpoints."""

from collections.abc import Collection, Iterator, Mapping

from tierlb.model.address import Transport
from tierlb.model.topology import Forwarding, Kind
from tierlb.topology.problems import Fault
from tierlb.topology.shapes import (
    FileShape,
    ListenerShape,
    TierShape,
    listed_listeners,
    places_of_listeners,
    tls_at,
)

Targets = Mapping[str, Collection[str]]
"""The names that each tier sends to."""


def tls_faults(file: FileShape, targets: Targets) -> Iterator[Fault]:
    """Faults that the tiers above and below a `tls` show."""
    for name, tier in file.tiers.items():
        senders = _senders(name, targets)
        passes = any(file.tiers[each].kind is Kind.L4 and not ends_tls(each, file, targets) for each in senders)
        if tier.tls is not None and not passes and not _is_used(tier):
            why = "no client connects to this tier" if tier.listen is None else "no listener goes by it"
            message = f"has no effect: {why}, and no tier above passes the TLS of clients on"
            advice = "write listen, or leave it out" if tier.listen is None else "leave it out"
            yield Fault(("tiers", name, "tls"), f"{message}: {advice}", at_key=True)
        yield from _listener_faults(name, tier)
        yield from _hello_faults(name, file, targets)
    for name, pool in (file.pools or {}).items():
        if pool.tls is not None and pool.tls.ca is not None and pool.tls.verify is False:
            message = "has no effect with verify: false, which takes any certificate: leave one of them out"
            yield Fault(("pools", name, "tls", "ca"), message, at_key=True)
        for each in _senders(name, targets) if pool.tls is not None else ():
            if why := _why_not_spoken(file.tiers[each]):
                message = f"the l4 tier {each!r} {why}, or leave this out"
                yield Fault(("pools", name, "tls"), message, at_key=True)


def _why_not_spoken(tier: TierShape) -> str:
    """Why the tier cannot speak TLS with endpoints, and what to do; empty if it can."""
    if tier.protocol is Transport.UDP:
        return "sends datagrams, and TLS is for connections: write protocol: tcp there"
    if tier.forward is Forwarding.NFTABLES:
        return "has the kernel forward connections, which speaks no TLS: write forward: auto there"
    return ""


def ends_tls(name: str, file: FileShape, targets: Targets) -> bool:
    """Whether the tier ends the TLS of all clients whose connections come to it."""
    tier = file.tiers[name]
    ways = [tls_at(tier, given) for given in listed_listeners(tier)]
    if not ways or _senders(name, targets):
        ways.append(tier.tls)
    return all(tls is not None for tls in ways)


def _senders(name: str, targets: Targets) -> list[str]:
    return [sender for sender, each in targets.items() if name in each]


def _is_used(tier: TierShape) -> bool:
    """Whether clients at some listener speak what `tls` of the tier says."""
    listeners = listed_listeners(tier)
    return any(not isinstance(each, ListenerShape) or not (each.tls or each.redirect_https) for each in listeners)


def _listener_faults(name: str, tier: TierShape) -> Iterator[Fault]:
    for path, given in places_of_listeners(tier, ("tiers", name)):
        if not isinstance(given, ListenerShape) or given.tls is None:
            continue
        if given.redirect_https:
            message = "has no effect: a listener that redirects to https takes plain HTTP: leave it out"
            yield Fault((*path, "tls"), message, at_key=True)
        elif tier.tls is None and tls_at(tier, given) is None:
            yield Fault((*path, "tls"), "has no effect: the tier has no tls: leave it out", at_key=True)


def _offers(tier: TierShape) -> bool:
    """Whether some client of an l4 tier that ends TLS may agree with it on a protocol."""
    ways = [tier.tls, *(tls_at(tier, given) for given in listed_listeners(tier))]
    return any(tls is not None and tls.alpn for tls in ways)


def _hello_faults(name: str, file: FileShape, targets: Targets) -> Iterator[Fault]:
    """Conditions on a ClientHello that no connection of an l4 tier meets."""
    tier, senders = file.tiers[name], _senders(name, targets)
    if tier.kind is not Kind.L4:
        return
    ended = tier.listen is None and bool(senders) and all(ends_tls(sender, file, targets) for sender in senders)
    for index, route in enumerate(tier.routes or ()):
        for key in ("sni", "alpn"):
            if getattr(route.match, key, None) is None:
                continue
            path = ("tiers", name, "routes", index, "match", key)
            if ended:
                yield Fault(path, "can never match: the tier above ends TLS, and what comes is plain", at_key=True)
            elif key == "alpn" and ends_tls(name, file, targets) and not _offers(tier):
                message = "can never match: this tier ends TLS, and its tls offers no protocol: write alpn there"
                yield Fault(path, message, at_key=True)
