"""Reporting to several parents over real websockets; the parents are real children's sides."""

import random

import pytest
import trio

from tests.control_plane import ChildrenPort
from tests.joining import NODE_TOKEN, admit
from tierlb.channel import parents as parents_module
from tierlb.channel.parents import Parents, is_named
from tierlb.channel.report_schedule import ReportSchedule
from tierlb.channel.watching import WatchRelay
from tierlb.model.address import Address
from tierlb.model.load import Guidance
from tierlb.net.keep_going import keep_going
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.frames import Hello, ParentAddress, Watch

HELLO = Hello(1, "web-1", "web", "one", 7)


class OneParent:
    """A parent that can be taken away and put back at the same address."""

    def __init__(self, name, plane, log, nursery):
        self.name, self.plane, self.log, self.nursery = name, plane, log, nursery
        self.address = Address("127.0.0.1", 0)
        self.port = ChildrenPort(plane, log, admit, name)

    @property
    def entry(self):
        return ParentAddress(self.name, f"ws://{self.address}", NODE_TOKEN)

    async def start(self):
        self.scope = trio.CancelScope()

        async def run(*, task_status):
            with self.scope:
                async with trio.open_nursery() as nursery:
                    address = await nursery.start(self.port.serve, self.address)
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
    reports = ReportSchedule(plane, random.Random(1), WatchRelay(), interval_s=0.05)

    def follow(parent, frame):
        if isinstance(frame, Guidance):
            plane.note_guidance(parent, frame)
        elif isinstance(frame, Watch):
            watches.append(frame)
        return ()

    parents = Parents(HELLO, reports, log, InternalErrors(log), random.Random(2), follow)
    nursery.start_soon(reports.run)
    nursery.start_soon(parents.run)
    return parents


async def until(condition):
    with trio.fail_after(30):
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
    parents.report_to((ParentAddress("nobody", "ws://127.0.0.1:1"), edge.entry))
    await until(lambda: edge.plane.reports and len([e for e, _ in log.events if e == "parent_disconnected"]) > 1)
    (event, fields) = log.events[0]
    assert (event, fields["parent"]) == ("parent_disconnected", "nobody")


async def test_guidance_is_followed_under_the_parents_name(parents, make_parent, plane):
    edge = await make_parent("edge-1")
    edge.plane.guidance = Guidance(0.9, True)
    parents.report_to((edge.entry,))
    await until(lambda: plane.heeded)
    assert plane.heeded[0] == ("edge-1", Guidance(0.9, True))


async def test_a_watch_is_handed_on(parents, make_parent, watches):
    edge = await make_parent("edge-1")
    parents.report_to((edge.entry,))
    await until(lambda: edge.plane.reports)
    edge.port.children.watch(Watch(5.0, "n"))
    await until(lambda: watches)
    assert watches == [Watch(5.0, "n")]


async def test_a_parent_that_does_not_know_the_token_gets_nothing(parents, make_plane, log, nursery):
    edge = OneParent("edge-1", make_plane("edge-1"), log, nursery)
    edge.port.admit = lambda text: None
    await edge.start()
    parents.report_to((edge.entry,))
    await until(lambda: [fields for event, fields in log.events if "401" in str(fields.get("reason"))])
    assert edge.plane.reports == []


async def test_after_an_error_all_parents_are_joined_again(make_parent, plane, log, nursery, monkeypatch):
    monkeypatch.setattr("tierlb.net.keep_going.RESTART_PAUSE_S", 0.01)
    reports = ReportSchedule(plane, random.Random(1), WatchRelay(), interval_s=0.05)
    parents = Parents(HELLO, reports, log, InternalErrors(log), random.Random(2), lambda parent, frame: ())
    nursery.start_soon(reports.run)
    nursery.start_soon(keep_going, parents.errors, "parents", parents.run)
    first, second = await make_parent("edge-1"), await make_parent("edge-2")
    parents.report_to((first.entry,))
    await until(lambda: first.plane.reports)

    def fail(url):
        monkeypatch.setattr(parents_module, "is_named", is_named)
        raise ZeroDivisionError

    monkeypatch.setattr(parents_module, "is_named", fail)
    parents.report_to((first.entry, second.entry))
    await until(lambda: parents.errors.counts)
    first.plane.reports.clear()
    await until(lambda: first.plane.reports and second.plane.reports)
    assert parents.errors.counts == {"parents": 1}


