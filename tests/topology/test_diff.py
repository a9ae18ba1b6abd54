import json
from pathlib import Path

import attrs
import pytest

from tierlb.model.address import Address
from tierlb.model.tls import Tls
from tierlb.model.topology import (
    HealthCheck,
    Limits,
    Orca,
    Pool,
    Resources,
    SharedStore,
    Tier,
    Timeouts,
    Topology,
)
from tierlb.topology.diff import (
    KEYS,
    WRITERS,
    ClusterChanged,
    Field,
    PoolAdded,
    PoolChanged,
    PoolRemoved,
    PoolScaled,
    Replaced,
    TierAdded,
    TierChanged,
    TierMoved,
    TierRemoved,
    TierScaled,
    differences,
    weights_of,
)
from tierlb.topology.load import load_file, load_text
from tierlb.topology.shapes import (
    HealthShape,
    LimitsShape,
    PoolShape,
    ResourcesShape,
    RunShape,
    StoreShape,
    TierShape,
    TimeoutsShape,
)

EXAMPLES = sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))

TIERS = """
  edge: {kind: l4, listen: 127.0.0.1:8080, to: web}
  web: {kind: l7, to: app}
"""
POOLS = """
  app: {endpoints: [127.0.0.1:1, 127.0.0.1:2]}
"""

LISTED = "a pool of listed endpoints"

DEFAULT_OUTLIER = "{consecutive_errors: 5, success_rate: true, interval: 10s, base_ejection: 5s, max_ejected: 50%}"


def shop(tiers: str = TIERS, pools: str = POOLS, top: str = "cluster: shop") -> Topology:
    return load_text(f"{top}\ntiers:{tiers}pools:{pools}", "f")


def web(keys: str = "", listen: str = ":80") -> Topology:
    """The cluster with one l7 tier that has these keys too."""
    return shop(f"\n  web: {{kind: l7, listen: '{listen}', to: app{keys and ', '}{keys}}}\n")


def app(keys: str) -> Topology:
    """The cluster with a pool that has these keys."""
    return shop(pools=f"\n  app: {{{keys}}}\n")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_a_topology_does_not_differ_from_itself(path: Path) -> None:
    assert differences(load_file(path), load_file(path)) == ()


def test_the_order_of_names_is_no_difference() -> None:
    pools = "\n  app: {endpoints: [127.0.0.1:1]}\n  api: {endpoints: [127.0.0.1:2]}\n"
    back = "\n  api: {endpoints: [127.0.0.1:2]}\n  app: {endpoints: [127.0.0.1:1]}\n"
    tiers = "\n  web: {kind: l7, listen: ':80', to: [app, api]}\n"
    assert differences(shop(tiers, pools), shop(tiers, back)) == ()


def test_tiers_and_pools_come_and_go() -> None:
    new = shop(
        "\n  edge: {kind: l4, listen: 127.0.0.1:8080, to: mid}\n  mid: {kind: l4, to: api}\n",
        "\n  api: {agents: true}\n",
    )
    assert differences(shop(), new) == (
        TierMoved("edge", ("web",), ("mid",)),
        TierRemoved("web"),
        TierAdded("mid"),
        PoolRemoved("app"),
        PoolAdded("api"),
    )


def test_numbers_of_processes_are_changes_of_their_own() -> None:
    run = 'run: {command: "serve {port}", replicas: '
    old, new = app(run + "2}"), app(run + "5}")
    assert differences(old, new) == (PoolScaled("app", 2, 5),)
    assert differences(web(), web("replicas: 3")) == (TierScaled("web", 1, 3),)
    auto = attrs.evolve(web("replicas: 3").tiers["web"], per_core=True)
    three, one = web("replicas: 3"), web("replicas: 1")
    assert differences(three, attrs.evolve(three, tiers={"web": auto})) == (TierScaled("web", 3, 3, auto=True),)
    assert differences(attrs.evolve(three, tiers={"web": auto}), one) == (TierScaled("web", 3, 1),)


