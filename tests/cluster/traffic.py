"""Clients that ask without pause over kept and fresh connections, and keep a record of every request.

A client first asks a path that no route matches: the 404 names the l7 node that answered. Then it asks for what it came
for. A kept connection does so again and again, a fresh one closes. Each has one request outstanding at all times, so
what a node had in flight when it died can be counted. `Endpoint` is somebody to ask, in this process, as slow as told.
"""

import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import attrs
import trio

from scripts.benchmarks.lost import whole

PATIENCE_S = 20.0
"""For one answer, as a rule."""
ONE_EACH = """\
tiers:
  edge: {{kind: l4, listen: "{listen}", to: [one, two, three]}}
  one: {{kind: l7, routes: [{{match: {{path: /work}}, to: first}}]}}
  two: {{kind: l7, routes: [{{match: {{path: /work}}, to: second}}]}}
  three: {{kind: l7, routes: [{{match: {{path: /work}}, to: third}}]}}
pools:
  first: {{endpoints: ["{first}"]}}
  second: {{endpoints: ["{second}"]}}
  third: {{endpoints: ["{third}"]}}
"""
"""Three l7 nodes below an edge, with an endpoint each: the rest of a topology file after its cluster's name."""
NAMED = re.compile(rb"HTTP/1\.1 404 .*?\r\n\r\n([\w.-]+): ", re.DOTALL)
BACKEND = re.compile(rb"\r\nx-backend: *([^\r]*)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked\r\n.*\r\n0\r\n\r\n\Z", re.IGNORECASE | re.DOTALL)
UNTIL_S = 120.0
"""For what is waited for: machines are busy, and clients that are given a dead node wait for `PATIENCE_S`."""
POLL_S = 0.02
USED = 10
"""Connections that tell that a node is in use: more than probes of one that is believed to be ill."""


@attrs.define(eq=False)
class Request:
    """One request; `node` as far as it is known, `backend` the endpoint if it said its name (as demo backends do),
    `failure` in words or "". `excused`: the node died on it."""

    path: str
    fresh: bool
    begun_s: float
    node: str = ""
    backend: str = ""
    ended_s: float | None = None
    failure: str = ""
    excused: bool = False


class Failed(Exception):  # noqa: N818 (the text is what the record says)
    """No proper answer."""


@attrs.define
class Traffic:
    """`who` is a path that a node answers with its name, `work` what is asked for. `dial`: from where. `patience_s`:
    for one answer."""

    address: tuple[str, int]
    who: str = "/who"
    work: str = "/work?delay=10ms"
    dial: Callable[[str, int], Awaitable[trio.SocketStream]] = trio.open_tcp_stream
    patience_s: float = PATIENCE_S
    requests: list[Request] = attrs.field(factory=list)
    connections: set["Connection"] = attrs.field(factory=set)
    asked_to_leave: Counter[str] = attrs.field(factory=Counter)
    """By node: how many connections it has ended politely."""

    @contextlib.asynccontextmanager
    async def flowing(self, kept: int = 4, fresh: int = 4) -> AsyncIterator["Traffic"]:
        """So many clients of each kind ask for as long as the block lasts; then all get their last answer."""
        ending = trio.Event()
        async with trio.open_nursery() as nursery:
            for number in range(kept + fresh):
                nursery.start_soon(self._ask_on, number >= kept, ending)
            try:
                yield self
            finally:
                ending.set()

    async def visit(self) -> str:
        """One fresh connection; the node that it came to. The record tells if it failed."""
        async with Connection(self, fresh=True) as connection:
            await connection.ask_both()
            return connection.node

    @property
    def failures(self) -> list[str]:
        """Those that nobody's death excuses."""
        return [f"{r.node or '?'} {r.path}: {r.failure}" for r in self.requests if r.failure and not r.excused]

    @property
    def excused(self) -> int:
        """How many failed because a node died."""
        return sum(request.excused for request in self.requests)

    def excuse(self, node: str) -> int:
        """This node is dead now: each of its connections may fail once. How many it may have had."""
        exposed = [connection for connection in self.connections if connection.node in (node, "")]
        for connection in exposed:
            connection.exposed = True
        return len(exposed)

    def reached(self, since_s: float, last: int | None = None) -> Counter[str]:
        """Which nodes the (last) fresh connections of that time came to."""
        named = [r.node for r in self.requests if r.fresh and r.path == self.who and r.begun_s >= since_s and r.node]
        return Counter(named[-last:] if last is not None else named)

    def served_by(self, since_s: float) -> Counter[str]:
        """Which endpoints answered what was asked from then on."""
        return Counter(r.backend for r in self.requests if r.backend and r.begun_s >= since_s)

    async def until(self, what: str, holds: Callable[[], bool], deadline_s: float = UNTIL_S) -> None:
        """Wait while the clients ask."""
        with trio.move_on_after(deadline_s):
            while not holds():  # noqa: ASYNC110 (several parties move; none tells)
                await trio.sleep(POLL_S)
            return
        raise AssertionError(f"not within {deadline_s:g} s: {what}; last reached: {self.reached(0.0, 60)}")

    async def until_used(self, node: str, times: int = USED) -> None:
        """Wait until so many of the fresh connections that begin from now on came to the node. How large its share is
        depends on how busy the machine is, whether it is in use does not."""
        since_s = trio.current_time()
        await self.until(f"{times} fresh connections to {node}", lambda: self.reached(since_s)[node] >= times)

    async def until_share(self, node: str, least: float, most: float = 1.0, of: int = 60) -> None:
        """Wait until the node has that part of the fresh connections that begin from now on."""
        since_s = trio.current_time()

        def holds() -> bool:
            seen = self.reached(since_s, of)
            return seen.total() == of and least <= seen[node] / of <= most

        await self.until(f"{node} has {least:.0%} to {most:.0%} of {of} fresh connections", holds)

    async def _ask_on(self, fresh: bool, ending: trio.Event) -> None:
        while not ending.is_set():
            async with Connection(self, fresh) as connection:
                going = await connection.ask_both()
                while going and not fresh and not ending.is_set():
                    going = await connection.ask_both()
            if not going:
                await trio.sleep(POLL_S)


