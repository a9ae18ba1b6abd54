"""Cross checks of a whole cluster: names resolve, traffic ends somewhere, nothing is out of reach, no port
twice.

The graph's nodes are tiers and pools, its edges the names under `to`. Walks use explicit stacks, since a file
may chain more tiers than Python has recursion.
"""

import ipaddress
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import attrs

from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.model.topology import Forwarding, Kind, Policy, Topology
from tierlb.topology.connection_rules import stacked_faults
from tierlb.topology.endpoint_faults import endpoint_faults, listed_names
from tierlb.topology.forwarded_rules import forwarded_faults
from tierlb.topology.listener_rules import redirect_faults
from tierlb.topology.pool_protocols import protocol_faults
from tierlb.topology.problems import Fault, Path, nearest, path_text
from tierlb.topology.reading import TypedReading
from tierlb.topology.route_shapes import To
from tierlb.topology.security_rules import security_faults
from tierlb.topology.shapes import (
    FileShape,
    HealthShape,
    ListenerShape,
    PoolShape,
    TierShape,
    listener_address,
    places_of_listeners,
)
from tierlb.topology.tls_rules import tls_faults

LINKING_KEYS = ("kind", "listen", "to", "routes")
"""Keys of a tier that decide whether traffic reaches it and where it goes."""
MAX_GUESSES = 100
"""Guessing is slow, and more wrong names than this are not typing errors."""
DEFAULT_ADMIN_ADDRESS: Any = attrs.fields(Topology).admin.default


@attrs.frozen
class GraphEdge:
    """One name under a `to`, and where it is written."""

    target: str
    path: Path


Edges = dict[str, list[GraphEdge]]
"""From each tier, in the file's order."""


def graph_faults(
    file: FileShape, reading: TypedReading, tier_names: list[str], pool_names: list[str]
) -> Iterator[Fault]:
    """Faults between mappings. The names are all the file gives, those cut out included."""
    edges: Edges = {name: list(_edges(("tiers", name), tier)) for name, tier in file.tiers.items()}
    yield from _shared_name_faults(tier_names, pool_names)
    guesses = _guesses(edges, [*tier_names, *pool_names])
    yield from _unresolved_faults(edges, guesses)
    yield from _cycle_faults(edges)
    yield from _port_faults(file)
    yield from _loop_faults(file, edges)
    yield from _protocol_edge_faults(file, reading, edges)
    yield from _kernel_faults(file, edges)
    yield from endpoint_faults(file, edges)
    yield from protocol_faults(file, edges)
    if all(_cannot_connect(path) for path in reading.damaged):
        targets = {name: {edge.target for edge in each} for name, each in edges.items()}
        yield from stacked_faults(file, targets)
        yield from redirect_faults(file, targets)
        yield from forwarded_faults(file, targets)
    if all(_cannot_connect(path) for path in reading.damaged):
        yield from _unreached_faults(file, _as_meant(edges, guesses))
        yield from _weight_faults(file, reading, _as_meant(edges, guesses))
        yield from _handoff_faults(file, reading, _as_meant(edges, guesses))
        meant = {name: _names(each) for name, each in _as_meant(edges, guesses).items()}
        yield from tls_faults(file, meant)
        yield from security_faults(file, meant)
        yield from _unparsed_outlier_faults(file, reading, _as_meant(edges, guesses))


def _cannot_connect(path: Path) -> bool:
    """Whether what was cut out cannot have linked tiers, so that a missing link is really missing."""
    return path[:1] != ("tiers",) or (len(path) > 2 and path[2] not in LINKING_KEYS)


def _edges(path: Path, tier: TierShape) -> Iterator[GraphEdge]:
    yield from _targets((*path, "to"), tier.to)
    for index, route in enumerate(tier.routes or ()):
        yield from _targets((*path, "routes", index, "to"), route.to)


def _targets(path: Path, to: To | None) -> Iterator[GraphEdge]:
    if isinstance(to, str):
        yield GraphEdge(to, path)
    elif isinstance(to, tuple):
        yield from (GraphEdge(name, (*path, index)) for index, name in enumerate(to))
    elif to is not None:
        yield from (GraphEdge(name, (*path, name)) for name in to)


def _names(edges: Iterable[GraphEdge]) -> set[str]:
    return {edge.target for edge in edges}


