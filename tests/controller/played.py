"""A cluster for tests of changes: a real controller and store; the processes are played, and time is virtual."""

from collections import Counter

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.admin_states import AdminState
from tierlb.controller.changes import Changes, Request
from tierlb.controller.controller import Controller
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.node_record import Link
from tierlb.controller.store import FileStore
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.topology import Admin, Policy
from tierlb.topology.allot import node_names
from tierlb.topology.edit import AddTier
from tierlb.topology.load import load_text
from tierlb.topology.verbs import SetNode
from tierlb.wire.frames import Ack, Hello, Refuse, Report

TEXT = """\
cluster: shop
tiers:
  edge: {kind: l4, listen: "127.0.0.1:8080", to: web}
  web: {kind: l7, replicas: 2, to: app}
pools:
  app: {endpoints: ["127.0.0.1:9001"]}
"""
EMPTY, READY = SubtreeLoad(leaves=1), SubtreeLoad(leaves=1, ready_leaves=1)
MID = AddTier("mid", "l7", between=("edge", "web"), replicas=2)
ANN = Request("ann")
DRAIN_9 = SetNode("web-9", Admin.DRAIN)
DRAINED = (AdminState("web", "web-1", Admin.DRAIN),)
START_S = 0.3
STOP_S = 0.2


class PromptStore(FileStore):
    """Without threads, for which virtual time does not wait."""

    async def load(self):
        await trio.lowlevel.checkpoint()
        return self._files.load()

    async def save(self, stored, expected_version):
        await trio.lowlevel.checkpoint()
        return self._files.save(stored, expected_version)


class PromptFile(KeptFile):
    """Without a thread."""

    async def _in_thread(self):
        await trio.lowlevel.checkpoint()
        return self._catch_up()


@attrs.define(eq=False)
class Played:
    """Machines whose processes join after a moment and serve what they are sent; but for those named in `habits`,
    which crash, stay mute (they serve nothing), refuse, or are empty (they have no endpoint below)."""

    controller: Controller
    nursery: trio.Nursery
    habits: dict = attrs.field(factory=dict)
    taken: str = ""
    happened: list = attrs.field(factory=list)
    replaces: bool = True
    drain_s: float = 0.0
    shrink_s: float = 0.0
    crashed: Counter = attrs.field(factory=Counter)
    _scopes: dict = attrs.field(factory=dict)
    _pids: int = 0

    def grow(self, topology):
        if self.taken in {str(each.address) for tier in topology.tiers.values() for each in tier.listen}:
            raise OSError(f"{self.taken} is taken")
        missing = [n for tier in topology.tiers.values() for n in node_names(tier) if n not in self._scopes]
        for name in missing:
            self.start(name)
        return tuple(missing)

    def start(self, name):
        self._pids += 1
        self.happened.append(("start", name))
        self._scopes[name] = trio.CancelScope()
        self.nursery.start_soon(self._live, name, self._pids, self._scopes[name])
        return self._pids

    def needed(self, tier):
        return tier.replicas

    def surplus(self, topology):
        wanted = {name for tier in topology.tiers.values() for name in node_names(tier)}
        return tuple(name for name in self._scopes if name not in wanted)

    async def stop_nodes(self, names):
        for name in names:
            self.happened.append(("stop", name))
            await trio.sleep(STOP_S + self.drain_s)
            self._scopes.pop(name).cancel()

    async def shrink(self, topology):
        self.happened.append(("shrink", len(topology.tiers)))
        await trio.sleep(self.shrink_s)

    async def replace(self, topology, name):
        old = self._scopes[name]
        pid = self.start(name)
        while not self.controller.readiness.is_served_by(name, pid):
            await self.controller.signals.wait_progress()
        old.cancel()

    async def wait_replaced(self):
        await trio.sleep(self.drain_s)

    def crashes(self, names):
        return max((self.crashed[name] for name in names), default=0)

    def problems(self, names=None):
        return tuple(f"{name} ended with status 3" for name in self.crashed if names is None or name in names)

    def names(self):
        return sorted(self._scopes)

    async def _live(self, name, pid, scope):
        with scope:
            await trio.sleep(START_S)
            while self.habits.get(name) == "crash":
                self.crashed[name] += 1
                await trio.sleep(START_S)
            link = Link()
            record = self.controller.join(Hello(1, name, name.rpartition("-")[0], f"boot-{pid}", pid), link)
            await self._serve(record, link, pid)
        self.controller.registry.exited(name, pid)

    async def _serve(self, record, link, pid):
        said = None
        while True:
            load = EMPTY if self.habits.get(record.name) == "empty" else READY
            if load is not said:
                self.controller.receive(record, Report(load, Echo(), ()))
                said = load
            habit, wanted = self.habits.get(record.name), record.assignment.wanted
            if wanted is not None and wanted.revision != record.assignment.served and habit != "mute":
                addresses = tuple(Address("127.0.0.1", 20000 + pid) for _ in wanted.listeners)
                refuses = habit == "refuse" and wanted.balance is Policy.RANDOM
                answer = Refuse(wanted.revision, "no such policy") if refuses else Ack(wanted.revision, addresses)
                self.controller.receive(record, answer)
            with trio.move_on_after(0.5):
                await link.wake.wait()
            link.wake = trio.Event()


@attrs.define(eq=False)
class Site:
    changes: Changes
    machines: Played
    file: object

    async def over(self, progress):
        with trio.fail_after(300):
            while not progress.over:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.05)
        return progress.outcome

    async def want(self, name, state):
        progress = await self.changes.edit(SetNode(name, state), ANN, f"{state.value} {name}")
        assert await self.over(progress) == "done"

    async def is_as(self, text):
        """Whether topology, history, file, store and processes all agree with this text."""
        topology, stored = load_text(text, "f"), (await self.changes.state.store.load()).stored
        expected = sorted(name for tier in topology.tiers.values() for name in node_names(tier))
        return (
            self.changes.controller.topology == topology
            and self.changes.text == self.file.read_text() == stored.history.current.text == text
            and stored.history == self.changes.history
            and stored.rollout is None
            and self.machines.names() == sorted(self.changes.controller.registry.records) == expected
        )


def make(tmp_path, log, text=TEXT):
    path = tmp_path / "shop.yaml"
    path.write_text(text)
    controller = Controller(load_text(text, "f"), log)
    store, file = PromptStore(tmp_path / "state"), PromptFile(path, log)
    return Changes(controller, store, log, path, now=lambda: 1e9, kept_file=file)


def texts(progress):
    return [line.text for line in progress.lines]


def told(log):
    return [event for event, _ in log.events]


class Full:
    """A store on a disk without room."""

    async def save(self, stored, expected_version):
        raise StoreError("state.json cannot be written: No space left on device; free some space there")


class Slow:
    """A store that begins to save and goes on when `stored` is set."""

    def __init__(self, store):
        self.store, self.saving, self.stored = store, trio.Event(), trio.Event()
        self.load, self.close = store.load, store.close

    async def save(self, stored, expected_version):
        self.saving.set()
        await self.stored.wait()
        return await self.store.save(stored, expected_version)


def crash(site):
    site.machines.habits["mid-1"] = "crash"
