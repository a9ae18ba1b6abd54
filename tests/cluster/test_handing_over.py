"""Edges that hand sockets over to l7 nodes, with real processes that are killed, stopped and replaced under load.

Two edges share a port, and `forward: handoff` excludes that anything is relayed. Where a client's connection is, the
kernel says: its socket belongs to exactly one process.
"""

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from scripts.benchmarks.lost import CLOSES, WHO, kill, whole
from tests.cluster.test_ladder import frozen
from tests.cluster.traffic import Traffic
from tests.processes import tierlb
from tierlb.model.address import Address, parse_address

DEADLINE_S = 240.0
PATIENCE_S = 60.0
BURST = 60
"""Of three nodes each gets 20 of them, and certainly some."""
SLOW_STARTS = 8
"""On a busy machine a new process may take longer than a restart waits for it. Then the old one stays."""
EDGES, WEBS = ("edge-1", "edge-2"), ("web-1", "web-2", "web-3")
DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
TOPOLOGY = """\
cluster: handing
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", replicas: 2, to: web, balance: round-robin, forward: handoff,
    timeouts: {{connect: {connect}}}}}
  web:
    kind: l7
    replicas: 3
    routes:
      - {{match: {{path: /work}}, to: demo}}
pools:
  demo: {{run: {{command: "{demo}"}}}}
"""


@attrs.frozen
class Site:
    """The cluster, and what the kernel says of its processes."""

    cluster: Cluster
    address: Address

    @property
    def traffic(self) -> Traffic:
        return Traffic((self.address.host, self.address.port), patience_s=PATIENCE_S)

    def pid(self, node: str) -> int:
        return int(self.cluster.nodes(node.partition("-")[0])[node]["pid"])

    def is_serving(self, node: str, but: int) -> bool:
        """Whether it serves, by another process than `but`."""
        row = self.cluster.nodes(node.partition("-")[0])[node]
        return row["state"] == "serving" and row["pid"] != but

    def clients_at(self, pid: int) -> int:
        """The clients' connections that the process holds."""
        found = set()
        for descriptor in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                found.add(os.readlink(descriptor))
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        port, listening = f":{self.address.port:04X}", "0A"
        clients = [row for row in rows if row[1].endswith(port) and row[3] != listening]
        return sum(f"socket:[{row[9]}]" in found for row in clients)

    def met(self) -> bool:
        """Whether each edge can hand connections to each node."""
        loads = [row["load"] for row in self.cluster.nodes("edge").values()]
        return self.cluster.is_whole() and all(load and "handed" not in str(load["shortages"]) for load in loads)

    def handed(self) -> int:
        """The connections that edges have handed over and that are not over, as far as they know."""
        return sum(row["load"]["connections"] for row in self.cluster.nodes("edge").values())

    def placed(self, web: str) -> int:
        """The connections that edges count as in flight at this node."""
        members = [each for row in self.cluster.nodes("edge").values() for each in row["load"]["members"]]
        return sum(each["in_flight"] for each in members if each["name"] == web)

    def stalled(self) -> int:
        """How many connections were taken back from web-2 because it did not read."""
        lines = self.cluster.log.read_text().splitlines()
        events = [json.loads(line) for line in lines if "handoff_stalled" in line]
        return sum(event["connections"] for event in events if event["host"] == "web-2")

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        await self.cluster.wait_until(what, holds, DEADLINE_S)

    async def until_nothing_is_left(self, descriptors: dict[str, int]) -> None:
        """Its clients have left: no process may hold more than it did before."""
        pids = {name: self.pid(name) for name in (*EDGES, *WEBS)}
        await self.until("no node holds a client", lambda: not any(map(self.clients_at, pids.values())))
        await self.until("no edge counts a connection", lambda: self.handed() == 0)
        for name, before in descriptors.items():
            await self.until(f"{name} holds {before} descriptors", lambda: open_descriptors(pids[name]) <= before)  # noqa: B023


