"""What a file may say of routes at l4 tiers: conditions that cannot be known where they stand, and dead routes."""

import ipaddress
from collections.abc import Callable, Iterator, Mapping, Set

from tierlb.model.address import Transport
from tierlb.model.topology import Forwarding, Kind, Match
from tierlb.topology.build import build_match
from tierlb.topology.problems import Fault, Path
from tierlb.topology.reading import TypedReading
from tierlb.topology.route_shapes import RouteShape
from tierlb.topology.shapes import (
    FileShape,
    ListenerShape,
    TierShape,
    listed_listeners,
    listener_address,
    places_of_tls,
)
from tierlb.topology.tls_rules import ends_tls

HELLO_KEYS = ("sni", "alpn")
Fits = Callable[[str, str], bool]


def connection_faults(path: Path, tier: TierShape, reading: TypedReading) -> Iterator[Fault]:
    """Of an l4 tier."""
    if tier.kind is not Kind.L4:
        return
    routes = tier.routes or ()
    reads_hello = False
    for index, route in enumerate(routes):
        here = (*path, "routes", index, "match")
        given = [key for key in HELLO_KEYS if route.match is not None and getattr(route.match, key) is not None]
        reads_hello = reads_hello or bool(given) or not reading.intact(here)
        if tier.protocol is Transport.UDP:
            message = "is read from the start of TLS over TCP, and this tier takes datagrams: match source or port"
            yield from (Fault((*here, key), message, at_key=True) for key in given)
    if tier.forward is Forwarding.NFTABLES and any(build_match(route.match) != Match() for route in routes):
        message = "nftables sends all connections one way, and this tier has routes: write auto or relay, or one `to`"
        yield Fault((*path, "forward"), message)
    given_head = tier.timeouts is not None and tier.timeouts.head is not None and not _awaits_announcements(tier)
    if given_head and not any(places_of_tls(tier, path)) and not reads_hello and reading.intact((*path, "routes")):
        message = "has no effect: no route of this l4 tier waits for a ClientHello (match sni or alpn)"
        yield Fault((*path, "timeouts", "head"), message, at_key=True)
    yield from _dead_faults(path, routes, reading)


def _awaits_announcements(tier: TierShape) -> bool:
    """Whether the header of a balancer above is waited for."""
    listed = (each for each in listed_listeners(tier) if isinstance(each, ListenerShape))
    return tier.proxy_protocol is not None or any(each.proxy_protocol is not None for each in listed)


def _dead_faults(path: Path, routes: tuple[RouteShape, ...], reading: TypedReading) -> Iterator[Fault]:
    before: list[tuple[int, Match]] = []
    for index, route in enumerate(routes):
        here = (*path, "routes", index)
        if not reading.intact((*here, "match")):
            continue
        match = build_match(route.match)
        covering = next(((known, each) for known, each in before if _covers(each, match)), None)
        if covering is None:
            before.append((index, match))
        else:
            what = "takes every connection" if covering[1] == Match() else "takes all that match it"
            yield Fault(here, f"is never reached: routes[{covering[0]}] before it {what}")


def _covers(first: Match, second: Match) -> bool:
    """Whether each connection that matches the second match has matched the first one."""
    return (
        _is_part(second.sni, first.sni, is_below)
        and _is_part(second.alpn, first.alpn, lambda one, other: one == other)
        and _is_part(second.sources, first.sources, _is_subnet)
        and (not first.ports or (bool(second.ports) and set(second.ports) <= set(first.ports)))
    )


def _is_part(inner: tuple[str, ...], outer: tuple[str, ...], fits: Fits) -> bool:
    """Whether each of the inner values fits into one of the outer ones. None given: any value."""
    if not outer:
        return True
    return bool(inner) and all(any(fits(one, other) for other in outer) for one in inner)


def is_below(name: str, pattern: str) -> bool:
    """Whether a name, or all names of a pattern, match the pattern `*.example.com`, or are that name."""
    return name == pattern or (pattern.startswith("*.") and name.removeprefix("*").endswith(pattern[1:]))


def _is_subnet(inner: str, outer: str) -> bool:
    one, other = ipaddress.ip_network(inner), ipaddress.ip_network(outer)
    return one.version == other.version and one.subnet_of(other)  # type: ignore[arg-type]


def stacked_faults(file: FileShape, targets: Mapping[str, Set[str]]) -> Iterator[Fault]:
    """Conditions of routes at l4 tiers that cannot hold because of where clients come from: ports to which none
    connects (below an l4 tier they are those of that tier), ClientHellos that a tier above has read, and what only l7
    nodes could meet. `targets`: what each tier sends to."""
    for name, tier in file.tiers.items():
        if tier.kind is not Kind.L4:
            continue
        entries = _entries(name, file, targets)
        known = {listener_address(given).port for each in entries for given in listed_listeners(file.tiers[each])}
        forwarding = (each for each in entries if file.tiers[each].forward is Forwarding.NFTABLES)
        kernel = next((each for each in forwarding if each != name), None)
        ending = next((each for each in entries if each != name and ends_tls(each, file, targets)), None)
        senders = {upper for upper, each in targets.items() if not each.isdisjoint(entries)}
        if not known and any(file.tiers[upper].kind is Kind.L7 for upper in senders):
            yield from _l7_parent_faults(("tiers", name), tier.routes or ())
        for index, route in enumerate(tier.routes or ()):
            for key in HELLO_KEYS if ending is not None and route.match is not None else ():
                if getattr(route.match, key) is not None:
                    message = f"no ClientHello comes here, as tier {ending!r} above ends TLS: match it in routes there"
                    yield Fault(("tiers", name, "routes", index, "match", key), message, at_key=True)
            given_ports = None if route.match is None else route.match.port
            if given_ports is None:
                continue
            path = ("tiers", name, "routes", index, "match", "port")
            ports = given_ports if isinstance(given_ports, tuple) else (given_ports,)
            if kernel is not None:
                message = f"the kernel changes the port on the way from tier {kernel!r} (forward: nftables)"
                yield Fault(path, f"{message}: write forward: auto or relay there, or no port here")
            elif known and 0 not in known and not known.issuperset(ports):
                there = ", ".join(map(str, sorted(known)))
                missing = next(port for port in ports if port not in known)
                yield Fault(path, f"no client connects to port {missing}: the tier gets those of {there}")


def _l7_parent_faults(path: Path, routes: tuple[RouteShape, ...]) -> Iterator[Fault]:
    """What would be that of a client, and no client's connection comes to the tier."""
    for index, route in enumerate(routes):
        for key in ("source", "port"):
            if route.match is not None and getattr(route.match, key) is not None:
                message = (
                    f"is that of the l7 node above, whose connections are all that come here: match the {key} at a "
                    "tier that clients connect to"
                )
                yield Fault((*path, "routes", index, "match", key), message, at_key=True)


def _entries(name: str, file: FileShape, targets: Mapping[str, Set[str]]) -> list[str]:
    """The tier, and those above it over l4 tiers only: a connection has the same port at all of them."""
    found, waiting = [name], [name]
    while waiting:
        lower = waiting.pop()
        for upper, each in targets.items():
            if upper not in found and lower in each and file.tiers[upper].kind is Kind.L4:
                found.append(upper)
                waiting.append(upper)
    return found
