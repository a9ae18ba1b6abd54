"""A node's children over real websockets: honest ones and others."""

import contextlib
from functools import partial

import attrs
import pytest
import trio

from tests.control_plane import ChildrenPort
from tests.joining import AGENT_TOKEN, admit
from tierlb.channel import parent_end
from tierlb.model.load import Echo, Guidance, HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.net.websocket import Disconnected, connect
from tierlb.node import children as children_module
from tierlb.node.children import ReportingChild
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Hello, Leaving, Report, Watch, Welcome, decode_frame, encode_frame

DEADLINE_S = 30.0
LOAD = SubtreeLoad(capacity=50.0, in_flight=2)
ECHO = Echo(1, 2, 3)
ROW = NodeRow("web-1", "web", 0.0, NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5), LOAD)
NONE = Guidance(0.0)


@pytest.fixture
def idle_clock(autojump_clock):
    """Time that passes only while nothing happens, on real sockets either."""
    autojump_clock.autojump_threshold = 0.02
    return autojump_clock


@pytest.fixture
def port(plane, log):
    plane.guidance = None
    return ChildrenPort(plane, log, admit)


@pytest.fixture
def children(port):
    return port.children


@pytest.fixture
async def url(port, nursery):
    return f"ws://{await nursery.start(port.serve)}"


async def join(channel, name="web-1", boot_id="one"):
    await channel.send(encode_frame(Hello(1, name, "web", boot_id, 7)))
    assert decode_frame(await channel.receive()) == Welcome(0.25)


async def until(condition):
    while not condition():  # noqa: ASYNC110 (real sockets)
        await trio.sleep(0.005)


async def close_reason(channel):
    try:
        while True:
            await channel.receive()
    except Disconnected as gone:
        return str(gone)


async def next_of(channel, kind):
    while not isinstance(frame := decode_frame(await channel.receive()), kind):
        pass
    return frame


async def test_a_report_reaches_the_data_plane_under_the_childs_name(url, plane):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel)
            await channel.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: plane.reports)
    assert plane.reports == [("web-1", LOAD, ECHO)]


async def test_a_lost_socket_is_told_once(url, plane, children):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel)
            assert children.names() == ("web-1",)
        await until(lambda: plane.lost)
    assert plane.lost == ["web-1"]
    assert children.names() == ()


async def test_a_second_connection_replaces_the_first_and_nothing_is_lost(url, plane, children):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as first, connect(url, "secret") as second:
            await join(first)
            await join(second, boot_id="two")
            assert "took over" in await close_reason(first)
            await second.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: plane.reports)
            assert plane.lost == []


async def test_a_process_that_was_replaced_stays_out_for_a_while(url, plane, children, monkeypatch):
    """It drains, and what it says would be taken for what the new one says. A moment after the loss it may be back."""
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as first, connect(url, "secret") as second:
            await join(first)
            await join(second, boot_id="two")
            async with connect(url, "secret") as again:
                await again.send(encode_frame(Hello(1, "web-1", "web", "one", 7)))
                assert "took over from this one" in await close_reason(again)
            await second.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: plane.reports)
        await until(lambda: plane.lost)
        async with connect(url, "secret") as again:
            await again.send(encode_frame(Hello(1, "web-1", "web", "one", 7)))
            assert "took over from this one" in await close_reason(again)
    assert plane.lost[0] == "web-1"


async def test_a_process_that_is_there_long_after_it_was_replaced_counts_again(url, monkeypatch):
    monkeypatch.setattr(children_module, "REPLACED_STAYS_OUT_S", 0.0)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as first, connect(url, "secret") as second:
            await join(first)
            await join(second, boot_id="two")
            assert "took over" in await close_reason(first)
        async with connect(url, "secret") as back:
            await join(back)


async def test_guidance_comes_every_second_and_at_once_when_all_are_hot(idle_clock, url, plane, monkeypatch):
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.05)
    plane.guidance = Guidance(0.5)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel)
            assert await next_of(channel, Guidance) == Guidance(0.5)
            plane.guidance = Guidance(0.6)
            started = trio.current_time()
            assert await next_of(channel, Guidance) == Guidance(0.6)
            assert trio.current_time() - started > 0.8
            plane.guidance = Guidance(0.95, True)
            started = trio.current_time()
            assert await next_of(channel, Guidance) == Guidance(0.95, True)
            assert trio.current_time() - started < 0.5


async def test_a_watch_reaches_those_that_are_there_and_those_that_come_later(idle_clock, url, children):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as early, connect(url, "secret") as late:
            await join(early)
            watch = Watch(5.0, "n0nce")
            children.relay.watching.take(watch, trio.current_time())
            children.watch(watch)
            assert await next_of(early, Watch) == watch
            await join(late, "web-2")
            assert (await next_of(late, Watch)).ttl_s == pytest.approx(5, abs=0.5)
            assert (await next_of(late, Watch)).explain == "n0nce"


async def test_rows_are_kept_while_somebody_watches_and_a_new_node_is_news(url, children, plane):
    news = []
    children.on_new_row = lambda: news.append(len(plane.reports))
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel)
            await channel.send(encode_frame(Report(LOAD, ECHO, (ROW,))))
            await until(lambda: len(plane.reports) == 1)
            assert children.relay.rows.since(0, 0.0) == ((), 0)
            children.relay.watching.take(Watch(5.0), trio.current_time())
            for _ in range(2):
                await channel.send(encode_frame(Report(LOAD, ECHO, (ROW,))))
            await until(lambda: len(plane.reports) == 3)
    (row,), _ = children.relay.rows.since(0, trio.current_time())
    assert attrs.evolve(row, age_s=0.0) == ROW
    assert news == [2]


