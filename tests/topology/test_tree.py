import re
from pathlib import Path

import pytest

from tierlb.topology.load import load_file, load_text
from tierlb.topology.tree import MAX_LABEL_CHARS, draw

EXAMPLES = sorted((Path(__file__).parents[2] / "topology").glob("*.yaml"))


def test_a_chain_is_drawn_from_the_listener_down() -> None:
    text = """
cluster: shop
tiers:
  edge: {kind: l4, listen: 127.0.0.1:8080, to: web}
  web: {kind: l7, replicas: 3, balance: random, to: app}
pools:
  app: {run: {command: "serve {port}", replicas: 4}}
"""
    assert draw(load_text(text, "f")).splitlines() == [
        "shop · admin 127.0.0.1:7900",
        "└─ edge · l4 · listens on 127.0.0.1:8080 · load-aware",
        "   └─ web · l7 ×3 · random",
        "      └─ app · pool ×4 · runs serve {port}",
    ]


@pytest.mark.parametrize(("cores", "told"), [(4, "×4 (one per core)"), (1, "×1 (one per core)")])
def test_a_number_of_nodes_that_was_counted_is_shown_as_such(cores: int, told: str) -> None:
    text = "{cluster: shop, tiers: {web: {kind: l7, listen: ':80', replicas: auto, routes: [{respond: {}}]}}}"
    drawn = draw(load_text(text, "f", lambda: cores)).splitlines()
    assert drawn[1] == f"└─ web · l7 {told} · listens on 0.0.0.0:80 · load-aware"


def test_routes_and_shares_are_shown_and_shared_parts_drawn_once() -> None:
    text = """
cluster: shop
tiers:
  web:
    kind: l7
    listen: ":80"
    routes:
      - match: {path_prefix: /api, method: [GET, HEAD], headers: {x-env: canary}, query: {v: }}
        to: {api: 9, app: 1}
      - match: {path: /healthz, host: a.b}
        respond: {status: 204}
      - redirect: {location: "https://{host}/"}
  api: {kind: l7, listen: ":81", to: app}
pools:
  app: {endpoints: [127.0.0.1:1, 127.0.0.1:2]}
"""
    assert draw(load_text(text, "f")).splitlines() == [
        "shop · admin 127.0.0.1:7900",
        "├─ web · l7 · listens on 0.0.0.0:80 · load-aware",
        "│  ├─ path /api/…, GET|HEAD, header x-env=canary, query v",
        "│  │  ├─ 90 % api [1] · l7 · listens on 0.0.0.0:81 · load-aware",
        "│  │  │  └─ app [2] · pool ×2 · 127.0.0.1:1, 127.0.0.1:2",
        "│  │  └─ 10 % app [2] (above)",
        "│  ├─ path /healthz, host a.b → respond 204",
        "│  └─ otherwise → redirect 308 https://{host}/",
        "└─ api [1] (above)",
    ]


def test_what_decides_besides_the_routes_is_shown(tmp_path: Path) -> None:
    for name, label in (("cert", "CERTIFICATE"), ("key", "PRIVATE KEY"), ("ca", "CERTIFICATE")):
        (tmp_path / f"{name}.pem").write_text(f"-----BEGIN {label}-----")
    text = """
cluster: shop
store: etcd://one:2379
security: {tls: {certificate: cert.pem, key: key.pem, ca: ca.pem}}
tiers:
  edge: {kind: l4, listen: ":80", balance: maglev, agent_check: 127.0.0.1:9777, to: [web, mail]}
  web: {kind: l7, balance: maglev, hash_on: {header: X-User}, orca: text, to: [app, api, next, far]}
pools:
  mail: {endpoints: {127.0.0.1:1: 3, 127.0.0.1:2: 0.5}, health: tcp}
  app: {endpoints: [127.0.0.1:3], agent_check: 9778}
  api: {run: {command: "serve {port}"}, health: {path: /up, interval: 500ms}}
  next: {agents: true}
  far: {dns: _http._tcp.far.internal, health: tcp}
"""
    assert draw(load_text(text, str(tmp_path / "shop.yaml"))).splitlines() == [
        "shop · admin 127.0.0.1:7900 · mutual TLS · store etcd://one:2379",
        "└─ edge · l4 · listens on 0.0.0.0:80 · maglev by source · agent-check on 127.0.0.1:9777",
        "   ├─ web · l7 · maglev by x-user · orca text",
        "   │  ├─ app · pool ×1 · agent-check on port 9778 · 127.0.0.1:3",
        "   │  ├─ api · pool ×1 · GET /up every 0.5s · runs serve {port}",
        "   │  ├─ next · pool of agents",
        "   │  └─ far · pool by DNS · connect every 2s · _http._tcp.far.internal",
        "   └─ mail · pool ×2 · connect every 2s · 127.0.0.1:1 weight 3, 127.0.0.1:2 weight 0.5",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_tier_and_pool_of_an_example_is_drawn_in_full_once(path: Path) -> None:
    topology = load_file(path)
    drawing = draw(topology)
    for name in topology.tiers:
        kind = topology.tiers[name].kind.value
        assert len(re.findall(rf" {name}(?: \[\d+\])? · {kind}", drawing)) == 1
    assert len(re.findall(r" · pool (?:×|of agents|by DNS)", drawing)) == len(topology.pools)


def test_the_drawing_of_many_ways_stays_small() -> None:
    tiers = ["  a0: {kind: l7, listen: ':0', to: [a1, b1]}"]
    tiers += [f"  {side}{n}: {{kind: l7, to: [a{n + 1}, b{n + 1}]}}" for n in range(1, 30) for side in "ab"]
    pools = [f"  {side}30: {{endpoints: [127.0.0.1:{port}]}}" for port, side in enumerate("ab", start=1)]
    text = "\n".join(["cluster: x", "tiers:", *tiers, "pools:", *pools])
    assert len(draw(load_text(text, "f")).splitlines()) == 1 + 1 + 2 + 29 * 4


def test_long_lines_are_cut() -> None:
    endpoints = ", ".join(f"127.0.0.1:{port}" for port in range(1, 200))
    tiers = "tiers: {a: {kind: l4, listen: ':0', to: p}}"
    drawing = draw(load_text(f"cluster: x\n{tiers}\npools: {{p: {{endpoints: [{endpoints}]}}}}", "f"))
    assert max(map(len, drawing.splitlines())) < MAX_LABEL_CHARS + 20
