"""`tierlb explain` on real clusters, and the metrics of their nodes."""

import json
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from click.testing import CliRunner, Result
from prometheus_client.parser import text_string_to_metric_families

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from tierlb.cli.main import main

EXAMPLES = Path(__file__).parents[2] / "topology"
DEADLINE_S = 90.0
VISITORS = 8
FRESH_S = 2.0


def example(name: str) -> tuple[str, str]:
    """The topology on free addresses, and where its admin API is."""
    admin = free_address()
    text = re.sub(r"127\.0\.0\.1:7900", admin, (EXAMPLES / name).read_text())
    return re.sub(r"127\.0\.0\.1:8080", free_address(), text), admin


def run_explain(cluster: Cluster, *arguments: str) -> Result:
    where = ("--admin", f"http://{cluster.admin}", "--token-file", str(cluster.state / "admin-token"))
    return CliRunner().invoke(main, ["explain", *where, *arguments])


def explain(cluster: Cluster, *arguments: str) -> dict[str, Any]:
    result = run_explain(cluster, "--json", *arguments)
    assert result.exit_code == 0, result.stderr
    return dict(json.loads(result.stdout))


def explain_under_load(cluster: Cluster, path: str) -> dict[str, Any]:
    """The first explanation in which the first tier knows of capacities, which are learnt from traffic, has fresh
    reports, and no visitor is just about to come back by another connection."""
    for _ in range(40):
        told = explain(cluster, path)
        hosts = told["choices"][0]["members"]
        known = all(host["capacity"] and 0 <= host["report_age_s"] < FRESH_S for host in hosts)
        if known and sum(host["in_flight"] for host in hosts) >= VISITORS:
            break
    return told


def tiers_of(told: dict[str, Any]) -> list[str]:
    return [choice["tier"] for choice in told["choices"]]


def under_load(listen: str, ask: Any) -> Any:
    """What `ask` returns while visitors send one request after the other."""

    async def visit() -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=DEADLINE_S) as http:
            while True:
                (await http.get(f"http://{listen}/?delay=5ms")).raise_for_status()

    async def run() -> Any:
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                for _ in range(VISITORS):
                    nursery.start_soon(visit)
                answer = await trio.to_thread.run_sync(ask)
                nursery.cancel_scope.cancel()
        return answer

    return trio.run(run)


def listen_of(cluster: Cluster) -> str:
    return next(tier["listen"][0] for tier in cluster.status()["tiers"].values() if tier["listen"])


def test_each_tier_says_whom_it_chose_against_whom_and_why(tmp_path: Path) -> None:
    text, admin = example("quickstart.yaml")
    with running_cluster(text, admin, tmp_path) as cluster:
        told = under_load(listen_of(cluster), lambda: explain_under_load(cluster, "/cart?a=1"))
        once_more = run_explain(cluster, f"http://{listen_of(cluster)}/")
        scrape_all(cluster)
    assert (told["status"], told["missing"], tiers_of(told)) == (200, None, ["edge", "web"])
    edge, web = told["choices"]
    assert (edge["kind"], edge["policy"], web["kind"]) == ("l4", "load-aware", "l7")
    assert {host["member"] for host in edge["members"]} == {"web-1", "web-2", "web-3"}
    assert edge["chose"] == edge["members"][0]["member"] == web["node"]
    assert edge["members"][0]["score"] == min(host["score"] for host in edge["members"])
    assert sum(host["in_flight"] for host in edge["members"]) >= VISITORS
    assert all(host["capacity"] > 0 for host in edge["members"])
    assert all(0 <= host["report_age_s"] < FRESH_S for host in edge["members"])
    assert len(web["members"]) == 4
    assert web["chose"] == told["endpoint"]
    assert once_more.exit_code == 0
    assert re.search(r"\n▸ web-\d .*\n  web-1 · web l7 |\n  web-\d · web l7 ", once_more.stdout)
    assert re.search(r"\n200 OK from demo/127\.0\.0\.1:\d+\n$", once_more.stdout)


