import pytest

from tierlb.model.address import Address
from tierlb.model.snapshot import Listener, Member, Send
from tierlb.model.topology import (
    Forward,
    Kind,
    Match,
    Pool,
    Respond,
    Route,
    Run,
    Share,
    Tier,
    Topology,
)
from tierlb.topology.allot import ANY_PORT, PARENT_NETWORKS, listeners_of, node_names, snapshot_for

PUBLIC = Address("127.0.0.1", 8080)
FOR_L4 = Listener(ANY_PORT, proxy_protocol=True, inner=True, accept_from=PARENT_NETWORKS)
FOR_L7 = Listener(ANY_PORT, inner=True)


def at(port):
    return Address("127.0.0.1", port)


def tier(name, kind, *targets, **more):
    return Tier(name, kind, (Route(Match(), Forward((Share(1.0, targets),))),), **more)


APP = Pool("app", (at(1), at(2)))


def topology(*tiers, pools=(APP,)):
    return Topology("shop", {t.name: t for t in tiers}, {p.name: p for p in pools})


DEEP = topology(
    tier("edge", Kind.L4, "inner", "web", listen=PUBLIC, replicas=2),
    tier("inner", Kind.L4, "web"),
    tier("web", Kind.L7, "api", "app", replicas=2),
    tier("api", Kind.L7, "app", listen=at(8081)),
)


@pytest.mark.parametrize(
    ("name", "listeners"),
    [
        ("edge", (Listener(PUBLIC, shared=True),)),
        ("inner", (FOR_L4,)),
        ("web", (FOR_L4,)),
        ("api", (Listener(at(8081)), FOR_L7)),
    ],
)
def test_a_tier_listens_for_the_public_and_for_each_kind_of_parent(name, listeners):
    assert listeners_of(DEEP, DEEP.tiers[name]) == listeners


def test_nodes_are_numbered_from_one():
    assert node_names(DEEP.tiers["web"]) == ("web-1", "web-2")


def members(topology, name, announced, run_endpoints=None):
    (rule,) = snapshot_for(topology, name, 5, announced, run_endpoints or {}).rules
    (destination,) = rule.action.destinations
    return destination.members


def test_an_l4_parent_sends_to_the_proxy_protocol_port():
    announced = {"inner": {"inner-1": (at(50),)}, "web": {"web-1": (at(61),), "web-2": (at(62),)}}
    assert members(DEEP, "edge", announced) == (
        Member("inner-1", "inner", at(50), proxy_protocol=True),
        Member("web-1", "web", at(61), proxy_protocol=True),
        Member("web-2", "web", at(62), proxy_protocol=True),
    )


def test_an_l7_parent_sends_to_the_plain_port_and_to_endpoints():
    announced = {"api": {"api-1": (at(8081), at(70))}}
    assert members(DEEP, "web", announced) == (
        Member("api-1", "api", at(70)),
        Member("app/127.0.0.1:1", "app", at(1)),
        Member("app/127.0.0.1:2", "app", at(2)),
    )


def test_each_kind_of_parent_gets_its_own_port_of_a_child_below_both():
    both = topology(
        tier("edge", Kind.L4, "web", "router", listen=PUBLIC),
        tier("router", Kind.L7, "web"),
        tier("web", Kind.L7, "app"),
    )
    announced = {"web": {"web-1": (at(4), at(7))}, "router": {"router-1": (at(5),)}}
    assert [member.address for member in members(both, "edge", announced)] == [at(4), at(5)]
    assert [member.address for member in members(both, "router", announced)] == [at(7)]


def test_a_tier_that_is_starting_leaves_an_empty_destination():
    assert members(DEEP, "inner", {}) == ()


def test_nodes_are_ordered_by_number():
    many = topology(tier("edge", Kind.L4, "web", listen=PUBLIC), tier("web", Kind.L7, "app", replicas=11))
    announced = {"web": {f"web-{n}": (at(n),) for n in (10, 9, 2, 11)}}
    assert [member.name for member in members(many, "edge", announced)] == [
        "web-2",
        "web-9",
        "web-10",
        "web-11",
    ]


def test_only_run_endpoints_that_exist_are_members():
    run = topology(tier("web", Kind.L7, "app", listen=PUBLIC), pools=(Pool("app", run=Run("x", 2)),))
    assert members(run, "web", {}) == ()
    assert members(run, "web", {}, {"app": (at(9),)}) == (Member("app/127.0.0.1:9", "app", at(9)),)


def test_weights_stay_with_their_targets_and_fixed_answers_stay_as_they_are():
    split = Forward((Share(90.0, ("app",)), Share(10.0, ("next",))))
    routes = (Route(Match(path="/x"), Respond(204)), Route(Match(), split))
    web = Tier("web", Kind.L7, routes, listen=PUBLIC)
    snapshot = snapshot_for(topology(web, pools=(Pool("app", (at(1),)), Pool("next", (at(2),)))), "web", 9, {}, {})
    assert snapshot.revision == 9
    assert snapshot.rules[0].action == Respond(204)
    action = snapshot.rules[1].action
    assert isinstance(action, Send)
    assert [(d.weight, d.targets, len(d.members)) for d in action.destinations] == [
        (90.0, ("app",), 1),
        (10.0, ("next",), 1),
    ]
