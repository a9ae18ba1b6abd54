"""The example files as real clusters: what they draw is what serves."""

import re
import shutil
import subprocess
import sys
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
SERVER = (
    "\"sh -c 'cd $(mktemp -d) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={} "
    "-keyout key -out cert 2>/dev/null && exec openssl s_server -accept {{host}}:{{port}} -key key -cert cert "
    "-www -quiet'\""
)


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
    if "openssl" in text and shutil.which("openssl") is None:
        pytest.skip("NOT TESTED: openssl is not installed (apt-get install openssl)")
    with running_cluster(text, admin, tmp_path):
        answers = [httpx.get(f"http://{listen}/", timeout=DEADLINE_S, trust_env=False) for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["backend"] for answer in answers}) > 1


@pytest.mark.skipif(not (shutil.which("openssl") and shutil.which("curl")), reason="openssl or curl is not installed")
def test_tls_is_passed_through_to_the_server_of_the_name(tmp_path: Path) -> None:
    text, listen, admin = moved((EXAMPLES / "sni.yaml").read_text())
    for pool in ("shop", "a", "b"):  # each with a certificate that names it
        text = text.replace(f"  {pool}: *server", f"  {pool}: {{run: {{command: {SERVER.format(pool)}}}}}")
    port = listen.rpartition(":")[2]
    with running_cluster(text, admin, tmp_path):

        def named(name: str) -> str:
            """Whose certificate a client of this name gets."""
            argv = ["curl", "-skv", "--resolve", f"{name}:{port}:127.0.0.1", f"https://{name}:{port}/"]
            done = subprocess.run(argv, capture_output=True, timeout=DEADLINE_S, check=True)
            (found,) = re.findall(r"subject: CN=(\w+)", done.stderr.decode())
            return str(found)

        names = ("shop.example.com", "www.example.com", "a.db.example.com", "x.y.db.example.com")
        assert [named(name) for name in names] == ["demo", "demo", "a", "b"]
        argv = [sys.executable, "-m", "tierlb", "explain", "edge", "--admin", f"http://{admin}"]
        argv += ["--sni", "a.db.example.com", "--source", "127.0.0.1"]
        told = subprocess.run(argv, capture_output=True, timeout=DEADLINE_S, check=True).stdout.decode()
        assert told.rstrip().splitlines()[-2].endswith("sni a.db.example.com → a")


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