def _shared_name_faults(tier_names: list[str], pool_names: list[str]) -> Iterator[Fault]:
    for name in set(tier_names) & set(pool_names):
        yield Fault(("pools", name), "a tier has this name too: tiers and pools share their names", at_key=True)


def _guesses(edges: Edges, names: list[str]) -> dict[str, str | None]:
    """What was meant by each name that nothing has."""
    known = set(names)
    unresolved = {edge.target: None for each in edges.values() for edge in each if edge.target not in known}
    return unresolved | {name: nearest(name, names) for name in islice(unresolved, MAX_GUESSES)}


def _unresolved_faults(edges: Edges, guesses: dict[str, str | None]) -> Iterator[Fault]:
    for edge in (edge for each in edges.values() for edge in each if edge.target in guesses):
        guess = guesses[edge.target]
        advice = f" (did you mean {guess!r}?)" if guess else ""
        message = f"no tier or pool named {edge.target!r}{advice}"
        yield Fault(edge.path, message, at_key=edge.path[-1] == edge.target)


def _as_meant(edges: Edges, guesses: dict[str, str | None]) -> Edges:
    """The graph with mistyped names put right, so that one typing error is not reported twice."""
    return {
        name: [attrs.evolve(edge, target=guesses.get(edge.target) or edge.target) for edge in each]
        for name, each in edges.items()
    }


def _cycle_faults(edges: Edges) -> Iterator[Fault]:
    """Depth first; an edge to a tier on the way here closes a cycle (one fault for each such edge)."""
    done: set[str] = set()
    for start in edges:
        way: dict[str, None] = {}
        stack: list[tuple[str, Iterator[GraphEdge]]] = []
        _enter(start, edges, done, way, stack)
        while stack:
            edge = next(stack[-1][1], None)
            if edge is None:
                done.add(way.popitem()[0])
                stack.pop()
            elif edge.target in way:
                yield Fault(edge.path, f"a cycle: {_cycle_text(list(way), edge.target)}")
            else:
                _enter(edge.target, edges, done, way, stack)


def _enter(
    name: str,
    edges: Edges,
    done: set[str],
    way: dict[str, None],
    stack: list[tuple[str, Iterator[GraphEdge]]],
) -> None:
    if name in edges and name not in done:
        way[name] = None
        stack.append((name, iter(edges[name])))


def _cycle_text(way: list[str], target: str) -> str:
    cycle = [*way[way.index(target) :], target]
    if len(cycle) > 12:
        cycle = [*cycle[:6], "…", *cycle[-5:]]
    return " → ".join(cycle)


def _protocol_edge_faults(file: FileShape, reading: TypedReading, edges: Edges) -> Iterator[Fault]:
    """Tiers that send what the tier below does not take: datagrams to a tier over TCP, and the reverse."""
    known = {name: tier for name, tier in file.tiers.items() if reading.intact(("tiers", name, "protocol"))}
    for name, tier in known.items():
        for edge in edges[name]:
            lower = known.get(edge.target)
            if lower is None:
                continue
            if _transport(tier) is _transport(lower):
                if lower.responses is not None and (tier.responses is None or lower.responses < tier.responses):
                    message = f"sessions end here while those of {name!r} above go on, and then lose datagrams"
                    advice = f"give {name!r} responses: {lower.responses} too, or leave this out"
                    yield Fault(("tiers", edge.target, "responses"), f"{message}: {advice}", at_key=True)
                continue
            if lower.kind is Kind.L7:
                message = f"{edge.target!r} is an l7 tier, which takes HTTP over TCP, and {name!r} sends datagrams"
                advice = "send to a pool or to an l4 tier with protocol: udp"
            elif _transport(tier) is Transport.UDP:
                message = f"{edge.target!r} takes TCP connections, and {name!r} sends datagrams"
                advice = f"give {edge.target!r} protocol: udp too, or send to a pool"
            else:
                message = f"{edge.target!r} takes datagrams (protocol: udp), and {name!r} sends over TCP"
                advice = "send to another tier, or to a pool" if tier.kind is Kind.L7 else "give both one protocol"
            yield Fault(edge.path, f"{message}: {advice}", at_key=edge.path[-1] == edge.target)


