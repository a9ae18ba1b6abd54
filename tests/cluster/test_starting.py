"""A cluster that is slow to start, as a person sees it."""

import shlex
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import httpx
import trio
import trustme

from scripts.benchmarks.cluster import Cluster, free_address
from tests.processes import running, tierlb
from tierlb.dataplane.hold import HOLD_S

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
        assert "waiting for demo: 0 of 1 endpoint accept connections" in map(str.strip, shown)
        health = read(cluster, "/healthz")
        assert (health.status_code, health.text.splitlines()[0]) == (503, "not serving")
        logged = cluster.log.read_text
        trio.run(cluster.wait_until, "the log says so", lambda: "demo: 0 of 1 endpoint" in logged(), DEADLINE_S)
        gate.touch()
        trio.run(cluster.wait_until, "it serves", cluster.serves, DEADLINE_S)
        assert say(cluster, "status").splitlines()[0].split() == ["slow", "serving", "revision", "1"]


@attrs.define
class EarlyClients:
    """Connections, one after the other, from before the cluster serves; of those that fail, how long they lasted."""

    edge: str
    answered: int = 0
    failed_after_s: list[float] = attrs.field(factory=list)

    def ask(self) -> None:
        host, _, port = self.edge.rpartition(":")
        began = time.monotonic()
        try:
            with socket.create_connection((host, int(port)), DEADLINE_S) as client:
                began = time.monotonic()
                client.sendall(b"GET / HTTP/1.1\r\nHost: early\r\nConnection: close\r\n\r\n")
                answer = client.recv(1000)
        except ConnectionRefusedError:
            return  # nothing listens yet
        except ConnectionResetError:
            answer = b""
        if answer.startswith(b"HTTP/1.1 200 "):
            self.answered += 1
        else:
            self.failed_after_s.append(time.monotonic() - began)

    def are_answered(self) -> bool:
        self.ask()
        return self.answered >= 20


def test_connections_that_come_before_the_tree_serves_wait_for_it(tmp_path: Path) -> None:
    with slow_cluster(tmp_path) as (cluster, edge, gate):
        clients = EarlyClients(edge)
        trio.run(cluster.wait_until, "the edge listens", lambda: is_listening(edge), DEADLINE_S)
        gate.touch()
        trio.run(cluster.wait_until, "clients are answered", clients.are_answered, DEADLINE_S)
    soon = [seconds for seconds in clients.failed_after_s if seconds < HOLD_S - 1]
    assert soon == [], "only a machine that is too busy fails them, when their time is over"


def is_listening(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), DEADLINE_S):
            return True
    except ConnectionRefusedError:
        return False


def issue(authority: trustme.CA, directory: Path, *names: str) -> None:
    """The certificate that all processes of the cluster show."""
    issued = authority.issue_cert(*names)
    authority.cert_pem.write_to_path(directory / "ca.pem")
    issued.private_key_pem.write_to_path(directory / "node.key")
    issued.cert_chain_pems[0].write_to_path(directory / "node.pem")


def refuses_strangers(at: str, name: str, ca: Path) -> bool:
    """Whether the port is shown to be the cluster's, and answers nothing to one without a certificate."""
    host, _, port = at.rpartition(":")
    trusting = ssl.create_default_context(cafile=str(ca))
    plain = socket.create_connection((host, int(port)), DEADLINE_S)
    with trusting.wrap_socket(plain, server_hostname=name) as stranger:
        answer = b""
        with suppress(OSError):  # an alert, a reset or an end
            stranger.sendall(b"GET / HTTP/1.1\r\n\r\n")
            answer = stranger.recv(1)
    return answer == b""


def test_with_security_the_certificate_has_to_name_the_tiers(tmp_path: Path) -> None:
    issue(trustme.CA(), tmp_path, "127.0.0.1", "web")
    text = FILE.format(admin=free_address(), edge=free_address(), command="true {port}")
    files = "security: {tls: {certificate: node.pem, key: node.key, ca: ca.pem}}\n"
    (tmp_path / "slow.yaml").write_text(text + files)
    argv = [*tierlb("up", state=tmp_path / "state"), str(tmp_path / "slow.yaml")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == 1
    assert "is not for the tier edge: add DNS:edge to its subjectAltName" in done.stderr


def test_with_security_nodes_and_controller_speak_tls(tmp_path: Path) -> None:
    """On control connections and between tiers, and go on with a renewed certificate."""
    authority = trustme.CA()
    issue(authority, tmp_path, "127.0.0.1", "edge", "web")
    admin, edge = free_address(), free_address()
    text = FILE.format(admin=admin, edge=edge, command=f"{sys.executable} -m tierlb demo-backend --port {{port}}")
    files = "security: {tls: {certificate: node.pem, key: node.key, ca: ca.pem}}\n"
    (tmp_path / "slow.yaml").write_text(text.replace("to: web}", "to: web, forward: relay}") + files)
    argv = [*tierlb("up", state=tmp_path / "state"), str(tmp_path / "slow.yaml")]
    with running(argv, tmp_path / "up.log") as process:
        cluster = Cluster(admin, tmp_path, process)
        trio.run(cluster.wait_until, "it serves", cluster.serves, DEADLINE_S)
        assert httpx.get(f"http://{edge}/", timeout=DEADLINE_S, trust_env=False).status_code == 200
        (inner,) = cluster.nodes("web")["web-1"]["addresses"]
        assert refuses_strangers(inner, "web", tmp_path / "ca.pem")
        issue(authority, tmp_path, "127.0.0.1", "edge", "web")
        taken = lambda: cluster.log.read_text().count("certificate_renewed") >= 3  # noqa: E731 (controller and two nodes)
        trio.run(cluster.wait_until, "the certificate is taken", taken, DEADLINE_S)
        assert httpx.get(f"http://{edge}/", timeout=DEADLINE_S, trust_env=False).status_code == 200
        url = (tmp_path / "state" / "control-url").read_text().strip()
        assert url.startswith("wss://")
        assert refuses_strangers(url.removeprefix("wss://"), "127.0.0.1", tmp_path / "ca.pem")
