"""A cluster whose supervisor runs in this process and whose nodes are real, changed while clients ask it for answers.

What must be true of it after every change is in `Site.faults`: it is told from the kernel's tables, not from what the
cluster says of itself.
"""

import contextlib
import os
import random
import select
import shlex
import socket
import struct
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import attrs
import trio

from scripts.benchmarks.lost import whole
from tierlb.controller.changes import Changes, Request
from tierlb.controller.controller import Controller
from tierlb.controller.progress import Progress
from tierlb.controller.startup import start_anew
from tierlb.controller.store import FileStore
from tierlb.local.supervisor import Supervisor
from tierlb.model.places import bound_listeners
from tierlb.model.topology import Topology
from tierlb.topology.allot import node_names
from tierlb.topology.load import load_text

DEMO = shlex.join((sys.executable, "-m", "tierlb", "demo-backend", "--port", "{port}"))
ASK = b"GET /work HTTP/1.1\r\nHost: changing\r\n\r\n"
ANSWER_S = 30.0
THINK_S = 0.08
CHANGE_S = 100.0
SETTLE_S = 40.0
"""By then no node may serve what is out of date."""
LISTENING = "0A"


@attrs.define
class Load:
    """Clients that ask, think and ask again, over kept and fresh connections; each request is answered or is a failure.

    As any HTTP client does, one looks whether a kept connection was closed before it uses it again. To ask for the same
    thing twice, which would hide what is looked for here, is not among what it does.
    """

    address: tuple[str, int]
    answered: int = 0
    failures: list[str] = attrs.field(factory=list)

    @contextlib.asynccontextmanager
    async def flowing(self, kept: int = 12, fresh: int = 2, think_s: float = THINK_S) -> AsyncIterator["Load"]:
        """For as long as the block lasts; then each gets its last answer."""
        ending = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(kept + fresh):
                rng = random.Random(number)
                nursery.start_soon(self._ask_on, rng, number < kept, think_s, ending)
            try:
                yield self
            finally:
                ending.set()

    async def _ask_on(self, rng: random.Random, keeps: bool, think_s: float, ending: trio.Event) -> None:
        stream: trio.SocketStream | None = None
        try:
            while not ending.is_set():
                await trio.sleep(rng.expovariate(1 / think_s))
                if stream is not None and not (keeps and _is_open(stream)):
                    await trio.aclose_forcefully(stream)
                    stream = None
                stream = await self._ask(stream)
        finally:
            if stream is not None:
                with trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)

    async def _ask(self, stream: trio.SocketStream | None) -> trio.SocketStream | None:
        """Ask once; the connection, if it can be used again."""
        answer, was_kept = b"", stream is not None
        try:
            with trio.fail_after(ANSWER_S):
                stream = stream or await trio.open_tcp_stream(*self.address)
                await stream.send_all(ASK)
                while not whole(answer):
                    data = await stream.receive_some()
                    if not data:
                        raise OSError("closed without an answer")
                    answer += data
            if not answer.startswith(b"HTTP/1.1 200 "):
                raise OSError(repr(answer[:80]))
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as problem:
            why = str(problem.__cause__ or problem) or type(problem).__name__
            self.failures.append(f"{'kept' if was_kept else 'new'} connection: {why} (after {len(answer)} bytes)")
            if stream is not None:
                await trio.aclose_forcefully(stream)
            return None
        self.answered += 1
        if b"\r\nconnection: close\r\n" in answer.lower():
            await trio.aclose_forcefully(stream)
            return None
        return stream


def _is_open(stream: trio.SocketStream) -> bool:
    """Nothing was asked, so whatever is to be read is the end."""
    return not select.select([stream.socket.fileno()], [], [], 0)[0]


