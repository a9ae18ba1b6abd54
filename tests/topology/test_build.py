from typing import Any

import pytest
import trustme

from tierlb.model.address import Address
from tierlb.model.listener import TierListener
from tierlb.model.tls import AdminTls
from tierlb.model.topology import (
    ClientAbort,
    Forward,
    Forwarding,
    HealthCheck,
    Kind,
    Limits,
    Match,
    Orca,
    OutlierDetection,
    Paths,
    Policy,
    Pool,
    Redirect,
    Resources,
    Respond,
    Route,
    Run,
    Share,
    SharedStore,
    Timeouts,
)
from tierlb.topology.build import build_health, build_match, build_outlier
from tierlb.topology.cores import available_cores
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.route_shapes import MatchShape
from tierlb.topology.shapes import HealthShape, OutlierShape

EVERYTHING = """
cluster: shop
admin: {listen: 127.0.0.1:7901}
tiers:
  edge: {kind: l4, listen: ':80', to: [web, app], timeouts: {connect: 1s}, limits: {connections: 7}}
  web:
    kind: l7
    replicas: 3
    balance: two-choices
    trusted_peers: [10.0.0.0/8]
    timeouts: {head: 1s, idle: 2s, connect: 3s, response: 4s, stream: 5s}
    limits: {connections: 1, head: 2KiB, headers: 3, body: 4MB, body_rate: 2KiB}
    routes:
      - match:
          path_prefix: /api/
          host: [Example.com, "*.example.net"]
          method: GET
          headers: {X-Env: canary, x-flag: }
          query: {v: 2, preview: }
        to: {app: 90, demo: 10}
      - match: {path: /healthz}
        respond: {status: 202, body: "ok\\n", content_type: text/x-ok}
      - match: {path: /old}
        redirect: {location: /new, status: 301}
      - match: {path: /bare}
        respond: {}
      - to: app
pools:
  app: {endpoints: [127.0.0.1:9001, "[::1]:9002"]}
  demo: {run: {command: "serve {port}", replicas: 4}}
"""


def test_every_key_reaches_the_model() -> None:
    topology = load_text(EVERYTHING, "f")
    edge, web = topology.tiers["edge"], topology.tiers["web"]
    assert (topology.cluster, topology.admin) == ("shop", Address("127.0.0.1", 7901))
    assert (edge.kind, edge.listen, edge.replicas) == (Kind.L4, (TierListener(Address("0.0.0.0", 80)),), 1)
    assert edge.routes == (Route(Match(), Forward((Share(1.0, ("web", "app")),))),)
    assert (edge.timeouts, edge.limits) == (Timeouts(idle=300.0, connect=1.0), Limits(connections=7))
    assert (web.kind, web.listen, web.replicas, web.balance) == (Kind.L7, (), 3, Policy.TWO_CHOICES)
    assert web.trusted_peers == ("10.0.0.0/8",)
    assert web.timeouts == Timeouts(1.0, 2.0, 3.0, 4.0, 5.0)
    assert web.limits == Limits(1, 2048, 3, 4_000_000, 2048)
    assert topology.pools == {
        "app": Pool("app", endpoints=(Address("127.0.0.1", 9001), Address("::1", 9002))),
        "demo": Pool("demo", run=Run("serve {port}", 4)),
    }


def test_one_node_per_core_is_the_number_of_cores_where_the_file_is_read() -> None:
    text = "{cluster: shop, tiers: {web: {kind: l7, listen: ':80', replicas: auto, routes: [{respond: {}}]}}}"
    for cores in (1, 7):
        web = load_text(text, "f", lambda cores=cores: cores).tiers["web"]
        assert (web.replicas, web.per_core) == (cores, True)
    assert load_text(text, "f").tiers["web"].replicas == available_cores()
    assert load_text(text, "f", lambda: 5000).tiers["web"].replicas == 1000
    fixed = load_text(text.replace("auto", "2"), "f", lambda: 7).tiers["web"]
    assert (fixed.replicas, fixed.per_core) == (2, False)


@pytest.mark.parametrize(
    ("written", "cpus"),
    [
        ("", None),
        ("cpus: 3,", (3,)),
        ("cpus: 1-3,", (1, 2, 3)),
        ("cpus: [4, 0-1, 0],", (4, 0, 1, 0)),
        ("cpus: auto,", ()),
    ],
)
def test_cpus_are_a_row_in_the_order_of_the_file(written: str, cpus: tuple[int, ...] | None) -> None:
    text = f"{{cluster: shop, tiers: {{web: {{kind: l7, listen: ':80', {written} routes: [{{respond: {{}}}}]}}}}}}"
    assert load_text(text, "f").tiers["web"].cpus == cpus


