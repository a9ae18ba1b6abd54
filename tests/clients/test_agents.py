"""Backends that join by themselves: a real sidecar beside a real app, as a user starts both, and what apps say of their
load in their responses."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from typing import Any

import attrs
import httpx
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.lost import kill
from tests.cluster.traffic import Traffic
from tests.processes import Process, running, tierlb
from tierlb.agent.reporter import ORCA_FIELD
from tierlb.model.address import parse_address
from tierlb.wire.orca import parse_orca

DEADLINE_S = 180.0
LEAVES_S = 45.0
SLOTS = 4
"""Of the app in tests/agent/apps.py."""
GOES_ON_S = 1.5
TOPOLOGY = """\
cluster: agents
admin: {{listen: {admin}}}
tiers:
  web: {{kind: l7, listen: "{web}", orca: text, routes: [{{match: {{path_prefix: /work}}, to: joining}}]}}
  mute: {{kind: l7, listen: "{mute}", routes: [{{match: {{path_prefix: /work}}, to: joining}}]}}
pools:
  joining: {{agents: true}}
"""


@attrs.frozen
class Site:
    """The running cluster, to which apps come and go."""

    cluster: Cluster
    web: str
    mute: str

    @property
    def traffic(self) -> Traffic:
        address = parse_address(self.web)
        return Traffic((address.host, address.port), work="/work")

    @contextlib.contextmanager
    def demo(self, name: str) -> Iterator[tuple["Process[bytes]", "Process[bytes]"]]:
        """A demo backend that says its load, and its sidecar."""
        address = free_address()
        port = parse_address(address).port
        argv = tierlb("demo-backend", port=port, name=name, slots=3, service="5ms", orca="text")
        with self.joined(argv, name, address) as both:
            yield both

    @contextlib.contextmanager
    def joined(self, argv: list[str], name: str, address: str) -> Iterator[tuple["Process[bytes]", "Process[bytes]"]]:
        """The app and its sidecar, which finds the cluster by the files that `up` has left."""
        load = f"http://{address}/.tierlb/load"
        joins = {"join_file": self.cluster.state, "pool": "joining", "name": name, "address": address, "url": load}
        log = self.cluster.directory / "apps.log"
        with running(argv, log) as app, running(tierlb("agent", **joins), log) as sidecar:
            yield app, sidecar

    def agents(self) -> dict[str, dict[str, Any]]:
        return {agent["name"]: agent for agent in self.cluster.status()["pools"]["joining"]["agents"]}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    at = {name: free_address() for name in ("admin", "web", "mute")}
    text = TOPOLOGY.format(**at)
    with running_cluster(text, at["admin"], tmp_path_factory.mktemp("agents"), Cluster.is_whole) as cluster:
        yield Site(cluster, at["web"], at["mute"])


async def test_an_app_joins_by_its_sidecar_and_leaves_with_it_without_a_failed_request(site: Site) -> None:
    traffic = site.traffic
    with trio.fail_after(DEADLINE_S), site.demo("stays"), site.demo("leaves") as (app, sidecar):
        await site.cluster.wait_until("both have joined", lambda: set(site.agents()) == {"stays", "leaves"}, LEAVES_S)
        async with traffic.flowing():
            await traffic.until("both have traffic", lambda: len(traffic.served_by(0.0)) == 2)
            sidecar.send_signal(signal.SIGTERM)
            assert await trio.to_thread.run_sync(sidecar.wait, LEAVES_S) == 0
            kill(app.pid)
            alone_s = trio.current_time()
            await traffic.until("all is answered by one", lambda: traffic.served_by(alone_s)["stays"] > 100)
    assert set(traffic.served_by(alone_s)) == {"stays"}
    assert traffic.failures == []
    assert "leaves" not in site.agents()


async def test_an_app_in_an_asgi_server_is_counted_from_inside_and_what_it_says_in_responses_stays_inside(
    site: Site,
) -> None:
    traffic, address = site.traffic, free_address()
    argv = [sys.executable, "-m", "hypercorn", "tests.agent.apps:app", "--bind", address, "--worker-class", "trio"]

    def counted() -> int:
        return int((site.agents().get("asgi", {}).get("load") or {}).get("items", 0))

    with trio.fail_after(DEADLINE_S), site.joined(argv, "asgi", address):
        await site.cluster.wait_until("it answers", lambda: orca(address) is not None, LEAVES_S)
        own = parse_orca((orca(address) or "").encode())
        assert own.slots == SLOTS
        await site.cluster.wait_until("it has joined", lambda: "asgi" in site.agents(), LEAVES_S)
        async with traffic.flowing():
            await traffic.until("the node reports its use", lambda: utilisation_of(site.web) > 0)
            said = parse_orca((orca(site.web) or "").encode())
            assert (said.slots, said.cpu) == (0, 0)
            assert orca(site.mute) is None
            before = counted()
            await site.cluster.wait_until("it is counted", lambda: counted() > before + 100, LEAVES_S)
    assert traffic.failures == []


def utilisation_of(address: str) -> float:
    """What a node states of its own use in responses; 0 while it states nothing."""
    value = orca(address)
    return 0.0 if value is None else parse_orca(value.encode()).application


def orca(address: str) -> str | None:
    """What an answer from there says of load."""
    with contextlib.suppress(httpx.TransportError):
        answer = httpx.get(f"http://{address}/work", timeout=DEADLINE_S, trust_env=False)
        assert "endpoint-load-metrics-bin" not in answer.headers
        return answer.headers.get(ORCA_FIELD) if answer.status_code == 200 else None
    return None


async def test_an_app_whose_sidecar_is_killed_keeps_its_traffic(site: Site) -> None:
    traffic = site.traffic
    with trio.fail_after(DEADLINE_S), site.demo("one"), site.demo("other") as (_, sidecar):
        await site.cluster.wait_until("both have joined", lambda: {"one", "other"} <= set(site.agents()), LEAVES_S)
        async with traffic.flowing():
            await traffic.until("both have traffic", lambda: len(traffic.served_by(0.0)) == 2)
            kill(sidecar.pid)
            killed_s = trio.current_time()
            await trio.sleep(GOES_ON_S)
            since_s = killed_s + GOES_ON_S / 2
            await traffic.until("many are answered", lambda: traffic.served_by(since_s).total() >= 100)
            served = traffic.served_by(since_s)
    assert served["other"] > served.total() / 4
    assert traffic.failures == []
