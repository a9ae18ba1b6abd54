import json
from pathlib import Path

import attrs
import pytest

from scripts.benchmarks.configs import Hop
from scripts.benchmarks.contenders import (
    QUALITY,
    STACKED,
    Fleet,
    Installed,
    Level,
    present,
    tierlb_topology,
    traefik_routing,
    traefik_static,
)
from tierlb.model.places import listed_addresses
from tierlb.topology.load import load_text

GROUPS = (("127.0.0.1:9001", "127.0.0.1:9002"), ("127.0.0.1:9003",))
ADMIN = "127.0.0.1:7900"
HOP = Hop("127.0.0.1:8080", GROUPS[0])


def test_side_by_side_every_l7_node_has_its_group_and_no_edge_stands_before_it() -> None:
    hops = Fleet(GROUPS).hops(proxy_protocol=True)
    assert [(level, hop.upstreams) for level, hop in hops] == [(Level.L7, GROUPS[0]), (Level.L7, GROUPS[1])]
    assert not any(hop.after_proxy or hop.before_proxy for _, hop in hops)


@pytest.mark.parametrize("introduced", [True, False])
def test_an_edge_sends_to_all_l7_nodes_and_introduces_clients_where_the_product_can(introduced: bool) -> None:
    (_, left), (_, right), (level, edge) = Fleet(GROUPS, edge=True).hops(introduced)
    assert (level, edge.upstreams) == (Level.L4, (left.listen, right.listen))
    assert (left.after_proxy, right.after_proxy, edge.before_proxy) == (introduced,) * 3
    assert len({left.listen, right.listen, edge.listen}) == 3


@pytest.mark.parametrize("balance", [None, "two-choices"])
@pytest.mark.parametrize("fleet", [Fleet(GROUPS, edge=True), Fleet(GROUPS), Fleet((GROUPS[0],) * 4)])
def test_tierlb_gets_a_valid_file_with_a_node_per_group(fleet: Fleet, balance: str | None) -> None:
    listens = [f"127.0.0.1:{8080 + number}" for number in range(1 if fleet.edge else len(fleet.groups))]
    topology = load_text(tierlb_topology(fleet, ADMIN, listens, balance), "topology.yaml")
    pools = {name: tuple(map(str, pool.endpoints)) for name, pool in topology.pools.items()}
    webs = [tier for tier in topology.tiers.values() if tier.name != "edge"]
    assert [pools[tier.targets[0]] for tier in webs] == list(fleet.groups)
    assert sorted(listed_addresses(tier) for tier in topology.tiers.values() if tier.listen) == listens
    assert len(pools) == len(set(fleet.groups))
    assert balance is None or {tier.balance.value for tier in topology.tiers.values()} == {balance}


@pytest.mark.parametrize("streams", [False, True])
def test_l7_hops_are_to_pass_bodies_on_as_the_load_needs_it(streams: bool) -> None:
    hops = Fleet(GROUPS, edge=True, streams=streams).hops(proxy_protocol=True)
    assert [hop.streams for _, hop in hops] == [streams, streams, False]


def test_an_edge_of_tierlb_sends_to_every_l7_tier() -> None:
    tiers = json.loads(tierlb_topology(Fleet(GROUPS, edge=True), ADMIN, ["127.0.0.1:8080"], None))["tiers"]
    assert tiers["edge"]["to"] == ["web-1", "web-2"]
    assert not [name for name, tier in tiers.items() if "balance" in tier]


def test_traefik_listens_where_told_sends_everywhere_and_never_calls_home() -> None:
    static = json.loads(traefik_static(HOP, Path("/somewhere")))
    service = json.loads(traefik_routing(HOP, "p2c"))["http"]["services"]["out"]["loadBalancer"]
    assert static["entryPoints"]["in"]["address"] == HOP.listen
    assert static["global"] == {"checkNewVersion": False, "sendAnonymousUsage": False}
    assert ([each["url"] for each in service["servers"]], service["strategy"]) == (
        ["http://127.0.0.1:9001", "http://127.0.0.1:9002"],
        "p2c",
    )


@pytest.mark.parametrize(
    ("name", "file", "said"),
    [
        ("nginx-least", "nginx.conf", "least_conn;"),
        ("nginx-random2", "nginx.conf", "random two least_conn;"),
        ("haproxy-least", "haproxy.cfg", "balance leastconn"),
        ("haproxy-random2", "haproxy.cfg", "balance random(2)"),
        ("traefik-leasttime", "routing.yml", '"strategy": "leasttime"'),
    ],
)
def test_each_contender_asks_for_the_policy_it_is_named_after(name: str, file: str, said: str, tmp_path: Path) -> None:
    [contender] = [each for each in QUALITY if each.name == name]
    assert isinstance(contender, Installed)
    contender.commands[Level.L7](HOP, tmp_path)
    text = (tmp_path / file).read_text()
    assert text.count(said) == 1
    assert all(endpoint in text for endpoint in HOP.upstreams)


def test_endpoints_tell_their_load_only_to_the_contender_that_is_about_it() -> None:
    assert [each.name for each in (*QUALITY, *STACKED) if each.orca] == ["envoy-orca"]


def test_who_is_not_installed_is_left_out_and_named_with_the_way_to_have_it() -> None:
    some = [each for each in STACKED if isinstance(each, Installed)]
    gone = attrs.evolve(some[0], missing=lambda: "install it")
    here = attrs.evolve(some[1], missing=lambda: None)
    assert present([gone, here]) == ([here], ["nginx is not installed and is left out; to have it: install it"])
