"""Hosts that lose power under connections that are open, and one that is only slow. All at once: each takes its time.

Endpoints are in this process, on hosts of their own, and answer when they are told to.
"""

import contextlib
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.lost import whole
from tests.cluster.across import APP, PUBLIC, Site, prepare
from tests.hosts import running_network
from tierlb.net.peer_liveness import LOOK_S

SOON_S = 45.0
"""Less than the 60 s that an answer may take, and the 75 s for which a connection may be idle."""
LONG_S = 2 * LOOK_S + 5.0
CONNECT_S = 2.0
"""The topology's usual timeout."""
ACKNOWLEDGED_S = 0.5
"""Kernels put off an acknowledgement for 0.2 s at most."""
DEADLINE_S = 150.0
BODY_BYTES = 16 * 1024 * 1024
KEPT = 48
OF_A_KIND = 8
TOPOLOGY = """\
cluster: silent
admin: {{listen: 127.0.0.1:7900}}
tiers:
  edge: {{kind: l4, listen: 127.0.0.1:8080, to: web}}
  web:
    kind: l7
    replicas: 2
    routes:
      - {{match: {{path_prefix: /pair}}, to: pair}}
      - {{match: {{path_prefix: /alone}}, to: alone}}   # of all else a node says its own name
pools:
  pair: {{endpoints: ["{app1}", "{app2}"]}}
  alone: {{endpoints: ["{app3}"]}}
"""


@attrs.define
class Endpoint:
    """Answers with its name, and what is held when it is `released`. `heard` are the requests that came, as
    `GET /path`."""

    name: str
    released: trio.Event = attrs.field(factory=trio.Event)
    reads: trio.Event = attrs.field(factory=trio.Event)
    heard: list[str] = attrs.field(factory=list)

    async def serve(self, site: Site, *, task_status: trio.TaskStatus[None]) -> None:
        """On its host."""
        host = site.host(self.name)
        with host.inside():
            listening = trio.socket.socket()
        await listening.bind((host.address, APP))
        listening.listen(100)
        await trio.serve_listeners(self._converse, [trio.SocketListener(listening)], task_status=task_status)

    async def _converse(self, stream: trio.SocketStream) -> None:
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                while data := await stream.receive_some():
                    received += data
                    if b"\r\n\r\n" in received:
                        head, _, received = received.partition(b"\r\n\r\n")
                        await self._answer(stream, head, len(received))
                        received = b""

    async def _answer(self, stream: trio.SocketStream, head: bytes, ahead: int) -> None:
        line = head.partition(b" HTTP/1.1")[0].decode()
        self.heard.append(line)
        if "/held" in line:
            await self.released.wait()
        elif "/unread" in line:
            await self.reads.wait()
        length = next((int(field[15:]) for field in head.lower().split(b"\r\n") if field[:15] == b"content-length:"), 0)
        while ahead < length and (data := await stream.receive_some(1 << 20)):
            ahead += len(data)
        body = bytes(BODY_BYTES) if "/bulk" in line else f"{self.name} {ahead}".encode()
        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


@attrs.define
class Client:
    """A connection through the edge. `answer`: what came to what was asked last, as far as it came."""

    stream: trio.SocketStream
    answer: bytes = b""
    cut: bool = False

    async def ask(self, line: str, body: bytes = b"") -> None:
        await self.say(line, body)
        await self.hear()

    async def say(self, line: str, body: bytes = b"") -> None:
        self.answer = b""
        length = b"Content-Length: %d\r\n" % len(body) if body else b""
        await self.stream.send_all(line.encode() + b" HTTP/1.1\r\nHost: silent\r\n" + length + b"\r\n" + body)

    async def hear(self) -> None:
        """The answer, or as much of it as comes before the connection ends."""
        parts = [self.answer]
        try:
            while not whole(self.answer):
                parts.append(await self.stream.receive_some(1 << 20))
                if not parts[-1]:
                    self.cut = True
                    return
                self.answer = b"".join(parts)
        except trio.BrokenResourceError:
            self.cut = True

    @property
    def status(self) -> int:
        return int(self.answer[9:12] or b"0")


