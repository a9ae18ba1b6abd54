"""Changes of a cluster whose processes somebody else starts, on a real controller and store, in virtual time."""

import attrs
import pytest
import trio

from tests.controller.played import ANN, MID, TEXT, PromptStore
from tierlb.channel.durable import StoreError
from tierlb.controller.changes import Changes, Request
from tierlb.controller.controller import Controller
from tierlb.controller.elsewhere import RETIRED_AFTER_S, Elsewhere
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.node_record import Link
from tierlb.controller.proposals import NotPossible
from tierlb.controller.startup import AT_START, take_over
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.model.topology import Admin
from tierlb.topology.edit import RemoveTier, Scale
from tierlb.topology.load import load_text
from tierlb.topology.verbs import SetNode
from tierlb.wire.frames import Ack, Hello, Report

READY = SubtreeLoad(leaves=1, ready_leaves=1)


@attrs.define(eq=False)
class Containers:
    """Nodes that serve whatever they are told; started and stopped by the test, as an engine would."""

    controller: Controller
    nursery: trio.Nursery
    scopes: dict = attrs.field(factory=dict)
    records: dict = attrs.field(factory=dict)

    def start(self, *names, back=False):
        for name in names:
            self.scopes[name] = trio.CancelScope()
            self.nursery.start_soon(self._live, name, len(self.scopes), back)

    def stop(self, *names):
        for name in names:
            self.scopes.pop(name).cancel()

    async def _live(self, name, number, back):
        link, tier = Link(), name.partition("-")[0]
        with self.scopes[name]:
            hello = Hello(1, name, tier, f"boot-{name}", number, "", f"127.0.0.1:{20000 + number}" if back else "")
            record = self.records[name] = self.controller.join(hello, link)
            self.controller.receive(record, Report(READY, Echo(), ()))
            while True:
                if record.assignment.wanted is not None and not record.assignment.is_served:
                    addresses = tuple(Address("127.0.0.1", 20000 + number) for _ in record.assignment.wanted.listeners)
                    self.controller.receive(record, Ack(record.assignment.wanted.revision, addresses))
                with trio.move_on_after(0.2):
                    await link.wake.wait()
                link.wake = trio.Event()
        self.controller.registry.lost(record, link)


class CutOff:
    """The store of a controller that does not know yet that it is active no more."""

    async def save(self, stored, expected_version):
        raise StoreError("another controller is active")

    async def close(self):
        pass


@attrs.define(eq=False)
class Site:
    changes: Changes
    containers: Containers

    def members(self, name):
        return [m.name for m in self.containers.records[name].assignment.wanted.rules[0].action.destinations[0].hosts]


async def begin(tmp_path, log, nursery, text=TEXT):
    controller = Controller(load_text(text, "f"), log, engine=ProcessEngine())
    changes = Changes(controller, PromptStore(tmp_path / "state"), log, None, now=trio.current_time)
    changes.machines = Elsewhere(controller)
    controller.registry.adopt(await take_over(changes, text, "ann"))
    nursery.start_soon(controller.run)
    await nursery.start(changes.run)
    return Site(changes, Containers(controller, nursery))


@pytest.fixture
async def site(tmp_path, log, nursery, autojump_clock):
    site = await begin(tmp_path, log, nursery)
    site.containers.start("edge-a", "web-a", "web-b")
    await trio.sleep(3)
    assert site.changes.controller.readiness.missing() == ()
    yield site
    await site.changes.state.store.close()


async def over(progress):
    with trio.fail_after(300):
        while not progress.over:  # noqa: ASYNC110 (virtual time)
            await trio.sleep(0.1)
    return progress.outcome


