"""An open-loop generator: requests leave when the schedule says so, whatever became of those before.

Latency counts from the intended time, so what waits for a connection waits visibly (no coordinated omission). A
*lane* is a set of at most `most` kept-alive connections to one target: a pool for a crowd, or a single one for
a client that waits for each answer. A client reconnects when it was told `Connection: close` or when its idle
connection ended; neither is an error. It measures itself: how late it noticed that a request was due.

Run as `python -m scripts.benchmarks.openloop PLAN.json RESULT.json`; the files are attrs classes as JSON.
"""

import collections
import json
import select
import socket
import ssl
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import attrs

from scripts.benchmarks.answers import read_answer, status_at_end
from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.handshakes import client_context
from scripts.benchmarks.waiting import no_pauses, percentile, wait

HANDSHAKE_S = 5.0
UNANSWERED = -1
"""The status of a request that had no answer when patience or the run ended."""
HANDSHAKE_S = 5.0
CUT = 0
"""The status of a request whose connection was refused, or ended before its answer."""
IDLE = -1
NUMBER = "{number}"
"""In header lines: which request it is, from 0."""
DEMAND = "{demand}"
"""In request and header lines: how much work the request asks for."""
LINE = f"GET /?d={DEMAND}"
CONNECT_ENDED = select.EPOLLOUT | select.EPOLLERR


@attrs.frozen
class Lane:
    """At most `most` connections to `target` (`host:port`). `line` and `fields` are how its requests begin: method and
    path, and header lines, each with its end."""

    target: str
    most: int
    line: str = LINE
    fields: str = ""


@attrs.frozen
class Plan:
    """`begin_s`: CLOCK_MONOTONIC at second 0. `drain_s`: how long after the last request answers are waited for.

    `fields`: further header lines of every lane. `tls`: connections speak it, whatever the certificate. A handshake
    holds the schedule up, so it suits lanes that are open before what is to be measured.
    """

    begin_s: float
    drain_s: float
    patience_s: float
    lanes: tuple[Lane, ...]
    requests: tuple[Request, ...]
    fields: str = ""
    tls: bool = False


@attrs.frozen
class Result:
    """`latency_s` and `status` by request; of an unanswered one how long it had waited when it was given up.

    `late_s`: how late the schedule was noticed, 99th percentile. `waited`: requests that found no free connection
    in their lane. `reconnected`: connections opened to replace one that the other side ended between requests.
    """

    latency_s: list[float]
    status: list[int]
    late_s: float
    waited: int
    connections: int
    reconnected: int
    cpu_s: float


def dump(plan: Plan) -> str:
    """The plan as JSON; requests as bare rows, as there are many."""
    document = attrs.asdict(plan, filter=lambda field, _: field.name != "requests")
    return json.dumps({**document, "requests": [attrs.astuple(each) for each in plan.requests]})


def read_plan(text: str) -> Plan:
    """What `dump` wrote."""
    document = json.loads(text)
    lanes = tuple(Lane(**each) for each in document.pop("lanes"))
    requests = tuple(Request(*row) for row in document.pop("requests"))
    return Plan(**document, lanes=lanes, requests=requests)


def head(number: int, request: Request, fields: str, line: str = LINE) -> bytes:
    """What is sent for a request."""
    text = f"{line} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n"
    return text.replace(NUMBER, str(number)).replace(DEMAND, f"{request.demand:.6f}").encode()


class Connection:
    """One socket of a lane. `request`: the number of the one in flight, or IDLE."""

    __slots__ = ("connected", "lane", "received", "request", "sock")

    def __init__(self, sock: socket.socket, lane: "OpenLane", request: int) -> None:
        self.sock = sock
        self.lane = lane
        self.request = request
        self.connected = False
        self.received = b""


class OpenLane:
    """A lane's connections and the requests that wait for one."""

    __slots__ = ("address", "idle", "most", "open", "waiting")

    def __init__(self, lane: Lane) -> None:
        host, _, port = lane.target.rpartition(":")
        self.address = (host, int(port))
        self.most = lane.most
        self.open = 0
        self.idle: list[Connection] = []
        self.waiting: collections.deque[int] = collections.deque()