def test_routes_keep_their_order_matches_and_actions() -> None:
    first, *others = load_text(EVERYTHING, "f").tiers["web"].routes
    assert first.match == Match(
        path_prefix="/api",
        hosts=("example.com", "*.example.net"),
        methods=("GET",),
        headers=(("x-env", "canary"), ("x-flag", None)),
        query=(("v", "2"), ("preview", None)),
    )
    assert first.action == Forward((Share(90.0, ("app",)), Share(10.0, ("demo",))))
    assert others == [
        Route(Match(path="/healthz"), Respond(202, "ok\n", "text/x-ok")),
        Route(Match(path="/old"), Redirect("/new", 301)),
        Route(Match(path="/bare"), Respond()),
        Route(Match(), Forward((Share(1.0, ("app",)),))),
    ]


def test_what_is_left_out_has_the_models_defaults() -> None:
    topology = load_text("cluster: x\ntiers: {a: {kind: l7, listen: ':0', routes: [{respond: {}}]}}", "f")
    assert topology.admin == Address("127.0.0.1", 7900)
    assert (topology.pools, topology.store) == ({}, None)
    tier = topology.tiers["a"]
    assert (tier.replicas, tier.balance, tier.timeouts, tier.limits, tier.resources) == (
        1,
        Policy.LOAD_AWARE,
        Timeouts(),
        Limits(),
        Resources(),
    )


def test_a_prefix_of_a_slash_is_no_condition() -> None:
    assert build_match(MatchShape(path_prefix="/")) == build_match(None) == Match()


ELSEWHERE = """
cluster: shop
store: etcd://one:2379,two:2379/shop
tiers:
  edge: {kind: l4, listen: ':80', to: web, resources: {cpus: 0.5}}
  web: {kind: l7, to: [app, api, found], resources: {cpus: 2, memory: 256MiB}}
pools:
  app: {run: {command: "serve {host} {port}", replicas: 2, image: "shop/app:1", resources: {memory: 64MiB}}}
  api: {dns: "api.internal:8000", health: tcp, agent_check: 9778}
  found: {dns: _http._tcp.found.internal}
"""


def test_what_is_for_other_machines_reaches_the_model() -> None:
    topology = load_text(ELSEWHERE, "f")
    assert topology.store == SharedStore("etcd://one:2379,two:2379/shop")
    assert topology.store.members == ("one:2379", "two:2379")
    assert topology.store.files == {}
    assert topology.tiers["edge"].resources == Resources(cpus=0.5)
    assert topology.tiers["web"].resources == Resources(2.0, 256 * 2**20)
    assert topology.pools == {
        "app": Pool("app", run=Run("serve {host} {port}", 2, "shop/app:1", Resources(memory_bytes=64 * 2**20))),
        "api": Pool("api", dns="api.internal:8000", health=HealthCheck(), agent_check_port=9778),
        "found": Pool("found", dns="_http._tcp.found.internal"),
    }


LOADS = """
cluster: shop
tiers:
  edge:
    kind: l4
    listen: ':80'
    to: [web, old]
    balance: maglev
    hash_on: source
    agent_check: 127.0.0.1:9777
    forward: relay
  web:
    kind: l7
    to: [app, own]
    balance: maglev
    hash_on: {header: X-User}
    orca: text
    paths: as-sent
    client_abort: finish
pools:
  old: {endpoints: {127.0.0.1:9001: 3, "[::1]:9002": 0.5}, agent_check: 9778}
  app: {endpoints: [127.0.0.1:9001], health: {path: "/up?deep=1", status: [200, 300-399], host: shop:81}}
  own: {agents: true, health: tcp}
"""


def test_what_steers_choosing_reaches_the_model() -> None:
    topology = load_text(LOADS, "f")
    edge, web = topology.tiers["edge"], topology.tiers["web"]
    assert (edge.balance, edge.hash_header, edge.agent_check) == (Policy.MAGLEV, None, Address("127.0.0.1", 9777))
    assert (web.balance, web.hash_header, web.orca) == (Policy.MAGLEV, "x-user", Orca.TEXT)
    assert (edge.client_abort, web.client_abort) == (ClientAbort.CANCEL, ClientAbort.FINISH)
    assert (edge.paths, web.paths) == (Paths.NORMALISED, Paths.AS_SENT)
    assert (edge.forward, web.forward) == (Forwarding.RELAY, Forwarding.AUTO)
    assert topology.pools == {
        "old": Pool(
            "old",
            endpoints=(Address("127.0.0.1", 9001), Address("::1", 9002)),
            weights=(3.0, 0.5),
            agent_check_port=9778,
        ),
        "app": Pool(
            "app",
            endpoints=(Address("127.0.0.1", 9001),),
            health=HealthCheck(path="/up?deep=1", host="shop:81", statuses=((200, 200), (300, 399))),
        ),
        "own": Pool("own", agents=True, health=HealthCheck()),
    }