def test_another_split_is_a_move_to_the_same_targets() -> None:
    tiers = "\n  web: {{kind: l7, listen: ':80', to: {{app: {}, api: 1}}}}\n"
    pools = "\n  app: {agents: true}\n  api: {agents: true}\n"
    changes = differences(shop(tiers.format(9), pools), shop(tiers.format(1), pools))
    assert changes == (TierMoved("web", ("app", "api"), ("app", "api")),)


@pytest.mark.parametrize(
    ("before", "after", "fields"),
    [
        ("", "balance: random", [("balance", "load-aware", "random")]),
        (
            "",
            "timeouts: {idle: 1m30s, connect: 250ms}",
            [("timeouts.idle", "1m15s", "1m30s"), ("timeouts.connect", "2s", "250ms")],
        ),
        (
            "limits: {body: 10MB}",
            "limits: {connections: 5, head: 64KiB}",
            [("limits.connections", "10000", "5"), ("limits.head", "32KiB", "64KiB"), ("limits.body", "10MB", None)],
        ),
        ("", "limits: {body_rate: off}", [("limits.body_rate", "240", "off")]),
        ("balance: maglev", "balance: maglev, hash_on: {header: X-Id}", [("hash_on", None, "{header: x-id}")]),
        ("", "orca: json", [("orca", None, "json")]),
        ("", "paths: as-sent", [("paths", "normalised", "as-sent")]),
        ("client_abort: finish", "", [("client_abort", "finish", "cancel")]),
        ("", "cpus: 0-2", [("cpus", None, "[0, 1, 2]")]),
        ("cpus: [0, 2-3]", "cpus: auto", [("cpus", "[0, 2, 3]", "auto")]),
        (
            "resources: {cpus: 0.5}",
            "resources: {memory: 256MiB}",
            [("resources.cpus", "0.5", None), ("resources.memory", None, "256MiB")],
        ),
        ("agent_check: ':9'", "agent_check: ':10'", [("agent_check", "0.0.0.0:9", "0.0.0.0:10")]),
        ("", "trusted_peers: [10.0.0.0/8, '::1']", [("trusted_peers", "[]", "[10.0.0.0/8, ::1/128]")]),
    ],
)
def test_settings_of_a_tier_are_told_as_the_file_writes_them(
    before: str, after: str, fields: list[tuple[str, str | None, str | None]]
) -> None:
    old, new = web(before), web(after)
    assert differences(old, new) == (TierChanged("web", tuple(Field(*field) for field in fields)),)


def test_an_entrance_that_moves_is_a_setting() -> None:
    assert differences(web(), web(listen="[::1]:81")) == (
        TierChanged("web", (Field("listen", "0.0.0.0:80", "[::1]:81"),)),
    )


