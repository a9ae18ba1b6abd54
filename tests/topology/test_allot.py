import attrs
import pytest

from tierlb.model.address import Address, Transport, parse_address
from tierlb.model.snapshot import Destination, FoundEndpoint, HostSpec, Listener, PoolSettings, Send
from tierlb.model.topology import (
    DRAIN_S,
    Admin,
    ClientAbort,
    Forward,
    Forwarding,
    HealthCheck,
    Kind,
    Match,
    Orca,
    Paths,
    Policy,
    Pool,
    PoolProtocol,
    Resources,
    Respond,
    Route,
    Run,
    Share,
    Tier,
    Topology,
)
from tierlb.topology.allot import (
    ANY_PORT,
    PARENT_NETWORKS,
    discovered,
    listeners_of,
    node_names,
    reports_to,
    snapshot_for,
    tiers_joined,
    ways_to,
)
from tierlb.topology.load import load_text

PUBLIC = Address("127.0.0.1", 8080)
INNER = Listener(ANY_PORT, inner=True, accept_from=PARENT_NETWORKS)


def at(port):
    return Address("127.0.0.1", port)


def tier(name, kind, *targets, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, targets),))),), **more)


APP = Pool("app", (at(1), at(2)))


def topology_of(*tiers, pools=(APP,)):
    return Topology("shop", {t.name: t for t in tiers}, {p.name: p for p in pools})


DEEP = topology_of(
    tier("edge", Kind.L4, "inner", "web", listen=PUBLIC, replicas=2),
    tier("inner", Kind.L4, "web"),
    tier("web", Kind.L7, "api", "app", replicas=2),
    tier("api", Kind.L7, "app", listen=at(8081)),
)


def test_each_node_has_the_drain_time_of_its_tier():
    topology = topology_of(tier("edge", Kind.L4, "web", listen=PUBLIC), tier("web", Kind.L7, "app", drain_s=90.0))
    assert [snapshot_for(topology, name, 1, {}, {}).drain_s for name in ("edge", "web")] == [DRAIN_S, 90.0]


@pytest.mark.parametrize(
    ("name", "listeners"),
    [
        ("edge", (Listener(PUBLIC, shared=True),)),
        ("inner", (INNER,)),
        ("web", (INNER,)),
        ("api", (Listener(at(8081), shared=True), INNER)),
    ],
)
def test_a_tier_listens_for_the_public_and_once_for_all_of_its_parents(name, listeners):
    assert listeners_of(DEEP, DEEP.tiers[name]) == listeners


def test_nodes_are_numbered_from_one():
    assert node_names(DEEP.tiers["web"]) == ("web-1", "web-2")


def hosts(topology, name, announced, run_endpoints=None, **present):
    (rule,) = snapshot_for(topology, name, 5, announced, run_endpoints or {}, **present).rules
    (destination,) = rule.action.destinations
    return destination.hosts


def child(name, tier, port, parents):
    return HostSpec(name, tier, at(port), child=True, reports=True, parents=parents)


def leaf(pool, port, parents=1, **more):
    return HostSpec(f"{pool}/127.0.0.1:{port}", pool, at(port), parents=parents, **more)


def test_children_are_reached_at_their_inner_port_by_parents_of_any_kind():
    announced = {"inner": {"inner-1": at(50)}, "web": {"web-1": at(61), "web-2": at(62)}}
    assert hosts(DEEP, "edge", announced) == (
        child("inner-1", "inner", 50, parents=2),
        child("web-1", "web", 61, parents=3),
        child("web-2", "web", 62, parents=3),
    )
    announced = {"api": {"api-1": at(70)}}
    assert hosts(DEEP, "web", announced) == (
        child("api-1", "api", 70, parents=2),
        leaf("app", 1, parents=3),
        leaf("app", 2, parents=3),
    )


