"""A cluster at rest hardly wakes, and is none the slower for it when something happens: edge (l4) → 3 l7 → endpoints,
one for each l7 node."""

import json
import os
import signal
from collections.abc import Iterator

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.cpu import used
from tests.cluster.traffic import ONE_EACH, Endpoint, Traffic
from tierlb.model.address import parse_address

TOPOLOGY = "cluster: rest\nadmin: {{listen: {admin}}}\n" + ONE_EACH
DEADLINE_S = 240.0
WINDOW_S = 5.0
MOST_WAKEUPS = 50
"""In a window. A process at rest wakes two or three times a second for its regular work, reports and guidance. With a
tick every 50 ms it would be a hundred times at least."""
FAIR = 1 / 3


@attrs.frozen
class Site:
    """The cluster and its endpoints."""

    cluster: Cluster
    traffic: Traffic
    endpoints: dict[str, Endpoint]

    def pids(self) -> dict[str, int]:
        """Of all nodes and of the controller. Asking makes the cluster report in detail for some seconds."""
        tiers = self.cluster.status()["tiers"].values()
        nodes = {node["name"]: int(node["pid"]) for tier in tiers for node in tier["nodes"]}
        return nodes | {"controller": self.cluster.process.pid}

    def logged(self, event: str, host: str) -> bool:
        """Whether a node logged this event about the host."""
        lines = [line for line in self.cluster.log.read_bytes().splitlines() if line.startswith(b"{")]
        return any((each["event"], each.get("host")) == (event, host) for each in map(json.loads, lines))


@attrs.frozen
class Started:
    """A cluster whose endpoints are not there yet."""

    cluster: Cluster
    listen: str
    endpoints: dict[str, str]


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    listen, admin = free_address(), free_address()
    endpoints = {name: free_address() for name in ("first", "second", "third")}
    text = TOPOLOGY.format(admin=admin, listen=listen, **endpoints)
    with running_cluster(text, admin, tmp_path_factory.mktemp("rest")) as cluster:
        yield Started(cluster, listen, endpoints)


@pytest.fixture
async def site(started: Started, nursery: trio.Nursery) -> Site:
    endpoints = {name: Endpoint(address) for name, address in started.endpoints.items()}
    for endpoint in endpoints.values():
        await nursery.start(endpoint.serve)
    address = parse_address(started.listen)
    return Site(started.cluster, Traffic((address.host, address.port), work="/work"), endpoints)


async def wakeups(pids: dict[str, int]) -> dict[str, int]:
    """Of each process in a window."""
    before = {name: used([pid]).wakeups for name, pid in pids.items()}
    await trio.sleep(WINDOW_S)
    return {name: used([pid]).wakeups - before[name] for name, pid in pids.items()}


async def come_to_rest(pids: dict[str, int]) -> None:
    """Wait for a window in which no process woke often."""
    with trio.fail_after(DEADLINE_S):
        while max((await wakeups(pids)).values()) > MOST_WAKEUPS:
            pass


async def test_processes_come_to_rest_and_requests_find_them_ready(site: Site) -> None:
    """Also after traffic, with connections that are kept."""
    pids = await trio.to_thread.run_sync(site.pids)
    await come_to_rest(pids)
    with trio.fail_after(DEADLINE_S):
        async with site.traffic.flowing():
            for name in ("one-1", "two-1", "three-1"):
                await site.traffic.until_used(name)
    await come_to_rest(pids)
    assert site.traffic.failures == []


async def test_after_a_rest_a_node_that_has_become_slow_is_found_as_soon_as_traffic_comes(site: Site) -> None:
    traffic, pids = site.traffic, await trio.to_thread.run_sync(site.pids)
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing(kept=0, fresh=7):
            await traffic.until_share("one-1", FAIR / 2)
        await come_to_rest(pids)
        site.endpoints["first"].takes_s = 0.5
        async with traffic.flowing(kept=0, fresh=7):
            await traffic.until_share("one-1", 0.0, FAIR / 4)
    assert traffic.failures == []


async def test_a_node_that_stops_at_rest_is_found_before_traffic_comes(site: Site) -> None:
    """Its reports are due every two seconds, and it has not promised more."""
    traffic, pids = site.traffic, await trio.to_thread.run_sync(site.pids)
    await come_to_rest(pids)
    assert not site.logged("host_silent", "two-1"), "a report that is due later is not late"
    os.kill(pids["two-1"], signal.SIGSTOP)
    try:
        with trio.fail_after(DEADLINE_S):
            while not site.logged("host_silent", "two-1"):  # noqa: ASYNC110 (another process finds it)
                await trio.sleep(0.1)
            for _ in range(10):
                assert await traffic.visit() != "two-1"
    finally:
        os.kill(pids["two-1"], signal.SIGCONT)
    assert traffic.failures == []
