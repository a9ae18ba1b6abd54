"""A cluster in virtual time: real controller, changes and process manager; its processes are played.

A played node joins, serves and acknowledges after random delays, reports, drains when it is asked to end, and now and
then crashes. What it has applied is kept, so that at any moment it can be told, the slow and obvious way, what would
become of a request.
"""

import functools
import random
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping

import attrs
import pytest
import trio

from tierlb.channel.join_credentials import JoinCredentials
from tierlb.controller.changes import Changes
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link
from tierlb.controller.registry import NodeRegistry, Unwelcome
from tierlb.controller.startup import start_anew
from tierlb.controller.store import Loaded, Stored
from tierlb.local.guard import Guard
from tierlb.local.launcher import Launcher
from tierlb.local.local_endpoints import LocalEndpoints
from tierlb.local.ports import FreePorts, addresses_here
from tierlb.local.process_manager import ProcessManager
from tierlb.local.program import Program
from tierlb.model.address import Address, Transport
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.snapshot import HostSpec, Listener, Send, Snapshot
from tierlb.model.topology import Admin, Topology
from tierlb.topology.allot import node_names
from tierlb.topology.load import load_text
from tierlb.wire.frames import Ack, Hello, Leaving, Refuse, Report

FIRST_PORT = 40000
START_S, ANSWER_S, DRAIN_S, RESTART_S = 1.0, 0.2, 2.0, 0.5
"""The longest that each takes."""
QUEUE_S = 1.0
"""So long a connection may wait in the queue of a public address until somebody accepts."""


@functools.lru_cache(8)
def loaded(text: str) -> Topology:
    """The topology of a file."""
    return load_text(text, "FILE")


class NoLog:
    """Says nothing."""

    def info(self, event: str, **fields: object) -> None:
        pass

    warning = error = info


class MemoryStore:
    """A store that forgets when the test ends."""

    def __init__(self) -> None:
        self.loaded = Loaded(Stored(), 0)

    async def load(self) -> Loaded:
        return self.loaded

    async def save(self, stored: Stored, expected_version: int) -> int:
        assert expected_version == self.loaded.version
        self.loaded = Loaded(stored, expected_version + 1)
        return self.loaded.version

    async def close(self) -> None:
        pass


@attrs.define(eq=False)
class Process:
    """One run of a node or endpoint. `inner` is where its parents reach it; `closing`: it has been asked to end and
    accepts nothing any more."""

    name: str
    pid: int
    inner: Address
    applied: Snapshot | None = None
    closing: bool = False
    end: trio.Event = attrs.field(factory=trio.Event)

    def accepts(self, listener: Listener) -> bool:
        """Whether connections to it are taken up here."""
        known = self.applied is not None and listener in self.applied.listeners and self.applied.admin is Admin.READY
        return known and not self.closing

    def answer(self, wanted: Snapshot) -> Ack:
        """It serves this now."""
        self.applied = wanted
        addresses = tuple(self.inner if listener.inner else listener.address for listener in wanted.listeners)
        return Ack(wanted.revision, addresses)

    def load(self) -> SubtreeLoad:
        """Ready, if there is anybody to send to or nobody is needed."""
        assert self.applied is not None
        return SubtreeLoad(capacity=10.0, leaves=1, ready_leaves=int(all(_members(self.applied))))


def _members(snapshot: Snapshot) -> Iterator[list[HostSpec]]:
    """Of each destination that gets items."""
    for rule in snapshot.rules:
        if isinstance(rule.action, Send):
            yield from ([*d.hosts] for d in rule.action.destinations if d.weight > 0)