@pytest.mark.parametrize(
    ("to", "leads_out"),
    [(("app",), True), (("web",), False), (("web", "app"), True), (("deeper",), False), (("open",), True)],
)
def test_a_child_leads_out_where_a_connection_through_it_may_end_at_an_endpoint(to, leads_out):
    topology = topology_of(
        tier("front", Kind.L7, "inner", listen=PUBLIC),
        *(tier("inner", Kind.L4, *to), tier("deeper", Kind.L4, "web"), tier("open", Kind.L4, "deeper", "app")),
        tier("web", Kind.L7, "app"),
    )
    (host,) = hosts(topology, "front", {"inner": {"inner-1": at(50)}})
    assert (host.child, host.leads_out) == (True, leads_out)


def test_parents_are_all_nodes_that_send_to_a_member_through_whatever_route():
    split = Forward((Share(1.0, ("app",)), Share(2.0, ("app", "web"))))
    topology = topology_of(
        Tier("edge", Kind.L7, (Route(Match(path="/x"), split), Route(Match(), split)), listen=PUBLIC, replicas=3),
        tier("web", Kind.L7, "app", replicas=4),
    )
    announced = {"web": {"web-1": at(7)}}
    snapshot = snapshot_for(topology, "edge", 1, announced, {})
    found = {m.name: m.parents for rule in snapshot.rules for d in rule.action.destinations for m in d.hosts}
    assert found == {"app/127.0.0.1:1": 7, "app/127.0.0.1:2": 7, "web-1": 3}


@pytest.mark.parametrize(
    ("name", "tiers"), [("edge", ()), ("inner", ("edge",)), ("web", ("edge", "inner")), ("app", ("web", "api"))]
)
def test_reports_go_to_all_tiers_that_send(name, tiers):
    assert reports_to(DEEP, name) == tiers


@pytest.mark.parametrize(
    ("name", "tiers"),
    [("edge", set()), ("inner", {"edge"}), ("web", {"edge", "inner"}), ("api", {"web"}), ("app", {"web", "api"})],
)
def test_connections_come_through_parents_and_what_is_above_those_at_l4(name, tiers):
    assert ways_to(DEEP, name) == tiers


def test_connections_come_through_l4_tiers_however_many():
    chain = topology_of(
        tier("a", Kind.L7, "b", listen=PUBLIC),
        tier("b", Kind.L4, "c"),
        tier("c", Kind.L4, "d"),
        tier("d", Kind.L7, "app"),
    )
    assert ways_to(chain, "d") == {"a", "b", "c"}
    assert ways_to(chain, "app") == {"d"}


def test_agents_are_members_that_report_under_the_name_they_gave():
    pools = (Pool("app", agents=True), Pool("other", (at(1),)))
    topology = topology_of(tier("web", Kind.L7, "app", "other", listen=PUBLIC, replicas=2), pools=pools)
    agents = {"app": {"shop-10": at(10), "shop-9": at(9)}, "other": {"stranger": at(3)}}
    assert hosts(topology, "web", {}, agents=agents) == (
        HostSpec("shop-9", "app", at(9), reports=True, parents=2),
        HostSpec("shop-10", "app", at(10), reports=True, parents=2),
        leaf("other", 1, parents=2),
    )
    assert hosts(topology, "web", {}) == (leaf("other", 1, parents=2),)


def test_listed_weights_stay_with_their_endpoints():
    pools = (Pool("app", (at(1), at(2)), weights=(3.0, 0.5)),)
    topology = topology_of(tier("web", Kind.L7, "app", listen=PUBLIC), pools=pools)
    assert hosts(topology, "web", {}) == (leaf("app", 1, weight=3.0), leaf("app", 2, weight=0.5))


def test_what_operators_want_reaches_members_of_every_sort():
    admin = {"web-1": Admin.MAINTENANCE, "app/127.0.0.1:2": Admin.DRAIN, "nobody": Admin.DRAIN}
    announced = {"web": {"web-1": at(61), "web-2": at(62)}}
    assert [m.admin for m in hosts(DEEP, "inner", announced, admin=admin)] == [Admin.MAINTENANCE, Admin.READY]
    assert [m.admin for m in hosts(DEEP, "api", {}, admin=admin)] == [Admin.READY, Admin.DRAIN]