@attrs.define
class Seen:
    """What became of it. Requests are told apart by their paths."""

    answers: dict[str, Client] = attrs.field(factory=dict)
    received: set[str] = attrs.field(factory=set)
    unacknowledged: set[str] = attrs.field(factory=set)
    of_a_dead_node: dict[str, Client] = attrs.field(factory=dict)
    slow: dict[str, Client] = attrs.field(factory=dict)


@attrs.define
class Scene:
    """The cluster, and clients that may choose the l7 node that they come to."""

    site: Site
    nursery: trio.Nursery
    app1: Endpoint = attrs.field(factory=lambda: Endpoint("app1"))
    app2: Endpoint = attrs.field(factory=lambda: Endpoint("app2"))
    app3: Endpoint = attrs.field(factory=lambda: Endpoint("app3"))
    seen: Seen = attrs.field(factory=Seen)
    clients: list[Client] = attrs.field(factory=list)

    async def client(self, node: str) -> Client:
        """One that came to this node."""
        while True:
            client = Client(await self.site.host("client").dial(self.site.host("edge").address, PUBLIC))
            self.clients.append(client)
            await client.ask("GET /who")
            if client.answer.partition(b"\r\n\r\n")[2].startswith(node.encode()):
                return client

    async def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Wait until it does."""
        await self.soon(holds)
        assert holds(), f"not within {SOON_S:g} s: {what}\n{self.site.tail()}"

    async def soon(self, holds: Callable[[], bool]) -> None:
        """Wait until it does, or for too long."""
        with trio.move_on_after(SOON_S):
            while not holds():  # noqa: ASYNC110 (several processes have their part in it)
                await trio.sleep(0.02)

    async def endpoint_dies(self) -> None:
        """With requests that it has received, and with such as it will never receive, on connections that were kept."""
        await self.keep_connections()
        clients = {
            f"{method} /pair/held/{when}{number}": await self.client("web-2")
            for when in ("before", "after")
            for method in ("GET", "POST")
            for number in range(OF_A_KIND)
        }
        before = {line: client for line, client in clients.items() if "before" in line}
        after = {line: client for line, client in clients.items() if "after" in line}
        await self.ask(before)
        await self.until("all were received", lambda: before.keys() <= {*self.app1.heard, *self.app2.heard})
        await trio.sleep(ACKNOWLEDGED_S)
        self.site.host("app1").unplug()
        self.seen.received = before.keys() & {*self.app1.heard}
        await self.ask(after)
        await trio.sleep(2 * CONNECT_S)
        others = {*self.app2.heard}
        self.app2.released.set()
        self.seen.answers = clients
        await self.soon(lambda: all(whole(client.answer) for client in clients.values()))
        others |= {line for line in self.app2.heard if line.startswith("POST")}  # late on its way
        self.seen.unacknowledged = after.keys() - others

    async def keep_connections(self) -> None:
        """Have the node keep connections to both endpoints."""
        clients = {f"GET /pair/held/first{number}": await self.client("web-2") for number in range(KEPT)}
        await self.ask(clients)
        await self.until("all are held", lambda: clients.keys() <= {*self.app1.heard, *self.app2.heard})
        for app in (self.app1, self.app2):
            app.released.set()
            app.released = trio.Event()
        await self.until("all are answered", lambda: all(whole(client.answer) for client in clients.values()))

    async def ask(self, clients: dict[str, Client]) -> None:
        """Each its own, and wait for no answer."""
        for line, client in clients.items():
            self.nursery.start_soon(client.ask, line, b"body" if line.startswith("POST") else b"")

    async def node_dies(self) -> None:
        """Under connections that an edge has placed there."""
        clients = {what: await self.client("web-1") for what in ("idle", "waiting", "asking")}
        self.nursery.start_soon(clients["waiting"].ask, "GET /alone/held")
        await self.until("it waits", lambda: "GET /alone/held" in self.app3.heard)
        await trio.sleep(ACKNOWLEDGED_S)
        self.site.host("web1").unplug()
        self.nursery.start_soon(clients["asking"].ask, "GET /alone/now")
        clients["idle"].answer = b""
        self.nursery.start_soon(clients["idle"].hear)
        self.seen.of_a_dead_node = clients
        await self.soon(lambda: all(client.cut for client in clients.values()))

    async def nobody_reads(self) -> None:
        """The endpoint does not, and a client does not, for a long time."""
        clients = {what: await self.client("web-2") for what in ("endpoint", "client")}
        self.nursery.start_soon(clients["endpoint"].ask, "POST /alone/unread", bytes(BODY_BYTES))
        await clients["client"].say("GET /alone/bulk")
        await self.until("both are under way", lambda: {"POST /alone/unread", "GET /alone/bulk"} <= {*self.app3.heard})
        await trio.sleep(LONG_S)
        self.seen.slow = clients
        self.app3.reads.set()
        self.nursery.start_soon(clients["client"].hear)
        await self.soon(lambda: all(c.cut or whole(c.answer) for c in clients.values()))


async def everything(directory: Path) -> Seen:
    with running_network() as network, trio.fail_after(DEADLINE_S):
        site = Site(network, directory)
        prepare(site)
        site.topology.write_text(TOPOLOGY.format(**{name: site.at(name, APP) for name in ("app1", "app2", "app3")}))
        async with trio.open_nursery() as nursery:
            scene = Scene(site, nursery)
            for app in (scene.app1, scene.app2, scene.app3):
                await nursery.start(app.serve, site)
            site.control("control")
            for name in ("edge", "web1", "web2"):
                site.serve(name)
            await site.until_whole("edge-1", "web-1", "web-2")
            async with trio.open_nursery() as scenes:
                for each in (scene.endpoint_dies, scene.node_dies, scene.nobody_reads):
                    scenes.start_soon(each)
            nursery.cancel_scope.cancel()
        for client in scene.clients:
            await trio.aclose_forcefully(client.stream)
        return scene.seen


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """All of it has happened."""
    return trio.run(everything, tmp_path_factory.mktemp("silent"))


def kind(seen: Seen, method: str, lines: set[str]) -> dict[str, int]:
    """The statuses of those answers."""
    return {line: client.status for line, client in seen.answers.items() if line in lines and line.startswith(method)}


@pytest.mark.parametrize("case", ["received", "unacknowledged"])
def test_what_an_endpoint_takes_with_it_is_answered_by_another_or_said_to_have_failed(seen: Seen, case: str) -> None:
    lost: set[str] = getattr(seen, case)
    gets, posts = kind(seen, "GET", lost), kind(seen, "POST", lost)
    print(f"{case}: {len(gets)} GETs, {len(posts)} POSTs")
    assert gets
    assert posts
    assert gets == dict.fromkeys(gets, 200)
    assert posts == dict.fromkeys(posts, 502)
    for line in gets:
        assert seen.answers[line].answer.endswith(b"app2 0")
    for line in posts:
        assert b" is silent, as if its host were gone\n" in seen.answers[line].answer


def test_what_was_asked_of_the_other_endpoint_is_answered_as_ever(seen: Seen) -> None:
    others = seen.answers.keys() - seen.received - seen.unacknowledged
    assert {client.status for line, client in seen.answers.items() if line in others} == {200}


@pytest.mark.parametrize("what", ["idle", "waiting", "asking"])
def test_a_connection_to_a_node_whose_host_is_gone_is_cut_and_does_not_hang(seen: Seen, what: str) -> None:
    assert seen.of_a_dead_node[what].cut
    assert seen.of_a_dead_node[what].answer == b""


ENDS = {"endpoint": f"app3 {BODY_BYTES}".encode(), "client": bytes(8)}


@pytest.mark.parametrize("what", ENDS)
def test_who_does_not_read_for_a_long_time_is_not_taken_to_be_gone(seen: Seen, what: str) -> None:
    client = seen.slow[what]
    assert (client.status, client.cut) == (200, False)
    assert client.answer.endswith(ENDS[what])
    assert whole(client.answer)
