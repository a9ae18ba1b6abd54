"""Children that break the protocol, with the right token, against real nodes and a real controller: each is cut off
with a reason and harms nobody. They join as agents of a pool, beside two honest ones, while traffic goes there."""

import contextlib
import json
from collections.abc import AsyncIterator, Container, Iterable, Iterator

import attrs
import msgpack
import pytest
import trio
from wsproto.frame_protocol import FrameProtocol, Opcode

from scripts.benchmarks.cluster import Cluster, free_address, running_cluster
from tests.cluster.traffic import Endpoint, Traffic
from tests.joining import raw_websocket
from tierlb.channel.join_credentials import JoinCredentials, read
from tierlb.model.address import parse_address
from tierlb.model.load import Echo, Guidance, SubtreeLoad
from tierlb.net.websocket import LOST, Channel, Disconnected, connect
from tierlb.wire.credentials import Principal, Role, parse_credential
from tierlb.wire.frames import (
    PROTOCOL_VERSION,
    Frame,
    Hello,
    ParentAddress,
    Report,
    ReportTo,
    Welcome,
    decode_frame,
    encode_frame,
)

DEADLINE_S = 120.0
CUT_OFF_S = 30.0
POOL = "joining"
TOPOLOGY = """\
cluster: rogues
admin: {{listen: {admin}}}
tiers:
  web: {{kind: l7, listen: "{listen}", replicas: 2, routes: [{{match: {{path: /work}}, to: joining}}]}}
pools:
  joining: {{agents: true}}
"""
REPORT = Report(SubtreeLoad(capacity=100.0, utilisation=0.95, ready_leaves=1, leaves=1), Echo())
FLOOD = 100_000
MESSAGES = {
    "garbage": b"\xc1\x00",
    "another protocol": b"GET / HTTP/1.1\r\n\r\n",
    "huge": bytes(2_000_000),
    "a flood": encode_frame(REPORT),
    "NaN": msgpack.packb(["report", float("nan"), *[0] * 14, False, 0, 0, 0, []]),
    "negative": msgpack.packb(["report", -1.0, *[0] * 14, False, 0, 0, 0, []]),
    "absurd": msgpack.packb(["report", 1e300, *[0] * 14, False, 0, 0, 0, []]),
    "deep": msgpack.packb(["report", *[0] * 19, b"\x91" * 60_000]),
    "a parent's frame": encode_frame(Guidance(0.5)),
    "a second hello": encode_frame(Hello(PROTOCOL_VERSION, "web-2", "web", "x", 1)),
}
FRAMES = {
    "a flood of pings": b"\x89\x80mask",
    "a flood of pongs": b"\x8a\x80mask",
    "a flood of empty fragments": b"\x02\x80mask" + b"\x00\x80mask",
}
"""What is no message."""
LIES = {**MESSAGES, **FRAMES}


@attrs.frozen
class Site:
    """The cluster, how to join it, and where it is asked."""

    cluster: Cluster
    join_credentials: JoinCredentials
    address: tuple[str, int]

    def logged_reasons(self, who: str) -> set[str]:
        """Why nodes say that they have lost this child."""
        lines = (line for line in self.cluster.log.read_bytes().splitlines() if line.startswith(b"{"))
        events = [json.loads(line) for line in lines]
        return {event["reason"] for event in events if "reason" in event and who == event.get("child")}

    def pids(self) -> dict[str, int]:
        return {name: node["pid"] for name, node in self.cluster.nodes("web").items()}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    listen, admin = free_address(), free_address()
    text = TOPOLOGY.format(admin=admin, listen=listen)
    with running_cluster(text, admin, tmp_path_factory.mktemp("rogues"), Cluster.is_whole) as cluster:
        address = parse_address(listen)
        yield Site(cluster, read(cluster.state), (address.host, address.port))


@attrs.define
class RawChannel:
    """As `Channel`, over a stream on which the test may write frames itself."""

    stream: trio.SocketStream
    frames: FrameProtocol = attrs.field(factory=lambda: FrameProtocol(client=True, extensions=[]))

    async def send(self, data: bytes) -> None:
        await self.stream.send_all(self.frames.send_data(data, fin=True))

    async def receive(self) -> bytes:
        message = bytearray()
        while True:
            for frame in self.frames.received_frames():
                if frame.opcode is Opcode.CLOSE:
                    raise Disconnected(frame.payload[1])
                if frame.opcode is Opcode.BINARY:
                    message += frame.payload
                    if frame.message_finished:
                        return bytes(message)
            try:
                data = await self.stream.receive_some()
            except trio.BrokenResourceError:
                data = b""
            if not data:
                raise Disconnected(LOST)
            self.frames.receive_bytes(data)


@contextlib.asynccontextmanager
async def connect_raw(url: str, token: str) -> AsyncIterator[RawChannel]:
    async with raw_websocket(url, token) as stream:
        yield RawChannel(stream)


@attrs.define
class Joined:
    """An agent's two connections."""

    controller: Channel | RawChannel
    parent: Channel | RawChannel
    above: ParentAddress


