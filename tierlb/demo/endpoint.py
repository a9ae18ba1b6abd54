"""A small HTTP/1.1 server to stand behind the balancer in demonstrations and tests.

Its answers name the server and the request: a GET gets JSON with the endpoint's name and the request as seen here, a
POST gets its own body back as it streams in, a PUT is read and counted. `?delay=50ms` waits first, `?status=503` sets
the status, `?bytes=1000000` streams that many bytes. `/healthz` answers ok. SIGTERM lets requests in progress finish.
It can limit itself to a number of workers (`Workers`), and reports its load as a real application with a reporter does:
at `/.tierlb/load`, and as ORCA in each response.

Written on trio and h11 alone so that it starts fast. Left out: everything a production server needs.
"""

import json
import os
import random
import re
import signal
import socket
from functools import partial
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, urlsplit

import attrs
import h11
import trio

from tierlb.agent.reporter import DEFAULT_PATH, ORCA_FIELD, Counts, OrcaField
from tierlb.model.topology import Orca
from tierlb.wire.orca import encode_orca, parse_orca

DEMO_READ_BYTES = 65536
CHUNK = b"x" * 65536
IDLE_TIMEOUT_S = 120.0
WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (what is looked for)
"""Addresses that do not identify a server; in a container the host name does."""
STOP_DEADLINE_S = 5.0
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class BadQuery(ValueError):  # noqa: N818 (the text is the response)
    """A query parameter that cannot be used."""


@attrs.frozen
class Instructions:
    """How the client asked to be answered."""

    delay_s: float = 0.0
    status: int = 200
    size_bytes: int | None = None


def read_instructions(query: str) -> Instructions:
    """The instructions in a query string; unknown parameters are ignored. Raises BadQuery."""
    values = {name: texts[-1] for name, texts in parse_qs(query).items()}
    instructions = Instructions()
    if text := values.get("delay"):
        instructions = attrs.evolve(instructions, delay_s=read_seconds("delay", text))
    if text := values.get("status"):
        instructions = attrs.evolve(instructions, status=_whole_number("status", text, 200, 599))
    if text := values.get("bytes"):
        instructions = attrs.evolve(instructions, size_bytes=_whole_number("bytes", text, 0, 1 << 40))
    return instructions


