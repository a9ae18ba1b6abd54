"""What the policies let through is what the topology sends and reports, pair by pair, by a slow reading of Kubernetes'
rules (networking/v1): a pod that some policy selects is reached only as one of them says, and likewise reaches."""

import ipaddress
import itertools

import attrs
import pytest

from tests.deploy.manifests import EVERYTHING, EXAMPLES, ON_EACH_MACHINE, matches, of_kind, plan_of, pods, rendered
from tierlb.deploy.kubernetes_names import NetworkEdge
from tierlb.deploy.kubernetes_network import policies

PORTS = (53, 443, 2379, 2380, 7900, 7901, 7945, 7946, 8080, 8081, 9000, 9001, 9002, 9777, 9778, 9779, 5432)


@attrs.frozen
class Peer:
    """A pod in a namespace, or an address elsewhere (no labels)."""

    name: str
    labels: dict | None = None
    namespace: str = "shop"
    address: str = "198.51.100.9"


def passes(policies, source, target, port):
    """Whether both ends let a TCP connection through."""
    return allows(policies, source, "Egress", target, port) and allows(policies, target, "Ingress", source, port)


def allows(policies, pod, way, other, port):
    mine = [each["spec"] for each in policies if selects(each, pod) and way in each["spec"]["policyTypes"]]
    rules = [rule for spec in mine for rule in spec.get(way.lower(), [])]
    return not mine or any(rule_allows(rule, way, other, port) for rule in rules)


def selects(policy, pod):
    if pod.labels is None or pod.namespace != "shop":
        return False
    return matches(policy["spec"]["podSelector"], pod.labels)


def rule_allows(rule, way, other, port):
    peers = rule.get("to" if way == "Egress" else "from")
    is_port = "ports" not in rule or any(each["port"] == port and each["protocol"] == "TCP" for each in rule["ports"])
    return is_port and (peers is None or any(is_peer(peer, other) for peer in peers))


def is_peer(peer, other):
    if "ipBlock" in peer:
        block = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return other.labels is None and ipaddress.ip_address(other.address) in block
    if other.labels is None:
        return False
    if "namespaceSelector" in peer:
        assert "podSelector" not in peer
        return matches(peer["namespaceSelector"], {"kubernetes.io/metadata.name": other.namespace})
    return other.namespace == "shop" and matches(peer["podSelector"], other.labels)


def peers_of(plan, objects):
    """By name: each tier, pool and the controller, pods with agents, and strangers."""
    found = {}
    for name, pod in pods(objects).items():
        short = name.removeprefix(f"{plan.prefix}-")
        found[short] = Peer(short, pod["metadata"]["labels"])
    for pool in plan.topology.pools.values():
        if pool.agents:
            found[pool.name] = Peer(
                pool.name, {"app": "theirs", "tierlb.io/cluster": "shop", "tierlb.io/pool": pool.name}
            )
        for endpoint in pool.endpoints:
            found[endpoint.host] = Peer(endpoint.host, None, address=endpoint.host)
    found["neighbour"] = Peer("neighbour", {"app": "other"})
    found["prometheus"] = Peer("prometheus", {"app": "prometheus"}, namespace="monitoring")
    found["internet"] = Peer("internet")
    return found


def is_meant(plan, source, target, port):
    """Slowly and plainly, from the topology alone."""
    return may_leave(plan, source, target, port) and may_enter(plan, source, target, port)


def may_enter(plan, source, target, port):
    tiers, pools = plan.topology.tiers, plan.topology.pools
    if target in tiers:
        tier = tiers[target]
        public = {each.address.port for each in tier.listen} | ({tier.agent_check.port} if tier.agent_check else set())
        reports = source in tier.targets and (source in tiers or pools[source].agents)
        sends = source in tiers and target in tiers[source].targets
        return port in public or (port == 7945 and sends) or (port == 7946 and (reports or source == "prometheus"))
    if target == "controller":
        return port == 7901 and (source in tiers or (source in pools and pools[source].agents))
    if target in pools and pools[target].run is not None:
        ports = {9000, pools[target].agent_check_port}
        return port in ports and source in tiers and target in tiers[source].targets
    return True


