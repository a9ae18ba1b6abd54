"""The parent's end over real websockets, with a handler that keeps what it gets: honest children and others."""

from contextlib import suppress

import attrs
import msgpack
import pytest
import trio

from tests.control_plane import LOCAL
from tests.joining import admit
from tierlb.channel import parent_end
from tierlb.channel.parent_end import ParentEnd
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind
from tierlb.net import keep_going
from tierlb.net.websocket import Disconnected, connect
from tierlb.telemetry.internal_errors import InternalErrors
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

DEADLINE_S = 30.0
REPORT = Report(SubtreeLoad(capacity=50.0, in_flight=2), Echo(1, 2, 3))
SNAPSHOT = Snapshot(1, "shop", "web", Kind.L7, (), ())


@attrs.define(eq=False)
class KeptChild:
    """Keeps what it gets; fails where the test asks for it."""

    connection: object
    hello: Hello
    frames: list = attrs.field(factory=list)
    looks: int = 0
    reasons: list = attrs.field(factory=list)
    fails: str = ""

    def welcomed(self, now):
        self.connection.send(Watch(5.0, "first"))

    def receive(self, frame, now):
        self._fail("receive")
        self.frames.append(frame)

    def look_after(self, now):
        self._fail("look_after")
        self.looks += 1

    def lost(self, reason):
        self.reasons.append(reason)
        self._fail("lost")

    def _fail(self, part):
        if part == self.fails:
            raise ValueError(part)


@attrs.define
class Port:
    end: ParentEnd
    url: str = ""
    children: dict = attrs.field(factory=dict)
    refusals: dict = attrs.field(factory=dict)

    def take_in(self, connection, hello):
        if hello.node in self.refusals:
            return self.refusals[hello.node]
        self.children[hello.node] = KeptChild(connection, hello)
        return self.children[hello.node]


@pytest.fixture
async def port(log, nursery):
    end = ParentEnd(None, log, InternalErrors(log), "edge-1", report_interval_s=0.1)
    port = Port(end)
    end.take_in = port.take_in
    port.url = f"ws://{await nursery.start(end.serve, LOCAL, admit)}"
    return port


async def join(channel, name="web-1"):
    await channel.send(encode_frame(Hello(1, name, "web", "one", 7)))
    assert decode_frame(await channel.receive()) == Welcome(0.1, "edge-1")
    assert decode_frame(await channel.receive()) == Watch(5.0, "first")


async def until(condition):
    while not condition():  # noqa: ASYNC110 (real sockets)
        await trio.sleep(0.005)


async def close_reason(channel):
    try:
        while True:
            await channel.receive()
    except Disconnected as gone:
        return str(gone)


