"""The child's side in virtual time: a controller and parents whose every word is in the test."""

import random
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tierlb.channel import parents as parents_module
from tierlb.channel import uplink as uplink_module
from tierlb.channel.report_schedule import SIGN_OF_LIFE_S
from tierlb.channel.uplink import CONTROLLER, INTERNAL, LONGEST_WAIT_S, NOTICE_S, Identity, Uplink
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind
from tierlb.net.websocket import Disconnected
from tierlb.wire.frames import (
    Ack,
    Configure,
    Hello,
    Leaving,
    ParentAddress,
    Refuse,
    Report,
    ReportTo,
    Watch,
    Welcome,
    decode_frame,
    encode_frame,
)

URL = "ws://192.0.2.1:7000"
EDGE = ParentAddress("edge-1", "ws://192.0.2.2:7001")
SNAPSHOT = Snapshot(3, "shop", "web", Kind.L7, (), ())


@attrs.define
class End:
    """One end of a channel that has no socket."""

    out: trio.MemorySendChannel
    into: trio.MemoryReceiveChannel
    reason: str = "the connection was lost"
    peer: "End | None" = None
    local_host: str = "192.0.2.7"

    async def send(self, data):
        try:
            await self.out.send(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Disconnected(self.reason) from error

    async def receive(self):
        try:
            return await self.into.receive()
        except (trio.EndOfChannel, trio.ClosedResourceError) as error:
            raise Disconnected(self.reason) from error

    async def close(self, reason):
        self.peer.reason = reason or self.peer.reason
        self.out.close()

    # What the test says and hears.

    async def say(self, *frames):
        for frame in frames:
            await self.send(encode_frame(frame))

    async def hear(self, kind):
        """The next frame of that kind."""
        while not isinstance(frame := decode_frame(await self.receive()), kind):
            pass
        return frame

    async def heard_within(self, seconds):
        """All that comes in so long."""
        frames = []
        with trio.move_on_after(seconds):
            while True:
                frames.append(decode_frame(await self.receive()))
        return frames


class Net:
    """Whoever listens, by URL."""

    def __init__(self):
        self.tokens = set()
        self._accepted = {}

    def listen(self, url):
        self._accepted[url] = trio.open_memory_channel(100)

    def deafen(self, url):
        del self._accepted[url]

    @asynccontextmanager
    async def connect(self, url, token, tls, at=""):
        await trio.lowlevel.checkpoint()
        if url not in self._accepted:
            raise Disconnected(f"{url}: nobody is there")
        self.tokens.add(token)
        there, back = trio.open_memory_channel(1000), trio.open_memory_channel(1000)
        near, far = End(there[0], back[1]), End(back[0], there[1])
        near.peer, far.peer = far, near
        await self._accepted[url][0].send(far)
        try:
            yield near
        finally:
            await near.close("")

    async def accept(self, url=URL):
        """The next one that connects, after its hello."""
        with trio.fail_after(60):
            end = await self._accepted[url][1].receive()
            return end, await end.hear(Hello)


@pytest.fixture
def net(monkeypatch):
    net = Net()
    net.listen(URL)
    for module in (uplink_module, parents_module):
        monkeypatch.setattr(module, "connect", net.connect)
    return net


class FakeServant:
    def __init__(self):
        self.served = []
        self.reason = ""

    def place(self):
        return "127.0.0.1:7003" if self.served else ""

    def control_place(self, bound):
        return bound

    def serve(self, snapshot):
        self.served.append(snapshot)
        return Refuse(snapshot.revision, self.reason) if self.reason else Ack(snapshot.revision, ())


@pytest.fixture
def servant():
    return FakeServant()


@pytest.fixture
def passed_on():
    return []


@pytest.fixture
async def uplink(plane, servant, passed_on, log, nursery, net):
    identity = Identity("web-1", "web", URL, "secret", "boot", 7, "127.0.0.1:7002", "")
    uplink = Uplink(identity, plane, log, random.Random(1), servant, passed_on.append)
    nursery.start_soon(uplink.run)
    return uplink


async def placed(net, parents=()):
    """The controller's end of a link that is welcomed and knows its parents."""
    end, _ = await net.accept()
    await end.say(Welcome(0.25), ReportTo(parents))
    return end


async def test_it_says_who_it_is_and_nothing_more_before_it_is_welcomed(uplink, net, autojump_clock):
    end, hello = await net.accept()
    assert hello == Hello(1, "web-1", "web", "boot", 7, "127.0.0.1:7002", "")
    assert net.tokens == {"secret"}
    assert await end.heard_within(15) == []


async def test_nobody_hears_reports_before_it_is_decided_who_the_parents_are(uplink, net, plane, autojump_clock):
    end, _ = await net.accept()
    await end.say(Welcome(0.5))
    assert await end.heard_within(15) == []
    assert uplink.reports.interval_s == 0.5
    await end.say(ReportTo(()))
    assert await end.hear(Report) == Report(plane.subtree_load, plane.echo(CONTROLLER))


async def test_without_parents_the_controller_hears_reports_at_their_pace(uplink, net, autojump_clock):
    end = await placed(net)
    reports = await end.heard_within(10)
    assert {type(frame) for frame in reports} == {Report}
    assert 30 <= len(reports) <= 50


async def test_with_parents_they_hear_the_reports_and_the_controller_a_sign_of_life(uplink, net, plane, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, hello = await net.accept(EDGE.url)
    assert hello == uplink.identity.hello
    await edge.say(Welcome(0.25))
    signs = await end.heard_within(4 * SIGN_OF_LIFE_S)
    assert signs == [Report(plane.subtree_load, Echo())] * len(signs)
    assert len(signs) in (4, 5)
    assert await edge.hear(Report) == Report(plane.subtree_load, plane.echo("edge-1"))


async def test_whether_the_controller_is_the_only_parent_may_change_at_any_time(uplink, net, plane, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net)
    assert len(await end.heard_within(5)) > 10
    await end.say(ReportTo((EDGE,)))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await end.heard_within(1)
    assert len(await end.heard_within(2 * SIGN_OF_LIFE_S)) <= 2
    await end.say(ReportTo(()))
    back = await end.heard_within(5)
    assert len(back) > 10
    assert back[-1] == Report(plane.subtree_load, plane.echo(CONTROLLER))
    with pytest.raises(Disconnected):
        await edge.heard_within(60)


@pytest.mark.parametrize(("reason", "answer"), [("", Ack(3, ())), ("port taken", Refuse(3, "port taken"))])
async def test_a_snapshot_is_served_or_refused(uplink, net, servant, reason, answer, autojump_clock):
    servant.reason = reason
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack | Refuse) == answer
    assert servant.served == [SNAPSHOT]


async def test_an_agent_serves_no_snapshots(uplink, net, autojump_clock):
    uplink.servant = None
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack | Refuse) == Refuse(3, "an agent serves no configuration")


