"""A laboratory: a real `Plane` in a nursery, real loopback sockets, endpoints that the test plays itself.

Nothing here waits without a deadline. A test holds both ends of the conversation: it speaks as the client,
accepts as the endpoint, and says in order who sends what and who hears what.
"""

import contextlib
import math
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from tests.sockets import send_now
from tierlb.dataplane import hold
from tierlb.dataplane.plane import Plane
from tierlb.model.address import Address
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Kind, Match, Policy
from tierlb.net import stream
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.lookup import LookUp, look_up
from tierlb.net.meeting_place import NOT_GIVEN, MeetingPlace
from tierlb.net.peer_liveness import next_look_s
from tierlb.wire.proxy_protocol import (
    DATA_KEY_TLV,
    EXPLAINED,
    PARENT,
    PROCESS,
    VIA,
    ProxyHeader,
    encode_local,
    encode_tlv,
    encode_v2,
    parse_v2,
)

DEADLINE_S = 30.0
DATA_KEY = b"the key of this cluster"
AGENT_INTERVAL_S = 0.02
QUIET_S = 0.03
"""Long enough for what would come to come: on loopback it takes microseconds."""


@attrs.define
class Log:
    """Remembers what was logged, as (event, fields)."""

    events: list[tuple[str, dict[str, Any]]] = attrs.field(factory=list)

    def _note(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))

    debug = info = warning = error = _note

    def count(self, event: str) -> int:
        return sum(1 for name, _ in self.events if name == event)


class Message:
    """An HTTP message as it was heard: the first line, the fields, the decoded body."""

    def __init__(self, head: bytes) -> None:
        first, *lines = head[:-4].split(b"\r\n")
        self.raw = head
        self.first = first.decode()
        self.fields = [
            (line.partition(b":")[0].decode().lower(), line.partition(b":")[2].strip().decode()) for line in lines
        ]
        self.body = b""
        self.trailers: list[bytes] = []

    @property
    def status(self) -> int:
        return int(self.first.split()[1])

    def all(self, name: str) -> list[str]:
        return [value for field, value in self.fields if field == name]

    def __getitem__(self, name: str) -> str:
        (value,) = self.all(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))


class Reset(Exception):  # noqa: N818
    """The other side reset the connection."""