@pytest.mark.parametrize(
    ("before", "after", "change"),
    [
        (
            "endpoints: [127.0.0.1:1, 127.0.0.1:2]",
            "endpoints: [127.0.0.1:2, 127.0.0.1:3]",
            PoolChanged("app", (), (Address("127.0.0.1", 3),), (Address("127.0.0.1", 1),)),
        ),
        (
            "endpoints: {127.0.0.1:1: 1, 127.0.0.1:2: 2}",
            "endpoints: {127.0.0.1:1: 1, 127.0.0.1:2: 0.5}",
            PoolChanged("app", (Field("endpoints.'127.0.0.1:2'", "2", "0.5"),)),
        ),
        (
            "endpoints: [127.0.0.1:1, 127.0.0.1:2]",
            "endpoints: [127.0.0.1:2, 127.0.0.1:1]",
            PoolChanged("app", (Field("endpoints", "[127.0.0.1:1, 127.0.0.1:2]", "[127.0.0.1:2, 127.0.0.1:1]"),)),
        ),
        (
            "endpoints: [127.0.0.1:1]",
            "endpoints: {127.0.0.1:1: 1}",
            PoolChanged("app", (Field("endpoints", "[127.0.0.1:1]", "{127.0.0.1:1: 1}"),)),
        ),
        ("agents: true", "agents: true, health: tcp", PoolChanged("app", (Field("health", None, "tcp"),))),
        (
            "agents: true, health: {path: /a, interval: 500ms}",
            "agents: true",
            PoolChanged(
                "app",
                (
                    Field(
                        "health",
                        "{path: /a, interval: 500ms, timeout: 500ms, healthy: 2, unhealthy: 3, status: [200-399]}",
                        None,
                    ),
                ),
            ),
        ),
        (
            "agents: true, health: {path: /a}",
            "agents: true, health: {path: /a, interval: 4s, status: [200, 300-399]}",
            PoolChanged(
                "app",
                (Field("health.interval", "2s", "4s"), Field("health.status", "[200-399]", "[200, 300-399]")),
            ),
        ),
        (
            "agents: true",
            "agents: true, health: {outlier: {max_ejected: 12.5%, base_ejection: 1m30s, success_rate: false}}",
            PoolChanged(
                "app",
                (
                    Field("health.outlier.success_rate", "true", "false"),
                    Field("health.outlier.base_ejection", "5s", "1m30s"),
                    Field("health.outlier.max_ejected", "50%", "12.5%"),
                ),
            ),
        ),
        (
            "agents: true",
            "agents: true, health: {outlier: off}",
            PoolChanged("app", (Field("health.outlier", DEFAULT_OUTLIER, None),)),
        ),
        (
            "endpoints: [127.0.0.1:1]",
            "endpoints: [127.0.0.1:1], agent_check: 9",
            PoolChanged("app", (Field("agent_check", None, "9"),)),
        ),
        (
            'run: {command: "a {port}"}',
            'run: {command: "b {port}"}',
            PoolChanged("app", (Field("run.command", "a {port}", "b {port}"),)),
        ),
        (
            'run: {command: "a {port}", image: a}',
            'run: {command: "a {port}", image: "b:1", resources: {cpus: 2}}',
            PoolChanged("app", (Field("run.image", "a", "b:1"), Field("run.resources.cpus", None, "2"))),
        ),
        (
            "dns: a.internal:80",
            "dns: _http._tcp.a.internal",
            PoolChanged("app", (Field("dns", "a.internal:80", "_http._tcp.a.internal"),)),
        ),
    ],
)
def test_settings_and_endpoints_of_a_pool(before: str, after: str, change: PoolChanged) -> None:
    assert differences(app(before), app(after)) == (change,)


def test_what_the_controller_has_from_its_start_cannot_change() -> None:
    old = shop()
    new = shop(top="cluster: fair\nadmin: {listen: ':7901'}\nstore: etcd://a:2379")
    new = attrs.evolve(new, tls=Tls("cert.pem", "key.pem", "ca.pem"))
    (change,) = differences(old, new)
    assert isinstance(change, ClusterChanged)
    assert change.fields == (
        Field("cluster", "shop", "fair"),
        Field("admin.listen", "127.0.0.1:7900", "0.0.0.0:7901"),
        Field("security.tls", None, "{certificate: cert.pem, key: key.pem, ca: ca.pem}"),
        Field("store", None, "etcd://a:2379"),
    )
    assert not change.supported
    assert change.reason == (
        "cluster, admin.listen, security.tls, store: taken up at the start only: "
        "stop the cluster and start it from the new file"
    )


def test_a_store_is_said_as_the_file_has_it() -> None:
    short, full = (attrs.evolve(shop(), store=SharedStore(*store)) for store in (("etcd://a:1",), FULL_STORE))
    (change,) = differences(shop(), full)
    assert isinstance(change, ClusterChanged)
    written = "{etcd: etcds://a:1, ca: ca.pem, certificate: c.pem, key: c.key, user: ann, password_file: password}"
    assert change.fields == (Field("store", None, written),)
    (change,) = differences(short, full)
    assert isinstance(change, ClusterChanged)
    assert change.fields == (
        Field("store.etcd", "etcd://a:1", "etcds://a:1"),
        Field("store.ca", None, "ca.pem"),
        Field("store.certificate", None, "c.pem"),
        Field("store.key", None, "c.key"),
        Field("store.user", None, "ann"),
        Field("store.password_file", None, "password"),
    )
    assert differences(full, full) == ()


FULL_STORE = ("etcds://a:1", "ca.pem", "c.pem", "c.key", "ann", "password")


