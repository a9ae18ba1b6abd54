"""Nothing lost: requests through edge → 3 l7 nodes → 4 endpoints while one l7 node is killed with SIGKILL.

Every connection has one request outstanding, so what may be lost is counted, not estimated: at most one
request for each connection that was open when the node died and that it held. Most connections are kept alive
for the whole run, a few *visitors* are opened afresh every few requests; those must not notice that a node
is missing. A connection learns its node from its first request, which no route matches: the 404 names it.
"""

import contextlib
import os
import re
import select
import shlex
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import click
import trio

from scripts.benchmarks.cluster import Cluster, ClusterFailed, free_address, running_cluster

COMMAND = shlex.join((sys.executable, str(Path(__file__).with_name("endpoint.py")), "{port}"))
TIER = "web"
KEPT = 32
VISITORS = 4
REQUESTS_PER_VISIT = 10
CONNECT_S = 5.0
DEATH_S = 5.0
RETURN_S = 15.0
SILENCE_S = 10.0
"""Nothing at all was answered for so long: the run has hung."""
PROBES = 60
MOST_FAILURES = 1000
"""By then it is plain what the result is."""
WHO = b"GET /who HTTP/1.1\r\nHost: lost\r\n\r\n"
WORK = b"GET /work HTTP/1.1\r\nHost: lost\r\n\r\n"
NAMED = re.compile(rb"HTTP/1\.1 404 .*?\r\n\r\n([\w.-]+): ", re.DOTALL)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CLOSES = re.compile(rb"^connection: close\r$", re.IGNORECASE | re.MULTILINE)
"""A node may ask a client to come back by another connection; who sends on regardless is not answered."""


@attrs.frozen
class Failure:
    """A request without a proper answer. `excused`: its connection may have been the dying victim's."""

    node: str | None
    what: str
    excused: bool


@attrs.frozen
class Outcome:
    """What happened. `in_flight`: requests outstanding on the victim's connections at its death."""

    requests: int
    succeeded: int
    failures: tuple[Failure, ...]
    victim: str
    in_flight: int
    opened_after_death: int
    longest_wait_s: float
    seconds: float
    served_by: dict[str, int]
    away_s: float
    back: bool

    @property
    def problems(self) -> list[str]:
        """What must not be; empty when nothing was lost that need not be."""
        unexcused = [f"{f.node}: {f.what}" for f in self.failures if not f.excused]
        found = []
        if unexcused:
            found.append(f"{len(unexcused)} failed that were not in flight on {self.victim}: {unexcused[:5]}")
        if len(self.failures) > self.in_flight:
            found.append(f"{len(self.failures)} failed, {self.in_flight} were in flight on {self.victim}")
        if self.succeeded + len(self.failures) < self.requests:
            found.append(f"only {self.succeeded} + {len(self.failures)} of {self.requests} ended")
        if not self.back:
            found.append(f"{self.victim} did not serve again within {RETURN_S:g} s and {PROBES} connections")
        return found


@attrs.define(eq=False)
class Connection:
    """One client connection, always with one request outstanding; `left` is None for a kept one."""

    sock: socket.socket
    left: int | None
    node: str | None = None
    received: bytes = b""
    sent_at_s: float = 0.0
    exposed: bool = False

    def ask(self, request: bytes) -> None:
        """Send a request. One that cannot be sent is noticed when its answer is read."""
        self.sent_at_s = time.monotonic()
        with contextlib.suppress(OSError):
            self.sock.send(request)


