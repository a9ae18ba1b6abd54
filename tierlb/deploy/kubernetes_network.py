"""Network policies in Kubernetes: each tier's pods accept connections from those that send to it and those that report
to it, and connect to nothing else.

Policies add up, and what none allows is refused, so more is allowed by additional policies. Outgoing traffic of pools
is not restricted, because the needs of an application are not known here. Nor is that of tiers that send to names in
DNS, because a policy takes only addresses; endpoints that are listed by address are allowed by address and port.

The controllers' admin port is only reachable within their pods, unless the file has it listen on all addresses: then
all pods of the namespace may connect. Probes come from the machine that a pod is on, which no policy blocks.
"""

import ipaddress
from collections.abc import Iterator
from typing import Any

from tierlb.deploy.container import CONTROL_PORT, NODE_CONTROL_PORT, NODE_DATA_PORT, POOL_PORT
from tierlb.deploy.kubernetes_names import (
    CONTROLLER_NAME,
    KUBERNETES_CLUSTER_LABEL,
    TIER_LABEL,
    Labels,
    ManifestPlan,
    public_ports,
)
from tierlb.model.address import Transport
from tierlb.model.topology import Pool, Tier
from tierlb.topology.allot import transports_to

DNS_PORTS = (53, 5353)
"""The second is the DNS port of OpenShift, behind a Service at the first: policies apply to the port behind."""

NetworkRule = dict[str, Any]
ANYTHING: NetworkRule = {}


def policies(plan: ManifestPlan) -> Iterator[NetworkRule]:
    """All policies. The first one refuses what no other allows."""
    instance = {"app.kubernetes.io/name": "tierlb", "app.kubernetes.io/instance": plan.prefix}
    yield _network_policy(plan.name(), plan.labels("network", {}), _inwards(instance, []))
    yield _both_ways(plan, CONTROLLER_NAME, plan.controller_selector(), _to_controller(plan), _from_controller(plan))
    for tier in plan.topology.tiers.values():
        yield _both_ways(plan, tier.name, plan.tier_selector(tier.name), _to_tier(plan, tier), _from_tier(plan, tier))
    for pool in plan.topology.pools.values():
        if pool.run is not None:
            selector = plan.pool_selector(pool.name)
            spec = _inwards(selector, _to_pool(plan, pool))
            yield _network_policy(plan.name(pool.name), plan.labels("network", selector), spec)


def _both_ways(
    plan: ManifestPlan, name: str, selector: Labels, ingress: list[NetworkRule], egress: list[NetworkRule]
) -> NetworkRule:
    spec = {**_inwards(selector, ingress), "policyTypes": ["Ingress", "Egress"], "egress": egress}
    labels = plan.labels("network", {key: value for key, value in selector.items() if key == TIER_LABEL})
    return _network_policy(plan.name(name), labels, spec)


