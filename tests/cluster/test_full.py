"""A real cluster with few descriptors: it says so, and idle clients give way to those that ask."""

import contextlib
import socket
from pathlib import Path
from typing import Any

import httpx
import trio

from scripts.benchmarks.cluster import free_address, running_cluster
from tierlb.net.descriptors import connections_for

DESCRIPTORS = 200
DEADLINE_S = 60.0
GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
TOPOLOGY = """
cluster: small
admin: {{listen: {admin}}}
tiers:
  web: {{kind: l7, listen: {listen}, routes: [{{respond: {{status: 200, body: hello}}}}]}}
"""


def test_out_of_descriptors_every_client_that_asks_is_answered_and_status_tells_why(tmp_path: Path) -> None:
    admin, listen = free_address(), free_address()
    host, _, port = listen.rpartition(":")
    cap = connections_for(DESCRIPTORS)
    with running_cluster(
        TOPOLOGY.format(admin=admin, listen=listen), admin, tmp_path, descriptors=DESCRIPTORS
    ) as small:

        def load() -> dict[str, Any]:
            return small.nodes("web")["web-1"]["load"] or {}

        def shortages() -> str:
            return " ".join(load().get("shortages", ()))

        trio.run(small.wait_until, "the cap in status", lambda: f"allow {cap} connections" in shortages(), DEADLINE_S)
        with contextlib.ExitStack() as stack:
            for _ in range(cap + 50):
                client = stack.enter_context(socket.create_connection((host, int(port)), DEADLINE_S))
                client.sendall(GET)
                assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
            answer = httpx.get(f"http://{listen}/", timeout=DEADLINE_S, trust_env=False)
            assert answer.status_code == 200
            full = lambda: "idle ones closed" in shortages() and load()["gave_way"] > 0  # noqa: E731
            trio.run(small.wait_until, "that idle ones gave way", full, DEADLINE_S)
        log = small.log.read_text()
    assert log.count("connections_capped") == 1
    assert log.count('"connections_full"') + log.count("connections_full ") >= 1
    assert "Traceback" not in log
