"""The parent's side over real websockets, against children that do not behave."""

from contextlib import suppress
from functools import partial

import pytest
import trio

from tests.joining import AGENT_TOKEN, admit
from tierlb.controller import link as link_module
from tierlb.controller.link import serve_child
from tierlb.model.address import Address
from tierlb.model.load import Echo, SubtreeLoad
from tierlb.net.websocket import Disconnected, connect, serve
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
async def url(controller, nursery):
    nursery.start_soon(controller.run)
    listen = Address("127.0.0.1", 0)
    address = await nursery.start(serve, partial(serve_child, controller), admit, listen)
    return f"ws://{address}"


async def test_a_credential_for_something_else_makes_no_record(url, controller):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, AGENT_TOKEN) as channel:
            await channel.send(encode_frame(HELLO))
            assert "this token is for all agents, not for node web-1" in await close_reason(channel)
    assert controller.registry.records["web-1"].hello is None


async def test_a_connection_on_which_the_program_fails_ends_no_other(controller, nursery, log, monkeypatch):
    door = link_module.control_door(controller.errors, log)
    attend = partial(serve_child, controller)
    address = await nursery.start(serve, attend, admit, Address("127.0.0.1", 0), None, None, door)
    with trio.fail_after(DEADLINE_S):
        async with connect(f"ws://{address}", "secret") as good, connect(f"ws://{address}", "secret") as bad:
            await good.send(encode_frame(HELLO))
            assert await receive(good) == Welcome(0.02)
            with monkeypatch.context() as failing:
                failing.setattr(type(controller), "join", lambda self, hello, link: 1 // 0)
                await bad.send(encode_frame(HELLO))
                assert await close_reason(bad)
            async with connect(f"ws://{address}", "secret") as another:
                await another.send(encode_frame(Hello(1, "web-2", "web", "two", 8)))
                assert await receive(another) == Welcome(0.02)
            record = controller.registry.records["web-1"]
            assert record.link is not None
    assert controller.errors.counts == {"control connection": 1}


async def receive(channel):
    return decode_frame(await channel.receive())


async def close_reason(channel):
    try:
        while True:
            await channel.receive()
    except Disconnected as gone:
        return str(gone)


async def test_a_child_is_welcomed_and_configured(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            assert await receive(channel) == Welcome(0.02)
            frame = await receive(channel)
            assert isinstance(frame, Configure)
            assert frame.snapshot.tier == "web"


async def test_one_that_breaks_the_protocol_is_closed_with_the_reason(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(b"\xc1")
            assert "not msgpack" in await close_reason(channel)


async def test_a_node_of_an_unknown_tier_is_told_so(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(Hello(1, "db-1", "db", "one", 7)))
            assert "db-1 is not a node of tier db" in await close_reason(channel)


async def test_one_that_says_nothing_is_closed(url, monkeypatch):
    monkeypatch.setattr(link_module, "HELLO_TIMEOUT_S", 0.02)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            assert await close_reason(channel) == "no hello came in time"


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


async def test_a_child_that_floods_is_closed(url):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            with suppress(Disconnected):
                for _ in range(300):
                    await channel.send(encode_frame(Report(SubtreeLoad(), Echo())))
            assert "frames" in await close_reason(channel)


async def test_a_child_that_falls_silent_is_closed(url, monkeypatch):
    monkeypatch.setattr("tierlb.wire.control.SILENT_S", 0.1)
    monkeypatch.setattr(link_module, "TICK_S", 0.02)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await channel.send(encode_frame(HELLO))
            assert "silent for" in await close_reason(channel)