def read_seconds(name: str, text: str) -> float:
    """A duration such as 50ms or 2s. Raises BadQuery."""
    match = _DELAY.fullmatch(text)
    if match is None:
        raise BadQuery(f"{name}={text}: write it as 50ms or 2s\n")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _whole_number(name: str, text: str, lowest: int, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise BadQuery(f"{name}={text}: write a whole number from {lowest} to {highest}\n")
    return int(text)


@attrs.define
class Workers:
    """So many slots, each of which works on one request for `service_s` on average; further requests wait in turn. With
    0 slots there is no limit."""

    slots: int = 0
    service_s: float = 0.0
    fixed: bool = False
    rng: random.Random = attrs.field(factory=random.Random)
    _free: trio.CapacityLimiter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = trio.CapacityLimiter(self.slots or 1_000_000)

    def draw_s(self) -> float:
        """The service time of the next request."""
        return self.service_s if self.fixed or not self.service_s else self.rng.expovariate(1 / self.service_s)

    async def work(self) -> None:
        """Wait for a slot and take its time."""
        async with self._free:
            await trio.sleep(self.draw_s())


@attrs.define
class Backend:
    """`name` and `port` as the answers give them. `stopping`: the server is about to end."""

    name: str
    port: int = 0
    workers: Workers = attrs.field(factory=Workers)
    orca: Orca | None = None
    counts: Counts = attrs.field(init=False)
    _orca_field: OrcaField = attrs.field(init=False)
    stopping: bool = False
    idle: set[trio.CancelScope] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.counts = Counts(self.workers.slots, trio.current_time)
        self._orca_field = OrcaField(self.counts, trio.current_time)

    def load_fields(self) -> list[tuple[bytes, bytes]]:
        """The response fields with its load."""
        if self.orca is None:
            return []
        text = self._orca_field.value().encode()
        return [(ORCA_FIELD.encode(), text if self.orca is Orca.TEXT else encode_orca(parse_orca(text), self.orca))]

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, until either side closes it."""
        exchange = _Connection(self, stream)
        try:
            await exchange.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return
        finally:
            with trio.move_on_after(1, shield=True):
                await stream.aclose()

    def stop(self) -> None:
        """End idle connections now and the others after their response."""
        self.stopping = True
        for scope in self.idle:
            scope.cancel()


@attrs.define
class _Connection:
    backend: Backend
    stream: trio.SocketStream
    http: h11.Connection = attrs.field(factory=lambda: h11.Connection(h11.SERVER))
    is_head: bool = False

    async def run(self) -> None:
        while (request := await self._next_request()) is not None:
            await self._answer(request)
            if self.backend.stopping or self.http.our_state is not h11.DONE:
                return
            if self.http.their_state is not h11.DONE:
                return
            self.http.start_next_cycle()

    async def _next_request(self) -> h11.Request | None:
        with trio.move_on_after(IDLE_TIMEOUT_S) as scope:
            self.backend.idle.add(scope)
            try:
                event = await self._next_event()
            finally:
                self.backend.idle.discard(scope)
            return event if isinstance(event, h11.Request) else None
        return None

    async def _next_event(self) -> Any:
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self.http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self.http.receive_data(await self.stream.receive_some(DEMO_READ_BYTES))

    async def _answer(self, request: h11.Request) -> None:
        self.is_head = request.method == b"HEAD"
        target = urlsplit(request.target.decode("latin-1"))
        try:
            instructions = read_instructions(target.query)
        except BadQuery as problem:
            await self._read_body()
            await self._respond(400, "text/plain", str(problem).encode())
            return
        if target.path == DEFAULT_PATH:
            await self._read_body()
            await self._respond(200, "application/json", json.dumps(self.backend.counts.figures()).encode() + b"\n")
        elif target.path == "/healthz":
            await self._read_body()
            await trio.sleep(instructions.delay_s)
            await self._respond(instructions.status, "text/plain", b"ok\n")
        else:
            await self._work(request, instructions)

    async def _work(self, request: h11.Request, instructions: Instructions) -> None:
        began_s = self.backend.counts.begin()
        try:
            await self.backend.workers.work()
            await trio.sleep(instructions.delay_s)
            await self._fulfil(request, instructions)
        finally:
            self.backend.counts.end(began_s, failed=instructions.status >= 500)

    async def _fulfil(self, request: h11.Request, instructions: Instructions) -> None:
        if request.method == b"POST":
            await self._echo(request, instructions)
            return
        body_bytes = await self._read_body()
        if instructions.size_bytes is not None:
            await self._stream(instructions)
        else:
            await self._respond(instructions.status, "application/json", self._describe(request, body_bytes))

    def _describe(self, request: h11.Request, body_bytes: int) -> bytes:
        seen = {
            "backend": self.backend.name,
            "port": self.backend.port,
            "pid": os.getpid(),
            "method": request.method.decode("latin-1"),
            "path": request.target.decode("latin-1"),
            "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers],
            "body_bytes": body_bytes,
        }
        return json.dumps(seen).encode() + b"\n"

    async def _echo(self, request: h11.Request, instructions: Instructions) -> None:
        kept = {b"content-type", b"content-length"}
        headers = [(name, value) for name, value in request.headers if name in kept]
        await self._send(self._head(instructions.status, headers))
        while isinstance(event := await self._next_event(), h11.Data):
            if self._may_have_body(instructions.status):
                await self._send(h11.Data(data=bytes(event.data)))
        await self._send(h11.EndOfMessage())

    async def _stream(self, instructions: Instructions) -> None:
        left = instructions.size_bytes or 0
        length = (b"content-length", str(left).encode())
        await self._send(self._head(instructions.status, [(b"content-type", b"application/octet-stream"), length]))
        while left and self._may_have_body(instructions.status):
            part = CHUNK[:left]
            await self._send(h11.Data(data=part))
            left -= len(part)
        await self._send(h11.EndOfMessage())

    async def _respond(self, status: int, content_type: str, body: bytes) -> None:
        length = (b"content-length", str(len(body)).encode())
        head = self._head(status, [(b"content-type", content_type.encode()), length])
        data = h11.Data(data=body if self._may_have_body(status) else b"")
        parts = (head, data, h11.EndOfMessage())
        await self.stream.send_all(b"".join(self.http.send(part) or b"" for part in parts))

    def _head(self, status: int, headers: list[tuple[bytes, bytes]]) -> h11.Response:
        own = [(b"x-backend", self.backend.name.encode()), *self.backend.load_fields()]
        if self.backend.stopping:
            own.append((b"connection", b"close"))
        return h11.Response(status_code=status, headers=[*own, *headers], reason=_reason_phrase(status))

    def _may_have_body(self, status: int) -> bool:
        """RFC 9110, 6.4.1: an answer to HEAD, a 204 and a 304 end with their head."""
        return not self.is_head and status not in (204, 304)

    async def _read_body(self) -> int:
        total = 0
        while isinstance(event := await self._next_event(), h11.Data):
            total += len(event.data)
        return total

    async def _send(self, event: Any) -> None:
        data = self.http.send(event)
        if data:
            await self.stream.send_all(data)


async def run_backend(
    name: str,
    host: str,
    port: int,
    workers: Workers | None = None,
    orca: Orca | None = None,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT. The port is passed on once it accepts connections."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    port = listeners[0].socket.getsockname()[1]
    known = socket.gethostname() if host in WILDCARDS else host
    backend = Backend(name or f"{known}:{port}", port, workers or Workers(), orca)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as connections:
            async with trio.open_nursery() as accepting:
                accepting.start_soon(
                    partial(trio.serve_listeners, backend.serve, listeners, handler_nursery=connections)
                )
                task_status.started(port)
                await anext(aiter(signals))
                accepting.cancel_scope.cancel()
            connections.cancel_scope.deadline = trio.current_time() + STOP_DEADLINE_S
            backend.stop()


def _reason_phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