async def test_guidance_of_the_controller_is_heeded_as_that_of_a_parent(uplink, net, plane, autojump_clock):
    end = await placed(net)
    await end.say(Guidance(0.9, True))
    await trio.sleep(1)
    assert plane.heeded == [(CONTROLLER, Guidance(0.9, True))]


async def test_a_watch_is_passed_on_once_and_brings_rows_at_once(uplink, net, plane, passed_on, autojump_clock):
    end = await placed(net)
    await end.heard_within(5)
    await end.say(Watch(5.0))
    (report,) = await end.heard_within(0.01)
    assert report.rows == (plane.row(),)
    await end.say(Watch(5.2))
    await end.heard_within(0.01)
    assert passed_on == [Watch(5.0)], "the second is the same by another way"
    await end.say(Watch(5.0, "n0nce"))
    await end.heard_within(6)
    assert passed_on == [Watch(5.0), Watch(5.0, "n0nce")]
    assert (await end.hear(Report)).rows == ()


def row_of(node):
    return NodeRow(node, "app", 0.0, NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0), SubtreeLoad())


async def test_rows_from_before_anybody_watched_are_not_shown(uplink, net, plane, autojump_clock):
    end = await placed(net)
    uplink.rows.note([row_of("old")], trio.current_time())
    await end.say(Watch(5.0))
    assert [row.node for row in (await end.hear(Report)).rows if row.node == "old"] == []
    await end.heard_within(2)
    uplink.rows.note([row_of("new")], trio.current_time())
    await end.say(Watch(5.0))
    names = {row.node for report in await end.heard_within(1) for row in report.rows}
    assert names == {plane.row().node, "new"}, "what was heard while somebody watches is kept"