async def test_a_child_is_welcomed_and_its_frames_reach_its_handler(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await join(channel)
            child = port.children["web-1"]
            child.connection.send(Configure(SNAPSHOT))
            assert decode_frame(await channel.receive()) == Configure(SNAPSHOT)
            for frame in (Ack(1, ()), REPORT, Leaving()):
                await channel.send(encode_frame(frame))
            await until(lambda: len(child.frames) == 3)
            child.connection.send(Configure(SNAPSHOT))
            await channel.send(encode_frame(Refuse(1, "no")))
            await until(lambda: len(child.frames) == 4)
        await until(lambda: child.reasons)
    assert child.frames == [Ack(1, ()), REPORT, Leaving(), Refuse(1, "no")]
    assert len(child.reasons) == 1


async def test_all_kinds_of_frames_can_be_sent_to_a_child(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await join(channel)
            connection = port.children["web-1"].connection
            assert (connection.caller.host, connection.caller.principal) == ("127.0.0.1", admit("secret"))
            frames = (ReportTo((ParentAddress("edge-2", "ws://127.0.0.1:1", "t"),)), Guidance(0.5), Watch(1.0, ""))
            for frame in frames:
                connection.send(frame)
            await connection.drained()
            assert tuple([decode_frame(await channel.receive()) for _ in frames]) == frames


async def test_one_that_may_not_join_learns_why(port, log):
    port.refusals["web-1"] = "not today"
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await channel.send(encode_frame(Hello(1, "web-1", "web", "one", 7)))
            assert await close_reason(channel) == "not today"
    assert port.children == {}
    assert log.events == [("child_turned_away", {"address": "127.0.0.1", "reason": "not today"})]


async def test_a_parent_that_is_not_ready_says_so_to_all_and_keeps_none(port, log):
    port.end.unready = lambda: "on standby"
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            assert await close_reason(channel) == "on standby"
    assert (port.end.connections, log.events) == (set(), [])


async def test_all_connections_can_be_ended_with_a_reason(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as one, connect(port.url, "secret") as other:
            await join(one)
            port.end.close_all("enough")
            assert await close_reason(one) == await close_reason(other) == "enough"
    assert port.children["web-1"].reasons == ["enough"]
    assert port.end.connections == set()


LIES = {
    "garbage": b"\xc1\x00",
    "no hello": encode_frame(REPORT),
    "huge": bytes(2_000_000),
}
LATER_LIES = {
    "NaN": msgpack.packb(["report", float("nan"), *[0] * 14, False, 0, 0, 0, []]),
    "negative": msgpack.packb(["report", -1.0, *[0] * 14, False, 0, 0, 0, []]),
    "absurd": msgpack.packb(["report", 1e300, *[0] * 14, False, 0, 0, 0, []]),
    "a parent's frame": encode_frame(Guidance(0.5)),
    "a second hello": encode_frame(Hello(1, "web-2", "web", "x", 1)),
    "an answer to nothing": encode_frame(Ack(1, ())),
}


@pytest.mark.parametrize("lie", [*LIES, *LATER_LIES])
async def test_a_child_that_lies_is_cut_off_with_a_reason_and_harms_no_other(port, lie):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as good, connect(port.url, "secret") as bad:
            await join(good)
            if lie in LATER_LIES:
                await join(bad, "web-2")
            await bad.send(LIES.get(lie) or LATER_LIES[lie])
            assert await close_reason(bad) not in ("", "the connection was lost")
            await good.send(encode_frame(REPORT))
            await until(lambda: port.children["web-1"].frames)
    assert "web-2" not in port.children or port.children["web-2"].frames == []


async def test_a_child_that_floods_is_cut_off_and_harms_no_other(port):
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as good, connect(port.url, "secret") as bad:
            await join(good)
            await join(bad, "web-2")
            with suppress(Disconnected):
                for _ in range(100_000):
                    await bad.send(encode_frame(REPORT))
            await good.send(encode_frame(REPORT))
            await until(lambda: port.children["web-1"].frames)
            assert ["frames" in reason for reason in port.children["web-2"].reasons] == [True]
    assert len(port.children["web-2"].frames) < 400


async def test_a_silent_child_is_cut_off(port, monkeypatch):
    monkeypatch.setattr("tierlb.wire.control.CHILD_SILENT_S", 0.1)
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.02)
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            await join(channel)
            assert "silent for" in await close_reason(channel)
    assert len(port.children["web-1"].reasons) == 1


async def test_one_that_sends_no_hello_is_cut_off(port, monkeypatch):
    monkeypatch.setattr(parent_end, "HELLO_TIMEOUT_S", 0.05)
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.02)
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as channel:
            assert await close_reason(channel) == "no hello came in time"


@pytest.mark.parametrize(("part", "ends"), [("receive", True), ("look_after", False), ("lost", False)])
async def test_an_error_of_one_handler_ends_at_most_its_own_connection(port, part, ends, monkeypatch):
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.01)
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as good, connect(port.url, "secret") as bad:
            await join(good)
            await join(bad, "web-2")
            port.children["web-2"].fails = part
            await bad.send(encode_frame(REPORT))
            if ends:
                assert "internal error" in await close_reason(bad)
            if part == "lost":
                await bad.close("")
            await until(lambda: port.end.errors.counts)
            looks = port.children["web-1"].looks
            await until(lambda: port.children["web-1"].looks > looks)
            await good.send(encode_frame(REPORT))
            await until(lambda: port.children["web-1"].frames)
    assert list(port.end.errors.counts) == ["control connection"]


async def test_a_round_that_fails_is_followed_by_others_and_ends_no_connection(port, monkeypatch):
    monkeypatch.setattr(parent_end, "CHILD_LOOK_EVERY_S", 0.01)
    monkeypatch.setattr(parent_end, "HELLO_TIMEOUT_S", 0.05)
    monkeypatch.setattr(keep_going, "RESTART_PAUSE_S", 0.01)
    with trio.fail_after(DEADLINE_S):
        async with connect(port.url, "secret") as child:
            await join(child)
            with monkeypatch.context() as failing:
                failing.setattr(port.end, "connections", None)
                await until(lambda: port.end.errors.counts["control connections"] > 1)
            async with connect(port.url, "secret") as nameless:
                assert await close_reason(nameless) == "no hello came in time"
            assert port.children["web-1"].reasons == []