@contextlib.asynccontextmanager
async def joined(site: Site, name: str, address: str, *, raw: bool = False) -> AsyncIterator[Joined]:
    """An agent of the pool at the controller and at one of its parents."""
    opened = connect_raw if raw else connect
    hello = encode_frame(Hello(PROTOCOL_VERSION, name, POOL, "boot", 1, "", address))
    token = narrowed(site, Principal(Role.AGENT, POOL, name))
    async with opened(site.join_credentials.url, token) as controller:
        await controller.send(hello)
        while not isinstance(named := await heard(controller), ReportTo) or not named.parents:
            pass
        async with opened(named.parents[0].url, named.parents[0].ticket) as parent:
            await parent.send(hello)
            assert isinstance(await heard(parent), Welcome)
            yield Joined(controller, parent, named.parents[0])


@contextlib.asynccontextmanager
async def joined_as(
    site: Site, names: Iterable[str], address: str, raw: Container[str] = ()
) -> AsyncIterator[list[Joined]]:
    """So many agents. `raw`: those that write frames themselves."""
    async with contextlib.AsyncExitStack() as stack:
        yield [await stack.enter_async_context(joined(site, name, address, raw=name in raw)) for name in names]


def narrowed(site: Site, principal: Principal) -> str:
    """What the holder of the token for agents can make of it."""
    given = parse_credential(site.join_credentials.token)
    assert given is not None
    return given.narrowed(principal).text


async def heard(channel: Channel | RawChannel) -> Frame:
    return decode_frame(await channel.receive())


async def close_reason(channel: Channel | RawChannel) -> str:
    with trio.fail_after(CUT_OFF_S):
        try:
            while True:
                await channel.receive()
        except Disconnected as gone:
            return str(gone)


async def report_honestly(guided: list[Guidance], joined: Joined) -> None:
    """Report for ever, and keep what the parent says. Raises Disconnected when it is cut off."""

    async def report() -> None:
        while True:
            await joined.parent.send(encode_frame(REPORT))
            await trio.sleep(0.25)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(report)
        while True:
            if isinstance(frame := await heard(joined.parent), Guidance):
                guided.append(frame)


async def lie(channel: Channel | RawChannel, what: str, reasons: dict[str, str], whom: str) -> None:
    with contextlib.suppress(Disconnected, trio.BrokenResourceError):
        if isinstance(channel, RawChannel):
            await channel.stream.send_all(LIES[what] * FLOOD)
        for _ in range(FLOOD if what == "a flood" else 1):
            await channel.send(LIES[what])
    reasons[f"{what} to a {whom}"] = await close_reason(channel)


async def say_nothing(url: str, token: str, reasons: dict[str, str], whom: str) -> None:
    """A connection without a hello."""
    async with connect(url, token) as channel:
        reasons[f"no hello to a {whom}"] = await close_reason(channel)


async def stall(url: str, reasons: dict[str, str], whom: str) -> None:
    """Half a request to upgrade, and nothing more."""
    address = parse_address(url.partition("//")[2])
    with trio.fail_after(CUT_OFF_S):
        async with await trio.open_tcp_stream(address.host, address.port) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nUpgr")
            with contextlib.suppress(trio.BrokenResourceError):
                await stream.receive_some()
    reasons[f"half a request to a {whom}"] = "closed"


async def test_who_lies_floods_or_stalls_is_cut_off_with_a_reason_and_harms_nobody(
    site: Site, nursery: trio.Nursery
) -> None:
    endpoint, reasons, pids = Endpoint(), dict[str, str](), site.pids()
    guided: dict[str, list[Guidance]] = {"honest-1": [], "honest-2": []}
    traffic = Traffic(site.address)
    await nursery.start(endpoint.serve)
    with trio.fail_after(DEADLINE_S):
        async with joined_as(site, guided, endpoint.address) as agents, trio.open_nursery() as honest:
            for kept, agent in zip(guided.values(), agents, strict=True):
                honest.start_soon(report_honestly, kept, agent)
            async with traffic.flowing(kept=2, fresh=2):
                await traffic.until(
                    "both are heard", lambda: all(kept and kept[-1].all_hot for kept in guided.values())
                )
                names = [f"rogue-{number}" for number in range(len(LIES))]
                raw = [name for name, what in zip(names, LIES, strict=True) if what in FRAMES]
                async with joined_as(site, names, endpoint.address, raw) as liars, trio.open_nursery() as rogues:
                    silent = narrowed(site, Principal(Role.AGENT, POOL, "silent"))
                    places = {
                        "parent": (agents[0].above.url, agents[0].above.ticket),
                        "controller": (site.join_credentials.url, silent),
                    }
                    for whom, (url, token) in places.items():
                        rogues.start_soon(say_nothing, url, token, reasons, whom)
                        rogues.start_soon(stall, url, reasons, whom)
                    for what, liar in zip(LIES, liars, strict=True):
                        rogues.start_soon(lie, liar.parent, what, reasons, "parent")
                        rogues.start_soon(lie, liar.controller, what, reasons, "controller")
            honest.cancel_scope.cancel()
    assert traffic.failures == []
    assert site.pids() == pids
    assert len(reasons) == 2 * len(LIES) + 4
    unheard = {what for what, why in reasons.items() if not why or "lost" in why}
    assert all(what.startswith("a flood") for what in unheard), "with so much unread a reason may not come through"
    for number, what in enumerate(LIES):
        if what in ("a flood", "a flood of pings", "a flood of pongs"):
            assert site.logged_reasons(f"rogue-{number}") == {"more than 100 frames (of 64 KiB) per second"}
    assert all("'subtree.capacity' is not a number" in reasons[f"{lie} to a parent"] for lie in ("NaN", "absurd"))
    assert {(kept[-1].all_hot, kept[-1].target) for kept in guided.values()} == {(True, 0.95)}
