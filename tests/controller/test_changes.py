"""Changes from the request to the end, on a real controller and store; the processes are played, time is virtual."""

import os
from collections import Counter

import attrs
import pytest
import trio

from tierlb.channel.durable import StoreError
from tierlb.controller.admin_states import AdminState, SetAdmin
from tierlb.controller.change_runner import Busy
from tierlb.controller.changes import SERVED_WITHIN_S, Changes, Request
from tierlb.controller.controller import Controller
from tierlb.controller.history import Conflict, Rollout, UnknownRevision
from tierlb.controller.kept_file import KeptFile
from tierlb.controller.node_record import Link
from tierlb.controller.proposals import NothingToDo, NotPossible
from tierlb.controller.restart import REPLACE_S
from tierlb.controller.rollout import BACK_S, INTERNAL, stand_still
from tierlb.controller.stages import CRASHES
from tierlb.controller.startup import start_anew, take_over
from tierlb.controller.store import FileStore, Stored
from tierlb.model.address import Address
from tierlb.model.load import Echo, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Admin, Policy
from tierlb.topology.allot import node_names
from tierlb.topology.edit import AddTier, EditError, RemoveTier, Scale, SetPolicy
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.wire.frames import Ack, Drain, Hello, Refuse, Report

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
DRAIN_9 = SetAdmin("web-9", Admin.DRAIN)
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
    """Machines whose processes join after a moment and serve whatever they are told; but for those named in `habits`,
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
        if self.taken and any(self.taken == str(tier.listen) for tier in topology.tiers.values()):
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
        progress = await self.changes.edit(SetAdmin(name, state), ANN, f"{state.value} {name}")
        assert await self.over(progress) == "done"

    async def is_as(self, text):
        """Whether everything is what this text says: topology, history, file, store and processes."""
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


@pytest.fixture
async def site(tmp_path, log, nursery, autojump_clock):
    """Serves revision 1."""
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    nursery.start_soon(changes.controller.run)
    changes.machines = Played(changes.controller, nursery)
    changes.machines.grow(changes.controller.topology)
    await nursery.start(changes.run)
    await trio.sleep(2)
    assert changes.controller.readiness.missing() == ()
    changes.machines.happened.clear()
    yield Site(changes, changes.machines, changes.state.kept_file.file)
    await changes.state.store.close()


def texts(progress):
    return [line.text for line in progress.lines]


def told(log):
    return [event for event, _ in log.events]


async def test_a_change_is_made_stage_by_stage(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    assert (progress.outcome, progress.stages, progress.revision, progress.over) == ("running", 3, 2, False)
    assert (await site.changes.state.store.load()).stored.rollout == Rollout(2, 1, 1e9 + ANN.deadline_s)
    assert await site.over(progress) == "done"
    assert await site.is_as(site.changes.proposals.edited(Scale({"web": 2})).text)
    assert (progress.stage, progress.reason) == (3, "")
    assert site.machines.happened[:2] == [("start", "mid-1"), ("start", "mid-2")]
    assert [text for text in texts(progress) if text.startswith("stage")] == [
        f"stage {number} of 3: every node serves it" for number in (1, 2, 3)
    ]
    assert "tier mid (l7) is added: starts mid-1 and mid-2, sends to web" in texts(progress)


async def test_what_nothing_sends_to_any_more_is_stopped_before_the_others_hear_of_it(site, autojump_clock):
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    site.machines.happened.clear()
    progress = await site.changes.edit(RemoveTier("mid"), ANN, "tier remove mid")
    assert await site.over(progress) == "done"
    assert await site.is_as(TEXT)
    stops = [event for event in site.machines.happened if event[0] != "shrink"]
    assert stops == [("stop", "mid-1"), ("stop", "mid-2")]
    said = texts(progress)
    assert said.index("stopping mid-1, mid-2") < said.index("stage 3 of 3: every node serves it")


async def test_nodes_too_many_are_stopped_when_all_others_know(site, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")) == "done"
    assert [event for event in site.machines.happened if event[0] == "stop"] == [("stop", "web-2")]
    assert await site.is_as(site.changes.text)


async def test_a_change_of_words_alone_is_a_revision_and_done_at_once(site, autojump_clock):
    progress = await site.changes.apply(TEXT + "# note\n", ANN)
    assert await site.over(progress) == "done"
    assert (progress.stages, progress.revision) == (0, 2)
    assert await site.is_as(TEXT + "# note\n")


async def test_one_change_at_a_time(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    with pytest.raises(Busy, match=r"revision 2 \(tier add mid, by ann\) is being carried out: wait"):
        await site.changes.edit(Scale({"web": 3}), Request("bob"), "scale web=3")
    with pytest.raises(Busy):
        site.changes.restart("web", ANN)
    await site.over(progress)
    restart = site.changes.restart("web", ANN)
    with pytest.raises(Busy, match=r"^\(restart web, by ann\) is being carried out"):
        await site.changes.apply(TEXT, ANN)
    await site.over(restart)
    assert [each.number for each in site.changes.runner.recent] == [1, 2]


async def test_before_the_cluster_serves_nothing_is_changed(tmp_path, log):
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    with pytest.raises(Busy, match="still starting"):
        await changes.edit(MID, ANN, "tier add mid")
    assert changes.history.active == 1
    await changes.state.store.close()


CLUSTER_RENAMED = TEXT.replace("shop", "bank")
WEB_AT_L4 = TEXT.replace("kind: l7", "kind: l4")


async def restart_mid(changes):
    changes.restart("mid", ANN)


@pytest.mark.parametrize(
    ("request_it", "error", "said"),
    [
        (
            lambda c: c.apply(TEXT + "# b\n", Request("bob", expected=7)),
            Conflict,
            "made from revision 7, but",
        ),
        (lambda c: c.apply(CLUSTER_RENAMED, ANN), NotPossible, "cluster: taken up at the start only"),
        (lambda c: c.apply(WEB_AT_L4, ANN), NotPossible, "web"),
        (lambda c: c.apply(TEXT, ANN), NothingToDo, "nothing would change"),
        (lambda c: c.apply(TEXT.replace("to: app", "to: ap"), ANN), TopologyError, "did you mean 'app'"),
        (lambda c: c.edit(RemoveTier("mid"), ANN, "x"), EditError, "mid"),
        (lambda c: c.rollback(9, ANN), UnknownRevision, "there is no revision 9"),
        (restart_mid, NotPossible, "there is no tier mid: there are edge, web"),
        (lambda c: c.edit(DRAIN_9, ANN, "x"), NotPossible, "there is no node or agent web-9"),
    ],
)
async def test_what_is_refused_changes_nothing(site, request_it, error, said, autojump_clock):
    with pytest.raises(error, match=said):
        await request_it(site.changes)
    assert site.changes.runner.progress is None
    assert site.changes.history.active == 1
    assert await site.is_as(TEXT)


TLS = "security: {tls: {certificate: tls/cert.pem, key: tls/key.pem, ca: tls/ca.pem}}\n"


async def test_who_applies_a_file_from_elsewhere_hears_where_the_files_that_it_names_have_to_be(
    site, tmp_path, autojump_clock
):
    with pytest.raises(TopologyError) as caught:
        await site.changes.apply(TEXT + TLS, ANN)
    places = [str(problem).partition(" (looked for at ")[2] for problem in caught.value.problems]
    assert places == [f"'{tmp_path}/tls/{name}.pem')" for name in ("cert", "key", "ca")]


class Full:
    """A store on a disk without room."""

    async def save(self, stored, expected_version):
        raise StoreError("state.json cannot be written: No space left on device; free some space there")


UNSTORED = [
    lambda changes: changes.edit(MID, ANN, "tier add mid"),
    lambda changes: changes.apply(TEXT + "#", ANN),
    lambda changes: changes.edit(SetAdmin("web-1", Admin.DRAIN), ANN, "drain web-1"),
]


@pytest.mark.parametrize("request_it", UNSTORED)
async def test_what_cannot_be_stored_is_not_begun(site, request_it, autojump_clock):
    store, site.changes.state.store = site.changes.state.store, Full()
    with pytest.raises(StoreError, match="No space left"):
        await request_it(site.changes)
    site.changes.state.store = store
    assert site.changes.runner.progress is None
    assert site.changes.controller.node_admin.states == {}
    assert site.machines.happened == []
    assert await site.is_as(TEXT)
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


async def test_what_can_be_stored_no_more_at_the_end_is_told_and_still_true(site, log, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    store, site.changes.state.store = site.changes.state.store, Full()
    assert await site.over(progress) == "done"
    assert "state_write_failed" in told(log)
    site.changes.state.store = store
    assert await site.over(await site.changes.edit(Scale({"web": 3}), ANN, "scale web=3")) == "done"
    assert await site.is_as(site.changes.text)


def mute(site):
    site.machines.habits["mid-2"] = "mute"


def crash(site):
    site.machines.habits["mid-1"] = "crash"


def empty(site):
    site.machines.habits |= {"mid-1": "empty", "mid-2": "empty"}


FAILURES = [
    (mute, 20.0, "not done in 20 s: mid-2 does not serve its latest configuration yet", (20, 27)),
    (crash, 60.0, "mid-1 ended with status 3", (START_S * CRASHES, 12)),
    (empty, 15.0, "not done in 15 s", (15, 20)),
]


@pytest.mark.parametrize(("spoil", "deadline_s", "reason", "takes_s"), FAILURES)
async def test_what_does_not_come_off_is_taken_back(site, log, spoil, deadline_s, reason, takes_s, autojump_clock):
    spoil(site)
    began = trio.current_time()
    progress = await site.changes.edit(MID, Request("ann", deadline_s=deadline_s), "tier add mid")
    assert site.file.read_text() != TEXT
    assert await site.over(progress) == "rolled back"
    assert takes_s[0] <= trio.current_time() - began <= takes_s[1]
    assert progress.reason.startswith(reason)
    assert f"taken back: {progress.reason}" in texts(progress)
    assert await site.is_as(TEXT)
    assert (site.changes.history.active, len(site.changes.history.revisions)) == (1, 2)
    assert "rollback_started" in told(log)
    assert sorted(name for what, name in site.machines.happened if what == "stop") == ["mid-1", "mid-2"]
    site.machines.habits.clear()
    site.machines.crashed.clear()
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert site.changes.history.active == 3


async def test_what_a_node_refuses_is_taken_back_at_once(site, autojump_clock):
    """By a node that goes on: what it refused is over as soon as something else is wanted of it."""
    site.machines.habits["web-1"] = "refuse"
    began = trio.current_time()
    progress = await site.changes.edit(SetPolicy("web", "random"), ANN, "policy web=random")
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "web-1 refused its configuration: no such policy"
    assert trio.current_time() - began < 2
    assert await site.is_as(TEXT)
    assert site.changes.controller.readiness.missing() == ()


async def test_an_address_that_is_taken_is_told_and_everything_as_before(site, autojump_clock):
    site.machines.taken = "127.0.0.1:8081"
    moved = TEXT.replace("8080", "8081")
    progress = await site.changes.apply(moved, ANN)
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "127.0.0.1:8081 is taken"
    assert await site.is_as(TEXT)


async def test_a_way_back_that_does_not_come_off_either_is_told(site, autojump_clock):
    site.machines.habits |= {"mid-1": "mute", "mid-2": "mute"}
    progress = await site.changes.edit(MID, Request("ann", deadline_s=5), "tier add mid")
    await trio.sleep(1)
    site.machines.habits["web-1"] = "mute"
    began = trio.current_time()
    assert await site.over(progress) == "failed"
    assert trio.current_time() - began <= 5 + 2 * BACK_S
    assert "and the way back is not over yet: web-1 does not serve its latest configuration yet" in texts(progress)
    assert site.changes.controller.topology == load_text(TEXT, "f")
    assert (site.changes.text, (await site.changes.state.store.load()).stored.rollout) == (TEXT, None)
    site.machines.habits.clear()
    assert await site.over(await site.changes.edit(Scale({"web": 3}), ANN, "scale web=3")) == "done"
    assert await site.is_as(site.changes.text), "what was left over is stopped by the next change"


async def test_what_is_broken_can_be_taken_out(site, autojump_clock):
    """Nobody waits for nodes that are to go; nor, on the way back, for the new ones for which it is taken back."""
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    site.machines.habits |= {"mid-1": "mute", "mid-2": "empty"}
    await trio.sleep(1)
    assert await site.over(await site.changes.edit(RemoveTier("mid"), ANN, "tier remove mid")) == "done"
    assert await site.is_as(TEXT)
    site.machines.habits = {"mid-1": "refuse", "mid-2": "mute"}
    progress = await site.changes.edit(attrs.evolve(MID, balance=Policy.RANDOM), ANN, "tier add mid")
    assert await site.over(progress) == "rolled back"
    assert progress.reason == "mid-1 refused its configuration: no such policy"
    assert await site.is_as(TEXT)


async def test_half_of_a_new_tier_is_enough_to_go_on(site, autojump_clock):
    site.machines.habits |= {"mid-1": "empty", "mid-2": "empty"}
    progress = await site.changes.edit(attrs.evolve(MID, replicas=3), ANN, "tier add mid")
    await trio.sleep(5)
    assert (progress.stage, progress.over) == (1, False)
    del site.machines.habits["mid-2"]
    await trio.sleep(1)
    assert progress.stage == 2
    assert await site.over(progress) == "done"


async def test_a_file_that_was_edited_meanwhile_is_left_alone(site, log, autojump_clock):
    site.file.write_text("# my draft\n")
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert site.file.read_text() == "# my draft\n"
    assert ("topology_file_left_alone", {"file": str(site.file)}) in log.events


async def test_a_file_that_holds_the_new_text_already_is_kept_and_restored_when_it_fails(site, autojump_clock):
    crash(site)
    text = site.changes.proposals.edited(MID).text
    site.file.write_text(text)
    progress = await site.changes.apply(text, ANN)
    assert site.file.read_text() == text
    assert await site.over(progress) == "rolled back"
    assert await site.is_as(TEXT)


async def test_a_linked_file_stays_a_link_with_its_mode(site, autojump_clock):
    real = site.file.with_name("real.yaml")
    site.file.rename(real)
    real.write_text("\ufeff" + TEXT)
    real.chmod(0o640)
    site.file.symlink_to(real)
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    assert site.file.is_symlink()
    assert real.read_text() == site.changes.text
    assert real.stat().st_mode & 0o777 == 0o640


async def test_a_file_that_cannot_be_written_stops_nothing(site, log, autojump_clock):
    site.file.unlink()
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"
    assert "topology_file_write_failed" in told(log)


async def test_a_file_on_a_disk_that_stalls_holds_up_no_change(site, log, autojump_clock):
    site.changes.state.kept_file = KeptFile(site.file, log)
    site.file.unlink()
    os.mkfifo(site.file)
    with trio.move_on_after(1):  # the request's connection closes meanwhile
        await site.changes.edit(MID, ANN, "tier add mid")
    assert site.changes.runner.progress is not None
    assert await site.over(site.changes.runner.progress) == "done"
    assert "topology_file_late" in told(log)
    os.close(os.open(site.file, os.O_RDWR | os.O_NONBLOCK))  # the thread goes on


async def test_an_old_revision_is_applied_anew(site, autojump_clock):
    await site.over(await site.changes.edit(MID, ANN, "tier add mid"))
    progress = await site.changes.rollback(1, Request("bob"))
    assert await site.over(progress) == "done"
    assert (progress.what, progress.revision) == ("rollback 1", 3)
    assert site.changes.history.current.why == "back to revision 1"
    assert await site.is_as(TEXT)


async def test_a_plan_changes_nothing(site, autojump_clock):
    plan = site.changes.proposals.plan(site.changes.proposals.edited(MID))
    assert plan.stages == 3
    assert await site.is_as(TEXT)
    assert site.changes.runner.progress is None


async def test_a_restart_replaces_one_process_after_the_other(site, autojump_clock):
    before = {name: record.hello.pid for name, record in site.changes.controller.registry.records.items()}
    progress = site.changes.restart("web", ANN)
    assert await site.over(progress) == "done"
    await trio.sleep(1)
    after = {name: record.hello.pid for name, record in site.changes.controller.registry.records.items()}
    assert {name for name in before if before[name] != after[name]} == {"web-1", "web-2"}
    assert texts(progress) == ["web-1 is a new process", "web-2 is a new process"]
    assert (progress.revision, progress.stages, progress.stage) == (0, 2, 2)
    assert await site.is_as(TEXT)


async def test_a_restart_is_done_when_the_old_processes_have_drained(site, autojump_clock):
    site.machines.drain_s = 100.0
    began = trio.current_time()
    assert await site.over(site.changes.restart("web", ANN)) == "done"
    assert 100.0 < trio.current_time() - began < 120.0, "both at once"


@pytest.mark.parametrize("what", ["drain_s", "shrink_s"])
async def test_draining_takes_as_long_as_it_may_at_no_expense_of_the_deadline(site, what, autojump_clock):
    """Of nodes, and of endpoints that are to end."""
    setattr(site.machines, what, 100.0)
    request = attrs.evolve(ANN, deadline_s=10.0)
    assert await site.over(await site.changes.edit(Scale({"web": 1}), request, "scale web=1")) == "done"


async def test_a_change_says_what_it_waits_for_while_nodes_drain(site, autojump_clock):
    site.machines.drain_s = 20.0
    progress = await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")
    while not any(line.startswith("stopping") for line in texts(progress)):  # noqa: ASYNC110 (virtual time)
        await trio.sleep(0.1)
    own = NodeLoad(4, 4, 9, 0, 0, 0, 0, 0.0, tunnels=1)
    site.changes.controller.observer.note_rows([NodeRow("web-2", "web", 0.0, own, SubtreeLoad())])
    assert await site.over(progress) == "done"
    (said,) = [line for line in texts(progress) if line.startswith("waiting for")]
    assert said == "waiting for 3 requests and 1 tunnel on web-2, 27 s left"


@pytest.mark.parametrize("tier", ["edge", "web"])
async def test_a_tier_does_not_shrink_to_nodes_that_are_drained(site, tier, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    await site.want(f"{tier}-1", Admin.DRAIN)
    scale, reason = Scale({tier: 1}), f"of {tier} only nodes that are drained would be left: `tierlb ready {tier}-1`"
    with pytest.raises(NotPossible, match=f"{reason} first"):
        await site.changes.edit(scale, ANN, "scale")
    await site.want(f"{tier}-1", Admin.READY)
    assert await site.over(await site.changes.edit(scale, ANN, "scale")) == "done"


async def test_where_a_file_at_the_start_left_only_drained_nodes_each_can_be_made_ready(site, again, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    await site.want("edge-1", Admin.DRAIN)
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(TEXT.replace("replicas: 2", "replicas: 1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(changes.controller.run)
        changes.machines = Played(changes.controller, nursery)
        changes.machines.grow(changes.controller.topology)
        await nursery.start(changes.run)
        await trio.sleep(2)
        other = attrs.evolve(site, changes=changes, machines=changes.machines)
        status = changes.controller.observer.status()
        assert (status.serving, len(status.missing)) == (False, 2)
        await other.want("web-1", Admin.READY)
        assert changes.controller.observer.status().missing == (
            "edge: no node that serves takes anything: `tierlb ready edge-1`",
        )
        await other.want("edge-1", Admin.READY)
        assert changes.controller.observer.status().serving
        nursery.cancel_scope.cancel()


async def test_of_nodes_that_go_a_plan_does_not_say_that_they_are_ready(site, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    plan = site.changes.proposals.plan(site.changes.proposals.edited(Scale({"web": 1})))
    assert [line for line in plan.lines if "web-2" in line] == [plan.lines[1]]
    assert plan.lines[1].startswith("web-2 stops")


async def test_most_nodes_of_a_tier_may_be_out_and_not_work_while_it_changes(site, autojump_clock):
    assert await site.over(await site.changes.edit(Scale({"web": 4}), ANN, "scale web=4")) == "done"
    for name in ("web-2", "web-3", "web-4"):
        await site.want(name, Admin.DRAIN)
        site.machines.habits[name] = "empty"
    await trio.sleep(1)
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


async def test_the_time_of_a_change_stands_still_only_while_something_drains(autojump_clock):
    with trio.move_on_after(5) as time:
        await trio.sleep(2)
        await stand_still(time, trio.sleep(100))  # noqa: ASYNC105
        assert time.deadline == pytest.approx(trio.current_time() + 3)


async def test_a_process_that_does_not_serve_ends_the_restart(site, autojump_clock):
    site.machines.habits["web-2"] = "crash"
    began = trio.current_time()
    progress = site.changes.restart("web", ANN)
    assert await site.over(progress) == "failed"
    assert trio.current_time() - began == pytest.approx(REPLACE_S, abs=2)
    assert progress.reason == "the new process of web-2 does not serve after 20 s: the old one stays"


async def test_a_drain_is_a_revision_that_later_changes_keep(site, autojump_clock):
    progress = await site.changes.edit(SetAdmin("web-1", Admin.DRAIN), Request("bob", "old disk"), "drain web-1")
    assert await site.over(progress) == "done"
    assert texts(progress) == [
        "web-1: ready → drain: it gets nothing new; what is under way has up to 30s, then what is left is cut"
    ]
    web1 = site.changes.controller.registry.records["web-1"]
    assert (web1.assignment.wanted.admin, web1.assignment.served) == (Admin.DRAIN, web1.assignment.wanted.revision)
    stored = (await site.changes.state.store.load()).stored
    assert (stored.history.admin_states, stored.rollout) == (DRAINED, None)
    row = stored.history.rows()[-1]
    assert (row.number, row.who, row.why, row.added, row.removed, row.active) == (2, "bob", "old disk", 0, 0, True)
    assert await site.over(await site.changes.edit(Scale({"edge": 2}), ANN, "scale edge=2")) == "done"
    assert site.changes.history.admin_states == DRAINED
    assert await site.over(await site.changes.apply(TEXT + "# reviewed\n", ANN)) == "done"
    assert site.changes.history.admin_states == DRAINED, "a file says nothing of it"
    assert web1.assignment.wanted.admin is Admin.DRAIN
    await site.want("web-1", Admin.READY)
    assert web1.assignment.wanted.admin is Admin.READY
    assert (await site.changes.state.store.load()).stored.history.admin_states == ()


async def test_going_back_undoes_a_drain_and_brings_it_again(site, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    assert await site.over(await site.changes.rollback(1, ANN)) == "done"
    assert (site.changes.controller.node_admin.states, site.changes.history.active) == ({}, 3)
    assert await site.over(await site.changes.rollback(2, ANN)) == "done"
    assert site.changes.controller.node_admin.states == {"web-1": Admin.DRAIN}


async def test_a_node_that_comes_later_under_the_name_of_a_drained_one_is_ready(site, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    text = TEXT.replace("replicas: 2, ", "").replace("to: web}", "to: mid}\n  mid: {kind: l7, to: web}")
    progress = await site.changes.apply(text, ANN)
    while site.changes.controller.registry.records.get("web-2") is not None:
        wanted = site.changes.controller.registry.records["web-2"].assignment.wanted
        assert wanted.admin is Admin.DRAIN, "as long as it is there"
        await trio.sleep(0.05)
    assert await site.over(progress) == "done"
    assert (site.changes.history.admin_states, site.changes.controller.node_admin.states) == ((), {})
    assert await site.over(await site.changes.edit(Scale({"web": 2}), ANN, "scale web=2")) == "done"
    assert site.changes.controller.registry.records["web-2"].assignment.wanted.admin is Admin.READY


async def test_a_change_that_is_taken_back_leaves_drained_what_was(site, autojump_clock):
    for policy in ("random", "load-aware"):
        assert await site.over(await site.changes.edit(SetPolicy("web", policy), ANN, "policy")) == "done"
    await site.want("web-1", Admin.DRAIN)
    site.machines.habits["web-2"] = "refuse"
    assert await site.over(await site.changes.rollback(2, ANN)) == "rolled back"
    assert site.changes.history.admin_states == DRAINED
    assert site.changes.controller.node_admin.states == {"web-1": Admin.DRAIN}
    await trio.sleep(1)
    assert site.changes.controller.registry.records["web-1"].assignment.wanted.admin is Admin.DRAIN


async def test_a_node_that_does_not_answer_can_be_drained_and_holds_up_no_change(site, autojump_clock):
    site.machines.habits["web-2"] = "mute"
    progress = await site.changes.edit(SetAdmin("web-2", Admin.DRAIN), ANN, "drain web-2")
    began = trio.current_time()
    assert await site.over(progress) == "done"
    assert trio.current_time() - began == pytest.approx(SERVED_WITHIN_S, abs=1)
    assert texts(progress)[-1].startswith("not every node serves it yet: web-2 does not serve")
    assert await site.over(await site.changes.edit(SetPolicy("web", "random"), ANN, "policy web=random")) == "done"
    assert await site.over(await site.changes.edit(MID, ANN, "tier add mid")) == "done"


async def test_a_text_that_cannot_be_served_is_not_stored_as_the_first_one(tmp_path, log, autojump_clock):
    changes = make(tmp_path, log)
    with pytest.raises(TopologyError):
        await take_over(changes, "cluster: []\n", "ann")
    assert (await changes.state.store.load()).stored == Stored()
    await changes.state.store.close()


async def test_while_a_change_is_being_stored_no_restart_begins(site, nursery, autojump_clock):
    nursery.start_soon(site.changes.edit, MID, ANN, "tier add mid")
    await trio.testing.wait_all_tasks_blocked()
    assert site.changes.runner.progress is not None, "stored and begun"
    assert await site.over(site.changes.runner.progress) == "done"
    nursery.start_soon(site.changes.edit, RemoveTier("mid"), ANN, "tier remove mid")
    while not site.changes._accepting.locked():
        await trio.lowlevel.checkpoint()
    with pytest.raises(Busy, match="being accepted"):
        site.changes.restart("web", ANN)
    await trio.testing.wait_all_tasks_blocked()
    assert site.changes.runner.progress.what == "tier remove mid"
    assert await site.over(site.changes.runner.progress) == "done"


async def test_while_a_change_is_under_way_nothing_is_drained(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    with pytest.raises(Busy, match="tier add mid"):
        await site.changes.edit(SetAdmin("web-1", Admin.DRAIN), ANN, "drain web-1")
    assert await site.over(progress) == "done"


async def test_states_of_nodes_are_bounded(site, monkeypatch, autojump_clock):
    monkeypatch.setattr("tierlb.controller.proposals.MOST_STATES", 0)
    with pytest.raises(NotPossible, match=r"0 nodes and agents are drained .*: make some ready first"):
        await site.want("web-1", Admin.DRAIN)
    monkeypatch.setattr("tierlb.controller.proposals.MOST_STATES", 1)
    await site.want("web-1", Admin.DRAIN)
    await site.want("web-1", Admin.READY)
    assert site.changes.history.admin_states == ()


@pytest.mark.parametrize("state", [Admin.DRAIN, Admin.MAINTENANCE])
async def test_the_last_one_that_serves_stays(site, state, autojump_clock):
    await site.want("web-1", state)
    for name in ("web-2", "edge-1"):
        with pytest.raises(NotPossible, match=f"{name} is the last one of .* that serves: scale"):
            await site.changes.edit(SetAdmin(name, state), ANN, "x")
    with pytest.raises(NothingToDo):
        await site.changes.edit(SetAdmin("web-1", state), ANN, "x")
    await site.want("web-1", Admin.READY)
    await site.want("web-2", state)
    assert site.changes.controller.node_admin.states == {"web-2": state}


async def test_one_that_drains_by_itself_is_no_peer(site, autojump_clock):
    record = site.changes.controller.registry.records["web-1"]
    site.changes.controller.receive(record, Drain())
    with pytest.raises(NotPossible, match="web-2 is the last one"):
        await site.changes.edit(SetAdmin("web-2", Admin.DRAIN), ANN, "x")


# The next start.


@pytest.fixture
async def again(tmp_path, log):
    """A controller that starts from the same state, with the file as it is then."""
    started = []

    async def start(text=None):
        file = tmp_path / "shop.yaml"
        changes = make(tmp_path, log, text or file.read_text())
        started.append(changes)
        return changes, await start_anew(changes, text or file.read_text(), "ann")

    yield start
    for changes in started:
        await changes.state.store.close()


async def cut_short(tmp_path, log, text_after):
    """A controller is killed right after it has begun a change."""
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    async with trio.open_nursery() as own:
        changes.machines = Played(changes.controller, own, {"mid-1": "mute"})
        await own.start(changes.run)
        await changes.edit(MID, ANN, "tier add mid")
        own.cancel_scope.cancel()
    if text_after is not None:
        changes.state.kept_file.file.write_text(text_after)
    await changes.state.store.close()
    return changes.text


async def test_a_change_that_was_cut_short_is_taken_back_in_the_file_too(tmp_path, log, again, autojump_clock):
    target = await cut_short(tmp_path, log, None)
    assert (tmp_path / "shop.yaml").read_text() == target
    changes, text = await again()
    assert text == changes.text == (tmp_path / "shop.yaml").read_text() == TEXT
    assert changes.controller.topology == load_text(TEXT, "f")
    assert (changes.history.active, len(changes.history.revisions)) == (1, 2)
    assert (await changes.state.store.load()).stored.rollout is None
    assert ("change_interrupted", {"revision": 2, "back_to": 1}) in log.events
    await changes.state.store.close()
    changes, text = await again()
    assert (text, changes.history.active, len(changes.history.revisions)) == (TEXT, 1, 2)


@pytest.mark.parametrize("stage", [1, 2, 3])
async def test_another_controller_goes_on_in_the_stage_that_was_begun(stage, tmp_path, log, autojump_clock):
    first = make(tmp_path, log)
    await start_anew(first, TEXT, "ann")
    async with trio.open_nursery() as own:
        own.start_soon(first.controller.run)
        first.machines = Played(first.controller, own)
        first.machines.grow(first.controller.topology)
        await own.start(first.run)
        progress = await first.edit(MID, ANN, "tier add mid")
        while progress.stage < stage:  # noqa: ASYNC110 (virtual time)
            await trio.sleep(0.05)
        own.cancel_scope.cancel()
    await first.state.store.close()
    second = make(tmp_path, log)
    assert await take_over(second, TEXT, "bob") == load_text(TEXT, "f")
    async with trio.open_nursery() as own:
        own.start_soon(second.controller.run)
        second.machines = Played(second.controller, own)
        second.machines.grow(load_text(second.text, "f"))
        await own.start(second.run)
        with trio.fail_after(300):
            while not second.runner.progress.over:  # noqa: ASYNC110 (virtual time)
                await trio.sleep(0.05)
        own.cancel_scope.cancel()
    assert second.runner.progress.outcome == "done"
    assert second.controller.topology == load_text(second.text, "f")
    reached = [text for text in texts(second.runner.progress) if text.startswith("stage")]
    assert reached == [f"stage {number} of 3: every node serves it" for number in (1, 2, 3) if number >= stage]
    assert (await second.state.store.load()).stored.rollout is None
    await second.state.store.close()


async def test_what_somebody_wrote_after_the_cut_counts(tmp_path, log, again, autojump_clock):
    mine = TEXT.replace("replicas: 2", "replicas: 3")
    await cut_short(tmp_path, log, mine)
    changes, text = await again()
    assert text == changes.text == mine
    assert (changes.history.active, changes.history.current.base) == (3, 1)


async def test_the_first_start_makes_the_first_revision_and_the_next_one_none(again, tmp_path):
    (tmp_path / "shop.yaml").write_text(TEXT)
    for _ in range(2):
        changes, text = await again()
        assert (text, changes.history.active) == (TEXT, 1)
        await changes.state.store.close()
    changes, _ = await again(TEXT + "# edited\n")
    assert [(each.number, each.why) for each in changes.history.revisions] == [
        (1, "the file at the start"),
        (2, "the file at the start"),
    ]


@pytest.mark.parametrize("text", [None, TEXT.replace("replicas: 2", "replicas: 3")])
async def test_what_was_drained_is_so_after_the_next_start_whatever_the_file_says(site, text, again, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(text)
    assert changes.controller.node_admin.states == {"web-1": Admin.DRAIN}
    assert changes.history.admin_states == DRAINED


async def test_of_a_file_without_a_drained_node_nothing_is_wanted(site, again, autojump_clock):
    await site.want("web-2", Admin.DRAIN)
    await site.changes.state.store.close()
    changes, _ = await again(TEXT.replace("replicas: 2, ", ""))
    assert (changes.controller.node_admin.states, changes.history.admin_states) == ({}, ())


async def test_who_takes_over_wants_what_was_wanted(site, tmp_path, log, autojump_clock):
    await site.want("web-1", Admin.DRAIN)
    await site.changes.state.store.close()
    second = make(tmp_path, log)
    await take_over(second, "cluster: another text\n", "bob")
    assert second.controller.node_admin.states == {"web-1": Admin.DRAIN}
    await second.state.store.close()


async def test_a_damaged_state_is_told(again, tmp_path, log):
    (tmp_path / "shop.yaml").write_text(TEXT)
    for text in (TEXT, TEXT + "#1\n", TEXT + "#2\n"):
        changes, _ = await again(text)
        await changes.state.store.close()
    (tmp_path / "state" / "state.json").write_bytes(b"{")
    changes, _ = await again(TEXT + "#2\n")
    assert "older_state_loaded" in told(log)
    assert changes.text == TEXT + "#2\n"


def test_without_a_revision_there_is_no_text(tmp_path, log):
    assert Changes(Controller(load_text(TEXT, "f"), log), FileStore(tmp_path), log).text == ""


async def test_stopping_in_the_middle_leaves_the_rest_to_the_next_start(tmp_path, log, autojump_clock):
    changes = make(tmp_path, log)
    await start_anew(changes, TEXT, "ann")
    async with trio.open_nursery() as nursery:
        changes.machines = Played(changes.controller, nursery, {"mid-1": "mute"})
        await nursery.start(changes.run)
        await changes.edit(MID, ANN, "tier add mid")
        await trio.sleep(1)
        nursery.cancel_scope.cancel()
    assert (await changes.state.store.load()).stored.rollout is not None
    await changes.state.store.close()


async def test_a_change_on_which_the_program_fails_is_taken_back_and_others_can_begin(
    site, autojump_clock, monkeypatch
):
    works = Played.grow

    def fail(self, topology):
        monkeypatch.setattr(Played, "grow", works)
        raise ZeroDivisionError

    monkeypatch.setattr(Played, "grow", fail)
    progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
    await site.over(progress)
    assert (progress.outcome, progress.reason) == ("rolled back", INTERNAL)
    assert site.changes.text == TEXT
    progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
    await site.over(progress)
    assert progress.outcome == "done"
    assert site.changes.controller.errors.counts == {"change": 1}


async def test_a_restart_on_which_the_program_fails_is_over(site, autojump_clock, monkeypatch):
    async def fail(self, topology, name):
        raise ZeroDivisionError

    monkeypatch.setattr(Played, "replace", fail)
    progress = site.changes.restart("web", ANN)
    await site.over(progress)
    assert (progress.outcome, progress.reason) == ("failed", INTERNAL)
    site.changes.runner.demand_idle()


async def test_a_change_whose_end_fails_too_is_over_and_others_can_begin(site, autojump_clock, monkeypatch):
    """Neither the way there nor the way back nor the last note in the store works."""
    kept = []

    async def save(self, stored, expected_version):
        kept.append(stored)
        if len(kept) > 1:
            raise ZeroDivisionError
        return await works(self, stored, expected_version)

    works = PromptStore.save
    with monkeypatch.context() as failing:
        failing.setattr(PromptStore, "save", save)
        failing.setattr(Played, "grow", lambda self, topology: 1 // 0)
        progress = await site.changes.edit(Scale({"web": 3}), ANN, "scale")
        await site.over(progress)
    assert (progress.outcome, progress.reason) == ("failed", INTERNAL)
    assert site.changes.controller.errors.counts["change"] >= 3
    progress = await site.changes.edit(Scale({"web": 4}), ANN, "scale")
    assert await site.over(progress) == "done"


async def test_a_change_goes_on_if_it_cannot_be_said_what_drains(site, autojump_clock, monkeypatch):
    def fail(found):
        raise ZeroDivisionError

    monkeypatch.setattr("tierlb.controller.draining.waiting_for", fail)
    site.machines.drain_s = 20.0
    assert await site.over(await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")) == "done"
    assert site.changes.controller.errors.counts == {"words about what drains": 1}