class Connection:
    """One client connection. What fails is recorded, and ends it."""

    def __init__(self, traffic: Traffic, fresh: bool) -> None:
        self.node = ""
        self.exposed = False
        self._traffic = traffic
        self._fresh = fresh
        self._stream: trio.SocketStream | None = None

    async def __aenter__(self) -> "Connection":
        self._traffic.connections.add(self)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._traffic.connections.discard(self)
        if self._stream is not None:
            await trio.aclose_forcefully(self._stream)

    async def ask_both(self) -> bool:
        """Whether the connection can be used again."""
        return await self._ask(self._traffic.who, b"404") and await self._ask(self._traffic.work, b"200")

    async def _ask(self, path: str, expected: bytes) -> bool:
        record = Request(path, self._fresh, trio.current_time(), self.node)
        self._traffic.requests.append(record)
        answer = b""
        try:
            with trio.fail_after(self._traffic.patience_s):
                answer = await self._exchange(path)
            if not answer.startswith(b"HTTP/1.1 " + expected):
                raise Failed(repr(answer[-70:]))
        except (Failed, OSError, trio.BrokenResourceError, trio.TooSlowError) as problem:
            record.failure = str(problem.__cause__ or problem) or type(problem).__name__
            record.excused = self.exposed
        record.ended_s = trio.current_time()
        if backend := BACKEND.search(answer):
            record.backend = backend[1].decode()
        if named := NAMED.match(answer):
            record.node = self.node = named[1].decode()
        if b"\r\nconnection: close\r\n" in answer.lower():
            self._traffic.asked_to_leave[self.node] += 1
            return False
        return not record.failure

    async def _exchange(self, path: str) -> bytes:
        if self._stream is None:
            self._stream = await self._traffic.dial(*self._traffic.address)
        await self._stream.send_all(f"GET {path} HTTP/1.1\r\nHost: ladder\r\n\r\n".encode())
        answer = b""
        while not (whole(answer) or CHUNKED.search(answer)):
            data = await self._stream.receive_some()
            if not data:
                raise Failed("closed without an answer" if not answer else "cut in the middle")
            answer += data
        return answer


@attrs.define
class Endpoint:
    """Answers each request after `takes_s`. It may be served again, at the same address."""

    address: str = "127.0.0.1:0"
    takes_s: float = 0.01
    answered: int = 0
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)

    async def serve(self, *, task_status: trio.TaskStatus[None]) -> None:
        """Until `scope` is cancelled; `address` is known when this has started."""
        self.scope = trio.CancelScope()
        with self.scope:
            async with trio.open_nursery() as nursery:
                host, _, port = self.address.rpartition(":")
                listeners = await nursery.start(partial(trio.serve_tcp, self._answer, int(port), host=host))
                self.address = f"{host}:{listeners[0].socket.getsockname()[1]}"
                task_status.started()

    async def _answer(self, stream: trio.SocketStream) -> None:
        received = b""
        with contextlib.suppress(trio.BrokenResourceError):
            async with stream:
                while data := await stream.receive_some():
                    received += data
                    while b"\r\n\r\n" in received:
                        _, _, received = received.partition(b"\r\n\r\n")
                        await trio.sleep(self.takes_s)
                        self.answered += 1
                        await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n")
