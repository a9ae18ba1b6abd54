"""The parent's side of very many quiet websockets: a node hears a few bytes from each of its children, all the time.

A task that reads one websocket is woken for each message, and a wake-up of an idle process costs 70–170 µs, which
for a hundred children is 3–7 % of a core spent on nothing. So all sockets are in one epoll set that one task reads in
batches, at most every `GATHER_S`: what a report says is 250 ms old anyway before the next one comes. wsproto, without
a socket, checks and takes the messages apart, and what is sent is written at once or kept until the peer reads on.

Each connection still has a trio task of its own, which greets it, sleeps, and closes it. With TLS that task also
reads and decrypts, as only trio knows how to: it costs what it costs.

A client that asks for a page by plain HTTP instead gets it (page.py). Until it has shown the token, the connection is a
stranger's (door.py).

Left out: what is said (`ConnectionHandler`), and the child's side (websocket.py).
"""

import os
import select
import ssl
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio
from wsproto import WSConnection

from tierlb.model.address import Address
from tierlb.net.door import Door, Visit, say_nothing
from tierlb.net.page import Pages, say_goodbye
from tierlb.net.websocket import Admit, Caller, Disconnected, Stream, guarded, notice_if_vanished, welcome
from tierlb.telemetry.internal_errors import barrier
from tierlb.wire.websocket import Framing

GATHER_S = 0.05
TLS_GATHER_S = 0.02
"""A record of TLS holds 16 KiB at most; a report with many rows should not take seconds for it."""
READ_BYTES = 64 * 1024
"""Per connection and batch, so a child that floods gets 3 MB/s at most and its siblings their turn."""
BATCH_EVENTS = 1024
GOODBYE_S = 1.0
MAX_UNSENT_BYTES = 256 * 1024
"""What is kept for a peer that does not read; a parent says some 20 bytes a second."""
MAX_CONNECTIONS = 4096


class ConnectionHandler(Protocol):
    """What the user of a server keeps for each connection."""

    def receive(self, data: bytes, now: float) -> None:
        """One message came."""

    def ended(self, reason: str) -> None:
        """The connection is over; called once."""


class ServerConnection:
    """One open connection: takes bytes apart for its handler, and never waits."""

    __slots__ = ("_framing", "_wire", "caller", "handler", "over")

    def __init__(self, ws: WSConnection, wire: "Wire", caller: Caller) -> None:
        self._framing = Framing(ws)
        self._wire = wire
        self.caller = caller
        self.handler: ConnectionHandler | None = None
        self.over = trio.Event()

    def send(self, data: bytes) -> None:
        """Send one message."""
        if not self.over.is_set():
            self._write(self._framing.pack(data))

    def close(self, reason: str) -> None:
        """Tell the peer why, and end."""
        if not self.over.is_set():
            self._write(self._framing.close(reason))
        self.end(reason)

    def end(self, reason: str) -> None:
        """The connection is of no more use."""
        if not self.over.is_set():
            self.over.set()
            if self.handler is not None:
                self.handler.ended(reason)

    def feed(self, data: bytes | None, now: float) -> None:
        """Bytes came from the peer; none at all is its end, None looks at what came with the upgrade."""
        assert self.handler is not None
        for message in self._framing.feed(data, now):
            if self.over.is_set():
                break
            self.handler.receive(message, now)
        if self.over.is_set() and not self._framing.gave_up:
            return
        if self._framing.answer:
            self._write(self._framing.answer)
        if self._framing.ended is not None:
            self.end(self._framing.ended)

    def _write(self, data: bytes) -> None:
        problem = self._wire.write(data)
        if problem:
            self.end(problem)


class Wire(Protocol):
    """Where a line's bytes go."""

    def write(self, data: bytes) -> str:
        """Send or keep the bytes; a text says why that is not possible any more."""


