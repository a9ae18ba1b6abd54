"""A rendered cluster in real containers, changed and hurt while clients ask: what is claimed of compose, for real.

One engine, one image and one cluster for all tests here, each of which leaves the cluster as it found it.
"""

import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.lost import WHO
from tests import dockerd
from tests.cluster.traffic import Traffic
from tierlb.deploy.project import Project, lay_out
from tierlb.topology.load import load_text

DEADLINE_S = 300.0
HEALTHY_S = 180.0
LISTEN, ADMIN = "127.0.0.1:8080", "127.0.0.1:7900"
LESS_THAN_IDLE_S = 60.0
"""After 75 s nodes close idle connections anyway."""
TOPOLOGY = f"""\
cluster: shop
admin: {{listen: "{ADMIN}"}}
tiers:
  edge: {{kind: l4, listen: "{LISTEN}", to: web, resources: {{memory: 128MiB}}}}
  web:
    kind: l7
    replicas: 2
    routes:
      - match: {{path_prefix: /work}}
        to: demo
pools:
  demo: {{run: {{command: "tierlb demo-backend --host {{host}} --port {{port}}", replicas: 2}}}}
"""
REACH = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 1)"
WORK = "/work?delay=40ms"
"""Long enough that some are always under way at each node, and few in all."""
Json = dict[str, "Json | list[Json] | str"]


