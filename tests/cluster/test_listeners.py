"""Real clusters that listen in several places, and whose endpoints are unix sockets and IPv6 addresses."""

import contextlib
import os
import socket
import socketserver
import stat
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from scripts.benchmarks.cluster import free_address, running_cluster
from tests.cluster.changing import DEMO, Load, running_site
from tierlb.model.address import parse_address
from tierlb.net.sockaddr import has_ipv6

DEADLINE_S = 120.0
pytestmark = pytest.mark.skipif(not has_ipv6(), reason="NOT TESTED: this machine has no IPv6")


class Answers(BaseHTTPRequestHandler):
    """Says at which of its addresses it was asked, and for whom."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        at = self.server.server_address
        body = f"{at if isinstance(at, str) else at[0]} {self.headers['x-forwarded-for']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return ""

    def log_message(self, *args: Any) -> None:
        """Nothing is to be printed."""


class UnixServer(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class V6Server(socketserver.ThreadingMixIn, HTTPServer):
    address_family = socket.AF_INET6
    daemon_threads = True


@contextlib.contextmanager
def serving(server: socketserver.BaseServer) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield server.server_address
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def folder() -> Iterator[Path]:
    """A short path, since those of unix sockets are limited."""
    with tempfile.TemporaryDirectory(prefix="tlb") as name:
        yield Path(name)


def get(address: str) -> httpx.Response:
    uds = address.removeprefix("unix:") if address.startswith("unix:") else None
    with httpx.Client(transport=httpx.HTTPTransport(uds=uds), timeout=DEADLINE_S) as client:
        return client.get("http://localhost/" if uds else f"http://{address}/")


@pytest.mark.parametrize("kind", ["l4", "l7"])
def test_a_tier_serves_wherever_it_listens(tmp_path: Path, folder: Path, kind: str) -> None:
    admin, v4, dual = (free_address() for _ in range(3))
    port = parse_address(dual).port
    unix = f"unix:{folder}/edge.sock"
    with serving(UnixServer(f"{folder}/app.sock", Answers)), serving(V6Server(("::1", 0), Answers)) as v6:
        text = f"""
            cluster: listeners
            admin: {{listen: "{admin}"}}
            tiers:
              edge:
                kind: {kind}
                replicas: 2
                listen: ["{v4}", "*:{port}", {{address: "{unix}", mode: "0600"}}]
                to: web
                balance: round-robin
              web: {{kind: l7, to: app, balance: round-robin}}
            pools:
              app: {{endpoints: ["unix:{folder}/app.sock", "[::1]:{v6[1]}"], health: {{path: /}}}}
        """
        with running_cluster(text, admin, tmp_path) as cluster:
            places = (v4, f"127.0.0.1:{port}", f"[::1]:{port}", unix)
            answers = {place: [get(place) for _ in range(4)] for place in places}
            mode = stat.S_IMODE(os.stat(f"{folder}/edge.sock").st_mode)
            states = [each["state"] for each in cluster.status()["pools"]["app"]["endpoints"]]
            listed = cluster.status()["tiers"]["edge"]["listen"]
    assert {answer.status_code for each in answers.values() for answer in each} == {200}
    at = {answer.text.split()[0] for each in answers.values() for answer in each}
    assert at == {f"{folder}/app.sock", "::1"}
    clients = {place: {answer.text.split()[1].rstrip(",") for answer in each} for place, each in answers.items()}
    assert clients == {v4: {"127.0.0.1"}, places[1]: {"127.0.0.1"}, places[2]: {"::1"}, unix: {"127.0.0.1"}}
    assert (mode, states) == (0o600, ["serving", "serving"])
    assert listed == [v4, f"*:{port}", unix]
    assert not Path(f"{folder}/edge.sock").exists()


@pytest.mark.parametrize("kind", ["l4", "l7"])
async def test_listeners_come_go_and_change_beside_others(tmp_path: Path, folder: Path, kind: str) -> None:
    kept, other = (free_address() for _ in range(2))
    unix = f"unix:{folder}/edge.sock"

    def text(listen: str) -> str:
        return f"""
            cluster: changing
            tiers:
              edge: {{kind: {kind}, listen: {listen}, to: web}}
              web: {{kind: l7, to: demo}}
            pools:
              demo: {{run: {{command: "{DEMO}"}}}}
        """

    address = parse_address(kept)
    load = Load((address.host, address.port))
    with trio.fail_after(DEADLINE_S):
        async with running_site(text(f'"{kept}"'), tmp_path) as site, load.flowing():

            async def listens(listen: str) -> None:
                await site.done(await site.changes.apply(text(listen), site.request))

            async def answers(place: str) -> int:
                return (await trio.to_thread.run_sync(get, place)).status_code

            await listens(f'["{kept}", "{other}", {{address: "{unix}", mode: "0600"}}]')
            assert [await answers(place) for place in (kept, other, unix)] == [200, 200, 200]
            await listens(f'["{kept}", {{address: "{unix}", mode: "0660"}}]')
            assert stat.S_IMODE(os.stat(f"{folder}/edge.sock").st_mode) == 0o660
            assert [await answers(place) for place in (kept, unix)] == [200, 200]
            with pytest.raises(httpx.ConnectError):
                await answers(other)
            await site.done(site.changes.restart("edge", site.request))
            assert [await answers(place) for place in (kept, unix)] == [200, 200]
            await listens(f'"{kept}"')
            assert not await trio.Path(f"{folder}/edge.sock").exists()
            assert load.failures == []
    assert load.failures == []
    assert load.answered > 50


def test_one_listener_of_a_tier_sends_all_to_https(tmp_path: Path) -> None:
    admin, plain, other = (free_address() for _ in range(3))
    text = f"""
        cluster: redirects
        admin: {{listen: "{admin}"}}
        tiers:
          web:
            kind: l7
            listen: ["{other}", {{address: "{plain}", redirect_https: {other.rpartition(":")[2]}}}]
            routes: [{{respond: {{status: 200, body: here}}}}]
    """
    with running_cluster(text, admin, tmp_path):
        sent, served = get(plain), get(other)
    assert (sent.status_code, sent.headers["location"]) == (308, f"https://{other}/")
    assert (served.status_code, served.text) == (200, "here")