@attrs.define(eq=False)
class World:
    """Everything that runs. What a change starts is under its `curse`: crash, mute or refuse; not so what was there
    before it, `innocent`. `lasting` are addresses that are to be open all the time. `adopted`: the topologies that
    became the desired one.

    `disturbed`: innocent processes crash too, so that requests may fail. `excusing`: what has taken over may crash
    afterwards, and then nobody may be there. `crashed` is where processes were that ended by themselves.
    """

    controller: Controller
    changes: Changes
    rng: random.Random
    adopted: list[Topology]
    curse: str = ""
    innocent: frozenset[str] = frozenset()
    lasting: frozenset[Address] = frozenset()
    disturbed: bool = False
    excusing: bool = False
    crashed: set[str] = attrs.field(factory=set)
    processes: dict[int, Process] = attrs.field(factory=dict)
    faults: list[str] = attrs.field(factory=list)
    _pids: int = 0
    manager: ProcessManager = attrs.field(init=False)

    def child(self, name: str, program: Program, log: object, **options: object) -> "PlayedChild":
        """What the manager starts instead of a process."""
        curse = self.curse if name not in self.innocent and program.argv[0] not in self.innocent else ""
        return PlayedChild(self, name, program.argv, curse, **{k: options.get(k) for k in ("watch", "on_exit")})  # type: ignore[arg-type]

    def begin(self, name: str) -> Process:
        self._pids += 1
        process = self.processes[self._pids] = Process(name, self._pids, Address("127.0.0.1", FIRST_PORT + self._pids))
        return process

    def lift_curse(self) -> None:
        """From now on everybody behaves."""
        self.curse = ""
        for child in self.manager.processes():
            child.curse = ""  # type: ignore[attr-defined]

    def topology(self) -> Topology:
        """Of the active revision."""
        return loaded(self.changes.text)

    # What must be true when nothing is under way.

    async def leftovers(self) -> list[str]:
        """What is not exactly as the active revision says."""
        topology, manager, stored = self.topology(), self.manager, (await self.changes.state.store.load()).stored
        names = {name for tier in topology.tiers.values() for name in node_names(tier)}
        commands = {n: [e.command for e in group] for n, group in manager.endpoints.pools.items() if group}
        runs = {p.name: [p.run.command] * p.run.replicas for p in topology.pools.values() if p.run is not None}
        running = sorted(p.name for p in self.processes.values() if "/" not in p.name)
        checks = {
            "topology": self.controller.topology == topology,
            "missing": self.controller.readiness.missing() == (),
            "records": set(self.controller.registry.records) == names,
            "served": all(s.assignment.is_served for s in self.controller.registry.records.values()),
            "nodes": set(manager.nodes) == names,
            "processes": running == sorted(names),
            "endpoints": commands == runs,
            "endpoint processes": len(self.processes) - len(running) == sum(map(len, runs.values())),
            "known endpoints": sum(map(len, self.controller.endpoints.accepting().values()))
            == sum(map(len, runs.values())),
            "sockets": manager.sockets.addresses == {a for t in topology.tiers.values() for a in addresses_here(t)},
            "retiring": self.controller.node_admin.retiring == frozenset(),
            "history": stored.history == self.changes.history,
            "rollout": stored.rollout is None,
        }
        return [name for name, holds in checks.items() if not holds]

    # What must be true at any moment.

    async def watch_over(self) -> None:
        """Note what would become of requests to the addresses that are to be open all the time, for ever."""
        answered: dict[Address, float] = {}
        while True:
            now, at = trio.current_time(), {name: p for p in self.processes.values() for name in (p.name, str(p.inner))}
            bound = {each.address for each in self.manager.sockets.addresses}
            for address in self.lasting if not self.disturbed else ():
                entrances = [p for p in self.processes.values() if p.accepts(Listener(address, shared=True))]
                if entrances or self.excusing or address not in answered:
                    answered[address] = now
                if address not in bound or now - answered[address] > QUEUE_S:
                    self.faults.append(f"{now:.2f} nobody accepts at {address}")
                self.faults += [f"{now:.2f} {fault}" for fault in self._lost(entrances, at)]
            await trio.sleep(0.05)

    def _lost(self, entrances: Iterable[Process], at: Mapping[str, Process]) -> Iterator[str]:
        """Why a request that is accepted there now might fail, here or further below."""
        waiting, seen = [*entrances], set()
        while waiting:
            process = waiting.pop()
            if process.pid in seen or process.applied is None:
                continue
            seen.add(process.pid)
            for hosts in _members(process.applied):
                ready = [m for m in hosts if m.admin is Admin.READY and not self._crashed(m, at)]
                if not ready and not self.excusing:
                    yield f"{process.name} has nobody to send to"
                for host in ready:
                    below = at.get(_place(host))
                    if below is None or below.closing:
                        yield f"{process.name} sends to {host.name}, which is not there"
                    else:
                        waiting.append(below)

    def _crashed(self, host: HostSpec, at: Mapping[str, Process]) -> bool:
        """A connect to it fails, and another host is asked."""
        return _place(host) in self.crashed and _place(host) not in at


def _place(host: HostSpec) -> str:
    """Endpoints are called after their address; a node has another one with each process."""
    return str(host.address) if host.child else host.name


Watch = Callable[[int], Awaitable[None]]