def test_nodes_check_by_the_protocol_of_the_pool():
    pool = Pool("app", (at(1),), protocol=PoolProtocol.H2C, health=HealthCheck(path="/up"))
    (settings,) = snapshot_for(topology_of(tier("web", Kind.L7, "app"), pools=(pool,)), "web", 1, {}, {}).pools
    assert settings.health == HealthCheck(path="/up", protocol=PoolProtocol.H2C)


def test_only_pools_sent_to_that_say_something_are_in_the_snapshot():
    check = HealthCheck(path="/up")
    pools = (
        Pool("quiet", (at(1),)),
        Pool("checked", (at(2),), health=check),
        Pool("asked", (at(3),), agent_check_port=9),
        Pool("elsewhere", (at(4),), health=check),
    )
    topology = topology_of(
        tier("web", Kind.L7, "quiet", "asked", "checked", "api", listen=PUBLIC),
        tier("api", Kind.L7, "elsewhere"),
        pools=pools,
    )
    assert snapshot_for(topology, "web", 1, {}, {}).pools == (
        PoolSettings("asked", agent_check_port=9),
        PoolSettings("checked", health=check),
    )
    assert snapshot_for(topology, "api", 1, {}, {}).pools == (PoolSettings("elsewhere", health=check),)


FAR = topology_of(
    Tier(
        "edge",
        Kind.L7,
        (
            Route(Match(path="/x"), Respond(204)),
            Route(Match(path="/y"), Forward((Share(9.0, ("web", "far", "app")), Share(1.0, ("far",))))),
            Route(Match(), Forward((Share(1.0, ("app",)),))),
        ),
        listen=PUBLIC,
        replicas=2,
    ),
    tier("web", Kind.L7, "far", replicas=3),
    pools=(APP, Pool("far", dns="far.internal:80", health=HealthCheck())),
)


def test_a_pool_in_dns_is_named_to_who_sends_there_and_has_no_members_from_here():
    settings = PoolSettings("far", HealthCheck(), dns="far.internal:80", parents=5)
    assert snapshot_for(FAR, "edge", 1, {}, {}).pools == (settings,)
    assert hosts(FAR, "web", {}) == ()


def test_what_a_node_finds_stands_where_its_pool_does():
    snapshot = snapshot_for(FAR, "edge", 1, {"web": {"web-1": at(61)}}, {})
    rules = discovered(
        snapshot, {"far": (FoundEndpoint(at(7)), FoundEndpoint(at(8), 0.5)), "app": (FoundEndpoint(at(9)),)}
    ).rules
    found = (leaf("far", 7, parents=5), leaf("far", 8, parents=5, weight=0.5))
    listed = (leaf("app", 1, parents=2), leaf("app", 2, parents=2))
    assert rules[0] == snapshot.rules[0]
    assert rules[1].action.destinations == (
        Destination(9.0, ("web", "far", "app"), (child("web-1", "web", 61, parents=2), *found, *listed)),
        Destination(1.0, ("far",), found),
    )
    assert rules[2] == snapshot.rules[2]


def test_as_long_as_nothing_is_found_nothing_is_added():
    snapshot = snapshot_for(FAR, "edge", 1, {"web": {"web-1": at(61)}}, {})
    assert discovered(snapshot, {}) == discovered(snapshot, {"far": ()}) == snapshot


def test_what_a_tier_says_of_itself_reaches_its_nodes():
    web = tier(
        "web",
        Kind.L7,
        "app",
        listen=PUBLIC,
        balance=Policy.MAGLEV,
        hash_header="x-user",
        orca=Orca.JSON,
        agent_check=at(9777),
        paths=Paths.AS_SENT,
        client_abort=ClientAbort.FINISH,
        cpus=(3, 1),
    )
    snapshot = snapshot_for(topology_of(web), "web", 1, {}, {})
    assert (snapshot.balance, snapshot.hash_header) == (Policy.MAGLEV, "x-user")
    assert (snapshot.orca, snapshot.agent_check) == (Orca.JSON, at(9777))
    assert (snapshot.paths, snapshot.client_abort) == (Paths.AS_SENT, ClientAbort.FINISH)
    assert snapshot.cpus == (3, 1)