@attrs.frozen
class Site:
    """The cluster, and the directory that it runs from."""

    docker: dockerd.Docker
    directory: Path

    def compose(self, *arguments: str) -> str:
        return self.docker.run("docker-compose", *arguments, cwd=self.directory).stdout

    async def tierlb(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A verb, with the containers."""
        words = (*arguments, f"--compose={self.directory}", f"--admin=http://{ADMIN}")
        return await self.docker.arun(sys.executable, "-m", "tierlb", *words, check=False)

    def containers(self, service: str = "") -> dict[str, Json]:
        """What the engine knows of them, by their ids."""
        named = [f"--filter=label=com.docker.compose.service={service}"] if service else []
        ids = self.docker.run("docker", "ps", "--all", "--quiet", *named).stdout.split()
        found = json.loads(self.docker.run("docker", "inspect", *ids).stdout) if ids else []
        return {each["Id"][:12]: each for each in found}

    def nodes(self, tier: str) -> set[str]:
        return {f"{tier}-{number}" for number in self.containers(tier)}

    def started(self, node: str) -> str:
        """When the container of this node was started last; later times are greater."""
        (found,) = (each for name, each in self.containers().items() if node.endswith(name))
        return str(found["State"]["StartedAt"])

    def networks(self) -> dict[str, set[str]]:
        """Of each service."""
        found = [
            (each["Config"]["Labels"]["com.docker.compose.service"], each["NetworkSettings"]["Networks"])
            for each in self.containers().values()
        ]
        return {service: {name.partition("_")[2] for name in networks} for service, networks in found}

    def health(self) -> dict[str, str]:
        return {name: each["State"].get("Health", {}).get("Status", "") for name, each in self.containers().items()}

    async def until_healthy(self) -> None:
        with trio.fail_after(HEALTHY_S):
            while set(self.health().values()) != {"healthy"}:  # noqa: ASYNC110 (another process is waited for)
                await trio.sleep(0.5)

    def traffic(self) -> Traffic:
        host, _, port = LISTEN.rpartition(":")
        return Traffic((host, int(port)), work=WORK)

    async def until_reached(self, traffic: Traffic, nodes: set[str]) -> None:
        """Each of them has been chosen for a connection since."""
        since_s = trio.current_time()
        await traffic.until(f"traffic at {nodes}", lambda: traffic.reached(since_s).keys() >= nodes)

    async def until_served(self, traffic: Traffic) -> None:
        """Clients have been answered since, by nodes that are there."""
        since_s, nodes = trio.current_time(), self.nodes("web")
        await traffic.until("clients are served", lambda: traffic.reached(since_s).total() > 100)
        assert traffic.reached(since_s).keys() <= nodes


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Taken down at the end, and then nothing of it may be left."""
    dockerd.demand()
    directory = tmp_path_factory.mktemp("docker")
    base = dockerd.base(directory)
    with dockerd.engine(directory) as docker:
        dockerd.build(docker, base)
        site = Site(docker, directory / "shop")
        lay_out(Project(site.directory, "shop", dockerd.IMAGE), load_text(TOPOLOGY, "shop.yaml"), TOPOLOGY)
        site.compose("up", "--detach")
        trio.run(site.until_healthy)
        yield site
        site.compose("down", "--volumes")
        assert site.containers() == {}
        left = docker.run("docker", "network", "ls", "--format={{.Name}}").stdout.split()
        assert {*left} == {"bridge", "host", "none"}
        assert docker.run("docker", "volume", "ls", "--quiet").stdout == ""


def test_containers_are_confined_as_the_file_says(site: Site) -> None:
    for each in site.containers().values():
        host = each["HostConfig"]
        assert (host["ReadonlyRootfs"], host["CapDrop"], each["Config"]["User"]) == (True, ["ALL"], "10001:10001")
        assert host["SecurityOpt"] == ["no-new-privileges:true"]
        assert host["RestartPolicy"]["Name"] == "unless-stopped"
    (edge,) = site.containers("edge").values()
    assert edge["HostConfig"]["Memory"] == 128 * 2**20
    write = ("docker", "exec", edge["Id"], "sh", "-c", "echo >/var/lib/tierlb/x")
    assert site.docker.run(*write, check=False).returncode != 0


@pytest.mark.parametrize(
    ("service", "secrets"),
    [
        ("controller", {"join-token", "admin-token"}),
        ("edge", {"node-token-edge"}),
        ("web", {"node-token-web"}),
        ("demo", set()),
    ],
)
def test_a_container_has_the_tokens_that_it_needs_and_no_others(site: Site, service: str, secrets: set[str]) -> None:
    for container in site.containers(service):
        listing = ("docker", "exec", container, "sh", "-c", "ls /run/secrets 2>/dev/null || true")
        assert {*site.docker.run(*listing).stdout.split()} == secrets


@pytest.mark.parametrize(
    ("service", "network", "other", "port", "reached"),
    [
        ("edge", "to-web", "web", 7945, True),
        ("edge", "to-demo", "demo", 9000, False),
        ("edge", "to-edge", "controller", 7901, True),
        ("web", "to-demo", "demo", 9000, True),
        ("web", "to-web", "edge", 7946, True),
        ("web", "out-edge", "edge", 7946, False),
        ("demo", "to-demo", "web", 7946, True),
        ("demo", "to-web", "edge", 7946, False),
        ("demo", "to-web", "controller", 7901, False),
    ],
)
def test_a_container_reaches_its_neighbours_and_nobody_else(
    site: Site, service: str, network: str, other: str, port: int, reached: bool
) -> None:
    container, there = (next(iter(site.containers(name).values())) for name in (service, other))
    address = there["NetworkSettings"]["Networks"][f"shop_{network}"]["IPAddress"]
    dial = ("docker", "exec", container["Id"], "/opt/tierlb/bin/python", "-c", REACH, address, str(port))
    assert (site.docker.run(*dial, check=False).returncode == 0) is reached


def test_a_node_finds_its_controller_by_a_name_of_its_own_network_alone(site: Site) -> None:
    (edge,) = site.containers("edge")
    find = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"
    found = {
        network: site.docker.run("docker", "exec", edge, "/opt/tierlb/bin/python", "-c", find, f"controller-{network}")
        for network in ("edge", "web")
    }
    (controller,) = site.containers("controller").values()
    for network, done in found.items():
        assert done.stdout.strip() == controller["NetworkSettings"]["Networks"][f"shop_to-{network}"]["IPAddress"]


async def test_more_nodes_of_a_tier_take_part_and_fewer_again_without_a_failed_request(site: Site) -> None:
    before = site.nodes("web")
    with trio.fail_after(DEADLINE_S):
        async with site.traffic().flowing(4, 4) as traffic:
            await site.until_served(traffic)
            await site.docker.arun("docker-compose", "up", "--detach", "--scale=web=5", cwd=site.directory)
            assert len(site.nodes("web")) == 5
            await site.until_reached(traffic, site.nodes("web") - before)
            await site.docker.arun("docker-compose", "up", "--detach", "--scale=web=2", cwd=site.directory)
            await site.until_served(traffic)
    assert (site.nodes("web"), traffic.failures) == (before, [])


async def test_a_tier_is_put_between_running_containers_and_taken_out_without_a_failed_request(site: Site) -> None:
    before, networks = site.containers(), site.networks()
    with trio.fail_after(DEADLINE_S):
        async with site.traffic().flowing(4, 4) as traffic:
            add = await site.tierlb(
                "tier", "add", "mid", "--kind=l7", "--between", "edge", "web", "--replicas=2", "--deadline=5m"
            )
            assert add.returncode == 0, add.stdout + add.stderr
            assert len(site.nodes("mid")) == 2
            assert site.networks() == {
                **networks,
                "controller": networks["controller"] | {"to-mid"},
                "edge": networks["edge"] - {"to-web"} | {"to-mid"},
                "mid": {"to-mid", "to-web"},
            }
            await site.until_served(traffic)
            assert "mid" in (site.directory / "topology.yaml").read_text()

            remove = await site.tierlb("tier", "remove", "mid")
            assert remove.returncode == 0, remove.stdout + remove.stderr
            await site.until_served(traffic)
    assert traffic.failures == []
    assert site.containers().keys() == before.keys()
    assert site.networks() == networks
    assert (site.directory / "topology.yaml").read_text() == TOPOLOGY


async def test_containers_of_another_definition_take_over_before_the_old_ones_go(site: Site) -> None:
    file = site.directory / "wanted.yaml"
    file.write_text(TOPOLOGY.replace("demo-backend", "demo-backend --slots 99").replace("kind: l7", "kind: l7 "))
    before = site.containers("demo").keys()
    with trio.fail_after(DEADLINE_S):
        async with site.traffic().flowing(4, 4) as traffic:
            apply = await site.tierlb("apply", str(file))
            assert apply.returncode == 0, apply.stdout + apply.stderr
            there = site.containers("demo")
            assert (len(there), there.keys() & before) == (2, set())
            assert all("99" in each["Config"]["Cmd"] for each in there.values())
            file.write_text(TOPOLOGY)
            assert (await site.tierlb("apply", str(file))).returncode == 0
    assert traffic.failures == []


async def test_a_change_that_does_not_come_off_leaves_no_container(site: Site) -> None:
    before, networks = site.containers(), site.networks()
    with trio.fail_after(DEADLINE_S):
        add = ("tier", "add", "mid", "--kind=l7", "--between", "edge", "web", "--deadline=1s")
        result = await site.tierlb(*add)
    assert (result.returncode, "rolled back: not done in 1 s" in result.stderr) == (1, True)
    assert site.containers().keys() == before.keys()
    assert site.networks() == networks
    assert (site.directory / "topology.yaml").read_text() == TOPOLOGY


@pytest.mark.parametrize(
    ("verb", "code", "told"),
    [
        (
            "tier add top --kind l4 --above edge",
            1,
            "top is to publish 127.0.0.1:8080, which the container of edge does",
        ),
        ("scale edge=2", 2, "tiers.edge.replicas: one port cannot be published by 2 containers"),
    ],
)
async def test_what_containers_cannot_have_is_refused_before_anything_changes(
    site: Site, verb: str, code: int, told: str
) -> None:
    before = site.containers().keys()
    with trio.fail_after(DEADLINE_S):
        result = await site.tierlb(*verb.split())
    assert result.returncode == code, result.stdout + result.stderr
    assert told in result.stderr
    assert site.containers().keys() == before
    assert (site.directory / "topology.yaml").read_text() == TOPOLOGY


async def test_of_a_killed_container_only_what_it_had_in_flight_fails(site: Site) -> None:
    with trio.fail_after(DEADLINE_S):
        async with site.traffic().flowing(4, 4) as traffic:
            await site.until_served(traffic)
            victim = traffic.reached(0.0, 60).most_common(1)[0][0]
            before = site.started(victim)
            await site.docker.arun("docker", "kill", victim.removeprefix("web-"))
            died_s = trio.current_time()
            await site.until_served(traffic)
            await site.docker.arun("docker-compose", "up", "--detach", "--no-recreate", cwd=site.directory)
            await site.until_reached(traffic, {victim})
    failed = [request for request in traffic.requests if request.failure]
    assert {request.node for request in failed} <= {victim, ""}, traffic.failures
    assert all(request.begun_s < died_s for request in failed), traffic.failures
    assert len(failed) <= 8, "each of the eight clients has one request in flight"
    assert site.started(victim) > before, "it was really killed"


# Connections are handed over between containers, but their sockets belong to the network of the edge's container.


def open_to_edge(site: Site, stack: contextlib.ExitStack) -> list[socket.socket]:
    """Clients that have been answered by a node and stay."""
    host, _, port = LISTEN.rpartition(":")
    socks = [stack.enter_context(socket.create_connection((host, int(port)), DEADLINE_S)) for _ in range(6)]
    for sock in socks:
        sock.sendall(WHO)
        assert sock.recv(4096).startswith(b"HTTP/1.1 404 ")
    return socks


async def connections_at_web(site: Site) -> int:
    """As their nodes report them."""
    token = f"--token-file={site.directory / 'secrets' / 'admin-token'}"
    argv = (sys.executable, "-m", "tierlb", "status", "--json", f"--admin=http://{ADMIN}", token)
    status = json.loads((await site.docker.arun(*argv)).stdout)
    return sum(node["load"]["connections"] for node in status["tiers"]["web"]["nodes"] if node["load"])


async def test_no_byte_passes_the_edge_and_connections_end_with_its_container(site: Site) -> None:
    (edge,) = site.containers("edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        open_to_edge(site, stack)
        rows = site.docker.run("docker", "exec", edge, "cat", "/proc/net/tcp").stdout.splitlines()[1:]
        established = [row.split()[1:3] for row in rows if row.split()[3] == "01"]
        assert sum(local.endswith(f":{8080:04X}") for local, _ in established) == 6
        assert not [remote for _, remote in established if remote.endswith(f":{7945:04X}")]
        await site.docker.arun("docker", "kill", edge)
        await site.docker.arun("docker", "start", edge)  # what nodes report passes through their parent
        with trio.fail_after(LESS_THAN_IDLE_S):
            while await connections_at_web(site):  # noqa: ASYNC110 (another process is waited for)
                await trio.sleep(0.2)
    await site.until_healthy()


async def test_a_stopped_edge_waits_for_what_other_containers_answer(site: Site) -> None:
    (edge,) = site.containers("edge")
    with trio.fail_after(DEADLINE_S), contextlib.ExitStack() as stack:
        client = open_to_edge(site, stack)[0]
        stack.callback(site.docker.run, "docker", "start", edge)
        client.sendall(b"GET /work?delay=4s HTTP/1.1\r\nHost: shop\r\n\r\n")
        await trio.sleep(0.5)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(site.docker.arun, "docker", "stop", "--time=60", edge)
            answer = await trio.to_thread.run_sync(client.recv, 4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
    await site.until_healthy()
