"""Who listens where and who sends to whom: from what is desired and what exists to one node's snapshot.

Pure. The addresses a node announced are parallel to the listeners it was given, and which listeners those are
follows from the topology alone (`listeners_of`), so an address's purpose is found again by its position.
"""

from collections.abc import Mapping

from tierlb.model.address import Address
from tierlb.model.snapshot import Destination, Listener, Member, Rule, Send, Snapshot
from tierlb.model.topology import Forward, Kind, Pool, Share, Tier, Topology

Announced = Mapping[str, Mapping[str, tuple[Address, ...]]]
"""tier name → node name → the addresses it bound, parallel to `listeners_of` its tier."""

RunEndpoints = Mapping[str, tuple[Address, ...]]
"""pool name → the addresses where replicas of its `run` accept connections now."""

ANY_PORT = Address("127.0.0.1", 0)
PARENT_NETWORKS = ("127.0.0.1/32",)
"""All parents are on this machine, so a PROXY header is believed from nowhere else."""


def node_names(tier: Tier) -> tuple[str, ...]:
    """The nodes of a tier: web-1, web-2 and so on; the same after a restart."""
    return tuple(f"{tier.name}-{number}" for number in range(1, tier.replicas + 1))


def listeners_of(topology: Topology, tier: Tier) -> tuple[Listener, ...]:
    """What each node of the tier opens: its public port, one for l4 parents, one for l7 parents."""
    kinds = {parent.kind for parent in topology.parents(tier.name)}
    listeners = []
    if tier.listen is not None:
        listeners.append(Listener(tier.listen, shared=tier.replicas > 1))
    if Kind.L4 in kinds:
        listeners.append(Listener(ANY_PORT, proxy_protocol=True, inner=True, accept_from=PARENT_NETWORKS))
    if Kind.L7 in kinds:
        listeners.append(Listener(ANY_PORT, inner=True))
    return tuple(listeners)


def snapshot_for(
    topology: Topology, tier_name: str, revision: int, announced: Announced, run_endpoints: RunEndpoints
) -> Snapshot:
    """What a node of the tier is to serve now; the same for all nodes of a tier."""
    tier = topology.tiers[tier_name]

    def destination(share: Share) -> Destination:
        members = (
            member for target in share.targets for member in _members(topology, tier, target, announced, run_endpoints)
        )
        return Destination(share.weight, share.targets, tuple(members))

    rules = tuple(
        Rule(
            route.match,
            Send(tuple(destination(share) for share in route.action.shares))
            if isinstance(route.action, Forward)
            else route.action,
        )
        for route in tier.routes
    )
    return Snapshot(
        revision=revision,
        cluster=topology.cluster,
        tier=tier.name,
        kind=tier.kind,
        listeners=listeners_of(topology, tier),
        rules=rules,
        balance=tier.balance,
        trusted_peers=tier.trusted_peers,
        timeouts=tier.timeouts,
        limits=tier.limits,
    )


def _members(
    topology: Topology, parent: Tier, target: str, announced: Announced, run_endpoints: RunEndpoints
) -> tuple[Member, ...]:
    if target in topology.pools:
        return _endpoints(topology.pools[target], run_endpoints)
    return _children(topology, parent, topology.tiers[target], announced)


def _endpoints(pool: Pool, run_endpoints: RunEndpoints) -> tuple[Member, ...]:
    addresses = run_endpoints.get(pool.name, ()) if pool.run else pool.endpoints
    return tuple(Member(f"{pool.name}/{address}", pool.name, address) for address in addresses)


def _children(topology: Topology, parent: Tier, child: Tier, announced: Announced) -> tuple[Member, ...]:
    proxy_protocol = parent.kind is Kind.L4
    position = next(
        index
        for index, listener in enumerate(listeners_of(topology, child))
        if listener.inner and listener.proxy_protocol == proxy_protocol
    )
    nodes = announced.get(child.name, {})
    return tuple(
        Member(name, child.name, nodes[name][position], proxy_protocol) for name in sorted(nodes, key=_by_number)
    )


def _by_number(name: str) -> tuple[int, str]:
    return (len(name), name)
