"""Any bytes in any chunking on a control port, also from a child with the token, leave the other children served, and
no barrier has to catch an error of the program for that."""

import math
import random
from contextlib import suppress

import attrs
import msgpack
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.control_plane import ChildrenPort, FakePlane, KeptLog, controller_port, tier
from tests.joining import AGENT_TOKEN, NODE_TOKEN, admit, raw_websocket
from tierlb.controller.controller import Controller
from tierlb.controller.engine import ProcessEngine
from tierlb.model.address import Address
from tierlb.model.load import Echo, Guidance, HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.topology import Kind, Pool, Topology
from tierlb.net.websocket import connect
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

DEADLINE_S = 60.0
AT = Address("127.0.0.1", 4001)
ROW = NodeRow("web-9", "web", 0.0, NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("app/x", 1, 2, 3),)), SubtreeLoad())
HELLO = Hello(1, "web-9", "web", "boot", 9, "127.0.0.1:7002", "127.0.0.1:4009")
FRAMES = (
    HELLO,
    attrs.evolve(HELLO, tier="apps", node="app-9"),
    attrs.evolve(HELLO, node="web-1"),
    Ack(1, (AT,)),
    Ack(1, ()),
    Refuse(1, "no"),
    Report(SubtreeLoad(capacity=1.0), Echo(1, 2, 3), (ROW,)),
    Leaving(),
    Watch(5.0, "nonce"),
    ReportTo((ParentAddress("x", "ws://127.0.0.1:1"),)),
    Guidance(0.5),
    Welcome(0.25),
)
ODD = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        2**63 - 1,
        2**64 - 1,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        5e-324,
        "",
        "x" * 5000,
        "a\nb\x1b[2J\x00",
        "../../etc/passwd",
        "web-1",
        "127.0.0.1:99999",
        "[::]:0",
        "0.0.0.0:0",
        "a..b:1",
        "\ud800".encode("utf-8", "surrogatepass"),
        b"",
        b"\xff" * 70000,
        [],
        [[]] * 600,
        {},
        {"a": 1},
    ]
)


@st.composite
def messages(draw):
    """A frame with some fields made odd, or any bytes."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.binary(max_size=200))
    fields = msgpack.unpackb(encode_frame(draw(st.sampled_from(FRAMES))), raw=False, strict_map_key=False)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(fields)))
        fields[at : at + draw(st.integers(0, 1))] = [draw(ODD)]
    return msgpack.packb(fields, unicode_errors="surrogatepass")


def length_of(part):
    size = len(part)
    if size < 126:
        return bytes((0x80 | size,))
    return b"\xfe" + size.to_bytes(2) if size < 65536 else b"\xff" + size.to_bytes(8)


def in_frames(whole, draw):
    """As a child writes it, in fragments or not, with control frames in between."""
    parts = [whole] if draw.random() < 0.7 else [whole[: len(whole) // 2], whole[len(whole) // 2 :]]
    data = b""
    for number, part in enumerate(parts):
        if draw.random() < 0.2:
            data += b"\x89\x80mask"
        first = (0x02 if number == 0 else 0x00) | (0x80 if number == len(parts) - 1 else 0)
        size = len(part)
        length = (
            bytes((0x80 | size,))
            if size < 126
            else b"\xfe" + size.to_bytes(2)
            if size < 65536
            else b"\xff" + size.to_bytes(8)
        )
        data += bytes((first,)) + length + b"\x00" * 4 + part
    return data


async def rave(url, sent, chunks):
    """A node or an agent that sends this, in pieces of these sizes, and hangs up."""
    draw = random.Random(len(sent))
    data = b"".join(in_frames(each, draw) for each in sent)
    with suppress(trio.BrokenResourceError):
        async with raw_websocket(url, (NODE_TOKEN, AGENT_TOKEN)[len(sent) % 2]) as stream:
            at = 0
            for number in range(40):
                size = chunks[number % len(chunks)]
                await stream.send_all(data[at : at + size])
                at += size
                await trio.lowlevel.checkpoint()
            await stream.send_all(data[at:])
            await trio.sleep(0.01)


async def hear(channel, kind):
    while not isinstance(frame := decode_frame(await channel.receive()), kind):
        pass
    return frame


RAVING = given(st.lists(messages(), min_size=1, max_size=8), st.lists(st.integers(1, 2000), min_size=1, max_size=4))
SETTINGS = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])


@SETTINGS
@RAVING
def test_whatever_a_child_says_a_node_hears_its_others(sent, chunks):
    async def main():
        plane, log = FakePlane(), KeptLog()
        plane.guidance = None
        port = ChildrenPort(plane, log, admit)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                url = f"ws://{await nursery.start(port.serve)}"
                async with connect(url, "secret") as honest:
                    await honest.send(encode_frame(Hello(1, "honest", "web", "one", 7)))
                    await hear(honest, Welcome)
                    await rave(url, sent, chunks)
                    await honest.send(encode_frame(Report(SubtreeLoad(capacity=7.0), Echo())))
                    while ("honest", SubtreeLoad(capacity=7.0), Echo()) not in plane.reports:  # noqa: ASYNC110
                        await trio.sleep(0.005)
                nursery.cancel_scope.cancel()
        assert port.errors.counts == {}, log.events

    trio.run(main)


@SETTINGS
@RAVING
def test_whatever_a_node_says_a_controller_configures_the_others(sent, chunks):
    async def main():
        log = KeptLog()
        web = tier("web", Kind.L7, "apps", replicas=2, listen=Address("127.0.0.1", 8080))
        topology = Topology("shop", {"web": web}, {"apps": Pool("apps", agents=True)})
        for engine in (None, ProcessEngine("")):
            controller = Controller(topology, log, engine=engine)
            with trio.fail_after(DEADLINE_S):
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(controller.run)
                    url = f"ws://{await controller_port(nursery, controller, admit)}"
                    await rave(url, sent, chunks)
                    controller.observer.status()
                    controller.readiness.missing()
                    async with connect(url, "secret") as honest:
                        await honest.send(encode_frame(Hello(1, "web-2", "web", "one", 7)))
                        configure = await hear(honest, Configure)
                        await honest.send(encode_frame(Ack(configure.snapshot.revision, (AT,))))
                        while controller.registry.records["web-2"].assignment.served != configure.snapshot.revision:  # noqa: ASYNC110
                            await trio.sleep(0.005)
                    nursery.cancel_scope.cancel()
            assert controller.errors.counts == {}, log.events

    trio.run(main)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.binary(max_size=300), max_size=6))
def test_whatever_a_stranger_says_a_child_is_heard(pieces):
    async def main():
        plane, log = FakePlane(), KeptLog()
        plane.guidance = None
        port = ChildrenPort(plane, log, admit)
        with trio.fail_after(DEADLINE_S):
            async with trio.open_nursery() as nursery:
                address = await nursery.start(port.serve)
                async with await trio.open_tcp_stream(address.host, address.port) as stream:
                    with suppress(trio.BrokenResourceError):
                        for piece in (b"GET / HTTP/1.1\r\n", *pieces):
                            await stream.send_all(piece)
                async with connect(f"ws://{address}", "secret") as honest:
                    await honest.send(encode_frame(Hello(1, "honest", "web", "one", 7)))
                    await hear(honest, Welcome)
                nursery.cancel_scope.cancel()
        assert port.errors.counts == {}, log.events

    trio.run(main)