def _transport(tier: TierShape) -> Transport:
    return tier.protocol or Transport.TCP


def _port_faults(file: FileShape) -> Iterator[Fault]:
    taken = Ports()
    taken.claim(ListenAddress(file.admin.listen if file.admin else DEFAULT_ADMIN_ADDRESS), ("admin", "listen"))
    for name, tier in file.tiers.items():
        claims = [(path, address, _transport(tier)) for path, address in _listen_places(name, tier)]
        if tier.agent_check is not None:
            claims.append((("tiers", name, "agent_check"), tier.agent_check, Transport.TCP))
        for path, address, transport in claims:
            owner = taken.claim(ListenAddress(address, transport), path) if address.is_fixed else None
            if owner is not None:
                what = address if address.is_unix else f"port {address.port}"
                yield Fault(path, f"{what} is already used by {path_text(owner)}")


def _listen_places(name: str, tier: TierShape) -> Iterator[tuple[Path, Address]]:
    """The tier's listeners: the path of each in the file, and its address."""
    for path, given in places_of_listeners(tier, ("tiers", name)):
        yield (*path, "address") if isinstance(given, ListenerShape) else path, listener_address(given)


class Ports:
    """Who listens where. A wildcard host overlaps every host of its family. TCP and UDP have ports of their own."""

    def __init__(self) -> None:
        self._exact: dict[ListenAddress, Path] = {}
        self._wild: dict[tuple[int, int, Transport], Path] = {}
        self._any: dict[tuple[int, int, Transport], Path] = {}

    def claim(self, address: ListenAddress, path: Path) -> Path | None:
        """Note the address; the path of one noted before that it overlaps with, if any."""
        if address.address.is_unix:
            owner = self._exact.get(address)
            self._exact.setdefault(address, path)
            return owner
        if len(address.address.bound) > 1:
            parts = (ListenAddress(part, address.transport) for part in address.address.bound)
            owners = [self.claim(part, path) for part in parts]
            return next((owner for owner in owners if owner is not None), None)
        host = ipaddress.ip_address(address.address.host)
        family = (host.version, address.address.port, address.transport)
        owner = self._exact.get(address) or self._wild.get(family)
        if host.is_unspecified:
            owner = owner or self._any.get(family)
            self._wild.setdefault(family, path)
        self._exact.setdefault(address, path)
        self._any.setdefault(family, path)
        return owner


def _loop_faults(file: FileShape, edges: Edges) -> Iterator[Fault]:
    """An endpoint that is a listening tier above it: connections would go round until a limit ends it."""
    for transport in Transport:
        yield from _loop_faults_over(transport, file, edges)


def _loop_faults_over(transport: Transport, file: FileShape, edges: Edges) -> Iterator[Fault]:
    listening: dict[Address, str] = {
        address: name
        for name, tier in file.tiers.items()
        for _, listed in _listen_places(name, tier)
        for address in listed.bound
        if address.is_fixed and _transport(tier) is transport
    }
    for pool_name, pool in (file.pools or {}).items():
        for step, endpoint in listed_names(pool):
            tier_name = next((listening[address] for address in _received_at(endpoint) if address in listening), None)
            if tier_name and pool_name in _reached([tier_name], edges):
                message = f"tier {tier_name!r} listens here and sends to this pool: a loop"
                yield Fault(("pools", pool_name, "endpoints", step), message)


def _kernel_faults(file: FileShape, edges: Edges) -> Iterator[Fault]:
    """Tiers whose connections the kernel is to forward and cannot."""
    parents = {edge.target: name for name, each in edges.items() for edge in each}
    for name, tier in file.tiers.items():
        path = ("tiers", name, "forward")
        if tier.forward is not Forwarding.NFTABLES:
            continue
        if parent := parents.get(name):
            why = f"connections from tier {parent!r} begin with a PROXY header, which the kernel does not read"
            yield Fault(path, f"nftables is for tiers without parents: {why}. Write auto or relay")
        elif tier.listen is None:
            yield Fault(path, "nftables forwards what clients send to 'listen', which this tier does not have")