def open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def site_with(directory: Path, connect: str) -> Iterator[Site]:
    listen, admin = free_address(), free_address()
    text = TOPOLOGY.format(admin=admin, listen=listen, demo=DEMO, connect=connect)
    with running_cluster(text, admin, directory, Cluster.is_whole) as cluster:
        yield Site(cluster, parse_address(listen))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with site_with(tmp_path_factory.mktemp("handing"), "2s") as site:
        yield site


@pytest.fixture
def patient(tmp_path: Path) -> Iterator[Site]:
    """Its edges wait for a node that reads nothing for longer than a test lasts."""
    with site_with(tmp_path, "300s") as site:
        yield site


async def warmed(site: Site) -> dict[str, int]:
    """Both edges have met all nodes: the descriptors of each edge while it has no client."""
    await site.until("the edges have met all nodes", site.met)
    await site.until("all clients have left", lambda: site.handed() == 0)
    return {edge: open_descriptors(site.pid(edge)) for edge in EDGES}


class Crowd:
    """Clients that connect at once and ask which node they are at. `at`: of those that have their answer."""

    def __init__(self, site: Site, stack: contextlib.ExitStack) -> None:
        self.at: dict[int, str] = {}
        self._socks: dict[int, socket.socket] = {}
        for number in range(BURST):
            self._socks[number] = stack.enter_context(socket.create_connection(site.address.sockaddr, DEADLINE_S))
        self.ask()

    def ask(self) -> None:
        """All that are still connected ask."""
        self.at.clear()
        for sock in self._socks.values():
            sock.setblocking(True)
            sock.sendall(WHO)
            sock.setblocking(False)

    def hear(self) -> int:
        """Listen; how many have no answer yet. A node may ask a client to leave with it."""
        for number, sock in list(self._socks.items()):
            if number not in self.at:
                with contextlib.suppress(BlockingIOError):
                    answer = sock.recv(4096)
                    assert whole(answer), answer
                    self.at[number] = answer.partition(b"\r\n\r\n")[2].partition(b":")[0].decode()
                    if CLOSES.search(answer):
                        self._socks.pop(number).close()
        return len(self._socks.keys() - self.at.keys())


async def test_no_byte_passes_an_edge_and_nothing_is_left_of_clients_that_leave(site: Site) -> None:
    descriptors = await warmed(site)
    traffic, edges, webs = site.traffic, map(site.pid, EDGES), list(map(site.pid, WEBS))
    async with traffic.flowing(kept=12, fresh=0):
        await traffic.until("they are at the nodes", lambda: sum(map(site.clients_at, webs)) == 12)
        assert sum(map(site.clients_at, edges)) == 0
        await site.until("the edges count them", lambda: site.handed() == 12)
    assert traffic.failures == []
    await site.until_nothing_is_left(descriptors)


async def test_of_a_killed_node_only_what_was_in_flight_there_fails(site: Site) -> None:
    descriptors = await warmed(site)
    traffic, pid = site.traffic, site.pid("web-2")
    with trio.fail_after(DEADLINE_S):
        async with traffic.flowing():
            await traffic.until_used("web-2")
            kill(pid)
            exposed = traffic.excuse("web-2")
            await site.until("web-2 is back", lambda: site.is_serving("web-2", but=pid))
            await traffic.until_used("web-2")
    assert traffic.failures == []
    assert traffic.excused <= exposed <= 8
    await site.until_nothing_is_left(descriptors)


async def test_what_a_node_did_not_read_before_it_was_killed_is_served_by_others(patient: Site) -> None:
    await warmed(patient)
    pid = patient.pid("web-2")
    with contextlib.ExitStack() as stack:
        os.kill(pid, signal.SIGSTOP)
        crowd = Crowd(patient, stack)
        await patient.until("the others have answered", lambda: 0 < crowd.hear() < BURST / 2)
        await patient.until("all that waits is at web-2", lambda: patient.handed() == BURST)
        kill(pid)
        await patient.until("all are answered", lambda: crowd.hear() == 0)
        assert "web-2" not in crowd.at.values()


