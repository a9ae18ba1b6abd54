"""Reporting to several parents over real websockets; the parents are real children's sides."""

import random

import pytest
import trio

from tierlb.controlplane.children import Children
from tierlb.controlplane.parents import Parents
from tierlb.controlplane.reporting import Reports
from tierlb.controlplane.watching import Rows, Watching
from tierlb.model.address import Address
from tierlb.model.load import Guidance
from tierlb.wire.frames import Hello, Parent, Watch

HELLO = Hello(1, "web-1", "web", "one", 7)


class OneParent:
    """A parent that can be taken away and put back at the same address."""

    def __init__(self, name, plane, log, nursery):
        self.name, self.plane, self.log, self.nursery = name, plane, log, nursery
        self.address = Address("127.0.0.1", 0)
        self.children = Children(plane, "secret", log)

    @property
    def entry(self):
        return Parent(self.name, f"ws://{self.address}")

    async def start(self):
        self.scope = trio.CancelScope()

        async def run(*, task_status):
            with self.scope:
                async with trio.open_nursery() as nursery:
                    address = await nursery.start(self.children.serve, self.address)
                    task_status.started(address)

        self.address = await self.nursery.start(run)
        return self


@pytest.fixture
def make_parent(make_plane, log, nursery):
    async def make(name):
        return await OneParent(name, make_plane(name), log, nursery).start()

    return make


@pytest.fixture
def watches():
    return []


@pytest.fixture
async def parents(plane, log, nursery, watches):
    reports = Reports(plane, random.Random(1), Watching(), Rows(), interval_s=0.05)
    parents = Parents(HELLO, "secret", reports, watches.append, log, random.Random(2))
    nursery.start_soon(reports.run)
    nursery.start_soon(parents.run)
    return parents


async def until(condition):
    with trio.fail_after(10):
        while not condition():  # noqa: ASYNC110 (real sockets)
            await trio.sleep(0.005)


async def test_every_parent_hears_reports_with_its_own_echo(parents, make_parent, plane):
    edges = [await make_parent(name) for name in ("edge-1", "edge-22")]
    parents.report_to(tuple(edge.entry for edge in edges))
    await until(lambda: all(len(edge.plane.reports) > 2 for edge in edges))
    for edge in edges:
        assert edge.plane.reports[0] == ("web-1", plane.subtree_load, plane.echo(edge.name))


async def test_one_that_is_named_no_more_is_left_and_the_others_are_not_touched(parents, make_parent):
    stays, goes, comes = [await make_parent(name) for name in ("edge-1", "edge-2", "edge-3")]
    parents.report_to((stays.entry, goes.entry))
    await until(lambda: stays.plane.reports and goes.plane.reports)
    parents.report_to((comes.entry, stays.entry))
    await until(lambda: comes.plane.reports and goes.plane.lost)
    assert stays.plane.lost == comes.plane.lost == []
    assert set(parents.names()) == {"edge-1", "edge-3"}
    parents.report_to(())
    await until(lambda: stays.plane.lost and comes.plane.lost)


async def test_a_parent_that_restarts_hears_again_and_the_other_never_stops_hearing(parents, make_parent):
    restarts, stays = await make_parent("edge-1"), await make_parent("edge-2")
    parents.report_to((restarts.entry, stays.entry))
    await until(lambda: restarts.plane.reports)
    restarts.scope.cancel()
    await until(lambda: restarts.plane.lost)
    heard = len(stays.plane.reports)
    await until(lambda: len(stays.plane.reports) > heard + 3)
    restarts.plane.reports.clear()
    await restarts.start()
    await until(lambda: restarts.plane.reports)
    assert stays.plane.lost == []


async def test_one_that_is_not_there_is_tried_again_and_said_in_the_log(parents, make_parent, log):
    edge = await make_parent("edge-1")
    parents.report_to((Parent("nobody", "ws://127.0.0.1:1"), edge.entry))
    await until(lambda: edge.plane.reports and len([e for e, _ in log.events if e == "parent lost"]) > 1)
    (event, fields) = log.events[0]
    assert (event, fields["parent"]) == ("parent lost", "nobody")


async def test_guidance_is_heeded_under_the_parents_name(parents, make_parent, plane):
    edge = await make_parent("edge-1")
    edge.plane.guidance = Guidance(0.9, True)
    parents.report_to((edge.entry,))
    await until(lambda: plane.heeded)
    assert plane.heeded[0] == ("edge-1", Guidance(0.9, True))


async def test_a_watch_is_handed_on(parents, make_parent, watches):
    edge = await make_parent("edge-1")
    parents.report_to((edge.entry,))
    await until(lambda: edge.plane.reports)
    edge.children.watch(Watch(5.0, "n"))
    await until(lambda: watches)
    assert watches == [Watch(5.0, "n")]


async def test_a_parent_that_does_not_know_the_token_gets_nothing(parents, make_plane, log, nursery):
    edge = OneParent("edge-1", make_plane("edge-1"), log, nursery)
    edge.children.token = "another"
    await edge.start()
    parents.report_to((edge.entry,))
    await until(lambda: [fields for event, fields in log.events if "401" in str(fields.get("reason"))])
    assert edge.plane.reports == []
