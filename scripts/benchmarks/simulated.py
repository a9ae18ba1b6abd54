"""All simulated endpoints in one process: one port each, one thread, one epoll set, one heap of services' ends.

`GET /?d=1.25` is a request with that demand, and so is one with the header `work: d=1.25`; a `work` header with JSON
asks for a long request (`items`). All else is answered at once, whatever the endpoint's phase, so that a proxy's
start can be watched. `GET /-/begin/T` says when the run begins (CLOCK_MONOTONIC, which all processes share),
`GET /-/tally` tells what came. With `orca` answers carry the endpoint's own rate and utilisation.

Run as `python -m scripts.benchmarks.simulated PLAN.json`; the plan is what `plan` makes.
"""

import heapq
import itertools
import json
import math
import re
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import attrs

from scripts.benchmarks.bodies import body_of
from scripts.benchmarks.items import LONG, SHORT, Item, item_in
from scripts.benchmarks.parked import Parked
from scripts.benchmarks.station import Endpoint, Mode, Phase, Station, station
from scripts.benchmarks.waiting import no_pauses, percentile, wait

BIN_S = 0.25
"""Arrivals are counted in bins of this length."""
BACKLOG = 4096
DEMAND = re.compile(rb"GET /\?d=([0-9.]+) ")
BEGIN = re.compile(rb"GET /-/begin/([0-9.]+) ")
TALLY = b"GET /-/tally "
HEAD_END = b"\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
OK_ORCA = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
    b"endpoint-load-metrics: TEXT application_utilization=%.4f,rps_fractional=%.2f\r\n\r\nok\n"
)
FAILED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nno\n"


@attrs.frozen
class Tally:
    """What came since the beginning. `arrivals`: short requests by endpoint, by bin of BIN_S. `late_s`: how late
    services ended, 99th percentile. `parked`: the most long requests that an endpoint had at a time."""

    arrivals: list[list[int]]
    longest_queue: list[int]
    late_s: float
    cpu_s: float
    parked: list[int] = attrs.field(factory=list)


def plan(listens: Sequence[str], endpoints: Sequence[Endpoint], orca: bool) -> str:
    """The file that the process reads."""
    each = [{"listen": at, **attrs.asdict(one)} for at, one in zip(listens, endpoints, strict=True)]
    return json.dumps({"endpoints": each, "orca": orca}, default=lambda mode: mode.value)


def read_plan(text: str) -> tuple[list[tuple[str, Endpoint]], bool]:
    """What `plan` wrote."""
    document = json.loads(text)
    return [(each["listen"], _endpoint(each)) for each in document["endpoints"]], document["orca"]


def _endpoint(written: dict[str, Any]) -> Endpoint:
    phases = tuple(Phase(each["from_s"], each["factor"], Mode(each["mode"])) for each in written["phases"])
    return Endpoint(written["mean_s"], written["slots"], phases)


class Connection:
    """A kept-alive connection from a proxy, one request at a time. `long`: the long one that is being served."""

    __slots__ = ("long", "number", "open", "received", "sock", "writable")

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.received = b""
        self.open = True
        self.long: Parked | None = None
        self.writable: Callable[[], None] | None = None


@attrs.frozen(eq=False)
class Occupation:
    """A long request's claim to a slot. `then`: what to call once it has one."""

    connection: Connection
    then: Callable[[], None]


Job = Connection | Occupation
"""A short request is its connection."""


@attrs.frozen
class Hosted:
    """What the process does for the long request of one connection (`parked.Host`)."""

    endpoints: "Endpoints"
    connection: Connection

    def after(self, seconds: float, then: Callable[[], None]) -> None:
        self.endpoints.after(self.connection, seconds, then)

    def occupy(self, seconds: float, then: Callable[[], None]) -> None:
        self.endpoints.occupy(Occupation(self.connection, then), seconds)

    def send(self, data: bytes) -> int:
        return self.endpoints.send(self.connection, data)

    def await_room(self, then: Callable[[], None] | None) -> None:
        self.endpoints.await_room(self.connection, then)

    def done(self) -> None:
        self.endpoints.done(self.connection)