async def test_a_new_tier_waits_for_nodes_of_any_name_and_then_takes_traffic(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    await trio.sleep(10)
    assert (progress.stage, site.members("edge-a")) == (1, ["web-a", "web-b"])
    site.containers.start("mid-x")
    await trio.sleep(20)
    assert not progress.over, "it is to have two nodes"
    site.containers.start("mid-y")
    assert await over(progress) == "done"
    await trio.sleep(2)
    assert site.members("edge-a") == ["mid-x", "mid-y"]
    assert site.members("mid-x") == ["web-a", "web-b"]


async def test_a_tier_for_which_nobody_comes_is_taken_back(site, autojump_clock):
    progress = await site.changes.edit(MID, Request("ann", deadline_s=20), "tier add mid")
    assert await over(progress) == "rolled back"
    assert "no node of mid has joined" in progress.reason
    assert site.changes.controller.topology == load_text(TEXT, "f")


async def test_nodes_of_a_removed_tier_are_retired_and_left_to_whoever_started_them(site, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    await trio.sleep(0.5)
    site.containers.start("mid-x", "mid-y")
    assert await over(progress) == "done"
    progress = await site.changes.edit(RemoveTier("mid"), ANN, "tier remove mid")
    with trio.fail_after(60):
        while site.containers.records["mid-x"].assignment.wanted.admin is not Admin.DRAIN:  # noqa: ASYNC110 (virtual time)
            await trio.sleep(RETIRED_AFTER_S / 4)
    assert not progress.over
    assert await over(progress) == "done"
    await trio.sleep(1)
    assert site.members("edge-a") == ["web-a", "web-b"]
    site.containers.stop("mid-x", "mid-y")
    await trio.sleep(1)
    assert sorted(site.changes.controller.registry.records) == ["edge-a", "web-a", "web-b"]


async def test_to_scale_is_to_wait_for_so_many_and_afterwards_an_engine_may_do_as_it_likes(site, autojump_clock):
    progress = await site.changes.edit(Scale({"web": 4}), ANN, "scale web=4")
    site.containers.start("web-c")
    await trio.sleep(5)
    assert not progress.over
    site.containers.start("web-d")
    assert await over(progress) == "done"
    site.containers.stop("web-a", "web-b", "web-c")
    await trio.sleep(120)
    assert await over(await site.changes.edit(Scale({"web": 2}), ANN, "scale web=2")) == "done"
    assert await over(await site.changes.apply(TEXT + "# note\n", ANN)) == "done"


async def test_nodes_cannot_be_restarted_from_here(site, autojump_clock):
    with pytest.raises(NotPossible, match="restart them by whatever started them"):
        site.changes.restart("web", ANN)
    with pytest.raises(NotImplementedError):
        await site.changes.machines.replace(site.changes.controller.topology, "web-a")
    assert (site.changes.machines.crashes(["web-a"]), site.changes.machines.problems()) == (0, ())


async def test_a_pool_that_nobody_starts_is_refused(site, autojump_clock):
    text = TEXT.replace("to: app", "to: [app, demo]") + '  demo: {run: {command: "x --port {port}"}}\n'
    with pytest.raises(NotPossible, match="--run-dns"):
        await site.changes.apply(text, ANN)


# Another controller takes over.


async def taken_over(site, tmp_path, log, nursery, names, text=TEXT):
    """A second controller on the same store after the first one was cut off, and all nodes back with it."""
    store, site.changes.state.store = site.changes.state.store, CutOff()
    await store.close()
    other = await begin(tmp_path, log, nursery, text)
    other.containers.start(*names, back=True)
    return other


async def test_it_begins_with_what_is_stored_whatever_its_file_says(site, tmp_path, log, nursery, autojump_clock):
    text = site.changes.proposals.edited(Scale({"web": 3})).text
    progress = await site.changes.apply(text, ANN)
    site.containers.start("web-c")
    assert await over(progress) == "done"
    other = await taken_over(site, tmp_path, log, nursery, ["edge-a", "web-a", "web-b", "web-c"])
    assert other.changes.text == text
    assert other.changes.history == site.changes.history
    assert other.changes.history.has_text(TEXT)
    assert not other.changes.history.has_text(TEXT + "# edited\n")
    assert other.changes.history.revisions[0].why == AT_START
    await trio.sleep(10)
    assert other.changes.controller.readiness.missing() == ()
    assert other.members("edge-a") == ["web-a", "web-b", "web-c"]


async def test_nodes_of_any_name_stay_drained_under_another_controller(site, tmp_path, log, nursery, autojump_clock):
    assert await over(await site.changes.edit(SetNode("web-b", Admin.DRAIN), ANN, "drain web-b")) == "done"
    assert await over(await site.changes.edit(Scale({"web": 1}), ANN, "scale web=1")) == "done"
    other = await taken_over(site, tmp_path, log, nursery, ["edge-a", "web-a", "web-b"])
    await trio.sleep(10)
    assert other.containers.records["web-b"].assignment.wanted.admin is Admin.DRAIN
    assert other.containers.records["web-a"].assignment.wanted.admin is Admin.READY
    assert [each.name for each in other.changes.history.admin_states] == ["web-b"]


async def test_a_change_that_had_begun_goes_on(site, tmp_path, log, nursery, autojump_clock):
    progress = await site.changes.edit(MID, ANN, "tier add mid")
    await trio.sleep(0.5)
    site.containers.start("mid-x", "mid-y")
    await trio.sleep(0.5)
    assert not progress.over
    other = await taken_over(site, tmp_path, log, nursery, ["edge-a", "web-a", "web-b"])
    resumed = other.changes.runner.progress
    assert (resumed.revision, resumed.over) == (2, False)
    await trio.sleep(1)
    other.containers.start("mid-x", "mid-y", back=True)
    assert await over(resumed) == "done"
    await trio.sleep(2)
    assert other.members("edge-a") == ["mid-x", "mid-y"]
    assert (await other.changes.state.store.load()).stored.rollout is None


async def test_a_change_that_had_begun_and_cannot_go_on_is_taken_back(site, tmp_path, log, nursery, autojump_clock):
    await site.changes.edit(MID, Request("ann", deadline_s=5), "tier add mid")
    other = await taken_over(site, tmp_path, log, nursery, ["edge-a", "web-a", "web-b"])
    assert await over(other.changes.runner.progress) == "rolled back"
    assert (other.changes.history.active, len(other.changes.history.revisions)) == (1, 2)
    await trio.sleep(2)
    assert other.members("edge-a") == ["web-a", "web-b"]
