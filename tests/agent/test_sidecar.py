"""A sidecar between an app that the test plays and a real controller and parent over real websockets."""

import contextlib
import json
import os
import random
import signal
from functools import partial

import attrs
import pytest
import trio

from tests.control_plane import FakePlane, KeptLog, controller_port, node_of, tier
from tests.joining import identity_of
from tierlb.agent.cpu import CgroupMeter, Gone, ProcessMeter, ProcessorTime
from tierlb.agent.fetch import Url
from tierlb.agent.leaf import Leaf
from tierlb.agent.sidecar import READ_EVERY_S, Sidecar, make_meter, run_agent
from tierlb.channel.controller_link import Identity
from tierlb.channel.uplink import Uplink
from tierlb.controller.controller import Controller
from tierlb.model.address import Address
from tierlb.model.load import Guidance
from tierlb.model.topology import Kind, Pool, Topology
from tierlb.telemetry.pace import LEAST_GAP_S
from tierlb.wire.credentials import Principal, Role

DEADLINE_S = 30.0
LOCAL = Address("127.0.0.1", 0)


@attrs.define
class App:
    """Answers with `figures`; `hangs` makes it slow. `asked` counts."""

    figures: dict = attrs.field(factory=lambda: {"in_flight": 3, "done": 10, "boot": "a"})
    hangs: bool = False
    status: int = 200
    asked: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def answer(self, stream):
        self.asked += 1
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                await stream.receive_some()
                if self.hangs:
                    await trio.sleep_forever()
                body = json.dumps(self.figures).encode()
                head = f"HTTP/1.1 {self.status} X\r\ncontent-length: {len(body)}\r\n\r\n"
                await stream.send_all(head.encode() + body)

    async def start(self, nursery):
        async def run(*, task_status):
            with self.scope:
                await trio.serve_tcp(self.answer, 0, host="127.0.0.1", task_status=task_status)

        listeners = await nursery.start(run)
        return Url("127.0.0.1", listeners[0].socket.getsockname()[1], "/load")


@pytest.fixture
def log():
    return KeptLog()


@pytest.fixture
def app():
    return App()


@pytest.fixture
async def sidecar(app, log, nursery):
    return Sidecar("app-1", "app", log, Leaf(asked=True), await app.start(nursery))


