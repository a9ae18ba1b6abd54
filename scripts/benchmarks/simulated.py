"""All simulated endpoints in one process: one port each, one thread, one epoll set, one heap of services' ends.

`GET /?d=1.25` is a request with that demand; any other path is answered at once, whatever the endpoint's phase, so that
a proxy's start can be watched. `GET /-/begin/T` says when the run begins (CLOCK_MONOTONIC, which all processes
share), `GET /-/tally` tells what came. With `orca` answers carry the endpoint's own rate and utilisation.

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
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

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
    """What came since the beginning. `arrivals`: by endpoint, by bin of BIN_S. `late_s`: how late services ended,
    99th percentile."""

    arrivals: list[list[int]]
    longest_queue: list[int]
    late_s: float
    cpu_s: float


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
    """A kept-alive connection from a proxy, one request at a time."""

    __slots__ = ("number", "open", "received", "sock")

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self.received = b""
        self.open = True


class Endpoints:
    """Serves until killed."""

    def __init__(self, endpoints: Sequence[tuple[str, Endpoint]], orca: bool) -> None:
        self._orca = orca
        self._begin_s = math.inf
        self._stations: list[Station[Connection]] = [station(each) for _, each in endpoints]
        self._arrivals: list[list[int]] = [[] for _ in endpoints]
        self._late_s: list[float] = []
        self._cpu_s = 0.0
        self._ends: list[tuple[float, int, Connection]] = []
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
            due_s = self._ends[0][0] if self._ends else math.inf
            events = wait(self._epoll, due_s - time.monotonic())
            self._end_services()  # first, so that who arrives now finds the slots that are free by now
            for fd, _ in events:
                if fd in self._listeners:
                    self._accept(*self._listeners[fd])
                elif fd in self._connections:
                    self._receive(self._connections[fd])

    def _end_services(self) -> None:
        now_s = time.monotonic()
        while self._ends and self._ends[0][0] <= now_s:
            due_s, _, connection = heapq.heappop(self._ends)
            if due_s >= self._begin_s:
                self._late_s.append(now_s - due_s)
            here = self._stations[connection.number]
            # The slot was free when the service was due, not when this process got round to it.
            following = here.finish(due_s - self._zero_s(), _is_open)
            self._answer(connection, here)
            if following is not None:
                self._schedule(following[0], following[1] + self._zero_s())

    def _zero_s(self) -> float:
        """What stations call second 0; before the beginning is known no phase may have begun."""
        return self._begin_s if self._begin_s < math.inf else time.monotonic() + 1e6

    def _schedule(self, connection: Connection, due_s: float) -> None:
        heapq.heappush(self._ends, (due_s, next(self._sequence), connection))

    def _answer(self, connection: Connection, here: Station[Connection]) -> None:
        if self._orca:
            self._send(connection, OK_ORCA % (here.meter.utilisation, here.meter.rate))
        else:
            self._send(connection, OK)

    def _send(self, connection: Connection, answer: bytes) -> None:
        if connection.open:
            try:
                connection.sock.send(answer)
            except OSError:
                self._close(connection)

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
        connection.received += data
        while (end := connection.received.find(HEAD_END)) >= 0:
            head, connection.received = connection.received[:end], connection.received[end + len(HEAD_END) :]
            self._request(connection, head)

    def _close(self, connection: Connection) -> None:
        if connection.open:
            connection.open = False
            del self._connections[connection.sock.fileno()]
            connection.sock.close()

    def _request(self, connection: Connection, head: bytes) -> None:
        demand = DEMAND.match(head)
        if demand is None:
            self._command(connection, head)
            return
        now_s = time.monotonic() - self._zero_s()
        here = self._stations[connection.number]
        self._count(connection.number, now_s)
        mode = here.endpoint.phase(now_s).mode
        if mode is Mode.FAIL:
            self._send(connection, FAILED)
        elif mode is Mode.SERVE and (ends_s := here.arrive(connection, float(demand[1]), now_s)) is not None:
            self._schedule(connection, ends_s + self._zero_s())

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
            self._send(connection, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
        else:
            self._send(connection, OK)

    def _tally(self) -> Tally:
        return Tally(
            arrivals=self._arrivals,
            longest_queue=[each.longest_queue for each in self._stations],
            late_s=percentile(self._late_s, 99) if self._late_s else 0.0,
            cpu_s=time.process_time() - self._cpu_s,
        )


def _is_open(connection: Connection) -> bool:
    return connection.open


if __name__ == "__main__":
    no_pauses()
    Endpoints(*read_plan(Path(sys.argv[1]).read_text())).run()