def may_leave(plan, source, target, port):
    tiers, pools = plan.topology.tiers, plan.topology.pools
    if port == 53:
        return True
    if source == "controller":
        return plan.topology.store is not None and port in (2379, 2380)
    if source not in tiers:
        return True
    sent_to = tiers[source].targets
    if any(pools[name].dns for name in sent_to if name in pools):
        return True
    listed = {
        (endpoint.host, each)
        for name in sent_to
        if name in pools
        for endpoint in pools[name].endpoints
        for each in (endpoint.port, pools[name].agent_check_port)
    }
    return (
        (target == "controller" and port == 7901)
        or (target in tiers and source in tiers[target].targets and port == 7946)
        or (target in tiers and target in sent_to and port == 7945)
        or (
            target in sent_to
            and target in pools
            and pools[target].run
            and port in (9000, pools[target].agent_check_port)
        )
        or (target in sent_to and target in pools and pools[target].agents)
        or (target, port) in listed
    )


def check(plan):
    objects = rendered(plan)
    policies = list(of_kind(objects, "NetworkPolicy").values())
    peers = peers_of(plan, objects)
    outcomes = set()
    for (source, target), port in itertools.product(itertools.permutations(peers, 2), PORTS):
        told = passes(policies, peers[source], peers[target], port)
        assert told == bool(is_meant(plan, source, target, port)), (source, target, port)
        outcomes.add(told)
    assert outcomes == {True, False}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_passes_what_it_sends_and_reports_and_nothing_else(example):
    check(plan_of(example.read_text(), example, prefix="shop"))


@pytest.mark.parametrize("edge", NetworkEdge)
def test_a_topology_with_everything_passes_what_it_sends_and_reports_and_nothing_else(edge):
    check(plan_of(ON_EACH_MACHINE, edge=edge))


@pytest.mark.parametrize(("listen", "is_open"), [("127.0.0.1:7911", False), ("0.0.0.0:7911", True)])
def test_an_api_on_all_addresses_is_open_to_the_pods_of_the_namespace(listen, is_open):
    admin = [
        rule
        for policy in policies(plan_of(f'admin: {{listen: "{listen}"}}\n' + EVERYTHING))
        if policy["metadata"]["name"] == "shop-controller"
        for rule in policy["spec"]["ingress"]
        if {"protocol": "TCP", "port": 7911} in rule["ports"]
    ]
    assert [rule["from"] for rule in admin] == ([[{"podSelector": {}}]] if is_open else [])


@pytest.mark.parametrize(
    ("source", "target", "port", "is_open"),
    [
        ("internet", "edge", 443, True),
        ("internet", "web", 7945, False),
        ("edge", "web", 7945, True),
        ("web", "edge", 7945, False),
        ("web", "edge", 7946, True),
        ("edge", "web", 7946, False),
        ("edge", "app", 9000, False),
        ("web", "app", 9000, True),
        ("web", "app", 9778, True),
        ("app", "web", 7946, False),
        ("joining", "web", 7946, True),
        ("joining", "edge", 7946, False),
        ("joining", "controller", 7901, True),
        ("app", "controller", 7901, False),
        ("web", "controller", 7900, False),
        ("prometheus", "web", 7946, True),
        ("neighbour", "web", 7946, False),
        ("web", "10.0.0.7", 9001, True),
        ("web", "internet", 443, False),
        ("far", "internet", 443, True),
        ("app", "internet", 5432, True),
        ("controller", "internet", 2379, True),
        ("controller", "internet", 443, False),
    ],
)
def test_who_speaks_to_whom(source, target, port, is_open):
    plan = plan_of()
    objects = rendered(plan)
    peers = peers_of(plan, objects)
    assert passes(list(of_kind(objects, "NetworkPolicy").values()), peers[source], peers[target], port) is is_open


def test_every_pod_that_is_rendered_is_closed_to_the_rest_even_without_a_policy_of_its_own():
    objects = rendered(plan_of())
    closing = of_kind(objects, "NetworkPolicy")["shop"]
    assert closing["spec"]["ingress"] == []
    assert all(selects(closing, Peer(name, pod["metadata"]["labels"])) for name, pod in pods(objects).items())


def test_the_namespace_that_reads_metrics_can_be_another():
    objects = rendered(plan_of(scraper="watching"))
    web = Peer("web", pods(objects)["shop-web"]["metadata"]["labels"])
    policies = list(of_kind(objects, "NetworkPolicy").values())
    for namespace, told in (("watching", True), ("monitoring", False)):
        assert passes(policies, Peer("scraper", {}, namespace), web, 7946) is told