def test_how_connections_are_forwarded_reaches_l4_nodes():
    edge = attrs.evolve(
        topology_of(tier("edge", Kind.L4, "app", listen=PUBLIC)).tiers["edge"], forward=Forwarding.RELAY
    )
    assert snapshot_for(topology_of(edge), "edge", 1, {}, {}).forward is Forwarding.RELAY


def test_what_is_said_of_containers_is_nothing_to_a_node():
    web = tier("web", Kind.L7, "app", listen=PUBLIC)
    limited = attrs.evolve(web, resources=Resources(cpus=0.5, memory_bytes=2**28))
    assert snapshot_for(topology_of(limited), "web", 1, {}, {}) == snapshot_for(topology_of(web), "web", 1, {}, {})


def test_a_tier_that_is_starting_leaves_an_empty_destination():
    assert hosts(DEEP, "inner", {}) == ()


def test_nodes_are_ordered_by_number():
    many = topology_of(tier("edge", Kind.L4, "web", listen=PUBLIC), tier("web", Kind.L7, "app", replicas=11))
    announced = {"web": {f"web-{n}": at(n) for n in (10, 9, 2, 11)}}
    assert [host.name for host in hosts(many, "edge", announced)] == [
        "web-2",
        "web-9",
        "web-10",
        "web-11",
    ]


def test_only_run_endpoints_that_exist_are_members():
    run = topology_of(tier("web", Kind.L7, "app", listen=PUBLIC), pools=(Pool("app", run=Run("x", 2)),))
    assert hosts(run, "web", {}) == ()
    assert hosts(run, "web", {}, {"app": (at(9),)}) == (leaf("app", 9),)


def test_weights_stay_with_their_targets_and_fixed_answers_stay_as_they_are():
    split = Forward((Share(90.0, ("app",)), Share(10.0, ("next",))))
    routes = (Route(Match(path="/x"), Respond(204)), Route(Match(), split))
    web = Tier("web", Kind.L7, routes, listen=PUBLIC)
    snapshot = snapshot_for(topology_of(web, pools=(Pool("app", (at(1),)), Pool("next", (at(2),)))), "web", 9, {}, {})
    assert snapshot.revision == 9
    assert snapshot.rules[0].action == Respond(204)
    action = snapshot.rules[1].action
    assert isinstance(action, Send)
    assert [(d.weight, d.targets, len(d.hosts)) for d in action.destinations] == [
        (90.0, ("app",), 1),
        (10.0, ("next",), 1),
    ]


def test_what_is_wanted_of_an_endpoint_reaches_those_that_send_to_it():
    text = """\
cluster: shop
tiers: {web: {kind: l7, listen: ":8080", balance: round-robin, to: [app, far]}}
pools:
  app: {endpoints: {127.0.0.1:9001: {weight: 3, admin: drain}, 127.0.0.1:9002: 1}}
  far: {dns: "far.internal:80", overrides: {10.0.0.5:80: {weight: 2, admin: maintenance}}}
"""
    snapshot = snapshot_for(load_text(text, "f"), "web", 1, {}, {})
    listed = {str(host.address): host for host in snapshot.rules[0].action.destinations[0].hosts}
    assert (listed["127.0.0.1:9001"].weight, listed["127.0.0.1:9001"].admin) == (3, Admin.DRAIN)
    assert (listed["127.0.0.1:9002"].weight, listed["127.0.0.1:9002"].admin) == (1, Admin.READY)
    found = discovered(
        snapshot, {"far": (FoundEndpoint(Address("10.0.0.5", 80)), FoundEndpoint(Address("10.0.0.6", 80)))}
    )
    hosts = {str(host.address): host for host in found.rules[0].action.destinations[0].hosts}
    assert (hosts["10.0.0.5:80"].weight, hosts["10.0.0.5:80"].admin) == (2, Admin.MAINTENANCE)
    assert hosts["10.0.0.6:80"].admin is Admin.READY