async def test_a_name_that_is_no_members_is_passed_on_for_the_plane_to_ignore(url, plane):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel, "who-ever")
            await channel.send(encode_frame(Report(LOAD, ECHO)))
            await channel.send(encode_frame(Leaving()))
            await channel.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: len(plane.reports) == 2)
    assert plane.reports[0][0] == "who-ever"


async def test_a_bug_in_the_data_plane_costs_one_connection(url, plane, log):
    plane.note_report = None
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as channel:
            await join(channel)
            await channel.send(encode_frame(Report(LOAD, ECHO)))
            assert "internal error" in await close_reason(channel)
    assert "internal_error" in [event for event, _ in log.events]


@pytest.mark.parametrize("part", ["note_report", "guide", "note_lost"])
async def test_what_fails_for_one_child_is_no_end_of_others(url, children, plane, part, monkeypatch):
    works = getattr(plane, part)

    def fail(child, *arguments):
        if child == "web-1":
            raise ValueError(part)
        return works(child, *arguments)

    monkeypatch.setattr(plane, part, fail)
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.01)
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as other:
            await join(other, "web-2")
            async with connect(url, "secret") as bad:
                await join(bad)
                await bad.send(encode_frame(Report(LOAD, ECHO)))
                if part != "note_lost":
                    await until(lambda: children.errors.counts)
            await until(lambda: children.errors.counts and children.names() == ("web-2",))
            plane.guidance = Guidance(0.25)
            await next_of(other, Guidance)
            await other.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: ("web-2", LOAD, ECHO) in plane.reports)
    assert list(children.errors.counts) == ["control connection"]


async def test_a_watch_that_cannot_be_said_to_one_child_reaches_the_others(url, children, monkeypatch):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as bad, connect(url, "secret") as other:
            await join(bad)
            await join(other, "web-2")
            works = ReportingChild.watch

            def fail(child, watch):
                return 1 // 0 if child.name == "web-1" else works(child, watch)

            monkeypatch.setattr(ReportingChild, "watch", fail)
            children.watch(Watch(5.0, "n"))
            assert await next_of(other, Watch) == Watch(5.0, "n")
    assert children.errors.counts == {"watch": 1}


# Who may speak for whom.


@contextlib.contextmanager
def dialling_from(monkeypatch, host):
    """Connections come from this address of the loopback network."""
    with monkeypatch.context() as patch:
        patch.setattr(trio, "open_tcp_stream", partial(trio.open_tcp_stream, local_address=host))
        yield


async def test_nobody_takes_the_place_of_a_child_that_is_there_from_another_address(children, url, plane, monkeypatch):
    with trio.fail_after(DEADLINE_S):
        async with connect(url, "secret") as honest:
            await join(honest)
            with dialling_from(monkeypatch, "127.0.0.2"):
                async with connect(url, "secret") as thief:
                    await thief.send(encode_frame(Hello(1, "web-1", "web", "two", 8)))
                    assert "127.0.0.1 has this name and is connected" in await close_reason(thief)
            await honest.send(encode_frame(Report(LOAD, ECHO)))
            await until(lambda: plane.reports)
            assert children.names() == ("web-1",)
        await until(lambda: not children.names())
        with dialling_from(monkeypatch, "127.0.0.2"):
            async with connect(url, "secret") as replacement:
                await join(replacement, boot_id="two")


async def test_a_child_is_what_its_ticket_says(port, children, nursery):
    tickets = {"web-2's": Principal(Role.NODE, "web", "web-2"), "app-1's": Principal(Role.AGENT, "app", "app-1")}
    port.admit = tickets.get
    url = f"ws://{await nursery.start(port.serve)}"
    with trio.fail_after(DEADLINE_S):
        for token, hello in (
            ("web-2's", Hello(1, "web-1", "web", "one", 7)),
            ("web-2's", Hello(1, "web-2", "edge", "one", 7)),
            ("app-1's", Hello(1, "web-2", "web", "one", 7)),
            ("app-1's", Hello(1, "app-2", "app", "one", 7)),
        ):
            async with connect(url, token) as channel:
                await channel.send(encode_frame(hello))
                assert "this token is for" in await close_reason(channel)
        assert children.names() == ()


async def test_an_agent_speaks_for_itself_alone_and_does_not_see_how_requests_are_explained(children, url):
    children.relay.watching.take(Watch(60.0, "nonce"), trio.current_time())
    with trio.fail_after(DEADLINE_S):
        async with connect(url, AGENT_TOKEN) as agent, connect(url, "secret") as node:
            await join(agent, "web-2")
            await join(node)
            assert [(await next_of(agent, Watch)).explain for _ in range(2)] == ["", ""]
            assert [(await next_of(node, Watch)).explain for _ in range(2)] == ["", "nonce"]
            claim = attrs.evolve(ROW.own, hosts=(HostLoad("app/x", 1, 2, 3, availability="ejected"),))
            rows = (attrs.evolve(ROW, node="web-2", own=claim), attrs.evolve(ROW, node="web-3"))
            await agent.send(encode_frame(Report(LOAD, ECHO, rows)))
            await node.send(encode_frame(Report(LOAD, ECHO, (attrs.evolve(ROW, node="web-4"),))))
            await until(lambda: "web-4" in known(children) and "web-2" in known(children))
            assert known(children) == {"web-2", "web-4"}
            assert members_named(children) == []


def members_named(children):
    rows, _ = children.relay.rows.since(0, trio.current_time())
    return [host.name for row in rows for host in row.own.hosts]


def known(children):
    rows, _ = children.relay.rows.since(0, trio.current_time())
    return {row.node for row in rows}