class SocketWire:
    """Straight to the socket, and what does not fit when the socket takes more."""

    __slots__ = ("_epoll", "_fd", "_unsent")

    def __init__(self, fd: int, epoll: select.epoll) -> None:
        self._fd = fd
        self._epoll = epoll
        self._unsent = bytearray()

    def write(self, data: bytes) -> str:
        waiting = bool(self._unsent)
        self._unsent += data
        if waiting:
            return _too_much(self._unsent)
        return self.flush()

    def flush(self) -> str:
        """Send what is kept."""
        try:
            sent = os.write(self._fd, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError:
            return "the connection was lost"
        del self._unsent[:sent]
        if self._unsent:
            self._epoll.modify(self._fd, select.EPOLLIN | select.EPOLLOUT)
        return _too_much(self._unsent)


class StreamWire:
    """To a task that sends on any stream of trio's; for TLS."""

    def __init__(self) -> None:
        self._unsent = bytearray()
        self._wake = trio.Event()
        self._empty = trio.Event()

    def write(self, data: bytes) -> str:
        self._unsent += data
        self._wake.set()
        return _too_much(self._unsent)

    async def run(self, stream: Stream) -> None:
        """Send for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._unsent = bytes(self._unsent), bytearray()
            await stream.send_all(data)
            self._empty.set()
            self._empty = trio.Event()

    async def sent(self) -> None:
        """Return when nothing is left to send."""
        if self._unsent:
            await self._empty.wait()


class WebsocketServer:
    """Accepts children with a credential. `greet` makes the handler of each; `on_crash` is called with its errors, and
    with those of `pages`, which are for all who ask; `on_drop` with the address of a stranger that had to give way."""

    def __init__(
        self,
        greet: Callable[[ServerConnection], ConnectionHandler],
        admit: Admit,
        on_crash: Callable[[Exception], object],
        tls: ssl.SSLContext | None = None,
        pages: Pages | None = None,
        on_drop: Callable[[str], object] = say_nothing,
    ) -> None:
        self._greet = greet
        self._admit = admit
        self._on_crash = on_crash
        self._tls = tls
        self._pages = pages
        self._door = Door(on_crash, on_drop)
        self._epoll = select.epoll()
        self._lines: dict[int, tuple[ServerConnection, SocketWire]] = {}
        self._count = 0

    async def serve(self, listen: Address, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; the address bound is told."""
        listeners = await trio.open_tcp_listeners(listen.port, host=listen.host)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_all)
                nursery.start_soon(self._door.serve, listeners, self._host)
                task_status.started(Address(*listeners[0].socket.getsockname()[:2]))
        finally:
            self._epoll.close()

    async def _read_all(self) -> None:
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            while events := self._epoll.poll(0, BATCH_EVENTS):
                now = trio.current_time()
                for fd, mask in events:
                    try:
                        self._serve_one(fd, mask, now)
                    except Exception as error:
                        self._on_crash(error)
                        self._abandon(fd)
                await trio.sleep(GATHER_S)

    def _serve_one(self, fd: int, mask: int, now: float) -> None:
        line, wire = self._lines[fd]
        if mask & select.EPOLLOUT:
            self._epoll.modify(fd, select.EPOLLIN)
            if problem := wire.flush():
                line.end(problem)
        if mask & ~select.EPOLLOUT and not line.over.is_set():
            self._feed(line, _read(fd), now)
        if line.over.is_set():
            self._forget(fd)

    def _feed(self, line: ServerConnection, data: bytes | None, now: float) -> None:
        try:
            line.feed(data, now)
        except Exception as error:
            self._on_crash(error)
            with barrier(self._on_crash):
                line.close("an internal error of the parent")

    def _abandon(self, fd: int) -> None:
        if fd in self._lines:
            line, _ = self._lines[fd]
            with barrier(self._on_crash):
                line.end("an internal error of the parent")
        with barrier(self._on_crash):
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        if self._lines.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def _host(self, visit: Visit) -> None:
        """One connection from its first byte to its last."""
        notice_if_vanished(visit.stream)
        async with guarded(visit.stream, self._tls) as stream:
            ws, caller = await self._welcome(stream)
            visit.settle()
            await self._converse(stream, ws, caller)

    async def _converse(self, stream: Stream, ws: WSConnection, caller: Caller) -> None:
        if self._count >= MAX_CONNECTIONS:
            await stream.send_all(Framing(ws).close(f"there are {MAX_CONNECTIONS} children already"))
            if isinstance(stream, trio.SocketStream):
                await say_goodbye(stream)
            return
        self._count += 1
        try:
            if isinstance(stream, trio.SSLStream):
                await self._converse_by_stream(stream, ws, caller)
            else:
                await self._converse_plainly(stream, ws, caller)
        finally:
            self._count -= 1

    async def _welcome(self, stream: Stream) -> tuple[WSConnection, Caller]:
        try:
            return await welcome(stream, self._admit, self._pages)
        except (Disconnected, trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            self._on_crash(error)
            raise Disconnected("a page could not be made") from error

    async def _converse_plainly(self, tcp: trio.SocketStream, ws: WSConnection, caller: Caller) -> None:
        fd = tcp.socket.fileno()
        wire = SocketWire(fd, self._epoll)
        line = ServerConnection(ws, wire, caller)
        self._lines[fd] = line, wire
        self._epoll.register(fd, select.EPOLLIN)
        try:
            self._place(line)
            await line.over.wait()
        finally:
            self._forget(fd)
            line.end("this parent stops")
        await say_goodbye(tcp)

    async def _converse_by_stream(self, stream: Stream, ws: WSConnection, caller: Caller) -> None:
        wire = StreamWire()
        line = ServerConnection(ws, wire, caller)

        async def read() -> None:
            while not line.over.is_set():
                self._feed(line, bytes(await stream.receive_some(READ_BYTES)), trio.current_time())
                await trio.sleep(TLS_GATHER_S)

        async def part(run: Callable[[], Awaitable[None]]) -> None:
            try:
                await run()
            except trio.BrokenResourceError:
                line.end("the connection was lost")

        try:
            self._place(line)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(part, read)
                nursery.start_soon(part, lambda: wire.run(stream))
                await line.over.wait()
                with trio.move_on_after(GOODBYE_S):
                    await wire.sent()
                nursery.cancel_scope.cancel()
        finally:
            line.end("this parent stops")

    def _place(self, line: ServerConnection) -> None:
        line.handler = self._greet(line)
        self._feed(line, None, trio.current_time())


def _read(fd: int) -> bytes:
    """What has arrived, which epoll says is something; an error is the peer's end."""
    try:
        return os.read(fd, READ_BYTES)
    except OSError:
        return b""


def _too_much(unsent: bytearray) -> str:
    return "the child does not read" if len(unsent) > MAX_UNSENT_BYTES else ""