def test_what_dns_finds_keeps_its_weight_and_its_level():
    text = "cluster: shop\ntiers: {web: {kind: l7, listen: ':80', to: far}}\npools: {far: {dns: _http._tcp.far.in}}\n"
    snapshot = snapshot_for(load_text(text, "f"), "web", 1, {}, {})
    found = (FoundEndpoint(Address("10.0.0.5", 80), 3.0), FoundEndpoint(Address("10.0.0.6", 80), 7.0, 1))
    (destination,) = discovered(snapshot, {"far": found}).rules[0].action.destinations
    assert [(host.weight, host.level) for host in destination.hosts] == [(3.0, 0), (7.0, 1)]


def test_a_tier_over_udp_listens_for_datagrams_at_its_public_port_and_for_parents() -> None:
    edge = tier("edge", Kind.L4, "mid", listen=PUBLIC, protocol=Transport.UDP, responses=1)
    topology = topology_of(edge, tier("mid", Kind.L4, "app", protocol=Transport.UDP))
    for name, responses in (("edge", 1), ("mid", None)):
        snapshot = snapshot_for(topology, name, 1, {}, {})
        assert (snapshot.protocol, snapshot.responses) == (Transport.UDP, responses)
        assert [listener.protocol for listener in snapshot.listeners] == [Transport.UDP]


def in_the_kernel(*listens):
    """An l7 tier below edges that forward to it in the kernel."""
    edges = [
        attrs.evolve(tier(f"edge{number}", Kind.L4, "web", listen=listen), forward=Forwarding.NFTABLES)
        for number, listen in enumerate(listens)
    ]
    return topology_of(*edges, tier("web", Kind.L7, "app"))


@pytest.mark.parametrize(
    ("listens", "host"),
    [
        (["0.0.0.0:443"], "0.0.0.0"),
        (["127.0.0.1:443"], "127.0.0.1"),
        (["[::]:443"], "::"),
        (["0.0.0.0:443", "0.0.0.0:444"], "0.0.0.0"),
        (["192.0.2.1:443", "192.0.2.2:443"], "0.0.0.0"),
        (["[2001:db8::1]:443", "[::1]:443"], "::"),
    ],
)
def test_below_a_tier_that_forwards_in_the_kernel_nodes_listen_where_it_does_and_take_clients(listens, host):
    topology = in_the_kernel(*map(parse_address, listens))
    listeners = listeners_of(topology, topology.tiers["web"])
    assert listeners == (Listener(Address(host, 0), inner=True, direct=True),)
    (web_1,) = hosts(topology, "edge0", {"web": {"web-1": at(4001)}})
    assert web_1.direct


def test_over_udp_nodes_take_sessions_from_parents_only():
    topology = in_the_kernel(parse_address("0.0.0.0:53"))
    datagrams = {
        name: attrs.evolve(each, kind=Kind.L4, protocol=Transport.UDP) for name, each in topology.tiers.items()
    }
    topology = attrs.evolve(topology, tiers=datagrams)
    (listener,) = listeners_of(topology, topology.tiers["web"])
    assert (listener.direct, listener.accept_from) == (False, PARENT_NETWORKS)


def test_a_node_learns_which_tiers_connect_to_it():
    text = """\
cluster: x
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  other: {kind: l7, listen: "127.0.0.1:8081", to: web}
  web: {kind: l7, to: p}
  alone: {kind: l7, listen: "127.0.0.1:8082", to: p}
pools: {p: {agents: true}}
"""
    topology = load_text(text, "f")
    found = {name: snapshot_for(topology, name, 1, {}, {}).parent_tiers for name in topology.tiers}
    assert found == {"edge": (), "other": (), "web": ("edge", "other"), "alone": ()}
    assert tiers_joined(topology) == ("edge", "other", "web")
