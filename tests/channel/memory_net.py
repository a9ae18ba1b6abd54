"""A child in virtual time: a controller and parents whose every frame is in the test."""

import random
from contextlib import asynccontextmanager

import attrs
import pytest
import trio

from tierlb.channel import controller_link
from tierlb.channel import parents as parents_module
from tierlb.channel.controller_link import Identity
from tierlb.channel.uplink import Uplink
from tierlb.channel.watching import WatchRelay
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Kind
from tierlb.net.websocket import Disconnected
from tierlb.wire.frames import Ack, Hello, ParentAddress, Refuse, ReportTo, Welcome, decode_frame, encode_frame

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
    for module in (controller_link, parents_module):
        monkeypatch.setattr(module, "connect", net.connect)
    return net


class FakeServer:
    def __init__(self):
        self.served = []
        self.seen_from = ""
        self.reason = ""

    def hello_of(self, hello, local_host):
        self.seen_from = local_host
        return attrs.evolve(hello, data="127.0.0.1:7003" if self.served else "")

    def serve(self, snapshot):
        self.served.append(snapshot)
        return Refuse(snapshot.revision, self.reason) if self.reason else Ack(snapshot.revision, ())


@pytest.fixture
def server():
    return FakeServer()


@pytest.fixture
def passed_on():
    return []


@pytest.fixture
async def uplink(plane, server, passed_on, log, nursery, net):
    identity = Identity("web-1", "web", URL, "secret", "boot", 7, "127.0.0.1:7002", "")
    uplink = Uplink(identity, plane, log, random.Random(1), server, WatchRelay(passed_on.append))
    nursery.start_soon(uplink.run)
    return uplink


async def placed(net, parents=()):
    """The controller's end of a link that is welcomed and knows its parents."""
    end, _ = await net.accept()
    await end.say(Welcome(0.25), ReportTo(parents))
    return end


def fail_once(monkeypatch, owner, name):
    """Its next call raises, later ones work."""
    works = getattr(owner, name)

    def fail(*arguments):
        monkeypatch.setattr(owner, name, works)
        raise ValueError(name)

    monkeypatch.setattr(owner, name, fail)