class Voice:
    """One end of one connection, in the hands of the test."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.ahead = b""

    @property
    def name(self) -> tuple[str, int]:
        """The own address, as the other side sees it."""
        return self.stream.socket.getsockname()[:2]

    async def says(self, *pieces: bytes) -> None:
        with trio.fail_after(DEADLINE_S):
            for piece in pieces:
                await self.stream.send_all(piece)

    def says_now(self, piece: bytes) -> None:
        """And neither the node nor anything else has its turn meanwhile."""
        send_now(self.stream, piece)

    async def hears_some(self) -> bytes:
        """What comes next, empty at the end."""
        if self.ahead:
            taken, self.ahead = self.ahead, b""
            return taken
        return await self._more()

    async def _more(self) -> bytes:
        with trio.fail_after(DEADLINE_S):
            try:
                return await self.stream.receive_some(256 * 1024)
            except trio.BrokenResourceError:
                raise Reset from None

    async def hears_up_to(self, end: bytes) -> bytes:
        """Everything up to and including `end`."""
        while end not in self.ahead:
            more = await self._more()
            assert more, f"the connection ended after {self.ahead[-200:]!r}"
            self.ahead += more
        head, _, self.ahead = self.ahead.partition(end)
        return head + end

    async def hears_up_to_or_end(self, end: bytes) -> bytes:
        """As `hears_up_to`; empty if the connection ended instead."""
        if not self.ahead:
            self.ahead = await self._more()
        return await self.hears_up_to(end) if self.ahead else b""

    async def hears_count(self, count: int) -> bytes:
        while len(self.ahead) < count:
            more = await self._more()
            assert more, f"the connection ended after {len(self.ahead)} of {count} bytes"
            self.ahead += more
        taken, self.ahead = self.ahead[:count], self.ahead[count:]
        return taken

    async def hears(self, expected: bytes) -> None:
        assert await self.hears_count(len(expected)) == expected

    async def hears_rest(self) -> bytes:
        """Everything up to the end of the connection; raises Reset if it was cut."""
        parts = [self.ahead]
        self.ahead = b""
        while more := await self._more():
            parts.append(more)
        return b"".join(parts)

    async def hears_end(self) -> None:
        assert await self.hears_rest() == b""

    async def hears_reset(self) -> None:
        """Whatever comes before it, the connection is cut and not ended."""
        with pytest.raises(Reset):
            await self.hears_rest()

    async def hears_proxy_header(self) -> ProxyHeader:
        """The PROXY header that a parent says first, and no byte more."""
        fixed = await self.hears_count(16)
        header = parse_v2(fixed + await self.hears_count(int.from_bytes(fixed[14:])))
        assert header is not None
        return header

    async def hears_no_word(self) -> None:
        """The connection is over, however that was done, and nothing was said."""
        assert self.ahead == b""
        with contextlib.suppress(Reset):
            assert await self._more() == b""

    async def hears_nothing(self) -> None:
        """Nothing comes and nothing ends for a moment."""
        assert self.ahead == b""
        with trio.move_on_after(QUIET_S):
            more = await self.stream.receive_some(100)
            raise AssertionError(f"heard {more!r}")

    async def hears_head(self) -> Message:
        return Message(await self.hears_up_to(b"\r\n\r\n"))

    async def hears_message(self, *, bodiless: bool = False) -> Message:
        """A whole message; `bodiless` for answers to HEAD, and 1xx, 204 and 304."""
        message = await self.hears_head()
        if bodiless:
            return message
        if "transfer-encoding" in message:
            assert message["transfer-encoding"] == "chunked"
            assert "content-length" not in message
            await self._chunks(message)
        elif "content-length" in message:
            message.body = await self.hears_count(int(message["content-length"]))
        return message

    async def _chunks(self, message: Message) -> None:
        while size := int(await self.hears_up_to(b"\r\n"), 16):
            message.body += await self.hears_count(size)
            await self.hears(b"\r\n")
        while (line := await self.hears_up_to(b"\r\n")) != b"\r\n":
            message.trailers.append(line[:-2])

    async def asks(self, request: bytes) -> Message:
        await self.says(request)
        return await self.hears_message()

    async def ends(self) -> None:
        """Will say no more, still listens."""
        await self.stream.send_eof()

    async def leaves(self) -> None:
        await self.stream.aclose()

    def resets(self) -> None:
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.stream.socket.close()

    def listens_little(self) -> None:
        """A receive buffer that does not grow (and holds a few loopback segments): the rest piles up before it."""
        self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)


@contextlib.contextmanager
def taking_nothing(fd: int) -> Iterator[None]:
    """The descriptor of a stream whose send buffer is full, for so long."""
    real = stream.send
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(stream, "send", lambda to, data: 0 if to == fd else real(to, data))
        yield


class FakeEndpoint:
    """A listening socket that answers nothing by itself."""

    def __init__(self, sock: trio.socket.SocketType, *, target: str = "app", name: str = "", **says: Any) -> None:
        self.sock = sock
        self.address = Address(*sock.getsockname()[:2])
        self.spec = HostSpec(name or f"{target}/{self.address}", target, self.address, **says)
        self.voices: list[Voice] = []

    async def answers_all(self, answer: bytes) -> None:
        """Every request without a body, on every connection, is answered with this, for ever."""

        async def converse() -> None:
            voice = await self.accepts(within_s=math.inf)
            nursery.start_soon(converse)
            while await voice.hears_up_to_or_end(b"\r\n\r\n"):
                await voice.says(answer)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse)

    async def accepts(self, within_s: float = DEADLINE_S) -> Voice:
        with trio.fail_after(within_s):
            sock, _ = await self.sock.accept()
        voice = Voice(trio.SocketStream(sock))
        self.voices.append(voice)
        return voice

    async def is_left_alone(self) -> None:
        """Nobody connects for a moment."""
        with trio.move_on_after(QUIET_S):
            await self.sock.accept()
            raise AssertionError("somebody connected")

    def falls(self) -> None:
        """Nobody listens any more; the port stays reserved by nobody."""
        self.sock.close()


class Lab:
    """Makes endpoints, planes and clients, and closes all of them at the end."""

    background: trio.Nursery
    """For what a test has done meanwhile."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.log = Log()
        self.voices: list[Voice] = []
        self.endpoints: list[FakeEndpoint] = []
        self.planes: list[Plane] = []
        self.ask: LookUp = look_up
        self.broker: Any = None
        self.clock: Callable[[], float] = time.monotonic
        self.next_look_s: Callable[[socket.socket], float] = next_look_s
        """What nodes that begin from now on find where they look whether a host is gone."""
        self.at = Address("127.0.0.1", 0)
        self.meets_in: Path | None = None
        self.why_none = NOT_GIVEN
        self.cluster_tls: ClusterTls | None = None
        """What nodes that begin from now on show to nodes of other tiers."""
        self.others: list[Any] = []

    @property
    def plane(self) -> Plane:
        return self.planes[-1]

    @property
    def front(self) -> Any:
        return self.plane.serving.front

    @property
    def handoffs(self) -> Any:
        """Where parents find the node."""
        return self.plane.listening.handoffs

    @property
    def upkeep(self) -> Any:
        return self.plane.serving.upkeep

    def host(self, endpoint: FakeEndpoint) -> Any:
        """What the node knows of this endpoint."""
        (host,) = self.front.registry.named(endpoint.spec.name)
        return host

    async def endpoint(self, *, at: Address | None = None, backlog: int = 100, **says: Any) -> FakeEndpoint:
        sock = trio.socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        await sock.bind(at.sockaddr if at else ("127.0.0.1", 0))
        sock.listen(backlog)
        endpoint = FakeEndpoint(sock, **says)
        self.endpoints.append(endpoint)
        return endpoint

    async def nobody(self, target: str = "app") -> FakeEndpoint:
        """An endpoint that refuses connections."""
        endpoint = await self.endpoint(target=target)
        endpoint.falls()
        return endpoint

    async def serves(self, snapshot: Snapshot) -> Address:
        """Run a node with this snapshot; the address of its first listener."""
        number = len(self.planes) + 1
        options: dict[str, Any] = {"data_key": DATA_KEY, "boot_id": f"boot-{number}", "ask": self.ask}
        options["broker"] = self.broker
        options["descriptors"] = 1_000_000
        options["clock"] = self.clock
        options["why_none"] = self.why_none
        options["cluster_tls"] = self.cluster_tls
        if self.meets_in is not None:
            options["meeting_place"] = MeetingPlace(self.meets_in)
        self.planes.append(Plane(f"node-{number}", self.log, seed=1, **options))
        self.plane.reactor.next_look_s = self.next_look_s
        (self.at, *_) = self.plane.apply(snapshot)
        self.upkeep.checks.agents.interval_s = AGENT_INTERVAL_S
        await self.nursery.start(self.plane.run)
        return self.at

    async def connects(self, to: Address | None = None) -> Voice:
        with trio.fail_after(DEADLINE_S):
            voice = Voice(await trio.open_tcp_stream(*(to or self.at).sockaddr))
        self.voices.append(voice)
        return voice

    async def converses(self, says: dict[str, Any] | None = None, **options: Any) -> tuple[Voice, FakeEndpoint]:
        """The usual: one l7 node, one endpoint behind it (of which the snapshot `says` more), one client connected."""
        endpoint = await self.endpoint(**says or {})
        await self.serves(l7(endpoint, **options))
        return await self.connects(), endpoint

    async def accepts(self, *endpoints: FakeEndpoint) -> tuple[FakeEndpoint, Voice]:
        """Whoever of the endpoints is chosen, and its new connection."""
        chosen: list[tuple[FakeEndpoint, Voice]] = []

        async def accept(endpoint: FakeEndpoint, scope: trio.CancelScope) -> None:
            chosen.append((endpoint, await endpoint.accepts()))
            scope.cancel()

        async with trio.open_nursery() as nursery:
            for endpoint in endpoints:
                nursery.start_soon(accept, endpoint, nursery.cancel_scope)
        (choice,) = chosen
        return choice

    def ticks(self) -> None:
        """What the node does beside its traffic, done now and not in the next twentieth of a second."""
        now = self.plane.reactor.look()
        self.upkeep.tick(now)
        for host_set in self.front.registry.host_sets:
            host_set.settle(now)

    async def until(self, condition: Any) -> None:
        """Wait for a state that nothing announces."""
        with trio.fail_after(DEADLINE_S):
            while not condition():  # noqa: ASYNC110 (nothing announces it)
                await trio.sleep(0.001)

    def close(self) -> None:
        for voice in [*self.voices, *(voice for endpoint in self.endpoints for voice in endpoint.voices)]:
            voice.stream.socket.close()
        for endpoint in self.endpoints:
            endpoint.sock.close()
        for other in self.others:
            other.close()


