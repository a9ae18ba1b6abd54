"""A tier that is put in changes nothing about a request but one hop."""

import attrs
import pytest

from tierlb.model.address import Transport
from tierlb.model.topology import Kind, Limits, Paths, Timeouts
from tierlb.topology.edit import AddTier, RemoveTier, edited
from tierlb.topology.load import load_text
from tierlb.topology.verbs import EditError

SHOP = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web:
    kind: l7
    to: app
    trusted_peers: [10.0.0.0/8]  # the balancer before us
    paths: as-sent
    timeouts:
      response: 6m
      connect: &soon 500ms
    limits: {body: 10MB, connections: 500}
    drain: 2m
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""
TCP = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: inner, timeouts: {idle: 10m}}
  inner: {kind: l4, to: db, timeouts: {idle: 20m, connect: 1s}, drain: 1h}
pools:
  db: {endpoints: ["127.0.0.1:9001"]}
"""
BETWEEN, ABOVE, BELOW = {"between": ("edge", "web")}, {"above": "web"}, {"below": "edge"}


def put_in(text, kind, where, name="mid"):
    after = edited(text, AddTier(name, kind, **where))
    assert edited(after, RemoveTier(name)) == text
    return load_text(after, "f").tiers


@pytest.mark.parametrize("where", [BETWEEN, ABOVE, BELOW])
def test_an_l7_tier_takes_over_all_that_decides_of_a_request(where):
    tiers = put_in(SHOP, "l7", where)
    settings = ("trusted_peers", "paths", "timeouts", "limits", "drain_s")
    for name in settings:
        assert getattr(tiers["mid"], name) == getattr(tiers["web"], name), name
    assert (tiers["mid"].drain_s, tiers["mid"].paths, tiers["mid"].timeouts.response) == (120.0, Paths.AS_SENT, 360.0)


@pytest.mark.parametrize("where", [{"between": ("web", "app")}, {"above": "app"}, {"below": "web"}])
def test_before_a_pool_it_takes_after_the_tier_that_sent_there(where):
    tiers = put_in(SHOP, "l7", where)
    assert tiers["mid"].limits == Limits(body=10_000_000, connections=500)
    assert tiers["mid"].trusted_peers == ("10.0.0.0/8",)


def test_an_l4_tier_takes_over_what_it_has_and_waits_as_long_as_the_answers_below_may_take():
    mid = put_in(SHOP, "l4", BETWEEN)["mid"]
    assert (mid.kind, mid.limits, mid.drain_s) == (Kind.L4, Limits(connections=500), 120.0)
    assert (mid.timeouts.connect, mid.timeouts.idle) == (0.5, 360.0)


def test_an_l4_tier_before_one_with_shorter_times_waits_as_long_as_ever():
    mid = put_in(SHOP.replace("response: 6m", "response: 5s"), "l4", BETWEEN)["mid"]
    assert mid.timeouts.idle == 300.0


@pytest.mark.parametrize(("where", "idle_s"), [({"above": "inner"}, 1200.0), ({"above": "db"}, 1200.0)])
def test_an_l7_tier_before_an_l4_one_waits_as_long_as_its_connections_may_be_silent(where, idle_s):
    times = put_in(TCP, "l7", where)["mid"].timeouts
    assert times == attrs.evolve(Timeouts(), idle=idle_s, response=idle_s, stream=idle_s, connect=1.0)


def test_an_l4_tier_before_an_l4_one_is_like_it():
    tiers = put_in(TCP, "l4", {"between": ("edge", "inner")})
    assert (tiers["mid"].timeouts, tiers["mid"].drain_s) == (tiers["inner"].timeouts, 3600.0)


def test_before_several_it_takes_after_the_tier_that_sends_to_them():
    web = "  web: {kind: l7, to: db, drain: 5s}\n"
    text = TCP.replace("to: inner,", "to: [inner, web],").replace("pools:", f"{web}pools:")
    tiers = put_in(text, "l4", {"below": "edge"})
    assert (tiers["mid"].timeouts.idle, tiers["mid"].drain_s) == (600.0, 30.0)


def test_where_nothing_is_set_nothing_is_written():
    plain = SHOP[: SHOP.index("    trusted_peers")] + SHOP[SHOP.index("pools:") :]
    added = edited(plain, AddTier("mid", "l7", between=("edge", "web")))
    assert "  mid:\n    kind: l7\n    to: web\n" in added


UDP = """\
cluster: names
tiers:
  edge: {kind: l4, listen: "127.0.0.1:53", protocol: udp, to: inner, responses: 1, timeouts: {idle: 4s}}
  inner: {kind: l4, protocol: udp, to: dns, responses: 1, timeouts: {idle: 5s}, drain: 3s}
pools:
  dns: {endpoints: ["127.0.0.1:9001"]}
"""


@pytest.mark.parametrize("where", [{"between": ("edge", "inner")}, {"above": "edge"}, {"above": "dns"}])
def test_a_tier_put_in_among_those_over_udp_is_over_udp_too(where):
    mid = put_in(UDP, "l4", where)["mid"]
    assert (mid.protocol, mid.responses) == (Transport.UDP, 1)
    assert mid.timeouts.idle in (4.0, 5.0)


def test_an_l7_tier_cannot_stand_among_those_over_udp():
    with pytest.raises(EditError, match="tier 'inner' is over UDP, and an l7 tier takes HTTP over TCP: write"):
        edited(UDP, AddTier("mid", Kind.L7, between=("edge", "inner")))


def test_how_long_routes_wait_for_a_hello_is_not_taken_over_by_a_tier_without_routes() -> None:
    routed = TCP.replace("to: inner,", "routes: [{match: {sni: a}, to: inner}, {to: inner}],").replace(
        "{idle: 10m}", "{head: 3s, idle: 10m}"
    )
    text = edited(routed, AddTier("mid", Kind.L4, above="inner"))
    assert load_text(text, "f").tiers["mid"].timeouts == Timeouts(head=10.0, idle=1200.0, connect=1.0)
    text = edited(routed, AddTier("mid", Kind.L4, above="edge"))
    tiers = load_text(text, "f").tiers
    assert (tiers["mid"].timeouts.idle, tiers["edge"].timeouts.head) == (600.0, 3.0)
