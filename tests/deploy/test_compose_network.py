"""A service reaches those that the topology names, and no others."""

import pytest

from tests.deploy.compose_files import TOPOLOGIES, option, rendered
from tierlb.model.topology import Forward


def senders(topology, name):
    """Who sends there, found the slow way."""
    return {
        tier.name
        for tier in topology.tiers.values()
        for route in tier.routes
        if isinstance(route.action, Forward)
        for share in route.action.shares
        if name in share.targets
    }


def inside(file, network):
    return {name for name, service in file["services"].items() if network in service["networks"]}


def outside(topology, name):
    return bool(topology.pools[name].endpoints or topology.pools[name].dns)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_network_has_whom_it_leads_to_and_those_that_send_there(topology):
    file = rendered(topology)
    expected = {f"to-{name}": {name, "controller", *senders(topology, name)} for name in topology.tiers}
    for name, pool in topology.pools.items():
        if not outside(topology, name):
            expected[f"to-{name}"] = {"controller" if pool.agents else name, *senders(topology, name)}
    found = {network: inside(file, network) for network in file["networks"] if network.startswith("to-")}
    assert found == expected
    assert all(file["networks"][network]["internal"] for network in found)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_way_out_is_for_one_service_that_needs_it(topology):
    file = rendered(topology)
    need = {
        name
        for name, tier in topology.tiers.items()
        if tier.listen
        or tier.agent_check
        or any(name in senders(topology, pool) and outside(topology, pool) for pool in topology.pools)
    }
    ways = {network: inside(file, network) for network in file["networks"] if not network.startswith("to-")}
    assert ways == {f"out-{name}": {name} for name in [*need, "controller"]}
    assert not any("internal" in file["networks"][network] for network in ways)


@pytest.mark.parametrize("topology", TOPOLOGIES)
def test_a_node_joins_by_a_name_that_its_own_network_alone_has(topology):
    file = rendered(topology)
    for tier in topology.tiers:
        alias = option(file["services"][tier], "--join").removeprefix("ws://").removesuffix(":7901")
        where = [
            network
            for network, named in file["services"]["controller"]["networks"].items()
            if alias in named.get("aliases", ())
        ]
        assert where == [f"to-{tier}"]
        assert alias not in file["services"]
        assert option(file["services"][tier], "--control-name") == f"{tier}:7946"
