"""A controller's control port over real websockets: in and out of its turn, and against nodes that do not behave."""

import pytest
import trio

from tests.control_plane import LOCAL, controller_port
from tests.joining import AGENT_TOKEN, admit
from tierlb.channel import parent_end
from tierlb.controller import reception as reception_module
from tierlb.controller.reception import STARTING, Reception
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.net.websocket import Disconnected, connect
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import (
    Configure,
    Hello,
    ParentAddress,
    Report,
    ReportTo,
    Watch,
    Welcome,
    decode_frame,
    encode_frame,
)

DEADLINE_S = 30.0
HELLO = Hello(1, "web-1", "web", "one", 7)


@pytest.fixture
def reception(controller):
    return Reception(controller.log, controller.errors)


@pytest.fixture
async def standby_url(reception, nursery):
    return f"ws://{await nursery.start(reception.serve, LOCAL, admit)}"


@pytest.fixture
async def url(controller, nursery):
    nursery.start_soon(controller.run)
    return f"ws://{await controller_port(nursery, controller, admit)}"


async def test_one_that_comes_while_no_controller_is_active_learns_why(reception, standby_url, log):
    with trio.fail_after(DEADLINE_S):
        async with connect(standby_url, "secret") as channel:
            assert await close_reason(channel) == STARTING
        reception.close(lambda: "other is active")
        async with connect(standby_url, "secret") as channel:
            assert await close_reason(channel) == "other is active"
    assert log.events == []


