"""A cluster across hosts: a controller or two, an edge, l7 nodes and endpoints, each on a host of its own, started as a
service manager on each host would start them. Clients ask from a host of theirs."""

import contextlib
import json
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

import attrs
import trio
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.traffic import Traffic
from tests.hosts import Host, Network, running_network
from tests.processes import Process, tierlb

POLL_S = 0.05
START_S = 120.0
CONTROL, ADMIN, REPORTS, INNER, PUBLIC, APP = 7901, 7900, 7946, 7945, 8080, 9000
TOKEN, ADMIN_TOKEN = "of all nodes", "of those who change"
WEBS, APPS = ("web1", "web2", "web3"), ("app1", "app2")
ALL = ("edge-1", "web-1", "web-2", "web-3")
NUMBERS = {"control": 2, "control2": 3, "etcd": 4, "edge": 5, "edge2": 6, "client": 100}
"""Of the other hosts: web1 has 11, app1 has 21, mid1 has 31."""
TENS = {"web": 10, "app": 20, "mid": 30}
TOPOLOGY = """\
cluster: hosts
{store}admin: {{listen: 127.0.0.1:7900}}
tiers:
  edge: {{kind: l4, listen: 127.0.0.1:8080, to: web}}
  web:
    kind: l7
    replicas: 3
    routes:
      - {{match: {{path: /work}}, to: app}}   # of all else a node says its own name
pools:
  app: {{endpoints: [{endpoints}]}}
"""

Json = dict[str, Any]