async def test_what_a_stopped_node_does_not_read_goes_to_others_in_bounded_time(site: Site) -> None:
    descriptors = await warmed(site)
    traffic, taken_back = site.traffic, site.stalled()
    async with traffic.flowing():
        await traffic.until_used("web-2")
        pid = site.pid("web-2")
        with contextlib.ExitStack() as stack:
            stack.enter_context(frozen(pid))
            crowd = Crowd(site, stack)
            await site.until("all of a burst are answered", lambda: crowd.hear() == 0)
            assert "web-2" not in crowd.at.values()
            await site.until("some were taken back", lambda: site.stalled() > taken_back)
            await site.until("nothing waits there", lambda: site.placed("web-2") == site.clients_at(pid))
            taken_back, later = site.stalled(), Crowd(site, stack)
            await site.until("all of another burst are answered", lambda: later.hear() == 0)
            assert site.stalled() == taken_back, "nothing new went there"
        await traffic.until_used("web-2")
    assert traffic.failures == []
    await site.until_nothing_is_left(descriptors)


async def test_what_a_stopped_edge_has_handed_over_goes_on(site: Site) -> None:
    descriptors = await warmed(site)
    with contextlib.ExitStack() as stack:
        crowd = Crowd(site, stack)
        await site.until("all are answered", lambda: crowd.hear() == 0)
        with frozen(*map(site.pid, EDGES)):
            crowd.ask()
            await site.until("all are answered again", lambda: crowd.hear() == 0)
            assert len(crowd.at) > BURST / 2
    await site.until_nothing_is_left(descriptors)


async def test_a_killed_edge_takes_nothing_with_it_that_it_has_handed_over(site: Site) -> None:
    descriptors = await warmed(site)
    traffic, pid = site.traffic, site.pid("edge-1")
    async with traffic.flowing(kept=12, fresh=4):
        await traffic.until("they are at nodes", lambda: sum(bool(each.node) for each in traffic.connections) >= 12)
        kill(pid)
        exposed = traffic.excuse("")
        await site.until("edge-1 is back", lambda: site.is_serving("edge-1", but=pid))
        for web in WEBS:
            await traffic.until_used(web)
    assert traffic.failures == []
    assert traffic.excused <= exposed <= 4
    await site.until_nothing_is_left(descriptors)


async def test_what_a_killed_edge_has_put_into_a_queue_is_served(patient: Site) -> None:
    await warmed(patient)
    web, edges = patient.pid("web-2"), list(map(patient.pid, EDGES))
    with contextlib.ExitStack() as stack, frozen(web):
        crowd = Crowd(patient, stack)
        await patient.until("the others have answered", lambda: 0 < crowd.hear() < BURST / 2)
        await patient.until("all that waits is at web-2", lambda: patient.handed() == BURST)
        waited = crowd.hear()
        for edge in edges:
            kill(edge)
        os.kill(web, signal.SIGCONT)
        await patient.until("all are answered", lambda: crowd.hear() == 0)
        assert list(crowd.at.values()).count("web-2") >= waited


@pytest.mark.parametrize("tier", ["edge", "web"])
async def test_a_restart_of_either_tier_fails_nothing(site: Site, tier: str) -> None:
    descriptors = await warmed(site)
    traffic = site.traffic
    admin = f"http://{site.cluster.admin}"
    command = tierlb("restart", admin=admin, token_file=site.cluster.state / "admin-token")
    async with traffic.flowing():
        for _ in range(SLOW_STARTS):
            if not (await trio.run_process([*command, tier], stdout=subprocess.DEVNULL, check=False)).returncode:
                break
        else:
            raise AssertionError(f"{tier} was not restarted")
        for web in WEBS:
            await traffic.until_used(web)
    assert traffic.failures == []
    await site.until_nothing_is_left(descriptors)