ANY_PORT = Listener(Address("127.0.0.1", 0))
INNER = Listener(ANY_PORT.address, inner=True)
CLIENT = ("192.0.2.7", 1234)


def l4_parent(
    source: tuple[str, int] = CLIENT,
    *,
    name: str = "edge-1",
    key: bytes = DATA_KEY,
    boot_id: str = "boot",
    explained: bytes = b"",
    way: bytes = b"",
    datagrams: bool = False,
) -> bytes:
    """What an l4 parent says first on a connection that it makes for a client."""
    tlvs = encode_tlv(PARENT, name.encode()) + encode_tlv(DATA_KEY_TLV, key) + encode_tlv(PROCESS, boot_id.encode())
    for kind, value in ((EXPLAINED, explained), (VIA, way)):
        if value:
            tlvs += encode_tlv(kind, value)
    at = ("2001:db8::1" if ":" in source[0] else "192.0.2.1", 80)
    return encode_v2(source, at, tlvs, datagrams=datagrams)


def l7_parent(*, name: str = "web-1", key: bytes = DATA_KEY) -> bytes:
    """What an l7 parent says first on each of its connections."""
    return encode_local(encode_tlv(PARENT, name.encode()) + encode_tlv(DATA_KEY_TLV, key))


def below(at: Address, name: str, **says: Any) -> Any:
    """A node that this test runs, as an endpoint of another."""
    stand_in = FakeEndpoint.__new__(FakeEndpoint)
    stand_in.address = at
    stand_in.spec = HostSpec(name, "below", at, child=True, reports=True, **says)
    return stand_in