@pytest.mark.parametrize(
    ("tiers", "pools", "name", "before", "after"),
    [
        (TIERS.replace("l7", "l4"), POOLS, "web", "an l7 tier", "an l4 tier"),
        (TIERS, "\n  app: {agents: true}\n", "app", LISTED, "a pool of agents"),
        (TIERS, "\n  app: {dns: a.internal:80}\n", "app", LISTED, "a pool that is looked up in DNS"),
        (
            TIERS,
            '\n  app: {run: {command: "x {port}"}}\n',
            "app",
            "a pool of listed endpoints",
            "a pool that is run here",
        ),
        (
            "\n  edge: {kind: l4, listen: 127.0.0.1:8080, to: [web, app]}\n",
            POOLS + "  web: {agents: true}\n",
            "web",
            "an l7 tier",
            "a pool of agents",
        ),
        (
            "\n  edge: {kind: l4, protocol: udp, listen: 127.0.0.1:8080, to: [app]}\n",
            POOLS,
            "edge",
            "an l4 tier",
            "an l4 tier over UDP",
        ),
    ],
)
def test_a_name_cannot_come_to_stand_for_another_thing(
    tiers: str, pools: str, name: str, before: str, after: str
) -> None:
    (change,) = (change for change in differences(shop(), shop(tiers, pools)) if not change.supported)
    assert change == Replaced(name, before, after)
    assert change.reason == (
        f"{name} cannot turn from {before} into {after} while it serves: "
        f"add {after} under another name, send to that, then remove {name}"
    )


def other(value: object) -> object:
    """Some value of the same sort that differs."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case None:
            return 7
        case _:
            return None


@pytest.mark.parametrize("owner", [Tier, Timeouts, Limits, Resources])
def test_no_setting_is_passed_over(owner: type) -> None:
    old = web()
    tier = old.tiers["web"]
    for field in attrs.fields(owner):
        if field.name in ("name", "kind", "routes"):
            continue
        part = tier if owner is Tier else getattr(tier, owner.__name__.lower())
        value = {(Tier, "orca"): Orca.TEXT, (Tier, "cpus"): (1,)}.get((owner, field.name)) or other(
            getattr(part, field.name)
        )
        changed = attrs.evolve(part, **{field.name: value})
        if owner is not Tier:
            changed = attrs.evolve(tier, **{owner.__name__.lower(): changed})
        assert differences(old, attrs.evolve(old, tiers={"web": changed})), field.name


@pytest.mark.parametrize(
    ("owner", "shape"),
    [
        (Tier, TierShape),
        (Timeouts, TimeoutsShape),
        (Limits, LimitsShape),
        (HealthCheck, HealthShape),
        (Resources, ResourcesShape),
        (SharedStore, StoreShape),
    ],
)
def test_keys_are_those_of_the_file(owner: type, shape: type) -> None:
    from_elsewhere = {"name", "announces"}  # the mapping's own key, and what a check takes over from its pool
    if owner is HealthCheck:
        from_elsewhere.add("protocol")
    said = {KEYS.get((owner, field.name), field.name) for field in attrs.fields(owner)} - from_elsewhere
    assert said <= {field.name for field in attrs.fields(shape)}


def test_all_named_fields_exist() -> None:
    for owner, name in (*KEYS, *WRITERS):
        assert name in attrs.fields_dict(owner)
    assert {"endpoints", "run", "dns", "health", "agent_check"} <= set(attrs.fields_dict(PoolShape))
    assert {"command", "replicas", "image", "resources"} == set(attrs.fields_dict(RunShape))


def test_an_endpoint_without_a_weight_weighs_one() -> None:
    one, two = Address("127.0.0.1", 1), Address("127.0.0.1", 2)
    assert weights_of(Pool("app", (one, two))) == {one: 1.0, two: 1.0}
    assert weights_of(Pool("app", (one, two), (3.0, 0.0))) == {one: 3.0, two: 0.0}


def test_changes_are_plain_data_that_says_what_it_is() -> None:
    plain = [attrs.asdict(change) for change in differences(shop(), web("replicas: 2"))]
    assert [change["change"] for change in json.loads(json.dumps(plain))] == [
        "tier-removed",
        "tier-scaled",
        "tier-changed",
    ]
