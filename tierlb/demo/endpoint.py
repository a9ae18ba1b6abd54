"""A small HTTP/1.1 server to stand behind the balancer in demonstrations and tests.

It says who answered and what arrived: a GET gets JSON with the backend's name and the request as seen here, a
POST gets its own body back as it streams in, a PUT is swallowed and counted. `?delay=50ms` waits first,
`?status=503` sets the status, `?bytes=1000000` streams that many bytes. `/healthz` answers ok. SIGTERM lets
requests in progress finish. It can pretend to be limited (`Station`), and says its load as a real app with a reporter
would: at `/.tierlb/load`, and as ORCA in each response.

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

READ_BYTES = 65536
CHUNK = b"x" * 65536
IDLE_TIMEOUT_S = 120.0
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (what is looked for)
"""Says nothing of who it is; in a container its host name does."""
STOP_DEADLINE_S = 5.0
_DELAY = re.compile(r"(\d+(?:\.\d+)?)(ms|s)")


class BadQuery(ValueError):  # noqa: N818 (the text is the response)
    """A query parameter that cannot be used."""


@attrs.frozen
class Wish:
    """How the client wants to be answered."""

    delay_s: float = 0.0
    status: int = 200
    size_bytes: int | None = None


def read_wish(query: str) -> Wish:
    """The wish in a query string; parameters it does not know are left alone. Raises BadQuery."""
    values = {name: texts[-1] for name, texts in parse_qs(query).items()}
    wish = Wish()
    if text := values.get("delay"):
        wish = attrs.evolve(wish, delay_s=read_seconds("delay", text))
    if text := values.get("status"):
        wish = attrs.evolve(wish, status=_whole("status", text, 200, 599))
    if text := values.get("bytes"):
        wish = attrs.evolve(wish, size_bytes=_whole("bytes", text, 0, 1 << 40))
    return wish


def read_seconds(name: str, text: str) -> float:
    """A duration such as 50ms or 2s. Raises BadQuery."""
    match = _DELAY.fullmatch(text)
    if match is None:
        raise BadQuery(f"{name}={text}: write it as 50ms or 2s\n")
    return float(match[1]) / (1000 if match[2] == "ms" else 1)


def _whole(name: str, text: str, lowest: int, highest: int) -> int:
    if not text.isascii() or not text.isdigit() or not lowest <= int(text) <= highest:
        raise BadQuery(f"{name}={text}: write a whole number from {lowest} to {highest}\n")
    return int(text)


@attrs.define
class Station:
    """So many slots work, each on one request for `service_s` in the mean; who comes when all are taken waits in
    turn. Without slots nobody waits."""

    slots: int = 0
    service_s: float = 0.0
    fixed: bool = False
    rng: random.Random = attrs.field(factory=random.Random)
    _free: trio.CapacityLimiter = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._free = trio.CapacityLimiter(self.slots or 1_000_000)

    def draw_s(self) -> float:
        """How long the next request takes."""
        return self.service_s if self.fixed or not self.service_s else self.rng.expovariate(1 / self.service_s)

    async def work(self) -> None:
        """Wait for a slot and take its time."""
        async with self._free:
            await trio.sleep(self.draw_s())


@attrs.define
class Backend:
    """The server's name and port as its answers give them, and whether it is about to end."""

    name: str
    port: int = 0
    station: Station = attrs.field(factory=Station)
    orca: Orca | None = None
    counts: Counts = attrs.field(init=False)
    _orca_field: OrcaField = attrs.field(init=False)
    stopping: bool = False
    idle: set[trio.CancelScope] = attrs.field(factory=set)

    def __attrs_post_init__(self) -> None:
        self.counts = Counts(self.station.slots, trio.current_time)
        self._orca_field = OrcaField(self.counts, trio.current_time)

    def load_fields(self) -> list[tuple[bytes, bytes]]:
        """The response fields that say its load."""
        if self.orca is None:
            return []
        text = self._orca_field.value().encode()
        return [(ORCA_FIELD.encode(), text if self.orca is Orca.TEXT else encode_orca(parse_orca(text), self.orca))]

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection, until either side has had enough."""
        exchange = _Connection(self, stream)
        try:
            await exchange.run()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            return
        finally:
            with trio.move_on_after(1, shield=True):
                await stream.aclose()

    def stop(self) -> None:
        """End waiting connections now and the others after their response."""
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
            self.http.receive_data(await self.stream.receive_some(READ_BYTES))

    async def _answer(self, request: h11.Request) -> None:
        self.is_head = request.method == b"HEAD"
        target = urlsplit(request.target.decode("latin-1"))
        try:
            wish = read_wish(target.query)
        except BadQuery as problem:
            await self._read_body()
            await self._respond(400, "text/plain", str(problem).encode())
            return
        if target.path == DEFAULT_PATH:
            await self._read_body()
            await self._respond(200, "application/json", json.dumps(self.backend.counts.figures()).encode() + b"\n")
        elif target.path == "/healthz":
            await self._read_body()
            await trio.sleep(wish.delay_s)
            await self._respond(wish.status, "text/plain", b"ok\n")
        else:
            await self._work(request, wish)

    async def _work(self, request: h11.Request, wish: Wish) -> None:
        began_s = self.backend.counts.begin()
        try:
            await self.backend.station.work()
            await trio.sleep(wish.delay_s)
            await self._fulfil(request, wish)
        finally:
            self.backend.counts.end(began_s, failed=wish.status >= 500)

    async def _fulfil(self, request: h11.Request, wish: Wish) -> None:
        if request.method == b"POST":
            await self._echo(request, wish)
            return
        body_bytes = await self._read_body()
        if wish.size_bytes is not None:
            await self._stream(wish)
        else:
            await self._respond(wish.status, "application/json", self._describe(request, body_bytes))

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

    async def _echo(self, request: h11.Request, wish: Wish) -> None:
        kept = {b"content-type", b"content-length"}
        headers = [(name, value) for name, value in request.headers if name in kept]
        await self._send(self._head(wish.status, headers))
        while isinstance(event := await self._next_event(), h11.Data):
            if self._may_have_body(wish.status):
                await self._send(h11.Data(data=bytes(event.data)))
        await self._send(h11.EndOfMessage())

    async def _stream(self, wish: Wish) -> None:
        left = wish.size_bytes or 0
        length = (b"content-length", str(left).encode())
        await self._send(self._head(wish.status, [(b"content-type", b"application/octet-stream"), length]))
        while left and self._may_have_body(wish.status):
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
        return h11.Response(status_code=status, headers=[*own, *headers], reason=_phrase(status))

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
    station: Station | None = None,
    orca: Orca | None = None,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve until SIGTERM or SIGINT; gives the port when it accepts connections."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    port = listeners[0].socket.getsockname()[1]
    known = socket.gethostname() if host in EVERYWHERE else host
    backend = Backend(name or f"{known}:{port}", port, station or Station(), orca)
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


def _phrase(status: int) -> str:
    return HTTPStatus(status).phrase if status in HTTPStatus._value2member_map_ else ""