@attrs.define
class Load:
    """All connections in one epoll set. At half of the requests `on_half` is called, once."""

    address: tuple[str, int]
    requests: int
    on_half: Callable[[list[Connection]], None]
    succeeded: int = 0
    failures: list[Failure] = attrs.field(factory=list)
    served_by: Counter[str] = attrs.field(factory=Counter)
    longest_wait_s: float = 0.0
    opened: int = 0
    seen_at_s: dict[str, float] = attrs.field(factory=dict)
    _begun: int = 0
    _open: dict[int, Connection] = attrs.field(factory=dict)
    _epoll: select.epoll = attrs.field(factory=select.epoll)

    def run(self, kept: int = KEPT, visitors: int = VISITORS) -> None:
        """Until all requests have ended. Raises TimeoutError if nothing moves."""
        for number in range(kept + visitors):
            self._connect(None if number < kept else REQUESTS_PER_VISIT)
        half = self.requests // 2
        while self._open:
            events = self._epoll.poll(SILENCE_S)
            if not events:
                raise TimeoutError(f"{len(self._open)} requests are not answered after {SILENCE_S:g} s")
            for fd, _ in events:
                self._read(self._open[fd])
            if half and self.succeeded >= half:
                half = 0
                self.on_half(list(self._open.values()))
        self._epoll.close()

    def _connect(self, left: int | None) -> None:
        sock = socket.create_connection(self.address, CONNECT_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self._open[sock.fileno()] = connection = Connection(sock, left)
        self._epoll.register(sock, select.EPOLLIN)
        self.opened += 1
        connection.ask(WHO)

    def _read(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(16384)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(connection, error.strerror or repr(error))
            return
        if not data:
            self._failed(connection, "closed without an answer")
            return
        connection.received += data
        if whole(connection.received):
            self._answered(connection)

    def _answered(self, connection: Connection) -> None:
        answer, connection.received = connection.received, b""
        self.longest_wait_s = max(self.longest_wait_s, time.monotonic() - connection.sent_at_s)
        if connection.node is None:
            named = NAMED.match(answer)
            if named is None:
                self._failed(connection, repr(answer[:80]))
                return
            connection.node = named[1].decode()
            self.seen_at_s.setdefault(connection.node, time.monotonic())
        elif answer.startswith(b"HTTP/1.1 200 "):
            self.succeeded += 1
            self.served_by[connection.node] += 1
        else:
            self._failed(connection, repr(answer[:80]))
            return
        self._next(connection, stays=CLOSES.search(answer) is None)

    def _next(self, connection: Connection, *, stays: bool) -> None:
        if connection.left == 0:
            self._close(connection)
            self._connect(REQUESTS_PER_VISIT)
        elif not stays and self._begun < self.requests:
            self._close(connection)
            self._connect(connection.left)
        elif self._begun < self.requests:
            self._begun += 1
            if connection.left is not None:
                connection.left -= 1
            connection.ask(WORK)
        else:
            self._close(connection)

    def _failed(self, connection: Connection, what: str) -> None:
        self.failures.append(Failure(connection.node, what, connection.exposed))
        if len(self.failures) > MOST_FAILURES:
            raise TimeoutError(f"{len(self.failures)} failures, the latest: {self.failures[-1]}")
        self._close(connection)
        self._connect(None if connection.left is None else REQUESTS_PER_VISIT)

    def _close(self, connection: Connection) -> None:
        del self._open[connection.sock.fileno()]
        connection.sock.close()


def whole(answer: bytes) -> bool:
    """Whether these bytes are a complete answer with a Content-Length."""
    end = answer.find(b"\r\n\r\n")
    length = LENGTH.search(answer)
    return end >= 0 and length is not None and len(answer) >= end + 4 + int(length[1])


def topology(listen: str, admin: str) -> str:
    """The cluster under test. What is not /work matches no route, so the node's own 404 names it."""
    return f"""\
cluster: lost
admin: {{listen: {admin}}}
tiers:
  edge: {{kind: l4, listen: "{listen}", to: {TIER}}}
  {TIER}:
    kind: l7
    replicas: 3
    routes:
      - {{match: {{path: /work}}, to: app}}
pools:
  app: {{run: {{command: "{COMMAND}", replicas: 4}}}}
"""


def measure(requests: int, directory: Path) -> Outcome:
    """Start the cluster, load it, kill a node halfway. Raises ClusterFailed, TimeoutError or OSError."""
    listen, admin = free_address(), free_address()
    host, _, port = listen.rpartition(":")
    with running_cluster(topology(listen, admin), admin, directory) as cluster:
        return _lose_one((host, int(port)), cluster, requests)


def _lose_one(address: tuple[str, int], cluster: Cluster, requests: int) -> Outcome:
    victim, node = sorted(cluster.nodes(TIER).items())[1]
    in_flight, opened_before, died_at_s = 0, 0, 0.0

    def kill_victim(connections: list[Connection]) -> None:
        nonlocal in_flight, opened_before, died_at_s
        kill(node["pid"])
        died_at_s = time.monotonic()
        for connection in connections:
            connection.exposed = connection.node in (victim, None)
        in_flight = sum(connection.exposed for connection in connections)
        opened_before = load.opened
        load.seen_at_s.clear()

    load = Load(address, requests, kill_victim)
    begun_s = time.monotonic()
    load.run()
    seconds = time.monotonic() - begun_s

    def is_back() -> bool:
        now = cluster.nodes(TIER)[victim]
        return now["state"] == "serving" and now["pid"] != node["pid"]

    trio.run(cluster.wait_until, f"{victim} is back", is_back, RETURN_S)
    back = victim in nodes_reached(address)
    return Outcome(
        requests=requests,
        succeeded=load.succeeded,
        failures=tuple(load.failures),
        victim=victim,
        in_flight=in_flight,
        opened_after_death=load.opened - opened_before,
        longest_wait_s=load.longest_wait_s,
        seconds=seconds,
        served_by=dict(load.served_by),
        away_s=load.seen_at_s.get(victim, time.monotonic()) - died_at_s,
        back=back,
    )


def nodes_reached(address: tuple[str, int]) -> Iterator[str]:
    """The nodes that fresh connections, held open together, come to."""
    with contextlib.ExitStack() as held:
        for _ in range(PROBES):
            sock = held.enter_context(socket.create_connection(address, CONNECT_S))
            sock.sendall(WHO)
            answer = b""
            while not whole(answer):
                data = sock.recv(16384)
                if not data:
                    return
                answer += data
            if named := NAMED.match(answer):
                yield named[1].decode()


def kill(pid: int) -> None:
    """SIGKILL a process and return when it is dead and its sockets are closed."""
    handle = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(handle, signal.SIGKILL)
        if not select.select([handle], [], [], DEATH_S)[0]:
            raise TimeoutError(f"process {pid} is not dead {DEATH_S:g} s after SIGKILL")
    finally:
        os.close(handle)


def report(outcome: Outcome) -> str:
    """The counts, for a person."""
    failed = Counter(f"{f.node or 'not known yet'}: {f.what}" for f in outcome.failures)
    per_second = outcome.requests / outcome.seconds
    lines = [
        f"{outcome.succeeded} of {outcome.requests} requests succeeded, {len(outcome.failures)} failed "
        f"({outcome.seconds:.1f} s, {per_second:.0f}/s, longest wait {outcome.longest_wait_s * 1000:.0f} ms)",
        f"  killed: {outcome.victim} with {outcome.in_flight} requests in flight; it served again after "
        f"{outcome.away_s:.2f} s; {outcome.opened_after_death} connections were opened after its death",
        *(f"  failed on {what} × {count}" for what, count in failed.most_common(10)),
        "  served by " + ", ".join(f"{name} {count}" for name, count in sorted(outcome.served_by.items())),
    ]
    return "\n".join((*lines, *(f"  WRONG: {problem}" for problem in outcome.problems)))


@click.command(help=(__doc__ or "").partition("\n")[0])
@click.option("--requests", type=click.IntRange(100), default=100_000, show_default=True)
def main(requests: int) -> None:
    """Print the counts; exit code 1 if a request was lost that need not be."""
    with tempfile.TemporaryDirectory(prefix="tierlb-lost-") as directory:
        try:
            outcome = measure(requests, Path(directory))
        except (ClusterFailed, OSError) as error:
            raise click.ClickException(str(error)) from error
    click.echo(report(outcome))
    sys.exit(bool(outcome.problems))


if __name__ == "__main__":
    main()
