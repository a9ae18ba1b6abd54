"""The connection to one or several controllers, whose every frame is in the test."""

import random
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tests.channel.memory_net import EDGE, SNAPSHOT, URL, fail_once, placed
from tierlb.channel import controller_link
from tierlb.channel.controller_link import LEAVE_NOTICE_S, LONGEST_WAIT_S, ControllerLink, Identity
from tierlb.channel.parents import INTERNAL
from tierlb.channel.uplink import Uplink
from tierlb.channel.watching import WatchRelay
from tierlb.model.build import BUILD
from tierlb.model.load import Guidance
from tierlb.net.websocket import Disconnected
from tierlb.wire.frames import Ack, Configure, Hello, Leaving, Refuse, Report, ReportTo, Welcome


async def test_it_says_who_it_is_and_nothing_more_before_it_is_welcomed(uplink, net, autojump_clock):
    end, hello = await net.accept()
    assert hello == Hello(1, "web-1", "web", "boot", 7, "127.0.0.1:7002", "", BUILD)
    assert net.tokens == {"secret"}
    assert await end.heard_within(15) == []


@pytest.mark.parametrize(("reason", "answer"), [("", Ack(3, ())), ("port taken", Refuse(3, "port taken"))])
async def test_a_snapshot_is_served_or_refused(uplink, net, server, reason, answer, autojump_clock):
    server.reason = reason
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack | Refuse) == answer
    assert server.served == [SNAPSHOT]


async def test_an_agent_serves_no_snapshots(uplink, net, autojump_clock):
    uplink.link.server = None
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack | Refuse) == Refuse(3, "an agent serves no configuration")


async def test_a_lost_controller_is_joined_again_while_reports_to_parents_go_on(
    uplink, net, log, plane, autojump_clock
):
    plane.busy = True
    net.listen(EDGE.url)
    end = await placed(net, (EDGE,))
    edge, _ = await net.accept(EDGE.url)
    await edge.say(Welcome(0.25))
    await end.close("I restart")
    assert len(await edge.heard_within(5)) > 10
    end, hello = await net.accept()
    assert hello == uplink.identity.hello
    (event, fields) = log.events[0]
    assert (event, fields["reason"]) == ("controller_disconnected", "I restart")
    await end.say(Welcome(0.25))
    assert await end.hear(Report), "it is still known who the parents are"


async def test_one_that_serves_says_where_so_that_a_controller_that_restarted_knows(
    uplink, net, server, autojump_clock
):
    end, hello = await net.accept()
    assert hello.data == ""
    await end.say(Welcome(0.25), Configure(SNAPSHOT))
    await end.hear(Ack)
    await end.close("I restart")
    _, hello = await net.accept()
    assert hello == attrs.evolve(uplink.identity.hello, data="127.0.0.1:7003")


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


async def test_leaving_without_a_controller_takes_a_moment_and_no_more(uplink, net, autojump_clock):
    net.deafen(URL)
    began = trio.current_time()
    await uplink.leave()
    assert trio.current_time() - began == pytest.approx(LEAVE_NOTICE_S)


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
async def among_two(plane, server, passed_on, log, nursery, net):
    identity = Identity("web-1", "web", f"{URL},{OTHER}", "secret", "boot", 7, "127.0.0.1:7002", "")
    uplink = Uplink(identity, plane, log, random.Random(1), server, WatchRelay(passed_on.append))
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
    assert among_two.link.welcomed


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
    plane, server, log, nursery, net, monkeypatch, autojump_clock
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

    monkeypatch.setattr(controller_link, "connect", connect)
    identity = Identity("web-1", "web", "ws://controller:7901,ws://unknown:7901", "secret", "boot", 7)
    nursery.start_soon(Uplink(identity, plane, log, random.Random(1), server, ask=ask).run)
    await trio.sleep(0.01)
    assert dialled == [
        ("ws://controller:7901", "192.0.2.1"),
        ("ws://controller:7901", "192.0.2.2"),
        ("ws://unknown:7901", ""),
    ]


async def test_it_knows_by_which_address_the_controller_knows_it(uplink, net, server, autojump_clock):
    await net.accept()
    assert server.seen_from == "192.0.2.7"


@pytest.mark.parametrize("part", ["serve", "note_guidance"])
async def test_what_fails_in_following_the_controller_costs_the_connection_only(
    uplink, net, plane, server, part, monkeypatch, autojump_clock
):
    end = await placed(net)
    if part == "serve":
        fail_once(monkeypatch, server, "serve")
        await end.say(Configure(SNAPSHOT))
    else:
        fail_once(monkeypatch, plane, "note_guidance")
        await end.say(Guidance(0.5))
    with pytest.raises(Disconnected):
        await end.heard_within(60)
    end = await placed(net)
    await end.say(Configure(SNAPSHOT))
    assert await end.hear(Ack) == Ack(3, ())
    assert uplink.errors.counts == {"controller link": 1}


async def test_a_failure_at_one_controller_leaves_the_turn_to_the_next(
    among_two, net, server, log, monkeypatch, autojump_clock
):
    net.listen(OTHER)
    end = await placed(net)
    fail_once(monkeypatch, server, "serve")
    await end.say(Configure(SNAPSHOT))
    with trio.fail_after(60):
        second, _ = await net.accept(OTHER)
    await second.close("away")
    await net.accept()
    (reason,) = [fields["reason"] for event, fields in log.events if event == "controller_disconnected"][:1]
    assert reason.startswith(INTERNAL), "and the reason is not hidden"


async def test_a_link_that_cannot_even_be_tried_is_tried_again(uplink, net, monkeypatch, autojump_clock):
    end = await placed(net)
    fail_once(monkeypatch, ControllerLink, "_addresses")
    await end.close("away")
    await placed(net)
    assert uplink.errors.counts == {"controller link": 1}
