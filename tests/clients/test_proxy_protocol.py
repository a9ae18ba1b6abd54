"""The PROXY protocol with real programs on both sides: HAProxy announces clients to the cluster, and the cluster
announces them to nginx and HAProxy, in both versions, at l4 and l7, relayed and handed over."""

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from scripts.benchmarks.cluster import free_address, running_cluster
from tests.processes import running

pytestmark = pytest.mark.needs("nginx", "haproxy")
DEADLINE_S = 60.0
CLIENT = "127.0.0.2"
"""Where clients are; HAProxy connects from 127.0.0.1."""
NGINX = """\
worker_processes 1;
daemon off;
error_log stderr;
pid {folder}/nginx.pid;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}/a; proxy_temp_path {folder}/b; fastcgi_temp_path {folder}/c;
  uwsgi_temp_path {folder}/d; scgi_temp_path {folder}/e;
  server {{
    listen {at} proxy_protocol;
    location / {{ return 200 "nginx $proxy_protocol_addr $proxy_protocol_server_port"; }}
  }}
}}
"""
HAPROXY = """\
global
  maxconn 100
defaults
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend announces-v1
  mode tcp
  bind {first}
  default_backend v1
backend v1
  mode tcp
  server edge {edge} send-proxy
frontend announces-v2
  mode tcp
  bind {second}
  default_backend v2
backend v2
  mode tcp
  server edge {edge} send-proxy-v2 proxy-v2-options unique-id
frontend endpoint
  mode http
  bind {at} accept-proxy
  http-request return status 200 content-type text/plain lf-string "haproxy %[src] %[dst_port]"
"""
TIERS = {
    "l4": "edge: {{kind: l4, {edge}, to: app}}",
    "l7": "edge: {{kind: l7, {edge}, to: app}}",
    "handoff": "edge: {{kind: l4, {edge}, to: web, forward: handoff}}\n  web: {{kind: l7, to: app}}",
    "relay": "edge: {{kind: l4, {edge}, to: web, forward: relay}}\n  web: {{kind: l7, to: app}}",
    "deep": "edge: {{kind: l4, {edge}, to: mid, forward: relay}}\n  mid: {{kind: l4, to: app}}",
    "requests": "edge: {{kind: l7, {edge}, to: web}}\n  web: {{kind: l7, to: app}}",
}


@contextlib.contextmanager
def programs(folder: Path, places: dict[str, str]) -> Iterator[None]:
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, at=places["nginx"]))
    (folder / "haproxy.cfg").write_text(HAPROXY.format(at=places["haproxy"], **places))
    with (
        running(["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")], folder / "nginx.log"),
        running(["haproxy", "-db", "-f", str(folder / "haproxy.cfg")], folder / "haproxy.log"),
    ):
        yield


def ask(address: str) -> str:
    with httpx.Client(transport=httpx.HTTPTransport(local_address=CLIENT), timeout=DEADLINE_S) as client:
        answer = client.get(f"http://{address}/")
    assert answer.status_code == 200, answer.text
    return answer.text


def answer_to(address: str, data: bytes, source: str) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), DEADLINE_S, (source, 0)) as sock:
        sock.sendall(data)
        with contextlib.suppress(ConnectionResetError):
            return sock.recv(4096)
    return b""


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("tiers", TIERS)
def test_clients_are_announced_from_end_to_end(tmp_path: Path, tiers: str, version: str) -> None:
    names = ("admin", "edge", "first", "second", "nginx", "haproxy")
    places = {name: free_address() for name in names}
    edge = f'listen: "{places["edge"]}", proxy_protocol: {{accept_from: [127.0.0.1]}}'
    text = f"""
cluster: announced
admin: {{listen: "{places["admin"]}"}}
tiers:
  {TIERS[tiers].format(edge=edge)}
pools:
  app:
    endpoints: ["{places["nginx"]}", "{places["haproxy"]}"]
    proxy_protocol: {version}
    health: {{path: /}}
"""
    with programs(tmp_path, places), running_cluster(text, places["admin"], tmp_path) as cluster:
        told = {ask(places[way]) for way in ("first", "second") for _ in range(6)}
        straight = ask(places["edge"])
        refused = answer_to(places["edge"], b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "127.0.0.1")
        forged = answer_to(places["edge"], b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\nGET / HTTP/1.1\r\n\r\n", CLIENT)
        states = {each["state"] for each in cluster.status()["pools"]["app"]["endpoints"]}
        rejected = sum(node["load"]["rejected"] for node in cluster.nodes("edge").values())
    assert {tuple(each.split()[:2]) for each in told} == {("nginx", CLIENT), ("haproxy", CLIENT)}
    assert straight.split()[1] == CLIENT
    if tiers != "requests":  # an l7 parent tells the client alone
        ports = {places[way].rpartition(":")[2] for way in ("first", "second")}
        assert {each.split()[2] for each in told} == ports
        assert straight.split()[2] == places["edge"].rpartition(":")[2]
    assert refused == b""
    assert b"1.2.3.4" not in forged
    assert states == {"serving"}
    assert rejected >= 1