@pytest.mark.parametrize(
    ("shape", "check"),
    [
        (None, None),
        ("tcp", HealthCheck()),
        (HealthShape(), HealthCheck()),
        (HealthShape(path="/", status=(200, 204)), HealthCheck(path="/", statuses=((200, 204),))),
        (HealthShape(interval=5.0), HealthCheck(interval_s=5.0)),
        (HealthShape(interval=0.2), HealthCheck(interval_s=0.2, timeout_s=0.2)),
        (HealthShape(interval=0.4, timeout=0.1), HealthCheck(interval_s=0.4, timeout_s=0.1)),
        (HealthShape(healthy=1, unhealthy=7), HealthCheck(healthy=1, unhealthy=7)),
    ],
)
def test_a_check_has_the_models_defaults_and_never_outlasts_its_interval(shape: Any, check: HealthCheck) -> None:
    assert build_health(shape) == check


@pytest.mark.parametrize(
    ("health", "check", "outlier"),
    [
        (None, None, OutlierDetection()),
        ("tcp", HealthCheck(), OutlierDetection()),
        (HealthShape(outlier="off"), None, None),
        (HealthShape(interval=4.0, outlier="off"), HealthCheck(interval_s=4.0), None),
        (
            HealthShape(outlier=OutlierShape(consecutive_errors=9, consecutive_gateway_errors=2, success_rate=False)),
            None,
            OutlierDetection(9, 2, success_rate=False),
        ),
        (
            HealthShape(path="/", outlier=OutlierShape(interval=2.0, base_ejection=30.0, max_ejected=0.1)),
            HealthCheck(path="/"),
            OutlierDetection(interval_s=2.0, base_ejection_s=30.0, max_ejected=0.1),
        ),
    ],
)
def test_outlier_detection_is_on_unless_it_is_off_and_alone_starts_no_checks(
    health: HealthShape | str | None, check: HealthCheck | None, outlier: OutlierDetection | None
) -> None:
    assert (build_health(health), build_outlier(health)) == (check, outlier)


@pytest.mark.parametrize(("written", "least"), [("off", 0), ("500", 500), ("2KiB", 2048)])
def test_the_least_rate_of_bodies_is_a_size_or_off(written: str, least: int) -> None:
    tier = f"{{kind: l7, listen: ':0', limits: {{body_rate: {written}}}, routes: [{{respond: {{}}}}]}}"
    text = f"cluster: x\ntiers: {{a: {tier}}}"
    assert load_text(text, "f").tiers["a"].limits.body_rate == least


API = """cluster: shop
admin: {listen: 0.0.0.0:7900, hosts: [LB.Internal, 10.0.0.5, "FD00::5"]%s}
tiers: {web: {kind: l7, listen: ":80", to: app}}
pools: {app: {agents: {networks: [10.0.0.0/8, fd00::7]}}}
"""


def test_how_other_machines_call_the_api_and_where_agents_may_be(tmp_path):
    topology = load_text(API % "", "shop.yaml")
    assert topology.admin_hosts == ("lb.internal", "10.0.0.5", "fd00::5")
    assert topology.admin_tls is None
    assert (topology.pools["app"].agents, topology.pools["app"].networks) == (True, ("10.0.0.0/8", "fd00::7/128"))
    ca = trustme.CA()
    issued = ca.issue_cert("lb.internal")
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "api.pem"))
    issued.private_key_pem.write_to_path(str(tmp_path / "api.key"))
    secured = load_text(API % ", tls: {certificate: api.pem, key: api.key}", str(tmp_path / "shop.yaml"))
    assert secured.admin_tls == AdminTls(str(tmp_path / "api.pem"), str(tmp_path / "api.key"))
    with pytest.raises(TopologyError) as faulty:
        load_text(API % ", tls: {certificate: api.key, key: nope}", str(tmp_path / "shop.yaml"))
    assert {problem.path for problem in faulty.value.problems} == {"admin.tls.certificate", "admin.tls.key"}


@pytest.mark.parametrize("name", ["*.lb.internal", "lb.internal:7900", "lb internal", "[::1]", ".lb", "lb."])
def test_what_is_no_host_of_the_api_is_refused(name):
    with pytest.raises(TopologyError) as faulty:
        load_text(API.replace("LB.Internal", f"'{name}'") % "", "shop.yaml")
    assert [problem.path for problem in faulty.value.problems] == ["admin.hosts[0]"]


def test_a_listener_may_have_balancers_of_its_own_above() -> None:
    listen = "[':80', {address: ':81', proxy_protocol: {accept_from: [192.0.2.0/24]}}]"
    above = "proxy_protocol: {accept_from: [10.0.0.0/8]}"
    text = f"cluster: x\ntiers: {{a: {{kind: l4, listen: {listen}, {above}, to: p}}}}"
    (tier,) = load_text(f"{text}\npools: {{p: {{endpoints: [10.0.0.1:1]}}}}", "f").tiers.values()
    found = [each.proxy_protocol and each.proxy_protocol.accept_from for each in tier.listen]
    assert found == [("10.0.0.0/8",), ("192.0.2.0/24",)]