async def test_a_watch_of_a_parent_is_as_good(uplink, net, passed_on, autojump_clock):
    net.listen(EDGE.url)
    await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25), Watch(5.0))
    while not (await edge.hear(Report)).rows:
        pass
    assert passed_on == [Watch(5.0)]


async def test_a_lost_controller_is_joined_again_while_reports_to_parents_go_on(uplink, net, log, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await end.close("I restart")
    assert len(await edge.heard_within(5)) > 10
    end, hello = await net.accept()
    assert hello == uplink.identity.hello
    (event, fields) = log.events[0]
    assert (event, fields["reason"]) == ("controller lost", "I restart")
    await end.say(Welcome(0.25))
    assert await end.hear(Report), "it is still known who the parents are"


async def test_one_that_serves_says_where_so_that_a_controller_that_restarted_knows(
    uplink, net, servant, autojump_clock
):
    end, hello = await net.accept()
    assert hello.data == ""
    await end.say(Welcome(0.25), Configure(SNAPSHOT))
    await end.hear(Ack)
    await end.close("I restart")
    _, hello = await net.accept()
    assert hello == attrs.evolve(uplink.identity.hello, data=servant.place())


async def test_a_controller_that_speaks_out_of_turn_is_told_so_and_joined_again(uplink, net, log, autojump_clock):
    end, _ = await net.accept()
    await end.say(ReportTo(()))
    with pytest.raises(Disconnected, match="a reportto frame is not expected here"):
        await end.receive()
    await placed(net)
    assert log.events[0][1]["reason"] == "a reportto frame is not expected here"


async def test_attempts_become_rarer_and_never_end(uplink, net, log, autojump_clock):
    end, _ = await net.accept()
    net.deafen(URL)
    await end.close("I stop")
    await trio.sleep(600)
    waits = [fields["retry_in_s"] for _, fields in log.events]
    assert all(0.05 <= wait_s <= 0.1 for wait_s in waits[:1])
    assert 1 <= min(waits[10:]) <= max(waits[10:]) <= 2
    assert len(set(waits[10:])) > 10, "nodes that lost it together do not come back together"
    net.listen(URL)
    await placed(net)


async def test_leaving_is_told_to_controller_and_parents_at_once(uplink, net, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await edge.heard_within(5)
    began = trio.current_time()
    await uplink.leave()
    assert trio.current_time() - began < NOTICE_S / 10
    with trio.fail_after(60):
        assert await end.hear(Leaving) == Leaving()
    (report,) = await edge.heard_within(0.01)
    assert report.subtree.draining


async def test_leaving_without_a_controller_takes_a_moment_and_no_more(uplink, net, autojump_clock):
    net.deafen(URL)
    began = trio.current_time()
    await uplink.leave()
    assert trio.current_time() - began == pytest.approx(NOTICE_S)


async def test_one_that_left_says_so_again_to_a_controller_that_comes_back(uplink, net, autojump_clock):
    end = await placed(net)
    await uplink.leave()
    await end.hear(Leaving)
    await end.close("I restart")
    end = await placed(net)
    assert await end.hear(Leaving) == Leaving()


def test_the_token_is_in_no_text_of_an_identity():
    assert "secret" not in repr(Identity("web-1", "web", URL, "secret", "boot", 7))


# Several controllers, one of which is active.

OTHER = "ws://192.0.2.9:7000"


@pytest.fixture
async def among_two(plane, servant, passed_on, log, nursery, net):
    identity = Identity("web-1", "web", f"{URL},{OTHER}", "secret", "boot", 7, "127.0.0.1:7002", "")
    uplink = Uplink(identity, plane, log, random.Random(1), servant, passed_on.append)
    nursery.start_soon(uplink.run)
    return uplink


async def test_one_that_is_not_active_sends_it_to_the_next(among_two, net, autojump_clock):
    net.listen(OTHER)
    began = trio.current_time()
    standby, _ = await net.accept()
    await standby.close("this controller is on standby")
    active, _ = await net.accept(OTHER)
    assert trio.current_time() - began < 0.1
    await active.say(Welcome(0.25))
    await trio.sleep(1)
    assert among_two.welcomed


async def test_when_the_active_one_is_lost_both_are_tried_until_one_is(among_two, net, log, autojump_clock):
    net.listen(OTHER)
    net.deafen(URL)
    active, _ = await net.accept(OTHER)
    await active.say(Welcome(0.25))
    await active.close("gone")
    net.deafen(OTHER)
    await trio.sleep(4)
    net.listen(URL)
    began = trio.current_time()
    await net.accept()
    assert trio.current_time() - began <= LONGEST_WAIT_S
    assert any("nobody is there; " in fields.get("reason", "") for _, fields in log.events)


async def test_each_address_of_a_name_is_another_controller(
    plane, servant, log, nursery, net, monkeypatch, autojump_clock
):
    dialled = []

    @asynccontextmanager
    async def connect(url, token, tls, at=""):
        dialled.append((url, at))
        raise Disconnected("on standby")
        yield

    async def ask(host):
        await trio.lowlevel.checkpoint()
        return {"controller": ("192.0.2.1", "192.0.2.2")}.get(host, ())

    monkeypatch.setattr(uplink_module, "connect", connect)
    identity = Identity("web-1", "web", "ws://controller:7901,ws://unknown:7901", "secret", "boot", 7)
    nursery.start_soon(Uplink(identity, plane, log, random.Random(1), servant, ask=ask).run)
    await trio.sleep(0.01)
    assert dialled == [
        ("ws://controller:7901", "192.0.2.1"),
        ("ws://controller:7901", "192.0.2.2"),
        ("ws://unknown:7901", ""),
    ]


async def test_it_knows_by_which_address_the_controller_knows_it(uplink, net, autojump_clock):
    await net.accept()
    assert uplink.here == "192.0.2.7"


def fail_once(monkeypatch, owner, name):
    """Its next call raises, later ones work."""
    works = getattr(owner, name)

    def fail(*arguments):
        monkeypatch.setattr(owner, name, works)
        raise ValueError(name)

    monkeypatch.setattr(owner, name, fail)


@pytest.mark.parametrize("part", ["subtree", "echo", "row"])
async def test_a_report_that_fails_costs_itself_or_its_connection_and_is_made_again(
    uplink, net, plane, part, monkeypatch, autojump_clock
):
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25), Watch(60.0))
    await edge.hear(Report)
    fail_once(monkeypatch, plane, part)
    if part != "subtree":
        with pytest.raises(Disconnected):
            await edge.heard_within(60)
        edge, _ = await net.accept(EDGE.url)
        await edge.say(Welcome(0.25))
    await edge.heard_within(2)
    with trio.fail_after(60):
        await edge.hear(Report)
    assert {type(frame) for frame in await end.heard_within(2 * SIGN_OF_LIFE_S)} == {Report}
    assert list(uplink.errors.counts) == [{"subtree": "reports"}.get(part, "parent link")]