@attrs.define
class Site:
    """The cluster's hosts by name, and what can be asked of it. `controllers`: on which hosts there is one."""

    network: Network
    directory: Path
    controllers: tuple[str, ...] = ("control",)

    def host(self, name: str) -> Host:
        """The host of that name, which is made when it is first asked for."""
        if name in self.network.hosts:
            return self.network.hosts[name]
        kind, digits = name.rstrip("0123456789"), name.lstrip("abcdefghijklmnopqrstuvwxyz")
        return self.network.make(name, NUMBERS[name] if name in NUMBERS else TENS[kind] + int(digits))

    def at(self, name: str, port: int) -> str:
        return f"{self.host(name).address}:{port}"

    @property
    def log(self) -> Path:
        """What all processes say."""
        return self.directory / "log"

    @property
    def topology(self) -> Path:
        return self.directory / "hosts.yaml"

    def control(self, name: str) -> "Process[bytes]":
        """Start a controller on this host."""
        where = {"listen": self.at(name, CONTROL), "admin_listen": self.at(name, ADMIN)}
        tokens = {"token_file": self.directory / "token", "admin_token_file": self.directory / "admin-token"}
        is_shared = "store:" in self.topology.read_text()
        history = {"name": name} if is_shared else {"state": self.directory / f"state-{name}"}
        argv = tierlb("controller", **where, **tokens, **history)
        return self.host(name).run([*argv, str(self.topology)], self.log)

    def serve(self, name: str, **options: str) -> "Process[bytes]":
        """Start a node of the tier that the host's name begins with; its name is that of the host."""
        tier = name.rstrip("0123456789")
        where = {"host": self.host(name).address, "control_listen": self.at(name, REPORTS), "data_port": INNER}
        who = {"tier": tier, "name": f"{tier}-{name.removeprefix(tier) or 1}", "token_file": self.directory / "token"}
        join = ",".join(f"ws://{self.at(each, CONTROL)}" for each in self.controllers)
        state = self.directory / f"state-{name}"
        argv = tierlb("node", **who, join=join, **where, state=state, **options)
        return self.host(name).run(argv, self.log)

    def answer(self, name: str) -> "Process[bytes]":
        """Start an endpoint."""
        argv = tierlb("demo-backend", host=self.host(name).address, port=APP, name=name)
        return self.host(name).run(argv, self.log)

    def traffic(self, to: str = "edge") -> Traffic:
        """Clients on a host of theirs."""
        return Traffic((self.host(to).address, PUBLIC), work="/work?delay=50ms", dial=self.host("client").dial)

    async def is_active(self, name: str) -> bool:
        """Whether that controller says of itself that nodes may join. It is asked from its own host."""
        return await self._readiness(name) == 200

    async def until_up(self, name: str) -> None:
        """Wait until that controller says whether it is active."""
        with trio.fail_after(START_S):
            while not await self._readiness(name):  # noqa: ASYNC110 (another process)
                await trio.sleep(POLL_S)

    async def _readiness(self, name: str) -> int:
        """What it answers; 0 if nothing."""
        with contextlib.suppress(OSError, HTTPException):
            return (await self.host(name).get(self.at(name, CONTROL), "/readyz"))[0]
        return 0

    async def active(self) -> str:
        """The one that is; "" if none is."""
        for name in self.controllers:
            if await self.is_active(name):
                return name
        return ""

    async def read(self, path: str) -> Json:
        """What the active controller answers. Raises ConnectionError."""
        name = await self.active()
        if not name:
            raise ConnectionError("no controller is active")
        try:
            status, body = await self.host(name).get(self.at(name, ADMIN), path)
        except HTTPException as problem:
            raise ConnectionError(f"{name}: {problem!r}") from problem
        if status != 200:
            raise ConnectionError(f"{name}: {status} {body[:100]!r}")
        return dict(json.loads(body))

    async def nodes(self) -> dict[str, Json]:
        """By name, as the status of the active controller has them."""
        return nodes_in(await self.read("/v1/status"))

    async def figures(self, name: str, figure: str) -> dict[str, float]:
        """The node's value for each of its hosts in `tierlb_member_FIGURE` of its metrics."""
        _, page = await self.host(name).get(self.at(name, REPORTS), "/metrics")
        families = text_string_to_metric_families(page.decode())
        samples = [sample for each in families if each.name == f"tierlb_member_{figure}" for sample in each.samples]
        return {sample.labels["member"]: sample.value for sample in samples}

    async def begin(self, edit: Json) -> int:
        """Have a verb accepted, as the command does; the revision that is to be."""
        name = await self.active()
        fields = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
        body = json.dumps({"edit": edit, "who": "tester"}).encode()
        status, answer = await self.host(name).post(self.at(name, ADMIN), "/v1/edit", body, fields)
        assert status == 202, answer
        return int(json.loads(answer)["revision"])

    async def ask(self, *arguments: str) -> str:
        """A command as a person types it on the active controller's host; what it says."""
        name = await self.active()
        options = ("--admin", f"http://{self.at(name, ADMIN)}", "--token-file", str(self.directory / "admin-token"))
        argv = self.host(name).argv([*tierlb(arguments[0]), *arguments[1:], *options])
        done = await trio.run_process(argv, capture_stdout=True, stderr=subprocess.STDOUT, check=False)
        said = done.stdout.decode()
        assert done.returncode == 0, said
        return said

    async def until(self, what: str, holds: Callable[[Json], bool], within_s: float = START_S) -> Json:
        """Wait until it holds of the status that the active controller gives; its nodes by name."""
        status: Json = {}
        with trio.move_on_after(within_s):
            while True:
                with contextlib.suppress(OSError):
                    status = await self.read("/v1/status")
                    if holds(status):
                        return nodes_in(status)
                await trio.sleep(POLL_S)
        raise AssertionError(f"not within {within_s:g} s: {what}; {status}\n{self.tail()}")

    async def until_whole(self, *names: str, within_s: float = START_S) -> Json:
        """Wait until the cluster has just these nodes, all of them connected, and all serve what they should."""

        def holds(status: Json) -> bool:
            nodes = nodes_in(status)
            there = {name for name, node in nodes.items() if node["connected"] and node["state"] == "serving"}
            return there == set(names) == set(nodes) and not status["missing"]

        return await self.until(f"{names} are there", holds, within_s)

    def logged(self, event: str, **fields: object) -> list[Json]:
        """What processes have said of it."""
        lines = [line for line in self.log.read_text(errors="replace").splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
        return [each for each in events if each["event"] == event and fields.items() <= each.items()]

    def tail(self, lines: int = 30) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def nodes_in(status: Json) -> dict[str, Json]:
    """By name."""
    return {node["name"]: node for tier in status["tiers"].values() for node in tier["nodes"]}


@contextlib.asynccontextmanager
async def running_site(directory: Path) -> AsyncIterator[Site]:
    """A whole cluster, serving, for the length of the block."""
    with running_network() as network:
        site = Site(network, directory)
        prepare(site)
        start(site)
        await site.until_whole(*ALL)
        yield site


def prepare(site: Site, store: str = "") -> None:
    """What is there before anything starts."""
    endpoints = ", ".join(f'"{site.at(name, APP)}"' for name in APPS)
    shared = f"store: {store}\n" if store else ""
    site.topology.write_text(TOPOLOGY.format(store=shared, endpoints=endpoints))
    (site.directory / "token").write_text(f"{TOKEN}\n")
    (site.directory / "admin-token").write_text(f"{ADMIN_TOKEN}\n")


def start(site: Site, **edge: str) -> None:
    """Everything, with these options of the edge."""
    site.host("client")
    for name in site.controllers:
        site.control(name)
    for name in APPS:
        site.answer(name)
    site.serve("edge", **edge)
    for name in WEBS:
        site.serve(name)
    for name in APPS:
        until_listening(site.host(name), APP)


def until_listening(host: Host, port: int) -> None:
    """Wait until somebody listens there: nobody checks endpoints, so the status of a cluster does not tell."""
    for _ in range(int(START_S / POLL_S)):
        with host.inside(), contextlib.suppress(OSError), socket.create_connection((host.address, port), START_S):
            return
        threading.Event().wait(POLL_S)
    raise AssertionError(f"nobody listens at {host.address}:{port}")
