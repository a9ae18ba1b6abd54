"""A whole cluster whose edge forwards in the kernel, on a machine that is a namespace, with its clients on another."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.network import Network, Talking, require, until
from tests.processes import running, tierlb

URL, URL_V6 = "http://10.77.0.1:8443/", "http://[fd77::1]:8443/"
CLIENT, CLIENT_V6 = "10.77.0.2", "fd77::2"
ADMIN = "127.0.0.1:7900"
FILE = """\
cluster: kernel
admin: {{listen: "127.0.0.1:7900"}}
tiers:
  edge: {{kind: l4, listen: "{listen}", forward: {forward}, to: web, drain: 20s}}
  web: {{kind: l7, replicas: 2, to: demo}}
pools:
  demo: {{run: {{command: "{python} -m tierlb demo-backend --port {{port}}", replicas: 2}}}}
"""


class Cluster:
    """`tierlb up` on the edge's machine, and what commands on that machine say."""

    def __init__(self, net: Network, directory: Path, process: Any) -> None:
        self.net = net
        self.directory = directory
        self.process = process

    def says(self, *command: str) -> str:
        token = str(self.directory / "state" / "admin-token")
        argv = [sys.executable, "-m", "tierlb", *command, "--admin", f"http://{ADMIN}"]
        if command[0] != "status":
            argv += ["--token-file", token]
        return self.net.runs("edge", *argv)

    def status(self) -> Any:
        return json.loads(self.says("status", "--json"))

    def serves(self) -> bool:
        argv = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{ADMIN}/healthz"]
        command = ["ip", "netns", "exec", self.net.named("edge"), *argv]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stdout == "200"

    def nodes(self) -> dict[str, Any]:
        return {node["name"]: node for tier in self.status()["tiers"].values() for node in tier["nodes"]}

    def load_of(self, node: str) -> Any:
        return self.nodes()[node]["load"]

    def rules(self) -> str:
        return self.net.runs("edge", "nft", "list", "ruleset")

    def applies(self, forward: str) -> None:
        file = self.directory / "cluster.yaml"
        file.write_text(text(forward))
        self.says("apply", str(file))


def text(forward: str, listen: str = "0.0.0.0:8443") -> str:
    return FILE.format(forward=forward, listen=listen, python=sys.executable)


@pytest.fixture(scope="module")
def net() -> Iterator[Network]:
    require()
    with Network(1).up() as net:
        yield net
        assert net.runs("edge", "nft", "list", "tables") == "", "every table is gone at the end"


@pytest.fixture
def client(net: Network) -> Talking:
    return net.talks("client", "tests.cluster.asker")


def started(net: Network, directory: Path, forward: str, listen: str) -> Iterator[Cluster]:
    (directory / "cluster.yaml").write_text(text(forward, listen))
    command = tierlb("up", state=directory / "state")
    argv = ["ip", "netns", "exec", net.named("edge"), *command, str(directory / "cluster.yaml")]
    with running(argv, directory / "up.log") as process:
        cluster = Cluster(net, directory, process)
        until(cluster.serves, (directory / "up.log").read_text)
        yield cluster


@pytest.fixture
def cluster(net: Network, tmp_path: Path) -> Iterator[Cluster]:
    yield from started(net, tmp_path, "nftables", "0.0.0.0:8443")


@pytest.fixture
def cluster_v6(net: Network, tmp_path: Path) -> Iterator[Cluster]:
    yield from started(net, tmp_path, "nftables", "[::]:8443")


def test_l7_nodes_know_the_clients_and_lose_nothing_as_one_of_them_is_killed(cluster: Cluster, client: Talking) -> None:
    until(lambda: cluster.rules().count("dnat to :") == 2, cluster.rules)
    assert client.says(do="asks", url=URL, count=40) == {f"200 {CLIENT}": 40}
    assert client.says(do="asks", url=URL, count=10, keep=True) == {f"200 {CLIENT}": 10}
    beside = cluster.net.talks("edge", "tests.cluster.asker")
    assert beside.says(do="asks", url=URL, count=10) == {"200 10.77.0.1": 10}
    assert beside.says(do="asks", url="http://127.0.0.1:8443/", count=10) == {"200 127.0.0.1": 10}
    until(lambda: cluster.load_of("edge-1")["items"] == 61, lambda: str(cluster.load_of("edge-1")))
    assert min(cluster.load_of(name)["items"] for name in ("web-1", "web-2")) > 10
    cluster.net.runs("edge", "kill", "-9", str(cluster.nodes()["web-1"]["pid"]))
    until(lambda: "web-1" not in cluster.rules(), cluster.rules)
    assert client.says(do="asks", url=URL, count=5) == {f"200 {CLIENT}": 5}
    until(lambda: cluster.rules().count("dnat to :") == 2, cluster.rules)
    assert client.says(do="asks", url=URL, count=20) == {f"200 {CLIENT}": 20}


def test_over_ipv6(cluster_v6: Cluster, client: Talking) -> None:
    until(lambda: cluster_v6.rules().count("dnat to :") == 2, cluster_v6.rules)
    assert client.says(do="asks", url=URL_V6, count=20) == {f"200 {CLIENT_V6}": 20}


def test_a_running_tier_changes_its_way_and_no_request_is_lost(cluster: Cluster, client: Talking) -> None:
    until(lambda: cluster.rules().count("dnat to :") == 2, cluster.rules)
    client.says(do="begins", name="new", url=URL)
    client.says(do="begins", name="kept", url=URL, keep=True)
    for forward in ("relay", "nftables", "relay", "nftables"):
        cluster.applies(forward)
    until(lambda: cluster.rules().count("dnat to :") == 2, cluster.rules)
    for name in ("new", "kept"):
        seen = client.says(do="ends", name=name)
        assert set(seen) == {f"200 {CLIENT}"}, name


def test_a_drain_ends_connections_below_politely(cluster: Cluster, client: Talking) -> None:
    until(lambda: cluster.rules().count("dnat to :") == 2, cluster.rules)
    client.says(do="begins", name="kept", url=URL, keep=True)
    cluster.says("restart", "edge")
    seen = client.says(do="ends", name="kept")
    assert set(seen) == {f"200 {CLIENT}"}


def test_it_ends_on_sigterm_and_leaves_nothing(cluster: Cluster, client: Talking) -> None:
    client.says(do="asks", url=URL, count=5)
    cluster.process.send_signal(signal.SIGTERM)
    assert cluster.process.wait(60) == 0
    assert cluster.rules() == ""