@attrs.define(eq=False)
class PlayedChild:
    """Stands for `tierlb.local.managed_process.ManagedProcess`."""

    world: World
    name: str
    argv: tuple[str, ...]
    curse: str
    watch: Watch | None
    on_exit: Callable[[int], None]
    crashes: int = 0
    process: Process | None = None
    errors: object = None
    _stop: trio.Event = attrs.field(factory=trio.Event)
    _ended: trio.Event = attrs.field(factory=trio.Event)

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None else None

    @property
    def problem(self) -> str:
        return f"{self.name} ended with status 3" if self.crashes else ""

    async def run(self) -> None:
        while not self._stop.is_set():
            await self._run_once()
            if not self._stop.is_set():
                self.crashes += 1
                with trio.move_on_after(RESTART_S):
                    await self._stop.wait()
        self._ended.set()

    async def wait_ended(self) -> None:
        await self._ended.wait()

    async def stop(self, deadline_s: float) -> None:
        self._stop.set()
        if (process := self.process) is not None:
            process.closing = True
            await trio.sleep(self.world.rng.uniform(0.1, DRAIN_S))
            process.end.set()
        await self._ended.wait()

    async def _run_once(self) -> None:
        process = self.process = self.world.begin(self.name)
        async with trio.open_nursery() as nursery:
            if self.watch is not None:
                nursery.start_soon(self.watch, process.pid)
            else:
                nursery.start_soon(self._be_a_node, process)
            if self.curse == "crash":
                nursery.start_soon(self._crash_soon, process)
            await process.end.wait()
            nursery.cancel_scope.cancel()
        if not process.closing:
            self.world.crashed |= {process.name, str(process.inner)} if "/" in process.name else {str(process.inner)}
        del self.world.processes[process.pid]
        self.process = None
        self.on_exit(process.pid)

    async def _crash_soon(self, process: Process) -> None:
        await trio.sleep(self.world.rng.uniform(0.1, START_S))
        if self.curse:
            process.end.set()

    async def _be_a_node(self, process: Process) -> None:
        rng, controller = self.world.rng, self.world.controller
        await trio.sleep(rng.uniform(0.1, START_S))
        control = f"127.0.0.1:{FIRST_PORT + process.pid}"
        while True:
            link = Link()
            data = str(process.inner) if process.applied is not None else ""
            hello = Hello(1, self.name, self.name.rpartition("-")[0], f"boot-{process.pid}", process.pid, control, data)
            try:
                record = controller.join(hello, link)
            except Unwelcome:
                await trio.sleep(rng.uniform(0.1, 0.5))
                continue
            await self._serve(process, record, link)
            controller.registry.lost(record, link)
            await trio.sleep(rng.uniform(0.05, 0.1))

    async def _serve(self, process: Process, record: object, link: Link) -> None:
        """For as long as the connection lasts."""
        controller, configured, said_so = self.world.controller, 0, False
        while not link.replaced:
            wanted: Snapshot | None = record.assignment.wanted  # type: ignore[attr-defined]
            if process.closing and not said_so:
                controller.receive(record, Leaving())  # type: ignore[arg-type]
                said_so = True
            if wanted is not None and wanted.revision != configured and self.curse != "mute":
                configured = wanted.revision
                await trio.sleep(self.world.rng.uniform(0.0, ANSWER_S))
                if self.curse == "refuse":
                    controller.receive(record, Refuse(configured, "it does not like it"))  # type: ignore[arg-type]
                else:
                    controller.receive(record, process.answer(wanted))  # type: ignore[arg-type]
                    controller.receive(record, Report(process.load(), Echo(), ()))  # type: ignore[arg-type]
                continue
            with trio.move_on_after(0.5):
                await link.wake.wait()
            link.wake = trio.Event()


async def make_world(text: str, rng: random.Random, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch) -> World:
    """A cluster that serves this text."""
    monkeypatch.setattr(trio._core._run, "_ALLOW_DETERMINISTIC_SCHEDULING", True)
    trio._core._run._r.seed(rng.random())
    topology = load_text(text, "FILE")
    controller = Controller(topology, NoLog())
    adopt, adopted = controller.registry.adopt, list[Topology]()

    def note_and_adopt(registry: NodeRegistry, topology: Topology) -> None:
        adopted.append(topology)
        adopt(topology)

    monkeypatch.setattr(NodeRegistry, "adopt", note_and_adopt)
    changes = Changes(controller, MemoryStore(), NoLog(), now=lambda: 1e9)
    await start_anew(changes, text, "tester")
    world = World(controller, changes, rng, adopted)

    async def accepts_soon(address: Address, transports: Collection[Transport]) -> None:
        await trio.sleep(rng.uniform(0.1, START_S))

    nursery.start_soon(controller.run)
    join_credentials = JoinCredentials("ws://127.0.0.1:1", "token")
    launcher = Launcher(nursery, Guard(), NoLog(), controller.errors, world.child)
    endpoints = LocalEndpoints(controller, launcher, FreePorts(random.Random()), accepts_soon)
    world.manager = ProcessManager(controller, join_credentials, launcher, endpoints)
    world.manager.grow(topology)
    changes.machines = world.manager
    await nursery.start(changes.run)
    while controller.readiness.missing():
        await controller.signals.wait_progress()
    return world