class KeptLog:
    """Events, newest last."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    warning = error = info


@attrs.define
class Site:
    """The cluster, as its supervisor and its controller know it."""

    changes: Changes
    supervisor: Supervisor
    log: KeptLog
    other_addresses: frozenset[str] = attrs.field(factory=lambda: listening(os.getpid()), init=False)
    other_children: frozenset[int] = attrs.field(factory=lambda: frozenset(children_of(os.getpid())), init=False)
    """What this process had before, for other tests."""

    @property
    def controller(self) -> Controller:
        return self.supervisor.controller

    @property
    def request(self) -> Request:
        return Request("tester", deadline_s=CHANGE_S)

    async def over(self, progress: Progress) -> Progress:
        """Wait for its end."""
        with trio.fail_after(2 * CHANGE_S):
            while not progress.over:  # noqa: ASYNC110 (it is looked at as any client would)
                await trio.sleep(0.05)
        return progress

    async def done(self, progress: Progress) -> None:
        """Wait for its end, which must be a good one, and until no node serves what is out of date."""
        await self.over(progress)
        assert progress.outcome == "done", (progress.what, progress.reason, progress.lines, self.log.events[-20:])
        with trio.move_on_after(SETTLE_S):
            while self.faults():  # noqa: ASYNC110 (kernel tables tell nobody when they change)
                await trio.sleep(0.05)
        assert self.faults() == [], (self.faults(), progress.what, progress.lines)

    def children(self) -> dict[int, str]:
        """The cluster's processes."""
        return {pid: name for pid, name in children_of(os.getpid()).items() if pid not in self.other_children}

    def faults(self) -> list[str]:
        """What is not as the active revision says: revisions, processes, listening sockets."""
        topology = load_text(self.changes.text, "FILE")
        records = self.controller.registry.records
        found = [*self.controller.readiness.missing()]
        if self.controller.topology != topology:
            found.append("the controller's topology is not that of the active revision")
        if set(records) != set(_nodes(topology)):
            found.append(f"records: {sorted(records)}")
        found += [f"{s.name} is stale" for s in records.values() if not s.assignment.is_served]
        children = self.children()
        nodes = sorted(name for name in children.values() if name)
        if nodes != sorted(_nodes(topology)):
            found.append(f"processes: {nodes}")
        endpoints = sum(pool.run.replicas for pool in topology.pools.values() if pool.run is not None)
        if sum(not name for name in children.values()) != endpoints:
            found.append(f"{len(children) - len(nodes)} endpoints instead of {endpoints}")
        return found + list(self._stray_sockets(topology, children))

    def _stray_sockets(self, topology: Topology, children: dict[int, str]) -> Iterator[str]:
        places = {place.address for tier in topology.tiers.values() for place in bound_listeners(tier)}
        public = {str(place) for place in places if not place.is_unix}
        held = listening(os.getpid()) - self.other_addresses
        if not public <= held:
            yield f"nobody keeps {public - held}"
        if len(held) != len(public) + 1:
            yield f"the supervisor listens at {held}"
        for pid, name in children.items():
            record = self.controller.registry.records.get(name)
            if record is None or record.hello is None:
                continue
            expected = {*(str(each) for each in record.addresses if not each.is_unix), record.hello.control}
            if listening(pid) != expected:
                yield f"{name} listens at {listening(pid)}, not {expected}"


@contextlib.asynccontextmanager
async def running_site(text: str, directory: Path) -> AsyncIterator[Site]:
    """The cluster from its start to its orderly end, after which nothing of it may be left."""
    before = open_descriptors()
    topology, log = load_text(text, "FILE"), KeptLog()
    store = FileStore(directory / "state")
    controller = Controller(topology, log)
    changes = Changes(controller, store, log)
    await start_anew(changes, text, "tester")
    supervisor = Supervisor(topology, controller, log, random.Random(), invite=directory / "state")
    site = Site(changes, supervisor, log)
    ended: list[str] = []

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        async def on_serving(background: trio.Nursery) -> None:
            changes.machines = supervisor.manager
            await background.start(changes.run)
            task_status.started()

        ended.append(await supervisor.run(on_serving))

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        try:
            yield site
        finally:
            supervisor.stop()
    (await store.close())
    assert ended == [""]
    assert site.children() == {}
    assert open_descriptors() == before


def children_of(pid: int) -> dict[int, str]:
    """The processes that it started, each with the name of the node that it is, or "" for another; no guards."""
    found: dict[int, str] = {}
    for entry in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            state, parent = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split()[:2]
            argv = Path(f"/proc/{entry}/cmdline").read_text().split("\0")
            if int(parent) == pid and state not in "ZX" and "tierlb" in argv:
                found[int(entry)] = argv[argv.index("--name") + 1] if "node" in argv else ""
    return found


def listening(pid: int) -> frozenset[str]:
    """Where it listens for TCP over IPv4."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(descriptor))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return frozenset(_address(row[1]) for row in rows if row[3] == LISTENING and f"socket:[{row[9]}]" in inodes)


def _address(text: str) -> str:
    host, port = text.split(":")
    return f"{socket.inet_ntoa(struct.pack('=I', int(host, 16)))}:{int(port, 16)}"


def open_descriptors() -> int:
    """Of this process."""
    return len(os.listdir("/proc/self/fd"))


def _nodes(topology: Topology) -> list[str]:
    return [name for tier in topology.tiers.values() for name in node_names(tier)]