def _received_at(endpoint: Address) -> tuple[Address, ...]:
    """Listen addresses that surely receive what is sent to the endpoint."""
    if endpoint.is_unix:
        return (endpoint,)
    host = ipaddress.ip_address(endpoint.host)
    if not host.is_loopback:
        return (endpoint,)
    return (endpoint, Address("0.0.0.0" if host.version == 4 else "::", endpoint.port))  # noqa: S104 (compared only)


def _weight_faults(file: FileShape, reading: TypedReading, edges: Edges) -> Iterator[Fault]:
    """`balance: weighted` where nothing that is sent to has weights."""
    pools: dict[str, PoolShape] = {str(name): pool for name, pool in (file.pools or {}).items()}
    for name, tier in file.tiers.items():
        targets = dict.fromkeys(edge.target for edge in edges[name])
        path = ("tiers", name, "balance")
        known = reading.intact(path) and all(reading.intact(("pools", target)) for target in targets)
        if tier.balance is not Policy.WEIGHTED or not known or any(_weighs(pools.get(target)) for target in targets):
            continue
        advice = "weights belong to endpoints, so write balance: weighted where they are sent to, and round-robin here"
        if pool := next((target for target in targets if target in pools), None):
            advice = (
                f"write pools: {{{pool}: {{endpoints: {{HOST:PORT: WEIGHT}}}}}}, find the endpoints by SRV records, "
                "or ask their agents (agent_check: PORT); or write balance: round-robin, which takes turns"
            )
        names = ", ".join(map(repr, targets))
        yield Fault(path, f"nothing that it sends to ({names}) has weights: {advice}")


def _weighs(pool: PoolShape | None) -> bool:
    """Whether its endpoints have weights, or can get some while the cluster runs."""
    if pool is None:
        return False
    by_srv = pool.dns is not None and pool.dns.startswith("_")
    by_file = isinstance(pool.endpoints, dict) or pool.overrides is not None
    return by_file or by_srv or pool.agent_check is not None


def _handoff_faults(file: FileShape, reading: TypedReading, edges: Edges) -> Iterator[Fault]:
    """`forward: handoff` where there is nothing but endpoints to hand connections to."""
    for name, tier in file.tiers.items():
        path = ("tiers", name, "forward")
        targets = dict.fromkeys(edge.target for edge in edges[name])
        pools = [target for target in targets if target in (file.pools or {})]
        if tier.forward is Forwarding.HANDOFF and pools and reading.intact(path):
            yield Fault(path, f"only nodes take sockets that are handed over, and {pools[0]!r} is a pool: write auto")


def _unparsed_outlier_faults(file: FileShape, reading: TypedReading, edges: Edges) -> Iterator[Fault]:
    """Outlier detection where no tier parses the answers."""
    seeing = {name for name, tier in file.tiers.items() if tier.kind is Kind.L7}
    for name, pool in (file.pools or {}).items():
        senders = [tier for tier, each in edges.items() if any(edge.target == name for edge in each)]
        path = ("pools", name, "health")
        given = isinstance(pool.health, HealthShape) and pool.health.outlier is not None
        if given and senders and seeing.isdisjoint(senders) and reading.intact(path):
            message = f"has no effect: it uses the answers, which the l4 tier {senders[0]!r} does not parse"
            yield Fault((*path, "outlier"), message, at_key=True)


def _unreached_faults(file: FileShape, edges: Edges) -> Iterator[Fault]:
    reached = _reached((name for name, tier in file.tiers.items() if tier.listen), edges)
    senders: dict[str, str] = {}
    for name, each in edges.items():
        for edge in each:
            senders.setdefault(edge.target, name)
    for name in file.tiers:
        if name not in reached:
            yield Fault(("tiers", name), _why_unreached(senders.get(name)), at_key=True)
    for name in file.pools or {}:
        if name not in senders:
            yield Fault(("pools", name), "no tier sends to this pool", at_key=True)


def _why_unreached(sender: str | None) -> str:
    if sender is None:
        return "nothing reaches this tier: give it a listen address or name it in another tier's to"
    return f"nothing reaches this tier: only tiers such as {sender!r} send to it, which nothing reaches either"


def _reached(starts: Iterable[str], edges: Edges) -> set[str]:
    reached: set[str] = set()
    ahead = list(starts)
    while ahead:
        name = ahead.pop()
        if name not in reached:
            reached.add(name)
            ahead += [edge.target for edge in edges.get(name, ())]
    return reached