@pytest.mark.parametrize("part", ["serve", "heed"])
async def test_what_fails_in_following_the_controller_costs_the_connection_only(
    uplink, net, plane, servant, part, monkeypatch, autojump_clock
):
    end = await placed(net)
    if part == "serve":
        fail_once(monkeypatch, servant, "serve")
        await end.say(Configure(SNAPSHOT))
    else:
        fail_once(monkeypatch, plane, "heed")
        await end.say(Guidance(0.5))
    with pytest.raises(Disconnected):
        await end.heard_within(60)
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack) == Ack(3, ())
    assert uplink.errors.counts == {"controller link": 1}


async def test_a_failure_at_one_controller_leaves_the_turn_to_the_next(
    among_two, net, servant, log, monkeypatch, autojump_clock
):
    net.listen(OTHER)
    end = await placed(net)
    fail_once(monkeypatch, servant, "serve")
    await end.say(Configure(SNAPSHOT))
    with trio.fail_after(60):
        second, _ = await net.accept(OTHER)
    await second.close("away")
    await net.accept()
    (reason,) = [fields["reason"] for event, fields in log.events if event == "controller lost"][:1]
    assert reason.startswith(INTERNAL), "and the reason is not hidden"


async def test_a_link_that_cannot_even_be_tried_is_tried_again(uplink, net, monkeypatch, autojump_clock):
    end = await placed(net)
    fail_once(monkeypatch, Uplink, "_addresses")
    await end.close("away")
    await placed(net)
    assert uplink.errors.counts == {"controller link": 1}


async def test_a_failure_among_the_parents_costs_no_report_to_the_controller(uplink, net, monkeypatch, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net)
    fail_once(monkeypatch, parents_module, "is_named")
    await end.say(ReportTo((EDGE,)))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await edge.hear(Report)
    await end.hear(Report)
    assert uplink.errors.counts == {"parents": 1}