async def test_an_active_controller_takes_nodes_in_until_its_turn_is_over(
    reception, standby_url, controller, nursery, log
):
    nursery.start_soon(controller.run)
    reception.open(controller)
    with trio.fail_after(DEADLINE_S):
        async with connect(standby_url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            assert await receive(channel) == Welcome(0.02)
            reception.close(lambda: "another one took over")
            assert await close_reason(channel) == "another one took over"
    assert controller.registry.records["web-1"].link is None
    assert "node_disconnected" not in [event for event, _ in log.events]


def test_it_answers_whether_nodes_may_join(reception, controller):
    assert reception.unready() == STARTING
    reception.open(controller)
    assert reception.unready() == ""
    reception.close(lambda: "other is active")
    assert reception.unready() == "other is active"


async def test_a_credential_for_something_else_makes_no_record(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, AGENT_TOKEN) as channel:
            await channel.send(encode_frame(HELLO))
            assert "this token is for all agents, not for node web-1" in await close_reason(channel)
    assert controller.registry.records["web-1"].hello is None


async def test_a_connection_on_which_the_program_fails_ends_no_other(url, controller, monkeypatch):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as good, connect(url, "secret") as bad:
            await good.send(encode_frame(HELLO))
            assert await receive(good) == Welcome(0.02)
            with monkeypatch.context() as failing:
                failing.setattr(type(controller), "join", lambda self, hello, link: 1 // 0)
                await bad.send(encode_frame(HELLO))
                assert "internal error" in await close_reason(bad)
            async with connect(url, "secret") as another:
                await another.send(encode_frame(Hello(1, "web-2", "web", "two", 8)))
                assert await receive(another) == Welcome(0.02)
            assert controller.registry.records["web-1"].link is not None
    assert controller.errors.counts == {"control connection": 1}


async def test_what_fails_in_sending_to_one_node_ends_its_connection_only(url, controller, monkeypatch):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as bad:
            with monkeypatch.context() as failing:
                failing.setattr(reception_module, "with_tickets", lambda *known: 1 // 0)
                await bad.send(encode_frame(HELLO))
                assert "internal error" in await close_reason(bad)
        async with connect(url, "secret") as good:
            await good.send(encode_frame(HELLO))
            assert await next_of(good, ReportTo) == ReportTo(())
    assert controller.errors.counts == {"control connection": 1}


async def never(connection):
    await trio.sleep_forever()


async def test_a_node_that_does_not_read_is_cut_off(url, controller, monkeypatch):
    monkeypatch.setattr(reception_module, "NODE_SEND_TIMEOUT_S", 0.05)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            await next_of(channel, ReportTo)
            record = controller.registry.records["web-1"]
            monkeypatch.setattr(parent_end.ChildConnection, "drained", never)
            record.link.watch(Watch(5.0))
            assert await close_reason(channel) == "the child does not read"


async def receive(channel):
    return decode_frame(await channel.receive())


async def close_reason(channel):
    try:
        while True:
            await channel.receive()
    except Disconnected as gone:
        return str(gone)


async def test_the_controller_has_a_limit_of_its_own_for_connections(monkeypatch, controller, nursery):
    monkeypatch.setattr(reception_module, "MOST_NODES", 1)
    url = f"ws://{await controller_port(nursery, controller, admit, LOCAL)}"
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            await receive(channel)
            async with connect(url, "secret") as other:
                assert await close_reason(other) == "there are 1 children already"


async def test_a_child_is_welcomed_and_configured(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            assert await receive(channel) == Welcome(0.02)
            frame = await receive(channel)
            assert isinstance(frame, Configure)
            assert frame.snapshot.tier == "web"


async def test_a_node_of_an_unknown_tier_is_told_so(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(Hello(1, "db-1", "db", "one", 7)))
            assert "db-1 is not a node of tier db" in await close_reason(channel)


async def test_a_misbehaving_child_does_not_disturb_its_siblings(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as good, connect(url, "secret") as bad:
            await good.send(encode_frame(HELLO))
            assert await receive(good) == Welcome(0.02)
            await bad.send(b"garbage")
            assert await close_reason(bad)
            assert isinstance(await receive(good), Configure)
            assert controller.registry.records["web-1"].link is not None


async def test_the_second_connection_of_a_node_takes_over(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as first:
            await first.send(encode_frame(HELLO))
            assert await receive(first) == Welcome(0.02)
            async with connect(url, "secret") as second:
                await second.send(encode_frame(HELLO))
                assert await receive(second) == Welcome(0.02)
                assert "took over" in await close_reason(first)
                assert isinstance(await receive(second), Configure)
                assert controller.registry.records["web-1"].link is not None


async def test_the_record_knows_when_its_socket_is_gone(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            await receive(channel)
        while controller.registry.records["web-1"].link is not None:
            await controller.signals.wait_progress()
    assert controller.registry.records["web-1"].hello == HELLO


async def next_of(channel, kind):
    while not isinstance(frame := await receive(channel), kind):
        pass
    return frame


async def test_a_child_is_told_its_parents_as_they_come_and_what_to_show_them(url, controller):
    ticket = controller.admission.ticket("edge", "edge-1", Principal(Role.NODE, "web", "web-1"))
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as web, connect(url, "secret") as edge:
            await web.send(encode_frame(HELLO))
            assert await next_of(web, ReportTo) == ReportTo(())
            await edge.send(encode_frame(Hello(1, "edge-1", "edge", "one", 8, "127.0.0.1:7001")))
            assert await next_of(web, ReportTo) == ReportTo((ParentAddress("edge-1", "ws://127.0.0.1:7001", ticket),))
            assert await next_of(edge, ReportTo) == ReportTo(())


async def test_a_watch_is_sent(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            await next_of(channel, ReportTo)
            controller.observer.watch(5.0, "n0nce")
            assert await next_of(channel, Watch) == Watch(5.0, "n0nce")


async def test_a_report_is_noted(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            await next_of(channel, ReportTo)
            await channel.send(encode_frame(Report(SubtreeLoad(capacity=7.0), Echo())))
            while controller.registry.records["web-1"].reports.subtree() is None:  # noqa: ASYNC110 (a real socket)
                await trio.sleep(0.005)
    assert controller.registry.records["web-1"].reports.subtree().capacity == 7.0