class Generator:
    """Carries out one plan."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._tls = client_context() if plan.tls else None
        self._lanes = [OpenLane(each) for each in plan.lanes]
        self._bytes = [self._head(number, each) for number, each in enumerate(plan.requests)]
        self._at_s = [each.at_s for each in plan.requests]
        self._latency_s: list[float | None] = [None] * len(plan.requests)
        self._status = [UNANSWERED] * len(plan.requests)
        self._carrier: list[Connection | None] = [None] * len(plan.requests)
        self._late_s: list[float] = []
        self._next = self._oldest = self._open_now = self._most_open = self._waited = self._reconnected = 0
        self._by_fd: dict[int, Connection] = {}
        self._epoll = select.epoll()

    def _head(self, number: int, request: Request) -> bytes:
        lane = self._plan.lanes[request.lane]
        return head(number, request, self._plan.fields + lane.fields, lane.line)

    def run(self) -> Result:
        """Return when everything is answered or given up."""
        count = len(self._at_s)
        end_s = (self._at_s[-1] if count else 0.0) + self._plan.drain_s
        wait(self._epoll, self._plan.begin_s - time.monotonic())
        before_s = time.process_time()
        while self._oldest < count and (now_s := self._now_s()) < end_s:
            self._send_due(now_s)
            self._give_up(now_s)
            for fd, mask in wait(self._epoll, self._next_s(end_s) - self._now_s()):
                if fd in self._by_fd:
                    self._ready(self._by_fd[fd], mask)
        return self._result(self._now_s(), time.process_time() - before_s)

    def close(self) -> None:
        """End what connections are left."""
        for connection in self._by_fd.values():
            connection.sock.close()
        self._by_fd.clear()
        self._epoll.close()

    def _next_s(self, end_s: float) -> float:
        """When there is something to do even if nothing comes."""
        sends_s = self._at_s[self._next] if self._next < len(self._at_s) else end_s
        gives_up_s = self._at_s[self._oldest] + self._plan.patience_s if self._oldest < self._next else end_s
        return min(sends_s, gives_up_s, end_s)

    def _now_s(self) -> float:
        return time.monotonic() - self._plan.begin_s

    def _send_due(self, now_s: float) -> None:
        while self._next < len(self._at_s) and self._at_s[self._next] <= now_s:
            self._late_s.append(now_s - self._at_s[self._next])
            self._launch(self._next, self._lanes[self._plan.requests[self._next].lane])
            self._next += 1

    def _give_up(self, now_s: float) -> None:
        """Requests are in order of time, so those whose patience has ended are the oldest ones."""
        while self._oldest < self._next:
            number = self._oldest
            if self._latency_s[number] is None:
                if now_s - self._at_s[number] < self._plan.patience_s:
                    return
                self._latency_s[number] = now_s - self._at_s[number]
                if (carrier := self._carrier[number]) is not None:
                    self._close(carrier)
            self._oldest += 1

    def _launch(self, number: int, lane: OpenLane) -> None:
        if lane.idle:
            self._send(lane.idle.pop(), number)
        elif lane.open < lane.most:
            self._open(lane, number)
        else:
            self._waited += 1
            lane.waiting.append(number)

    def _open(self, lane: OpenLane, number: int) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, lane, number)
        self._carrier[number] = connection
        lane.open += 1
        self._open_now += 1
        self._most_open = max(self._most_open, self._open_now)
        self._by_fd[sock.fileno()] = connection
        sock.connect_ex(lane.address)
        self._epoll.register(sock, select.EPOLLOUT)

    def _send(self, connection: Connection, number: int) -> None:
        connection.request = number
        self._carrier[number] = connection
        try:
            connection.sock.send(self._bytes[number])
        except OSError:
            self._ended(connection)

    def _ready(self, connection: Connection, mask: int) -> None:
        if not connection.connected:
            if mask & CONNECT_ENDED:  # else it is of an earlier socket with this number, closed in this batch
                self._connected(connection)
            return
        try:
            data = connection.sock.recv(65536)
        except (BlockingIOError, ssl.SSLWantReadError):
            return
        except OSError:
            data = b""
        if not data:
            self._ended(connection)
            return
        connection.received += data
        self._read(connection)

    def _connected(self, connection: Connection) -> None:
        if connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._ended(connection)
            return
        connection.connected = True
        if self._tls is not None and not self._secure(connection, self._tls):
            self._ended(connection)
            return
        self._epoll.modify(connection.sock, select.EPOLLIN)
        self._send(connection, connection.request)

    def _secure(self, connection: Connection, context: ssl.SSLContext) -> bool:
        """Whether the handshake came about. The descriptor stays the same."""
        connection.sock.settimeout(HANDSHAKE_S)
        try:
            connection.sock = context.wrap_socket(connection.sock, server_hostname="shop.test")
        except OSError:
            return False
        connection.sock.setblocking(False)
        return True

    def _read(self, connection: Connection) -> None:
        if connection.request == IDLE:  # such as a 408 that announces the end of an idle connection
            self._close(connection)
            return
        try:
            answer = read_answer(connection.received)
        except ValueError:
            self._ended(connection)
            return
        if answer is None or not answer.complete:
            return
        self._done(connection.request, answer.status)
        connection.received, connection.request = b"", IDLE
        if answer.stays:
            self._free(connection)
        else:
            self._reconnected += 1
            self._close(connection)

    def _done(self, number: int, status: int) -> None:
        self._latency_s[number] = self._now_s() - self._at_s[number]
        self._status[number] = status

    def _free(self, connection: Connection) -> None:
        number = self._waiting(connection.lane)
        if number is None:
            connection.lane.idle.append(connection)
        else:
            self._send(connection, number)

    def _waiting(self, lane: OpenLane) -> int | None:
        """The next one that still waits."""
        while lane.waiting:
            number = lane.waiting.popleft()
            if self._latency_s[number] is None:
                return number
        return None

    def _ended(self, connection: Connection) -> None:
        """The other side ended the connection, or refused it."""
        number = connection.request
        if number == IDLE:
            self._reconnected += 1
        elif self._latency_s[number] is None:
            self._done(number, status_at_end(connection.received) or CUT)
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        lane = connection.lane
        if connection in lane.idle:
            lane.idle.remove(connection)
        lane.open -= 1
        self._open_now -= 1
        del self._by_fd[connection.sock.fileno()]
        connection.sock.close()
        if (number := self._waiting(lane)) is not None:
            self._open(lane, number)

    def _result(self, now_s: float, cpu_s: float) -> Result:
        given_up = [now_s - at_s for at_s in self._at_s]
        return Result(
            latency_s=[mine if each is None else each for each, mine in zip(self._latency_s, given_up, strict=True)],
            status=self._status,
            late_s=percentile(self._late_s, 99) if self._late_s else 0.0,
            waited=self._waited,
            connections=self._most_open,
            reconnected=self._reconnected,
            cpu_s=cpu_s,
        )


def main(arguments: Sequence[str]) -> None:
    """Read the plan, carry it out, write the result."""
    source, target = map(Path, arguments)
    generator = Generator(read_plan(source.read_text()))
    no_pauses()
    target.write_text(json.dumps(attrs.asdict(generator.run())))


if __name__ == "__main__":
    main(sys.argv[1:])