def send(*endpoints: FakeEndpoint, weight: float = 1) -> Send:
    return Send((Destination(weight, ("app",), tuple(endpoint.spec for endpoint in endpoints)),))


def snapshot(
    kind: Kind, *endpoints: FakeEndpoint, rules: tuple[Rule, ...] = (), listener: Listener = ANY_PORT, **options: Any
) -> Snapshot:
    rules = rules or (Rule(Match(), send(*endpoints)),)
    options.setdefault("balance", Policy.ROUND_ROBIN)
    if not listener.inner and listener.tls is None:
        listener = attrs.evolve(listener, tls=options.get("tls"))
    return Snapshot(options.pop("revision", 1), "test", "tier", kind, (listener,), rules, **options)


def l7(*endpoints: FakeEndpoint, **options: Any) -> Snapshot:
    return snapshot(Kind.L7, *endpoints, **options)


def l4(*endpoints: FakeEndpoint, **options: Any) -> Snapshot:
    return snapshot(Kind.L4, *endpoints, **options)


class Clock:
    """Moves only when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is held until the first host of a destination comes."""
    monkeypatch.setattr(hold, "HOLD_S", 0.0)


@pytest.fixture
def clock(lab: Lab) -> Clock:
    """The clock of the nodes that begin from now on."""
    clock = Clock()
    lab.clock = clock.monotonic
    return clock


@pytest.fixture
async def lab(nursery: trio.Nursery) -> AsyncIterator[Lab]:
    laboratory = Lab(nursery)
    try:
        async with trio.open_nursery() as laboratory.background:
            yield laboratory
            laboratory.background.cancel_scope.cancel()
    finally:
        laboratory.close()
    crashes = laboratory.log.count("internal_error")
    assert crashes == 0, laboratory.log.events
