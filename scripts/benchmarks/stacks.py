"""An edge over a number of equal L7 nodes, tierlb's and HAProxy's, and the nginx endpoints below them all."""

import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

import attrs
import httpx

from scripts.benchmarks import configs
from scripts.benchmarks.contenders import Fleet, Level
from scripts.benchmarks.cpu import children
from scripts.benchmarks.peers import haproxy_command, haproxy_missing, nginx_command, node_pids
from scripts.benchmarks.processes import free_addresses, running

HAPROXY_MODES = {Level.L7: "http", Level.L4: "tcp"}
ANSWER_S = 5.0
COUNTED = re.compile(r"server accepts handled requests\n \d+ \d+ (\d+)")
ESTABLISHED = "01"
"""In /proc/net/tcp (linux/tcp_states.h)."""


@attrs.frozen
class Node:
    """One L7 node: where the edge sends to, and its process."""

    name: str
    address: str
    pid: int


@attrs.frozen
class Stack:
    """A started one. `edge`: the edge's process."""

    listen: str
    edge: int
    nodes: tuple[Node, ...]


@attrs.frozen
class Backends:
    """Started endpoints and the processes that answer."""

    listens: tuple[str, ...]
    pids: tuple[int, ...]

    async def answered(self) -> int:
        """Requests so far, these questions included. Raises httpx.HTTPError."""
        async with httpx.AsyncClient(trust_env=False, timeout=ANSWER_S) as client:
            pages = [(await client.get(f"http://{each}{configs.COUNTS}")).raise_for_status() for each in self.listens]
        return sum(parse_counts(page.text) for page in pages)


class Stacked(Protocol):
    """A product that can be stacked. `missing` says how to install it, or is None."""

    @property
    def name(self) -> str: ...

    def missing(self) -> str | None: ...

    def serving(self, count: int, endpoints: Sequence[str], directory: Path) -> AbstractAsyncContextManager[Stack]: ...


@attrs.frozen
class Haproxy:
    """A process per node, least connections at both levels, PROXY protocol in between."""

    name: str = "haproxy"

    def missing(self) -> str | None:
        return haproxy_missing()

    @contextlib.asynccontextmanager
    async def serving(self, count: int, endpoints: Sequence[str], directory: Path) -> AsyncIterator[Stack]:
        """Start every hop and wait until a request passes through the edge."""
        hops = Fleet((tuple(endpoints),) * count, edge=True).hops(proxy_protocol=True)
        async with contextlib.AsyncExitStack() as stack:
            started = []
            for number, (level, hop) in enumerate(hops, start=1):
                place = directory / str(number)
                place.mkdir()
                command = haproxy_command(configs.haproxy(hop, HAPROXY_MODES[level], "leastconn"), place)
                started.append(await stack.enter_async_context(running(command, place / "log")))
            *inner, (_, edge) = hops
            await started[-1].serves(f"http://{edge.listen}/")
            nodes = [
                Node(f"web-{number}", hop.listen, process.pid)
                for number, ((_, hop), process) in enumerate(zip(inner, started, strict=False), start=1)
            ]
            yield Stack(edge.listen, started[-1].pid, tuple(nodes))


@attrs.frozen
class Tierlb:
    """As a user starts it: one topology file that names no policy, `tierlb up`."""

    name: str = "tierlb"

    def missing(self) -> str | None:
        return None

    @contextlib.asynccontextmanager
    async def serving(self, count: int, endpoints: Sequence[str], directory: Path) -> AsyncIterator[Stack]:
        """Start it and wait until every node serves."""
        admin, listen = free_addresses(2)
        topology = directory / "topology.yaml"
        topology.write_text(tierlb_topology(count, listen, admin, endpoints))
        command = [sys.executable, "-m", "tierlb", "up", str(topology), "--state", str(directory / "state")]
        async with running(command, directory / "log") as cluster:
            await cluster.serves(f"http://{admin}/healthz")
            await node_pids(admin, count + 1)
            await cluster.serves(f"http://{listen}/")
            async with httpx.AsyncClient(trust_env=False) as client:
                status = (await client.get(f"http://{admin}/v1/status")).raise_for_status().json()
            yield stack_of(status, listen)


def tierlb_topology(count: int, listen: str, admin: str, endpoints: Sequence[str]) -> str:
    """An l4 edge over so many l7 nodes. JSON is YAML."""
    tiers = {
        "edge": {"kind": "l4", "listen": listen, "to": "web"},
        "web": {"kind": "l7", "replicas": count, "to": "app"},
    }
    pools = {"app": {"endpoints": list(endpoints)}}
    return json.dumps({"cluster": "bench", "admin": {"listen": admin}, "tiers": tiers, "pools": pools}, indent=1)


def stack_of(status: dict[str, Any], listen: str) -> Stack:
    """What `GET /v1/status` says of an edge over the tier `web`."""
    [edge] = status["tiers"]["edge"]["nodes"]
    nodes = [Node(node["name"], node["addresses"][0], node["pid"]) for node in status["tiers"]["web"]["nodes"]]
    return Stack(listen, edge["pid"], tuple(nodes))


@contextlib.asynccontextmanager
async def backends(count: int, directory: Path) -> AsyncIterator[Backends]:
    """So many nginx, one worker each, until the block ends."""
    listens, pids = free_addresses(count), list[int]()
    async with contextlib.AsyncExitStack() as stack:
        for number, listen in enumerate(listens):
            place = directory / f"backend-{number}"
            place.mkdir()
            command = nginx_command(configs.backend(listen, place), place)
            started = await stack.enter_async_context(running(command, place / "log"))
            await started.serves(f"http://{listen}/")
            pids += children(started.pid)
        yield Backends(tuple(listens), tuple(pids))


def parse_counts(page: str) -> int:
    """Requests so far, of what nginx's stub_status says. Raises ValueError."""
    found = COUNTED.search(page)
    if found is None:
        raise ValueError(f"this is no page of stub_status: {page[:100]!r}")
    return int(found[1])


def connections_by_node(nodes: Sequence[Node], proc_net_tcp: str) -> dict[str, int]:
    """Connections that are open at each node's address, by the content of /proc/net/tcp."""
    rows = [line.split() for line in proc_net_tcp.splitlines()[1:]]
    by_port = Counter(row[1].partition(":")[2] for row in rows if row[3] == ESTABLISHED)
    return {node.name: by_port[f"{int(node.address.rpartition(':')[2]):04X}"] for node in nodes}