def scrape_all(cluster: Cluster) -> None:
    """Every node's figures are where the status says, for whoever asks."""
    nodes = {**cluster.nodes("edge"), **cluster.nodes("web")}
    assert len(nodes) == 4
    for name, node in nodes.items():
        page = httpx.get(f"http://{node['control']}/metrics", timeout=DEADLINE_S, trust_env=False).raise_for_status()
        samples = [s for family in text_string_to_metric_families(page.text) for s in family.samples]
        assert {sample.labels["node"] for sample in samples} == {name}
        assert next(s.value for s in samples if s.name == "tierlb_items_total") > 0
        assert {s.labels["member"] for s in samples if s.name == "tierlb_member_done_total"} == {
            host["name"] for host in node["load"]["members"]
        }


def test_in_a_deep_tree_all_four_tiers_speak(tmp_path: Path) -> None:
    text, admin = example("deep.yaml")
    with running_cluster(text, admin, tmp_path) as cluster:
        long_way, short_way = explain(cluster), explain(cluster, "/static/logo.png", "-X", "POST")
    assert tiers_of(long_way) == ["edge", "spread", "front", "back"]
    assert tiers_of(short_way) == ["edge", "spread", "front"]
    assert short_way["endpoint"].startswith("static/")
    for told in (long_way, short_way):
        chosen = [choice["chose"] for choice in told["choices"]]
        assert [choice["node"] for choice in told["choices"][1:]] == chosen[:-1]
        assert chosen[-1] == told["endpoint"]


BROKEN = """\
cluster: broken
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{http}", to: web}}
  web:
    kind: l7
    routes:
      - match: {{path: /hello}}
        respond: {{status: 418, body: "hello"}}
      - match: {{path: /old}}
        redirect: {{location: /new}}
      - match: {{path: /down}}
        to: down
      - match: {{path_prefix: /inner}}
        to: inner
  inner:
    kind: l7
    routes: [{{match: {{path: /inner/none}}, respond: {{status: 204}}}}, {{match: {{path: /inner}}, to: down}}]
  tcp: {{kind: l4, listen: "{tcp}", to: down}}
pools:
  down: {{endpoints: ["{down}", "{down_too}"]}}
"""


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Any:
    names = ("admin", "http", "tcp", "down", "down_too")
    places = {name: free_address() for name in names}
    with running_cluster(BROKEN.format(**places), places["admin"], tmp_path_factory.mktemp("broken")) as cluster:
        yield {**places, "cluster": cluster}


@pytest.mark.parametrize(
    ("path", "status", "tiers", "last"),
    [
        ("/hello", 418, ["edge", "web"], 418),
        ("/old", 308, ["edge", "web"], 308),
        ("/nothing", 404, ["edge", "web"], 404),
        ("/inner/none", 204, ["edge", "web", "inner"], 204),
        ("/inner/x", 404, ["edge", "web", "inner"], 404),
    ],
)
def test_a_node_that_answers_itself_says_so(broken: Any, path: str, status: int, tiers: list[str], last: int) -> None:
    told = explain(broken["cluster"], path)
    assert (told["status"], tiers_of(told)) == (status, tiers)
    assert (told["choices"][-1]["answered"], told["endpoint"]) == (last, None)


@pytest.mark.parametrize(("path", "tier"), [("/down", "web"), ("/inner", "inner")])
def test_a_request_that_nobody_took_is_explained_too(broken: Any, path: str, tier: str) -> None:
    told = explain(broken["cluster"], path)
    assert (told["status"], told["endpoint"]) == (502, None)
    *tried, last = [choice for choice in told["choices"] if choice["tier"] == tier]
    assert {choice["chose"] for choice in tried} == {f"down/{broken['down']}", f"down/{broken['down_too']}"}
    assert last["answered"] == 502


def test_plain_tcp_cannot_be_explained(broken: Any) -> None:
    result = run_explain(broken["cluster"], f"http://{broken['tcp']}/")
    assert result.exit_code == 1
    assert "only HTTP can be explained" in result.stderr
