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
        "└─ edge · l4 · listens on 127.0.0.1:8080 · least-requests",
        "   └─ web · l7 ×3 · random",
        "      └─ app · pool ×4 · runs serve {port}",
    ]


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
        "├─ web · l7 · listens on 0.0.0.0:80 · least-requests",
        "│  ├─ path /api/…, GET|HEAD, header x-env=canary, query v",
        "│  │  ├─ 90 % api [1] · l7 · listens on 0.0.0.0:81 · least-requests",
        "│  │  │  └─ app [2] · pool ×2 · 127.0.0.1:1, 127.0.0.1:2",
        "│  │  └─ 10 % app [2] (above)",
        "│  ├─ path /healthz, host a.b → respond 204",
        "│  └─ otherwise → redirect 308 https://{host}/",
        "└─ api [1] (above)",
    ]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_tier_and_pool_of_an_example_is_drawn_in_full_once(path: Path) -> None:
    topology = load_file(path)
    drawing = draw(topology)
    for name in topology.tiers:
        kind = topology.tiers[name].kind.value
        assert len(re.findall(rf" {name}(?: \[\d+\])? · {kind}", drawing)) == 1
    assert drawing.count("· pool ×") == len(topology.pools)


def test_the_drawing_of_many_ways_stays_small() -> None:
    tiers = ["  a0: {kind: l7, listen: '*:0', to: [a1, b1]}"]
    tiers += [f"  {side}{n}: {{kind: l7, to: [a{n + 1}, b{n + 1}]}}" for n in range(1, 30) for side in "ab"]
    pools = [f"  {side}30: {{endpoints: [127.0.0.1:{port}]}}" for port, side in enumerate("ab", start=1)]
    text = "\n".join(["cluster: x", "tiers:", *tiers, "pools:", *pools])
    assert len(draw(load_text(text, "f")).splitlines()) == 1 + 1 + 2 + 29 * 4


def test_long_lines_are_cut() -> None:
    endpoints = ", ".join(f"127.0.0.1:{port}" for port in range(1, 200))
    tiers = "tiers: {a: {kind: l4, listen: '*:0', to: p}}"
    drawing = draw(load_text(f"cluster: x\n{tiers}\npools: {{p: {{endpoints: [{endpoints}]}}}}", "f"))
    assert max(map(len, drawing.splitlines())) < MAX_LABEL_CHARS + 20
