"""A cluster that is slow to start, as a person sees it."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import trio

from scripts.benchmarks.cluster import Cluster, free_address
from tests.processes import running, tierlb

DEADLINE_S = 90.0
FILE = """\
cluster: slow
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{edge}", to: web}}
  web: {{kind: l7, to: demo}}
pools:
  demo: {{run: {{command: "{command}"}}}}
"""
WAITS_FOR_A_FILE = "until [ -e {gate} ]; do sleep 0.1; done; exec {python} -m tierlb demo-backend --port {{port}}"


@contextmanager
def slow_cluster(directory: Path) -> Iterator[tuple[Cluster, str, Path]]:
    """`tierlb up` of a cluster, its edge, and the file without which its endpoint does not start to listen."""
    gate, admin, edge = directory / "gate", free_address(), free_address()
    script = WAITS_FOR_A_FILE.format(gate=gate, python=sys.executable)
    (directory / "slow.yaml").write_text(FILE.format(admin=admin, edge=edge, command=f"sh -c {shlex.quote(script)}"))
    argv = [*tierlb("up", state=directory / "state"), str(directory / "slow.yaml")]
    with running(argv, directory / "up.log") as process:
        yield Cluster(admin, directory, process), edge, gate


def read(cluster: Cluster, path: str) -> Any:
    return httpx.get(f"http://{cluster.admin}{path}", timeout=DEADLINE_S, trust_env=False)


def say(cluster: Cluster, *arguments: str) -> str:
    command = [sys.executable, "-m", "tierlb", *arguments, "--admin", f"http://{cluster.admin}"]
    return subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False).stdout


def waits_for_its_endpoint_alone(cluster: Cluster) -> bool:
    try:
        return bool(cluster.status()["waiting"] == ["demo: 0 of 1 endpoint accept connections"])
    except httpx.TransportError:
        return False


def test_a_cluster_that_starts_says_what_it_waits_for(tmp_path: Path) -> None:
    with slow_cluster(tmp_path) as (cluster, _, gate):
        trio.run(cluster.wait_until, "the nodes serve", lambda: waits_for_its_endpoint_alone(cluster), DEADLINE_S)
        shown = say(cluster, "status").splitlines()
        assert shown[0].split() == ["slow", "starting", "revision", "1"]
        assert shown[-1].strip() == "waiting for demo: 0 of 1 endpoint accept connections"
        health = read(cluster, "/healthz")
        assert (health.status_code, health.text.splitlines()[0]) == (503, "not serving")
        logged = cluster.log.read_text
        trio.run(cluster.wait_until, "the log says so", lambda: "demo: 0 of 1 endpoint" in logged(), DEADLINE_S)
        gate.touch()
        trio.run(cluster.wait_until, "it serves", cluster.serves, DEADLINE_S)
        assert say(cluster, "status").splitlines()[0].split() == ["slow", "serving", "revision", "1"]
