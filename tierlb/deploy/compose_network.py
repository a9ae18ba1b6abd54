"""The networks of a compose file: they decide which services reach each other.

Each tier and pool has a network `to-NAME` without a way out, shared with those that send to it, and no service is in a
network that it does not need. The controller is in the networks of all that join it, in each under an alias of its own,
`controller-NAME`: a node joins by the alias that exists only in its own network, so that the local address of that
connection is the one by which its parents reach it. A service that publishes a port or sends to endpoints elsewhere
also has a network `out-NAME`, alone.

Left out: what else a service and a network are in the file (`compose.py`), and the policies that do the same in
Kubernetes (`kubernetes_network.py`).
"""

from collections.abc import Mapping
from typing import TypeAlias

from tierlb.model.address import ListenAddress
from tierlb.model.places import public_addresses
from tierlb.model.topology import Tier, Topology

CONTROLLER_SERVICE = "controller"
"""The service, and thereby its host name in every network that it shares."""
WAY_OUT = "out-"
"""Prefix of the networks through which a service reaches what is outside, and is reached from there."""

Networks: TypeAlias = Mapping[str, Mapping[str, tuple[str, ...]]]
"""By network and service, the aliases of the service there."""


def networks(topology: Topology) -> Networks:
    """The services of each network, with their aliases there."""
    found: dict[str, dict[str, tuple[str, ...]]] = {_way_out(CONTROLLER_SERVICE): {CONTROLLER_SERVICE: ()}}
    for tier in topology.tiers.values():
        found[f"to-{tier.name}"] = {
            CONTROLLER_SERVICE: (network_alias(tier.name),),
            tier.name: (),
            **_sender_services(topology, tier.name),
        }
    for pool in topology.pools.values():
        if pool.agents:  # their operator attaches them
            found[f"to-{pool.name}"] = {
                CONTROLLER_SERVICE: (network_alias(pool.name),),
                **_sender_services(topology, pool.name),
            }
        elif pool.run is not None:
            found[f"to-{pool.name}"] = {pool.name: (), **_sender_services(topology, pool.name)}
    for tier in topology.tiers.values():
        if published(tier) or any(_is_outside(topology, target) for target in tier.targets):
            found[_way_out(tier.name)] = {tier.name: ()}
    return found


def published(tier: Tier) -> tuple[ListenAddress, ...]:
    """The addresses at which the tier is reached from outside, `*` among them."""
    checks = ListenAddress(tier.agent_check) if tier.agent_check is not None else None
    listed = (*public_addresses(tier), *(() if checks is None else (checks,)))
    return tuple(each for each in listed if not each.address.is_unix)


def joined_networks(all_networks: Networks, service: str) -> dict[str, dict[str, list[str]]]:
    """The networks that the service is in, as its entry in the file names them."""
    inside = {network: names[service] for network, names in all_networks.items() if service in names}
    return {network: {"aliases": list(aliases)} if aliases else {} for network, aliases in inside.items()}


def network_alias(name: str) -> str:
    """The controller's name in the network of this tier or pool."""
    return f"{CONTROLLER_SERVICE}-{name}"


def _sender_services(topology: Topology, name: str) -> dict[str, tuple[str, ...]]:
    return {tier.name: () for tier in topology.parents(name)}


def _is_outside(topology: Topology, name: str) -> bool:
    """Whether it is a pool whose endpoints are in no network of this cluster."""
    pool = topology.pools.get(name)
    return pool is not None and bool(pool.endpoints or pool.dns)


def _way_out(service: str) -> str:
    return f"{WAY_OUT}{service}"