# Parents that are found by a name.


class Names:
    """What the only name resolves to; the silence of a resolver is an empty answer."""

    def __init__(self, monkeypatch, *found):
        self.found = found
        monkeypatch.setattr("tierlb.net.names.AGAIN_S", 0.02)

    async def ask(self, host):
        await trio.lowlevel.checkpoint()
        assert host == "edges"
        return self.found


@pytest.fixture
def names(parents, monkeypatch):
    names = Names(monkeypatch, "127.0.0.1", "127.0.0.2")
    parents.ask = names.ask
    return names


@pytest.fixture
async def edges(make_plane, log, nursery):
    """Three parents at one port of three addresses."""
    edges = []
    for number in (1, 2, 3):
        edge = OneParent(f"edge-{number}", make_plane(f"edge-{number}"), log, nursery)
        port = edges[0].address.port if edges else 0
        edge.address = Address(f"127.0.0.{number}", port)
        edges.append(await edge.start())
    return edges


def by_name(edges):
    return (ParentAddress("edge", f"ws://edges:{edges[0].address.port}", NODE_TOKEN),)


async def test_a_name_stands_for_all_its_addresses_and_each_says_its_own_name(parents, names, edges, plane):
    parents.report_to(by_name(edges))
    await until(lambda: edges[0].plane.reports and edges[1].plane.reports)
    for edge in edges[:2]:
        assert edge.plane.reports[0] == ("web-1", plane.subtree_load, plane.echo(edge.name))
    await until(lambda: {name for name, _ in plane.heeded} == {"edge-1", "edge-2"})
    assert edges[2].plane.reports == []


async def test_an_address_that_appears_is_joined_and_one_that_vanishes_is_dropped(parents, names, edges):
    parents.report_to(by_name(edges))
    await until(lambda: edges[0].plane.reports and edges[1].plane.reports)
    names.found = ("127.0.0.2", "127.0.0.3")
    await until(lambda: edges[2].plane.reports and edges[0].plane.lost)
    assert edges[1].plane.lost == []


async def test_a_resolver_that_does_not_answer_changes_nothing(parents, names, edges, log):
    parents.report_to(by_name(edges))
    await until(lambda: edges[0].plane.reports and edges[1].plane.reports)
    names.found = ()
    await until(lambda: "parent_lookup_empty" in [event for event, _ in log.events])
    heard = len(edges[0].plane.reports)
    await until(lambda: len(edges[0].plane.reports) > heard + 3)
    assert edges[0].plane.lost == edges[1].plane.lost == []


async def test_a_name_that_is_no_parents_any_more_is_left_everywhere(parents, names, edges):
    parents.report_to(by_name(edges))
    await until(lambda: edges[0].plane.reports and edges[1].plane.reports)
    parents.report_to(())
    await until(lambda: edges[0].plane.lost and edges[1].plane.lost)


async def test_a_name_on_which_the_program_fails_is_asked_for_again_and_other_parents_stay(
    parents, names, edges, make_parent, monkeypatch
):
    monkeypatch.setattr("tierlb.net.keep_going.RESTART_PAUSE_S", 0.01)
    other, works = await make_parent("top-1"), names.ask

    async def fail(host):
        raise ZeroDivisionError

    parents.ask = fail
    parents.report_to((*by_name(edges), other.entry))
    await until(lambda: parents.errors.counts["parents by name"] > 1 and other.plane.reports)
    parents.ask = works
    await until(lambda: edges[0].plane.reports and edges[1].plane.reports)
    assert other.plane.lost == []


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("ws://edge:7946", True),
        ("wss://edge.shop.svc:7946", True),
        ("ws://10.0.0.1:7946", False),
        ("ws://[::1]:1", False),
    ],
)
def test_a_name_is_what_is_no_address(url, named):
    assert is_named(url) is named
