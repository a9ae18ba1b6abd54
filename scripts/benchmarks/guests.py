"""The clients of long requests: a task each, closed loop, one kept connection; they read and send as slowly as asked.

They are a process of their own, so that none of their work delays the generator of the short requests. A client
sends its next request as soon as the last one is answered; after an error it waits a moment and connects again.

Run as `python -m scripts.benchmarks.guests PLAN.json RESULT.json`.
"""

import itertools
import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from scripts.benchmarks.bodies import Body, body_of, chunk
from scripts.benchmarks.items import Guest, Item, dump, read_guests, request_head
from scripts.benchmarks.waiting import no_pauses

HEAD_END = b"\r\n\r\n"
LARGEST_HEAD_BYTES = 16_384
BLOCK_BYTES = 65_536
SLOW_READ_BYTES = 16_384
"""What a slow client reads at a time, and its receive buffer: what it has not read must wait at the sender."""
SENDS_PER_S = 10
"""A slow sender sends a tenth of its rate this often."""
PAUSE_S = 0.2
"""After an error."""


@attrs.frozen
class Plan:
    """`begin_s`: CLOCK_MONOTONIC at second 0. `until_s`: when all clients go, whatever they wait for."""

    begin_s: float
    until_s: float
    target: str
    guests: tuple[Guest, ...]


@attrs.define
class Visits:
    """What became of the long requests. `begun` includes those that were not over at the end. `errors`: cut off,
    refused, or not answered with 200. `messages`: those that came back of streams in both directions."""

    begun: int = 0
    done: int = 0
    errors: int = 0
    received_bytes: int = 0
    messages: int = 0
    cpu_s: float = 0.0
    first_problem: str = ""


def dump_plan(plan: Plan) -> str:
    """The plan as JSON."""
    return json.dumps({**attrs.asdict(plan, recurse=False), "guests": dump(plan.guests)})


def read_plan(text: str) -> Plan:
    """What `dump_plan` wrote."""
    document: dict[str, Any] = json.loads(text)
    return Plan(**{**document, "guests": read_guests(document["guests"])})


class Client:
    """One guest and its connection."""

    def __init__(self, guest: Guest, plan: Plan, visits: Visits) -> None:
        self._guest = guest
        self._plan = plan
        self._visits = visits
        self._sock: trio.socket.SocketType | None = None

    async def run(self) -> None:
        """Send requests until cancelled."""
        await trio.sleep(max(0.0, self._plan.begin_s + self._guest.at_s - time.monotonic()))
        try:
            for item in itertools.cycle(self._guest.items):
                await self._attempt(item)
        finally:
            self.leave()

    async def _attempt(self, item: Item) -> None:
        self._visits.begun += 1
        try:
            stays = await self.visit(item)
        except (OSError, ValueError) as error:
            self._visits.errors += 1
            self._visits.first_problem = self._visits.first_problem or f"{type(error).__name__}: {error}"
            stays = False
            await trio.sleep(PAUSE_S)
        if not stays:
            self.leave()

    def leave(self) -> None:
        """Close the connection, if there is one."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    async def visit(self, item: Item) -> bool:
        """One request; whether the connection stays. Raises OSError or ValueError if the answer is no whole 200."""
        sock = self._sock = self._sock or await self._connect(item)
        await _send_all(sock, request_head(self._guest, item))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_send_body, sock, item)
            try:
                stays = await self._read_answer(sock, item)
            except (OSError, ValueError) as error:
                nursery.cancel_scope.cancel()
                problem: Exception | None = error
            else:
                problem = None
        if problem is not None:
            raise problem
        self._visits.done += 1
        return stays

    async def _connect(self, item: Item) -> trio.socket.SocketType:
        host, _, port = self._plan.target.rpartition(":")
        sock = trio.socket.socket()
        if item.read_per_s:
            sock.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, SLOW_READ_BYTES)
        sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        try:
            await sock.connect((host, int(port)))
        except OSError:
            sock.close()
            raise
        return sock

    async def _read_answer(self, sock: trio.socket.SocketType, item: Item) -> bool:
        received = b""
        while HEAD_END not in received:
            if len(received) > LARGEST_HEAD_BYTES:
                raise ValueError("a head without end")
            received += await _receive(sock, BLOCK_BYTES)
        head, _, rest = received.partition(HEAD_END)
        if int(head[9:12]) != 200:
            raise ValueError(f"status {head[9:12].decode()}")
        await self._read_body(sock, item, body_of(head), rest)
        return b"\r\nconnection: close" not in head.lower()

    async def _read_body(self, sock: trio.socket.SocketType, item: Item, body: Body, data: bytes) -> None:
        while True:
            payload = body.feed(data)
            self._visits.received_bytes += len(payload)
            if item.messages:
                self._visits.messages += len(payload) // item.message_bytes
            if body.ended:
                return
            if item.read_per_s:
                await trio.sleep(len(data) / item.read_per_s)
            data = await _receive(sock, SLOW_READ_BYTES if item.read_per_s else BLOCK_BYTES)


async def _receive(sock: trio.socket.SocketType, most: int) -> bytes:
    data = await sock.recv(most)
    if not data:
        raise ConnectionError("the answer was cut off")
    return data


async def _send_all(sock: trio.socket.SocketType, data: bytes) -> None:
    while data:
        data = data[await sock.send(data) :]


async def _send_body(sock: trio.socket.SocketType, item: Item) -> None:
    """An error is left to who reads the answer."""
    try:
        for number, (seconds, data) in enumerate(portions(item)):
            if number:
                await trio.sleep(seconds)
            await _send_all(sock, data)
    except OSError:
        return


def portions(item: Item) -> list[tuple[float, bytes]]:
    """What of the request's body is sent, and how long after the portion before it."""
    if item.messages:
        return [*[(item.message_s, chunk(b"m" * item.message_bytes))] * item.messages, (item.message_s, chunk(b""))]
    if not item.send_bytes:
        return []
    portion = max(1, item.send_per_s // SENDS_PER_S)
    count = math.ceil(item.send_bytes / portion)
    sizes = [*[portion] * (count - 1), item.send_bytes - portion * (count - 1)]
    return [(1 / SENDS_PER_S, bytes(size)) for size in sizes]


async def attend(plan: Plan) -> Visits:
    """Let all guests come until the end."""
    visits = Visits()
    before_s = time.process_time()
    with trio.move_on_after(plan.begin_s + plan.until_s - time.monotonic()):
        async with trio.open_nursery() as nursery:
            for guest in plan.guests:
                nursery.start_soon(Client(guest, plan, visits).run)
    visits.cpu_s = time.process_time() - before_s
    return visits


def main(arguments: Sequence[str]) -> None:
    """Read the plan, carry it out, write the result."""
    source, target = map(Path, arguments)
    plan = read_plan(source.read_text())
    no_pauses()
    target.write_text(json.dumps(attrs.asdict(trio.run(attend, plan))))


if __name__ == "__main__":
    main(sys.argv[1:])
