"""Which node listens where and sends to what: from the desired topology and the nodes that exist to one node's
snapshot.

Pure. What a node opens follows from the topology alone (`listeners_of`); where its parents find it, the node announced.
Endpoints that are looked up in DNS are added by the node itself (`discovered`).
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

import attrs

from tierlb.model.address import Address, Transport
from tierlb.model.listener import ProxyVersion, TierListener
from tierlb.model.places import bound_listeners, listener_tls
from tierlb.model.snapshot import Destination, FoundEndpoint, HostSpec, Listener, PoolSettings, Rule, Send, Snapshot
from tierlb.model.topology import (
    Action,
    Admin,
    Forward,
    Forwarding,
    Kind,
    Override,
    Pool,
    PoolProtocol,
    Redirect,
    Respond,
    Share,
    Tier,
    Topology,
)

Announced = Mapping[str, Mapping[str, Address]]
"""tier name → node name → the address that it opened for its parents."""

RunEndpoints = Mapping[str, tuple[Address, ...]]
"""pool name → the addresses where replicas of its `run` accept connections now."""

Agents = Mapping[str, Mapping[str, Address]]
"""pool name → agent name → where it takes items. The name is the one its reports come under."""

Discovered = Mapping[str, tuple[FoundEndpoint, ...]]
"""pool name → the endpoints that its name in DNS leads to."""

NONE: Mapping[str, Any] = MappingProxyType({})
ANY_PORT = Address("127.0.0.1", 0)
PARENT_NETWORKS = ("127.0.0.1/32",)
"""All parents are on this machine, so a PROXY header is believed from nowhere else."""


def node_names(tier: Tier) -> tuple[str, ...]:
    """The nodes of a tier: web-1, web-2 and so on; the same after a restart."""
    return tuple(f"{tier.name}-{number}" for number in range(1, tier.replicas + 1))


def number_of(node: str) -> int:
    """Of a node that has its name from `node_names`; 1 for any other."""
    number = node.rpartition("-")[2]
    return int(number) if number.isascii() and number.isdigit() else 1


@attrs.frozen
class Present:
    """The nodes and agents that exist now, and the admin states of hosts (by name, where one is not ready)."""

    announced: Announced
    run_endpoints: RunEndpoints
    agents: Agents
    admin: Mapping[str, Admin]


def reports_to(topology: Topology, name: str) -> tuple[str, ...]:
    """The tiers whose nodes are parents of the tier or pool `name`; none: it reports to the controller."""
    return tuple(parent.name for parent in topology.parents(name))


def tiers_joined(topology: Topology) -> tuple[str, ...]:
    """The tiers of which nodes connect to those of another tier, or the reverse."""
    above = {name for name, tier in topology.tiers.items() if not topology.tiers.keys().isdisjoint(tier.targets)}
    return tuple(name for name in topology.tiers if name in above or reports_to(topology, name))


def transports_to(topology: Topology, pool: str) -> frozenset[Transport]:
    """What the tiers that send to the pool send there; TCP where none does."""
    return frozenset(parent.protocol for parent in topology.parents(pool)) or frozenset({Transport.TCP})


def ways_to(topology: Topology, name: str) -> frozenset[str]:
    """The tiers whose nodes a connection to the tier `name` may have come through: its parents, and those above l4
    ones, for at l4 a connection is the same from end to end."""
    found: set[str] = set()
    waiting = list(reports_to(topology, name))
    while waiting:
        above = waiting.pop()
        if above not in found and topology.tiers[above].kind is Kind.L4:
            waiting += reports_to(topology, above)
        found.add(above)
    return frozenset(found)


def listeners_of(topology: Topology, tier: Tier) -> tuple[Listener, ...]:
    """What each node of the tier opens: its public port, and one for all of its parents."""
    listeners = [_public_listener(tier, place.address, given) for place, given in bound_listeners(tier).items()]
    if takes_clients(topology, tier):
        listeners.append(Listener(Address(_beside_parents(topology, tier), 0), inner=True, direct=True))
    elif topology.parents(tier.name):
        listeners.append(Listener(ANY_PORT, inner=True, accept_from=PARENT_NETWORKS, protocol=tier.protocol))
    return tuple(listeners)


def _public_listener(tier: Tier, address: Address, given: TierListener) -> Listener:
    return Listener(
        address,
        shared=True,
        protocol=tier.protocol,
        mode=given.mode,
        spare=address != given.address and ":" in address.host,
        redirect_https=given.redirect_https,
        announced_from=() if given.proxy_protocol is None else given.proxy_protocol.accept_from,
        tls=listener_tls(tier, given),
    )


def takes_clients(topology: Topology, tier: Tier) -> bool:
    """Whether connections of clients come to its inner port: a parent forwards them in the kernel. Over UDP such a
    parent relays to nodes."""
    parents = topology.parents(tier.name)
    forwards = tier.name in topology.take_clients or any(each.forward is Forwarding.NFTABLES for each in parents)
    return bool(parents) and forwards and tier.protocol is Transport.TCP


def _beside_parents(topology: Topology, tier: Tier) -> str:
    """The address on which a node that takes clients is to listen: where its parents on the same machine do, as only
    the port of a connection changes on its way."""
    found = {place.address.host for parent in topology.parents(tier.name) for place in bound_listeners(parent)}
    if len(found) == 1:
        return found.pop()
    return "::" if found and all(":" in host for host in found) else "0.0.0.0"  # noqa: S104 (clients of any address)


def snapshot_for(
    topology: Topology,
    tier_name: str,
    revision: int,
    announced: Announced,
    run_endpoints: RunEndpoints,
    agents: Agents = NONE,
    admin: Mapping[str, Admin] = NONE,
) -> Snapshot:
    """What a node of the tier is to serve now; the same for all nodes of a tier."""
    tier = topology.tiers[tier_name]
    present = Present(announced, run_endpoints, agents, admin)
    return Snapshot(
        revision=revision,
        cluster=topology.cluster,
        tier=tier.name,
        kind=tier.kind,
        listeners=listeners_of(topology, tier),
        rules=tuple(Rule(route.match, _snapshot_action(topology, route.action, present)) for route in tier.routes),
        balance=tier.balance,
        hash_header=tier.hash_header,
        orca=tier.orca,
        agent_check=tier.agent_check,
        pools=_pool_settings(topology, tier),
        trusted_peers=tier.trusted_peers,
        forwarded=tier.forwarded,
        timeouts=tier.timeouts,
        limits=tier.limits,
        paths=tier.paths,
        drain_s=tier.drain_s,
        client_abort=tier.client_abort,
        cpus=tier.cpus,
        forward=tier.forward,
        protocol=tier.protocol,
        responses=tier.responses,
        tls=tier.tls,
        parent_tiers=reports_to(topology, tier.name),
    )


def discovered(snapshot: Snapshot, found: Discovered) -> Snapshot:
    """The snapshot with what its node has found in DNS as hosts, each where its pool stands among the targets."""
    pools = {pool.name: _found_hosts(pool, found) for pool in snapshot.pools if pool.dns is not None}
    if not pools:
        return snapshot
    rules = (attrs.evolve(rule, action=_with_found(rule.action, pools)) for rule in snapshot.rules)
    return attrs.evolve(snapshot, rules=tuple(rules))


def _found_hosts(pool: PoolSettings, found: Discovered) -> list[HostSpec]:
    found_here = found.get(pool.name, ())
    leaves = (_leaf(pool.name, each.address, each.weight, pool.parents, each.level) for each in found_here)
    return _speaking(pool.protocol, pool.announces, _overridden(leaves, pool.overrides))


def _speaking(protocol: PoolProtocol, announces: ProxyVersion | None, hosts: list[HostSpec]) -> list[HostSpec]:
    return [attrs.evolve(host, protocol=protocol, announces=announces) for host in hosts]


def _with_found(action: Send | Respond | Redirect, pools: Mapping[str, list[HostSpec]]) -> Send | Respond | Redirect:
    if not isinstance(action, Send):
        return action
    return Send(tuple(_filled_shares(destination, pools) for destination in action.destinations))


def _filled_shares(destination: Destination, pools: Mapping[str, list[HostSpec]]) -> Destination:
    hosts: list[HostSpec] = []
    for target in destination.targets:
        hosts += pools.get(target) or (each for each in destination.hosts if each.target == target)
    return attrs.evolve(destination, hosts=tuple(hosts))


def _snapshot_action(topology: Topology, action: Action, present: Present) -> Send | Respond | Redirect:
    if not isinstance(action, Forward):
        return action
    return Send(tuple(_destination(topology, share, present) for share in action.shares))


def _destination(topology: Topology, share: Share, present: Present) -> Destination:
    hosts = [host for target in share.targets for host in _members(topology, target, present)]
    return Destination(share.weight, share.targets, tuple(hosts))


def _members(topology: Topology, target: str, present: Present) -> list[HostSpec]:
    parents = _count_parents(topology, target)
    if target in topology.pools:
        pool = topology.pools[target]
        hosts = _speaking(pool.protocol, pool.proxy_protocol, _leaves(pool, present))
    else:
        hosts = _child_hosts(topology, topology.tiers[target], present)
    return [attrs.evolve(host, parents=parents, admin=present.admin.get(host.name, host.admin)) for host in hosts]


def _count_parents(topology: Topology, name: str) -> int:
    return sum(parent.replicas for parent in topology.parents(name))


def _leaves(pool: Pool, present: Present) -> list[HostSpec]:
    if pool.agents:
        agents = present.agents.get(pool.name, {})
        return [HostSpec(name, pool.name, agents[name], reports=True) for name in sorted(agents, key=_by_number)]
    addresses = present.run_endpoints.get(pool.name, ()) if pool.run else pool.endpoints
    weights = pool.weights or (1.0,) * len(addresses)
    leaves = (_leaf(pool.name, *pair) for pair in zip(addresses, weights, strict=True))
    return _overridden(leaves, pool.overrides)


def _leaf(pool: str, address: Address, weight: float, parents: int = 1, level: int = 0) -> HostSpec:
    return HostSpec(f"{pool}/{address}", pool, address, parents=parents, weight=weight, level=level)


def _overridden(hosts: Iterable[HostSpec], overrides: tuple[Override, ...]) -> list[HostSpec]:
    """With the admin states that operators have set."""
    wanted = {each.address: each for each in overrides}
    return [_as_wanted(host, wanted.get(host.address)) for host in hosts]


def _as_wanted(host: HostSpec, wanted: Override | None) -> HostSpec:
    if wanted is None:
        return host
    return attrs.evolve(host, admin=wanted.admin, weight=host.weight if wanted.weight is None else wanted.weight)


def _child_hosts(topology: Topology, tier: Tier, present: Present) -> list[HostSpec]:
    nodes = present.announced.get(tier.name, {})
    leads_out, direct = _sends_out(topology, tier.name), takes_clients(topology, tier)
    return [
        HostSpec(name, tier.name, nodes[name], child=True, leads_out=leads_out, reports=True, direct=direct)
        for name in sorted(nodes, key=_by_number)
    ]


def _sends_out(topology: Topology, name: str) -> bool:
    """Whether a connection to it may end at an endpoint, with no l7 node between."""
    seen: set[str] = set()
    waiting = [name]
    while waiting:
        tier = topology.tiers.get(waiting.pop())
        if tier is None:
            return True
        if tier.kind is Kind.L4 and tier.name not in seen:
            waiting += tier.targets
        seen.add(tier.name)
    return False


def _pool_settings(topology: Topology, tier: Tier) -> tuple[PoolSettings, ...]:
    """Of the pools that the tier sends to, those with settings of their own."""
    pools = (topology.pools[name] for name in tier.targets if name in topology.pools)
    settings = (_settings(topology, pool) for pool in pools)
    return tuple(each for each in settings if each != PoolSettings(each.name))


def _settings(topology: Topology, pool: Pool) -> PoolSettings:
    parents = 1 if pool.dns is None else _count_parents(topology, pool.name)
    overrides = pool.overrides if pool.dns is not None else ()
    protocol = None if pool.protocol is PoolProtocol.HTTP1 else pool.protocol
    health = pool.health and attrs.evolve(pool.health, announces=pool.proxy_protocol, protocol=protocol)
    given = pool.name, health, pool.agent_check_port, pool.dns, parents, pool.outlier, overrides
    return PoolSettings(*given, pool.tls, pool.protocol, pool.proxy_protocol)


def _by_number(name: str) -> tuple[int, str]:
    return (len(name), name)
