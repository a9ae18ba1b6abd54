"""Drain means drain, on real clusters: long answers and tunnels last as long as they may, and what is cut is told.

The endpoints are played here, so that an answer takes exactly as long as the test wants it to.
"""

import contextlib
import json
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from scripts.benchmarks.cluster import free_address
from tests.cluster.test_verbs import Site, names, pids

DEADLINE_S = 240.0
POLL_S = 0.05
FILE = """\
cluster: small
admin: {{listen: "{admin}"}}
tiers:
  edge: {{kind: l4, listen: "{edge}", to: web, drain: {drain}}}
  web: {{kind: l7, replicas: 2, to: app, drain: {drain}, trusted_peers: [127.0.0.1/32], timeouts: {{response: 5m}}}}
pools:
  app: {{endpoints: [{endpoints}]}}
"""
SLOW = b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
UPGRADE = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@attrs.define
class Endpoint:
    """Answers at once, but /slow when it is released; an upgrade is echoed."""

    address: str = ""
    heads: list[bytes] = attrs.field(factory=list)
    waiting: int = 0
    connections: int = 0
    release: trio.Event = attrs.field(factory=trio.Event)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        listener, *_ = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.address = "{}:{}".format(*listener.socket.getsockname())
        await trio.serve_listeners(self._converse, [listener], task_status=task_status)

    async def _converse(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        with contextlib.suppress(trio.BrokenResourceError):
            while head := await until_blank_line(stream):
                self.heads.append(head)
                await self._answer(stream, head)
        self.connections -= 1

    async def _answer(self, stream: trio.SocketStream, head: bytes) -> None:
        if head.startswith(b"GET /ws"):
            await stream.send_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
            while data := await stream.receive_some():
                await stream.send_all(data)
            return
        if head.startswith(b"GET /slow"):
            self.waiting += 1
            await self.release.wait()
            self.waiting -= 1
        await stream.send_all(OK)


async def until_blank_line(stream: trio.SocketStream) -> bytes:
    """Up to the end of a head, or nothing if the connection ended."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = await stream.receive_some()
        if not more:
            return b""
        data += more
    return data


@attrs.define
class Cluster:
    """A running cluster in a directory, and the endpoints that are played behind it."""

    site: Site
    endpoints: list[Endpoint]
    nursery: trio.Nursery
    answers: list[bytes] = attrs.field(factory=list)

    async def connects(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(*self.site.address)

    async def asks(self, request: bytes = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") -> bytes:
        """The whole answer, as far as it came."""
        stream, answer = await self.connects(), b""
        async with stream:
            await stream.send_all(request)
            with contextlib.suppress(trio.BrokenResourceError):
                while more := await stream.receive_some():
                    answer += more
        return answer

    async def asks_slowly(self, count: int) -> None:
        """So many requests that wait for their answers, which are kept."""

        async def one() -> None:
            self.answers.append(await self.asks(SLOW))

        for _ in range(count):
            self.nursery.start_soon(one)
        await until(lambda: sum(endpoint.waiting for endpoint in self.endpoints) == count)

    async def upgrades(self) -> trio.SocketStream:
        stream = await self.connects()
        await stream.send_all(UPGRADE)
        assert (await until_blank_line(stream)).startswith(b"HTTP/1.1 101 ")
        return stream

    def releases(self) -> None:
        for endpoint in self.endpoints:
            endpoint.release.set()

    @property
    def log(self) -> str:
        return (self.site.directory / ".tierlb/small/log").read_text()


async def until(condition: object) -> None:
    """Wait for what nothing announces."""
    while not condition():  # type: ignore[operator]  # noqa: ASYNC110
        await trio.sleep(POLL_S)


async def echoes(stream: trio.SocketStream) -> bool:
    try:
        await stream.send_all(b"x")
        return await stream.receive_some() == b"x"
    except trio.BrokenResourceError:
        return False


@contextlib.asynccontextmanager
async def cluster(directory: Path, drain: str = "30s", endpoints: int = 1) -> AsyncIterator[Cluster]:
    """For as long as the block lasts."""
    site = Site(directory, free_address(), free_address())
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            played = [Endpoint() for _ in range(endpoints)]
            for endpoint in played:
                await nursery.start(endpoint.serve)
            listed = ", ".join(endpoint.address for endpoint in played)
            text = FILE.format(admin=site.admin, edge=site.edge, drain=drain, endpoints=listed)
            site.file.write_text(text)
            async with site.up():
                running = Cluster(site, played, nursery)
                yield running
                running.releases()
            nursery.cancel_scope.cancel()


async def test_long_answers_and_tunnels_outlive_a_restart(tmp_path: Path) -> None:
    async with cluster(tmp_path) as running:
        before = pids(await running.site.status(), "web")
        await running.asks_slowly(4)
        tunnels = [await running.upgrades() for _ in range(2)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(running.site.ask, "restart", "web")
            while before & pids(await running.site.status(), "web"):  # noqa: ASYNC110
                await trio.sleep(POLL_S)
            assert (await running.asks()).startswith(b"HTTP/1.1 200 "), "the new processes serve"
            assert [await echoes(tunnel) for tunnel in tunnels] == [True, True]
            running.releases()
            await until(lambda: len(running.answers) == 4)
            for tunnel in tunnels:
                await tunnel.aclose()
        assert [answer[:15] for answer in running.answers] == [b"HTTP/1.1 200 OK"] * 4
    assert "drain_deadline_reached" not in running.log


async def test_what_is_left_at_the_deadline_is_answered_or_cut_and_counted(tmp_path: Path) -> None:
    async with cluster(tmp_path, drain="1s") as running:
        await running.asks_slowly(8)
        tunnels = [await running.upgrades() for _ in range(8)]
        await running.site.ask("scale", "web=1")
        await until(lambda: running.answers)
        running.releases()
        await until(lambda: len(running.answers) == 8)
        assert {answer[9:12] for answer in running.answers} == {b"200", b"503"}
        cut = next(answer for answer in running.answers if answer[9:12] == b"503")
        assert b"Connection: close\r\n" in cut
        assert b"Retry-After: 1\r\n" in cut
        assert {await echoes(tunnel) for tunnel in tunnels} == {True, False}
        for tunnel in tunnels:
            await tunnel.aclose()
        events = [line for line in running.log.splitlines() if "drain_deadline_reached" in line]
        assert len(events) == 1
        said = json.loads(events[0])
        assert (said["node"], said["requests"] > 0, said["tunnels"] > 0) == ("web-2", True, True)


async def test_an_endpoint_is_drained_like_a_node_and_stays_so_after_a_restart(tmp_path: Path) -> None:
    async with cluster(tmp_path, endpoints=2) as running:
        one, two = running.endpoints
        await running.asks_slowly(6)
        assert one.waiting
        assert two.waiting
        said = await running.site.ask("drain", f"app/{one.address}", "--why", "old disk")
        assert "ready → drain: what is under way there finishes" in said
        one.heads.clear()
        answers = [await running.asks() for _ in range(10)]
        assert {answer[:15] for answer in answers} == {b"HTTP/1.1 200 OK"}
        assert one.heads == [], "nothing new"
        assert one.waiting, "and what it has may finish"
        running.releases()
        await until(lambda: len(running.answers) == 6)
        assert {answer[:15] for answer in running.answers} == {b"HTTP/1.1 200 OK"}
        await until(lambda: one.connections == 0)
        assert "old disk" in await running.site.ask("history")
        refused = await running.site.ask("maintenance", f"app/{two.address}", code=2)
        assert "is the last one of pool app that takes anything" in refused
        await running.site.run("down", "small.yaml")
        await running.site.run("up", "small.yaml", "--detach")
        assert {(await running.asks())[:15] for _ in range(6)} == {b"HTTP/1.1 200 OK"}
        assert one.heads == []
        await running.site.ask("ready", f"app/{one.address}")
        await running.site.ask("weight", f"app/{two.address}", "0")
        assert (await running.asks())[:15] == b"HTTP/1.1 200 OK"
        assert len(one.heads) == 1


@pytest.mark.parametrize("kind", ["l7", "l4"])
async def test_a_tier_that_is_put_in_changes_nothing_about_a_request_but_a_hop(tmp_path: Path, kind: str) -> None:
    request = (
        b"GET /a/b?c=d HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Proto: https\r\n"
        b"X-Request-Id: 42\r\nCookie: a=b\r\nConnection: close\r\n\r\n"
    )
    async with cluster(tmp_path) as running:
        await running.asks(request)
        between = ("--kind", kind, "--between", "edge", "web", "--replicas", "2")
        await running.site.ask("tier", "add", "mid", *between)
        assert names(await running.site.status(), "mid") == ["mid-1", "mid-2"]
        await running.asks(request)
        before, after = (fields(head) for head in (running.endpoints[0].heads[0], running.endpoints[0].heads[-1]))
        hops = partial(str.split, sep=", ")
        assert hops(before["x-forwarded-for"]) == ["192.0.2.7", "127.0.0.1"]
        assert hops(after["x-forwarded-for"])[:2] == ["192.0.2.7", "127.0.0.1"]
        assert len(hops(after["x-forwarded-for"])) == (3 if kind == "l7" else 2)
        passing = {"x-forwarded-for", "via"}
        assert {name: value for name, value in after.items() if name not in passing} == {
            name: value for name, value in before.items() if name not in passing
        }


def fields(head: bytes) -> dict[str, str]:
    first, *lines = head.decode().split("\r\n")
    pairs = (line.partition(": ") for line in lines if line)
    return {"": first, **{name.lower(): value for name, _, value in pairs}}
