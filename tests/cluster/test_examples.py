"""The example files as real clusters: what they draw is what serves."""

import re
from pathlib import Path

import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address, running_cluster

EXAMPLES = Path(__file__).parents[2] / "topology"
DEADLINE_S = 60.0
LISTED_ENDPOINTS = re.compile(r"^\s*endpoints:", re.MULTILINE)
RUNNABLE = [path.name for path in sorted(EXAMPLES.glob("*.yaml")) if not LISTED_ENDPOINTS.search(path.read_text())]
"""Those that start their own endpoints."""


def moved(text: str) -> tuple[str, str, str]:
    """The topology on free addresses: its text, where it listens, where its admin API is."""
    admin, listen = free_address(), free_address()
    text = re.sub(r"127\.0\.0\.1:7900", admin, text)
    return re.sub(r"127\.0\.0\.1:8080", listen, text), listen, admin


def test_there_are_examples_to_run() -> None:
    assert {"quickstart.yaml", "deep.yaml"} <= set(RUNNABLE)


@pytest.mark.parametrize("name", RUNNABLE)
def test_an_example_serves_requests_through_its_whole_tree(name: str, tmp_path: Path) -> None:
    text, listen, admin = moved((EXAMPLES / name).read_text())
    with running_cluster(text, admin, tmp_path):
        answers = [httpx.get(f"http://{listen}/", timeout=DEADLINE_S, trust_env=False) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["backend"] for answer in answers}) > 1


def test_deep_trees_carry_the_client_s_address_to_the_endpoint(tmp_path: Path) -> None:
    text, listen, admin = moved((EXAMPLES / "deep.yaml").read_text())
    with running_cluster(text, admin, tmp_path):
        answer = httpx.get(f"http://{listen}/", timeout=DEADLINE_S, trust_env=False).json()
    fields = {name: value for name, value in answer["headers"] if name != "via"}
    assert [name for name, _ in answer["headers"]].count("via") == 2
    assert fields["x-forwarded-for"].split(", ")[0] == "127.0.0.1"
    assert fields["x-forwarded-host"] == listen


def test_several_edges_share_one_port(tmp_path: Path) -> None:
    text, listen, admin = moved((EXAMPLES / "quickstart.yaml").read_text())
    text = re.sub(r"(?m)^(\s*)kind: l4$", r"\1kind: l4\n\1replicas: 3", text, count=1)
    with running_cluster(text, admin, tmp_path) as cluster:
        assert len(cluster.nodes("edge")) == 3

        def every_edge_took_a_connection() -> bool:
            assert httpx.get(f"http://{listen}/", timeout=DEADLINE_S, trust_env=False).status_code == 200
            return all((node["load"] or {}).get("items", 0) for node in cluster.nodes("edge").values())

        trio.run(cluster.wait_until, "a connection at every edge", every_edge_took_a_connection, DEADLINE_S)