async def until(condition):
    with trio.fail_after(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 (several parties move; none tells)
            await trio.sleep(0.01)


async def test_it_reads_the_app_and_says_so(sidecar, log):
    await sidecar.read()
    load = sidecar.subtree()
    assert (load.in_flight, load.done, load.ready_leaves) == (3, 10, 1)
    assert (sidecar.echo("web-1").in_flight, sidecar.row().node, sidecar.row().tier) == (3, "app-1", "app")
    sidecar.note_guidance("web-1", Guidance(0.5))
    assert log.events == []


async def test_an_app_that_is_gone_is_not_ready_and_the_log_says_it_once(sidecar, app, log, nursery):
    await sidecar.read()
    app.scope.cancel()
    await trio.testing.wait_all_tasks_blocked()
    for _ in range(3):
        await sidecar.read()
    assert sidecar.subtree().ready_leaves == 0
    again = App()
    sidecar.url = await again.start(nursery)
    await sidecar.read()
    assert sidecar.subtree().ready_leaves == 1
    assert [event for event, _ in log.events] == ["app_read_failed", "app_read_restored"]


@pytest.mark.parametrize("change", [{"hangs": True}, {"status": 503}, {"figures": {"in_flight": -1}}])
async def test_without_a_good_answer_an_app_stays_ready_and_its_figures_grow_old(
    sidecar, app, log, change, autojump_clock
):
    await sidecar.read()
    for name, value in change.items():
        setattr(app, name, value)
    await trio.sleep(1.0)
    await sidecar.read()
    load = sidecar.subtree()
    assert (load.ready_leaves, load.in_flight) == (1, 3)
    assert load.age_s >= 1.0
    assert len(log.events) == 1


async def test_a_slow_app_is_never_asked_twice_at_a_time(sidecar, app, autojump_clock):
    app.hangs = True
    with trio.move_on_after(10.5):
        await sidecar.run()
    assert app.asked == 11


async def test_it_reads_four_times_a_second(sidecar, app, autojump_clock):
    with trio.move_on_after(10 * READ_EVERY_S - 0.01):
        await sidecar.run()
    assert app.asked == 10


@attrs.define
class Meter:
    """Reads the same time until the process `ended`."""

    ended: bool = False

    def read(self):
        if self.ended:
            raise Gone("it ended")
        return ProcessorTime(0.0, 1.0)


async def test_at_rest_what_a_reading_shows_is_reported_at_once(log, nursery, autojump_clock):
    autojump_clock.autojump_threshold = 0.0
    meter, took = Meter(), []
    sidecar = Sidecar("app-1", "app", log, Leaf(metered=True), meter=meter)
    identity = Identity("app-1", "app", "ws://127.0.0.1:1", "token", "boot", os.getpid(), data="127.0.0.1:9001")
    sidecar.uplink = Uplink(identity, sidecar, log, random.Random(2))
    reports = sidecar.uplink.reports

    async def take():
        with reports.outlet("web-1") as outlet:
            while True:
                report = await reports.next(outlet)
                took.append((trio.current_time(), report))

    for task in (reports.run, take, sidecar.run):
        nursery.start_soon(task)
    with trio.move_on_after(60):
        while not (took and took[-1][1].next_s >= 1.5):  # noqa: ASYNC110 (nothing tells)
            await trio.sleep(0.01)
    meter.ended, ended_s = True, trio.current_time()
    await trio.sleep(2.5)
    first = next(at for at, report in took if not report.subtree.ready_leaves)
    assert first - ended_s <= READ_EVERY_S + LEAST_GAP_S


def test_a_meter_is_made_of_what_was_asked_for(tmp_path):
    (tmp_path / "cpu.stat").write_text("usage_usec 1\n")
    assert make_meter(None, None, 0.0) is None
    assert isinstance(make_meter(os.getpid(), None, 1.5), ProcessMeter)
    assert isinstance(make_meter(None, tmp_path, 0.0), CgroupMeter)
    with pytest.raises(Gone):
        make_meter(None, tmp_path / "nowhere", 0.0)


async def test_a_process_that_ends_is_not_ready_any_more(log):
    process = await trio.lowlevel.open_process(["sleep", "60"])
    sidecar = Sidecar("app-1", "app", log, Leaf(metered=True), meter=make_meter(process.pid, None, 1.0))
    await sidecar.read()
    assert sidecar.subtree().ready_leaves == 1
    process.kill()
    await process.wait()
    await sidecar.read()
    assert sidecar.subtree().ready_leaves == 0


@attrs.define
class Tree:
    """A controller with one parent node, which a sidecar joins as a leaf of the pool `app`."""

    controller: Controller
    plane: FakePlane
    url: str

    def uplink(self, sidecar):
        token = self.controller.admission.credential(Principal(Role.AGENT, "app", "app-1"))
        identity = Identity("app-1", "app", self.url, token, "boot", os.getpid(), data="127.0.0.1:9001")
        return Uplink(identity, sidecar, sidecar.log, random.Random(2))

    def said(self):
        return [load for child, load, _ in self.plane.reports if child == "app-1"]


@pytest.fixture
async def tree(log, nursery):
    web = tier("web", Kind.L7, "app", listen=Address("127.0.0.1", 8080))
    topology = Topology("shop", {"web": web}, {"app": Pool("app", agents=True)})
    controller = Controller(topology, log)
    nursery.start_soon(controller.run)
    address = await controller_port(nursery, controller, controller.admission.admit)
    tree = Tree(controller, FakePlane("web-1"), f"ws://{address}")
    node = node_of(identity_of(controller.admission, "web-1", tree.url), tree.plane, RuntimeError, log)
    await nursery.start(node.run)
    await until(lambda: tree.plane.applied)
    return tree


async def test_it_joins_as_a_member_of_its_pool_and_reports_to_the_parents(tree, sidecar, app, nursery):
    sidecar.uplink = tree.uplink(sidecar)
    nursery.start_soon(sidecar.run)
    nursery.start_soon(sidecar.uplink.run)
    await until(lambda: any(load.done == 10 for load in tree.said()))
    [host] = tree.plane.applied[-1].rules[0].action.destinations[0].hosts
    assert (host.name, host.address, host.reports) == ("app-1", Address("127.0.0.1", 9001), True)
    app.figures["in_flight"], app.figures["done"] = 5, 20
    await until(lambda: tree.said()[-1].in_flight == 5)
    child, _, echo = tree.plane.reports[-1]
    assert (child, echo.in_flight) == ("app-1", 5)


async def test_on_sigterm_it_drains_until_the_app_is_idle_and_ends(tree, sidecar, app, nursery):
    ended = trio.Event()

    async def run():
        await run_agent(sidecar, tree.uplink(sidecar), drain_time_s=30.0)
        ended.set()

    nursery.start_soon(run)
    await until(lambda: tree.said() and tree.plane.applied[-1].rules[0].action.destinations[0].hosts)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: tree.said()[-1].draining)
    await until(lambda: not tree.plane.applied[-1].rules[0].action.destinations[0].hosts)
    assert not ended.is_set()
    app.figures["in_flight"] = 0
    with trio.fail_after(DEADLINE_S):
        await ended.wait()


async def test_the_drain_time_is_the_longest_it_waits(tree, sidecar, nursery):
    nursery.start_soon(partial(run_agent, sidecar, tree.uplink(sidecar), drain_time_s=0.2))
    await until(tree.said)
    tasks = len(nursery.child_tasks)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: len(nursery.child_tasks) < tasks)
    assert sidecar.leaf.subtree(trio.current_time()).in_flight == 3


async def test_a_round_that_fails_is_followed_by_others(sidecar, app, monkeypatch, nursery):
    works = Leaf.note_answer

    def fail(self, now, figures):
        monkeypatch.setattr(Leaf, "note_answer", works)
        raise ZeroDivisionError

    monkeypatch.setattr(Leaf, "note_answer", fail)
    nursery.start_soon(sidecar.run)
    await until(lambda: sidecar.subtree().in_flight == 3)
    assert sidecar.errors.counts == {"reading of the app": 1}
    assert sidecar.row().own.internal_errors == 1


async def test_an_agent_whose_first_round_fails_reports_all_the_same(tree, sidecar, app, monkeypatch, nursery):
    works = Leaf.note_answer

    def fail(self, now, figures):
        monkeypatch.setattr(Leaf, "note_answer", works)
        raise ZeroDivisionError

    monkeypatch.setattr(Leaf, "note_answer", fail)
    nursery.start_soon(partial(run_agent, sidecar, tree.uplink(sidecar), drain_time_s=0.2))
    await until(lambda: tree.said() and tree.said()[-1].in_flight == 3)
    assert sidecar.errors.counts == {"reading of the app": 1}