def _inwards(selector: Labels, ingress: list[NetworkRule]) -> NetworkRule:
    return {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"], "ingress": ingress}


def _network_policy(name: str, labels: Labels, spec: NetworkRule) -> NetworkRule:
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def _to_controller(plan: ManifestPlan) -> list[NetworkRule]:
    """All nodes join, and so do the agents of pools."""
    nodes = {
        "matchLabels": {KUBERNETES_CLUSTER_LABEL: plan.prefix},
        "matchExpressions": [{"key": TIER_LABEL, "operator": "Exists"}],
    }
    agents = [_pods(plan.pool_selector(pool.name)) for pool in plan.topology.pools.values() if pool.agents]
    rules: list[NetworkRule] = [{"from": [{"podSelector": nodes}, *agents], "ports": [_tcp(CONTROL_PORT)]}]
    if ipaddress.ip_address(plan.topology.admin.host).is_unspecified:
        rules.append({"from": [{"podSelector": {}}], "ports": [_tcp(plan.topology.admin.port)]})
    return rules


def _from_controller(plan: ManifestPlan) -> list[NetworkRule]:
    rules = [_dns()]
    if plan.topology.store is not None:
        ports = sorted({int(member.rpartition(":")[2]) for member in plan.topology.store.members})
        rules.append({"ports": [_tcp(port) for port in ports]})
    return rules


def _to_tier(plan: ManifestPlan, tier: Tier) -> list[NetworkRule]:
    rules: list[NetworkRule] = []
    public = [_open_port(port, tier.protocol) for port in public_ports(tier)]
    public += [_tcp(tier.agent_check.port)] if tier.agent_check is not None else []
    if public:
        rules.append({"ports": public})
    if senders := _sender_pods(plan, tier.name):
        rules.append({"from": senders, "ports": [_open_port(NODE_DATA_PORT, tier.protocol)]})
    scraper = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": plan.options.scraper}}}
    rules.append({"from": [*map(_pods, plan.reporters(tier)), scraper], "ports": [_tcp(NODE_CONTROL_PORT)]})
    return rules


def _from_tier(plan: ManifestPlan, tier: Tier) -> list[NetworkRule]:
    rules = [_dns(), {"to": [_pods(plan.controller_selector())], "ports": [_tcp(CONTROL_PORT)]}]
    if senders := _sender_pods(plan, tier.name):
        rules.append({"to": senders, "ports": [_tcp(NODE_CONTROL_PORT)]})
    for target in tier.targets:
        if target in plan.topology.tiers:
            port = _open_port(NODE_DATA_PORT, tier.protocol)
            rules.append({"to": [_pods(plan.tier_selector(target))], "ports": [port]})
        else:
            rules += _to_endpoints(plan, tier, plan.topology.pools[target])
    return rules


def _to_endpoints(plan: ManifestPlan, tier: Tier, pool: Pool) -> Iterator[NetworkRule]:
    """Health checks are over TCP, whatever the traffic is over."""
    transports = [tier.protocol]
    if pool.health is not None and Transport.TCP not in transports:
        transports.append(Transport.TCP)
    check = [_tcp(pool.agent_check_port)] if pool.agent_check_port is not None else []
    if pool.dns is not None:
        yield ANYTHING
    elif pool.run is not None:
        opened = [_open_port(POOL_PORT, transport) for transport in transports]
        yield {"to": [_pods(plan.pool_selector(pool.name))], "ports": [*opened, *check]}
    elif pool.agents:
        yield {"to": [_pods(plan.pool_selector(pool.name))]}
    for host, ports in _by_host(pool).items():
        bits = 128 if ":" in host else 32
        opened = [_open_port(port, transport) for port in ports for transport in transports]
        yield {"to": [{"ipBlock": {"cidr": f"{host}/{bits}"}}], "ports": [*opened, *check]}


def _by_host(pool: Pool) -> dict[str, list[int]]:
    hosts: dict[str, list[int]] = {}
    for endpoint in pool.endpoints:
        hosts.setdefault(endpoint.host, []).append(endpoint.port)
    return hosts


def _to_pool(plan: ManifestPlan, pool: Pool) -> list[NetworkRule]:
    transports = set(transports_to(plan.topology, pool.name)) | ({Transport.TCP} if pool.health is not None else set())
    ports = [_open_port(POOL_PORT, transport) for transport in Transport if transport in transports]
    if pool.agent_check_port is not None:
        ports.append(_tcp(pool.agent_check_port))
    return [{"from": _sender_pods(plan, pool.name), "ports": ports}]


def _sender_pods(plan: ManifestPlan, name: str) -> list[NetworkRule]:
    return [_pods(plan.tier_selector(parent.name)) for parent in plan.topology.parents(name)]


def _dns() -> NetworkRule:
    return {"ports": [{"protocol": protocol, "port": port} for protocol in ("UDP", "TCP") for port in DNS_PORTS]}


def _pods(labels: Labels) -> NetworkRule:
    return {"podSelector": {"matchLabels": labels}}


def _tcp(port: int) -> NetworkRule:
    return _open_port(port, Transport.TCP)


def _open_port(port: int, transport: Transport) -> NetworkRule:
    return {"protocol": transport.value.upper(), "port": port}
