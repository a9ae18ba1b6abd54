"""Reports, watches and leaving, between a controller and parents whose every frame is in the test."""

import pytest
import trio

from tests.channel.memory_net import EDGE, fail_once, placed
from tierlb.channel import parents as parents_module
from tierlb.channel.controller_link import LEAVE_NOTICE_S
from tierlb.channel.report_schedule import CONTROLLER_AS_PARENT, SIGN_OF_LIFE_S
from tierlb.model.load import Echo, Guidance, NodeLoad, NodeRow, SubtreeLoad
from tierlb.net.websocket import Disconnected
from tierlb.wire.frames import Leaving, Report, ReportTo, Watch, Welcome


async def test_nobody_hears_reports_before_it_is_decided_who_the_parents_are(uplink, net, plane, autojump_clock):
    end, _ = await net.accept()
    await end.say(Welcome(0.5))
    assert await end.heard_within(15) == []
    assert uplink.reports.interval_s == 0.5
    await end.say(ReportTo(()))
    report = await end.hear(Report)
    assert (report.subtree, report.echo) == (plane.subtree_load, plane.echo(CONTROLLER_AS_PARENT))


async def test_without_parents_the_controller_hears_reports_at_their_pace(uplink, net, plane, autojump_clock):
    plane.busy = True
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
    assert signs == [Report(plane.subtree_load, Echo(), next_s=SIGN_OF_LIFE_S)] * len(signs)
    assert len(signs) in (4, 5)
    report = await edge.hear(Report)
    assert (report.subtree, report.echo) == (plane.subtree_load, plane.echo("edge-1"))


async def test_whether_the_controller_is_the_only_parent_may_change_at_any_time(uplink, net, plane, autojump_clock):
    plane.busy = True
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
    assert back[-1].echo == plane.echo(CONTROLLER_AS_PARENT)
    with pytest.raises(Disconnected):
        await edge.heard_within(60)


async def test_guidance_of_the_controller_is_followed_as_that_of_a_parent(uplink, net, plane, autojump_clock):
    end = await placed(net)
    await end.say(Guidance(0.9, True))
    await trio.sleep(1)
    assert plane.heeded == [(CONTROLLER_AS_PARENT, Guidance(0.9, True))]


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
    uplink.relay.rows.note([row_of("old")], trio.current_time())
    await end.say(Watch(5.0))
    assert [row.node for row in (await end.hear(Report)).rows if row.node == "old"] == []
    await end.heard_within(2)
    uplink.relay.rows.note([row_of("new")], trio.current_time())
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


async def test_leaving_is_told_to_controller_and_parents_at_once(uplink, net, autojump_clock):
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await edge.heard_within(5)
    began = trio.current_time()
    await uplink.leave()
    assert trio.current_time() - began < LEAVE_NOTICE_S / 10
    with trio.fail_after(60):
        assert await end.hear(Leaving) == Leaving()
    (report,) = await edge.heard_within(0.01)
    assert report.subtree.draining


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
