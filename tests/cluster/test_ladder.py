"""The failure ladder, rung by rung, with real processes and traffic going on: edge (l4) → 3 l7 → pool, and through
another l7 tier. Requests that fail are counted one by one."""

import contextlib
import json
import os
import shlex
import signal
import sys
from collections.abc import Iterator

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.lost import kill
from tests.cluster.traffic import Traffic
from tierlb.model.address import parse_address

DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
TOPOLOGY = """\
cluster: ladder
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: web, forward: relay}}   # test_handing_over.py is about the other way
  web:
    kind: l7
    replicas: 3
    routes:
      - {{match: {{path_prefix: /deep}}, to: back}}
      - {{match: {{path: /work}}, to: demo}}
  back:
    kind: l7
    replicas: 3
    routes:
      - {{match: {{path: /deep/work}}, to: demo}}
pools:
  demo: {{run: {{command: "{demo}", replicas: 2}}}}
"""
DEADLINE_S = 180.0
START_S = 120.0
PATIENCE_S = 60.0
"""For one answer: longer than anything here stands still for, on a busy machine too."""
LATE_S = 0.8
"""The child says nothing for so long: several reports are missing, but it is far from ten intervals."""


@attrs.frozen
class Site:
    """The cluster, where it is reached, and what its processes have logged."""

    cluster: Cluster
    address: tuple[str, int]

    @property
    def shallow(self) -> Traffic:
        return Traffic(self.address, patience_s=PATIENCE_S)

    @property
    def deep(self) -> Traffic:
        """Through the second l7 tier, whose nodes it counts."""
        return Traffic(self.address, "/deep/who", "/deep/work?delay=10ms", patience_s=PATIENCE_S)

    def pid(self, node: str) -> int:
        return int(self.cluster.nodes(node.partition("-")[0])[node]["pid"])

    def is_serving(self, node: str, but: int = 0) -> bool:
        """Whether it serves, by another process than `but`."""
        row = self.cluster.nodes(node.partition("-")[0])[node]
        return row["state"] == "serving" and row["pid"] != but

    def failed(self, host: str) -> int:
        """How many connects and items nodes have lost to it. None is ejected while this is asked, so none is probed."""
        tiers = self.cluster.status()["tiers"].values()
        loads = [node["load"] for tier in tiers for node in tier["nodes"] if node["load"]]
        return sum(row["failed"] for load in loads for row in load["members"] if row["name"] == host)

    def logged(self, event: str, host: str, since: int = 0) -> set[str]:
        """The nodes that have said this of the host, past that many bytes of the log."""
        lines = self.cluster.log.read_bytes()[since:].splitlines()
        events = [json.loads(line) for line in lines if line.startswith(b"{")]
        return {e["node"] for e in events if e["event"] == event and e.get("host") == host}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listen, admin = free_address(), free_address()
    text = TOPOLOGY.format(admin=admin, listen=listen, demo=DEMO)
    with running_cluster(text, admin, tmp_path_factory.mktemp("ladder")) as cluster:
        address = parse_address(listen)
        yield Site(cluster, (address.host, address.port))


@contextlib.contextmanager
def frozen(*pids: int) -> Iterator[None]:
    """These processes stand still for the length of the block."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


async def test_a_child_whose_reports_are_late_loses_no_request_and_not_its_place(site: Site) -> None:
    shallow, deep, since = site.shallow, site.deep, site.cluster.log.stat().st_size
    with trio.fail_after(DEADLINE_S):
        async with shallow.flowing(), deep.flowing():
            await shallow.until_used("web-2")
            await deep.until_used("back-1")
            with frozen(site.pid("web-2"), site.pid("back-1")):
                await trio.sleep(LATE_S)
            await shallow.until_used("web-2")
            await deep.until_used("back-1")
    assert shallow.failures == deep.failures == []
    assert site.logged("host_silent", "web-2", since) | site.logged("host_silent", "back-1", since) == set()


async def test_a_frozen_child_gets_nothing_new_until_it_speaks_again(site: Site) -> None:
    shallow, deep, since = site.shallow, site.deep, site.cluster.log.stat().st_size
    with trio.fail_after(DEADLINE_S):
        async with shallow.flowing(), deep.flowing():
            with frozen(site.pid("web-2"), site.pid("back-1")):
                await shallow.until("edge-1 notices", lambda: site.logged("host_silent", "web-2", since))
                noticed = {"web-1", "web-3"}
                await deep.until("the l7 nodes notice", lambda: noticed <= site.logged("host_silent", "back-1", since))
                visits, ways = trio.current_time(), (Traffic(site.address), Traffic(site.address, deep.who, deep.work))
                connects = site.failed("web-2"), site.failed("back-1")
                for way in ways:
                    for _ in range(50):
                        await way.visit()
                    assert way.failures == []
                    assert {"web-2", "back-1"} & set(way.reached(visits)) == set()
                assert (site.failed("web-2"), site.failed("back-1")) == connects, "nobody tried there first"
            await shallow.until_used("web-2")
            await deep.until_used("back-1")
    assert shallow.failures == deep.failures == []
    assert site.logged("host_reporting_again", "web-2", since) == {"edge-1"}
    assert noticed <= site.logged("host_reporting_again", "back-1", since)


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        (("web-1", "web-2", "web-3"), "edge: no node finds anything ready below"),
        (("edge-1",), "edge: no node has reported for 5 s"),
    ],
)
async def test_a_tier_that_hangs_is_no_cluster_that_serves(site: Site, nodes: tuple[str, ...], said: str) -> None:
    cluster = site.cluster
    await cluster.wait_until("all is well", cluster.is_whole, DEADLINE_S)
    with frozen(*map(site.pid, nodes)):
        await cluster.wait_until("it is noticed", lambda: said in cluster.status()["waiting"], DEADLINE_S)
        assert not cluster.serves()
    await cluster.wait_until("it serves again", cluster.serves, DEADLINE_S)
    await cluster.wait_until("all is well", cluster.is_whole, DEADLINE_S)


async def test_of_a_killed_child_only_what_was_in_flight_there_fails(site: Site) -> None:
    traffic, pid = site.shallow, site.pid("web-2")
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing():
            await traffic.until_used("web-2")
            kill(pid)
            exposed = traffic.excuse("web-2")
            await site.cluster.wait_until("web-2 is back", lambda: site.is_serving("web-2", but=pid), START_S)
            await traffic.until_used("web-2")
    assert traffic.failures == []
    assert traffic.excused <= exposed <= 8


async def test_of_a_killed_child_of_an_l7_node_nothing_fails_that_can_be_asked_again(site: Site) -> None:
    traffic, pid = site.deep, site.pid("back-1")
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing():
            await traffic.until_used("back-1")
            kill(pid)
            await site.cluster.wait_until("back-1 is back", lambda: site.is_serving("back-1", but=pid), START_S)
            await traffic.until_used("back-1")
    assert traffic.failures == []