class Endpoints:
    """Serves until killed."""

    def __init__(self, endpoints: Sequence[tuple[str, Endpoint]], orca: bool) -> None:
        self._orca = orca
        self._begin_s = math.inf
        self._stations: list[Station[Job]] = [station(each) for _, each in endpoints]
        self._arrivals: list[list[int]] = [[] for _ in endpoints]
        self._parked = [0] * len(endpoints)
        self._most_parked = [0] * len(endpoints)
        self._late_s: list[float] = []
        self._cpu_s = 0.0
        self._ends: list[tuple[float, int, Job]] = []
        self._timers: list[tuple[float, int, Connection, Callable[[], None]]] = []
        self._sequence = itertools.count()
        self._epoll = select.epoll()
        self._listeners = {}
        self._connections: dict[int, Connection] = {}
        for number, (listen, _) in enumerate(endpoints):
            host, _, port = listen.rpartition(":")
            listener = socket.create_server((host, int(port)), backlog=BACKLOG)
            listener.setblocking(False)
            self._listeners[listener.fileno()] = (listener, number)
            self._epoll.register(listener, select.EPOLLIN)

    def run(self) -> None:
        """Alternate between what is due and what is readable."""
        while True:
            events = wait(self._epoll, self._due_s() - time.monotonic())
            self._end_services()  # first, so that who arrives now finds the slots that are free by now
            self._call_timers()
            for fd, mask in events:
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif fd in self._connections:
                    self._ready(self._connections[fd], mask)

    def _due_s(self) -> float:
        ends_s = self._ends[0][0] if self._ends else math.inf
        return min(ends_s, self._timers[0][0]) if self._timers else ends_s

    def _call_timers(self) -> None:
        now_s = time.monotonic()
        while self._timers and self._timers[0][0] <= now_s:
            _, _, connection, then = heapq.heappop(self._timers)
            if connection.open:
                then()

    def _end_services(self) -> None:
        now_s = time.monotonic()
        while self._ends and self._ends[0][0] <= now_s:
            due_s, _, job = heapq.heappop(self._ends)
            if due_s >= self._begin_s:
                self._late_s.append(now_s - due_s)
            here = self._stations[_connection(job).number]
            # The slot was free when the service was due, not when this process got round to it.
            following = here.finish(due_s - self._zero_s(), _is_open)
            if isinstance(job, Connection):
                self._answer(job, here)
            if following is not None:
                self._serve(following[0], following[1])

    def _zero_s(self) -> float:
        """What stations call second 0; before the beginning is known no phase may have begun."""
        return self._begin_s if self._begin_s < math.inf else time.monotonic() + 1e6

    def _serve(self, job: Job, ends_s: float) -> None:
        """A job has a slot until that second of the run."""
        heapq.heappush(self._ends, (ends_s + self._zero_s(), next(self._sequence), job))
        if isinstance(job, Occupation):
            job.then()

    def after(self, connection: Connection, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` later, unless the connection has ended by then."""
        now_s = time.monotonic()
        factor = self._stations[connection.number].endpoint.phase(now_s - self._zero_s()).factor
        heapq.heappush(self._timers, (now_s + factor * seconds, next(self._sequence), connection, then))

    def occupy(self, job: Occupation, seconds: float) -> None:
        """Put a long request into the endpoint's queue."""
        here = self._stations[job.connection.number]
        ends_s = here.arrive(job, seconds / here.endpoint.mean_s, time.monotonic() - self._zero_s())
        if ends_s is not None:
            self._serve(job, ends_s)

    def await_room(self, connection: Connection, then: Callable[[], None] | None) -> None:
        """Call `then` while the connection takes bytes."""
        if connection.open:
            connection.writable = then
            self._epoll.modify(connection.sock, select.EPOLLIN if then is None else select.EPOLLIN | select.EPOLLOUT)

    def done(self, connection: Connection) -> None:
        """The long request's answer is complete."""
        if connection.long is not None:
            self._parked[connection.number] -= 1
            connection.received, connection.long = connection.long.rest + connection.received, None

    def _answer(self, connection: Connection, here: Station[Job]) -> None:
        if self._orca:
            self.send(connection, OK_ORCA % (here.meter.utilisation, here.meter.rate))
        else:
            self.send(connection, OK)

    def send(self, connection: Connection, answer: bytes) -> int:
        """How many bytes were taken."""
        if connection.open:
            try:
                return connection.sock.send(answer)
            except BlockingIOError:
                return 0
            except OSError:
                self._close(connection)
        return 0

    def _accept(self, listener: socket.socket, number: int) -> None:
        try:
            while True:
                sock, _ = listener.accept()
                sock.setblocking(False)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._connections[sock.fileno()] = Connection(sock, number)
                self._epoll.register(sock, select.EPOLLIN)
        except BlockingIOError:
            return

    def _ready(self, connection: Connection, mask: int) -> None:
        if mask & select.EPOLLOUT and connection.writable is not None:
            connection.writable()
        if mask & ~select.EPOLLOUT and connection.open:
            self._receive(connection)

    def _receive(self, connection: Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close(connection)
            return
        if connection.long is not None:
            connection.long.receive(data)
            return
        connection.received += data
        while connection.long is None and (end := connection.received.find(HEAD_END)) >= 0:
            head, connection.received = connection.received[:end], connection.received[end + len(HEAD_END) :]
            self._request(connection, head)

    def _close(self, connection: Connection) -> None:
        if connection.open:
            self.done(connection)
            connection.open = False
            del self._connections[connection.sock.fileno()]
            connection.sock.close()

    def _request(self, connection: Connection, head: bytes) -> None:
        if demand := DEMAND.match(head):
            self._short(connection, float(demand[1]), counts=True)
        elif demand := SHORT.search(head):
            self._short(connection, float(demand[2]), counts=demand[1] is None)
        elif LONG.search(head) and (item := item_in(head)) is not None:
            self._park(connection, head, item)
        else:
            self._command(connection, head)

    def _short(self, connection: Connection, demand: float, counts: bool) -> None:
        now_s = time.monotonic() - self._zero_s()
        here = self._stations[connection.number]
        if counts:
            self._count(connection.number, now_s)
        mode = here.endpoint.phase(now_s).mode
        if mode is Mode.FAIL:
            self.send(connection, FAILED)
        elif mode is Mode.SERVE and (ends_s := here.arrive(connection, demand, now_s)) is not None:
            self._serve(connection, ends_s)

    def _park(self, connection: Connection, head: bytes, item: Item) -> None:
        number = connection.number
        self._parked[number] += 1
        self._most_parked[number] = max(self._most_parked[number], self._parked[number])
        early, connection.received = connection.received, b""
        connection.long = Parked(Hosted(self, connection), item, number, body_of(head))
        connection.long.begin()
        if early and connection.long is not None:
            connection.long.receive(early)

    def _count(self, number: int, now_s: float) -> None:
        if now_s >= 0:
            bins, place = self._arrivals[number], int(now_s / BIN_S)
            bins.extend([0] * (place + 1 - len(bins)))
            bins[place] += 1

    def _command(self, connection: Connection, head: bytes) -> None:
        if begin := BEGIN.match(head):
            self._begin_s = float(begin[1])
            self._cpu_s = time.process_time()
        if head.startswith(TALLY):
            body = json.dumps(attrs.asdict(self._tally())).encode()
            self.send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            self.send(connection, OK)

    def _tally(self) -> Tally:
        return Tally(
            arrivals=self._arrivals,
            longest_queue=[each.longest_queue for each in self._stations],
            late_s=percentile(self._late_s, 99) if self._late_s else 0.0,
            cpu_s=time.process_time() - self._cpu_s,
            parked=self._most_parked,
        )


def _connection(job: Job) -> Connection:
    return job if isinstance(job, Connection) else job.connection


def _is_open(job: Job) -> bool:
    return _connection(job).open


if __name__ == "__main__":
    no_pauses()
    Endpoints(*read_plan(Path(sys.argv[1]).read_text())).run()
