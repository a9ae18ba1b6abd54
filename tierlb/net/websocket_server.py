"""The parent's side of very many quiet websockets: each child sends a few bytes, several times a second.

A task that reads one websocket is woken for each message, and a wake-up of an idle process costs 70–170 µs. For a
hundred children that is 3–7 % of a core spent on nothing. So all sockets are in one epoll set that one task reads in
batches, at most every `gather_s`: a report is up to 250 ms old anyway before the next one comes. wsproto, without a
socket, checks and takes the messages apart. What is sent is written at once, or kept until the peer reads on.

Each connection still has a trio task of its own, which upgrades it, sleeps, and closes it. With TLS that task also
reads and decrypts, as only trio can, and costs what a task per connection costs.

A client that asks for a page by plain HTTP instead gets it (page.py). Until it has shown a credential, the connection
is a stranger's (door.py).

Left out: what the messages mean (`ConnectionHandler`), and the child's side (websocket.py).
"""

import math
import os
import select
from collections.abc import Awaitable, Callable
from typing import Protocol

import trio
from wsproto import WSConnection

from tierlb.model.address import Address
from tierlb.net.control_stream import ControlStream, notice_if_vanished
from tierlb.net.door import Door, Visit, say_nothing
from tierlb.net.page import Pages, say_goodbye
from tierlb.net.tls import ContextNow
from tierlb.net.websocket_upgrade import Admit, NotUpgraded, ProvenPeer, accept_upgrade, accepted_stream
from tierlb.telemetry.internal_errors import barrier
from tierlb.wire.websocket import Framing

BATCH_GAP_S = 0.05
"""Between two batches. A hundred children at four reports a second fill each with twenty of them."""
TLS_READ_GAP_S = 0.02
"""A record of TLS holds 16 KiB at most; a report with many rows should not take seconds for it."""
CONNECTION_READ_BYTES = 64 * 1024
"""Per connection and batch, so that a child that floods gets 3 MB/s at most and its siblings their turn."""
EVENTS_PER_BATCH = 1024
FAREWELL_S = 1.0
"""For what is still unsent when a connection is closed: the reason is the last of it."""
MAX_UNSENT_BYTES = 256 * 1024
"""A peer for which more than this is waiting gets no further message; one message may exceed it."""
MOST_CONNECTIONS = 4096
"""Of a server, unless it is given another number."""
STOPPED = "this parent stops"
DOES_NOT_READ = "the child does not read"
INTERNAL_ERROR = "an internal error of the parent"


class ConnectionHandler(Protocol):
    """What the user of a server keeps for each connection."""

    def receive(self, data: bytes, now: float) -> None:
        """One message came."""

    def ended(self, reason: str) -> None:
        """The connection is over; called once."""


class Wire:
    """Where a connection's bytes go. What cannot be sent at once is kept."""

    __slots__ = ("_drained", "_unsent")

    def __init__(self) -> None:
        self._unsent = bytearray()
        self._drained = trio.Event()

    def write(self, data: bytes) -> str:
        """Send or keep the bytes; returns why that is not possible any more, or ""."""
        waiting = len(self._unsent)
        if waiting > MAX_UNSENT_BYTES:
            return DOES_NOT_READ
        self._unsent += data
        return "" if waiting else self.flush()

    def flush(self) -> str:
        """Begin to send what is kept."""
        raise NotImplementedError

    async def drained(self) -> None:
        """Return when nothing is left to send."""
        while self._unsent:
            await self._drained.wait()

    def _sent(self, size: int) -> None:
        del self._unsent[:size]
        if not self._unsent:
            self._drained.set()
            self._drained = trio.Event()


class SocketWire(Wire):
    """Straight to the socket, and what does not fit when the socket takes more."""

    __slots__ = ("_epoll", "_fd")

    def __init__(self, fd: int, epoll: select.epoll) -> None:
        super().__init__()
        self._fd = fd
        self._epoll = epoll

    def flush(self) -> str:
        try:
            self._sent(os.write(self._fd, self._unsent))
        except BlockingIOError:
            pass
        except OSError:
            return "the connection was lost"
        if self._unsent:
            self._epoll.modify(self._fd, select.EPOLLIN | select.EPOLLOUT)
        return ""

    async def finish(self, tcp: trio.SocketStream) -> None:
        """Send what is left, once the socket is out of the epoll set."""
        await tcp.send_all(bytes(self._unsent))


class StreamWire(Wire):
    """To a task that sends on any stream of trio's; for TLS."""

    __slots__ = ("_wake",)

    def __init__(self) -> None:
        super().__init__()
        self._wake = trio.Event()

    def flush(self) -> str:
        self._wake.set()
        return ""

    async def run(self, stream: ControlStream) -> None:
        """Send for ever."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            while data := bytes(self._unsent):
                await stream.send_all(data)
                self._sent(len(data))


class ServerConnection:
    """One open connection: takes bytes apart for its handler, and never waits."""

    __slots__ = ("_framing", "_wire", "caller", "handler", "over")

    def __init__(self, ws: WSConnection, wire: Wire, caller: ProvenPeer) -> None:
        self._framing = Framing(ws)
        self._wire = wire
        self.caller = caller
        self.handler: ConnectionHandler | None = None
        self.over = trio.Event()

    def send(self, data: bytes) -> None:
        """Send one message."""
        if not self.over.is_set():
            self._write(self._framing.pack(data))

    async def drained(self) -> None:
        """Return when the socket has taken everything."""
        await self._wire.drained()

    def close(self, reason: str) -> None:
        """Send the peer the reason, and end."""
        if not self.over.is_set():
            self._write(self._framing.close(reason))
        self.end(reason)

    def end(self, reason: str) -> None:
        """The connection is of no more use."""
        if not self.over.is_set():
            self.over.set()
            if self.handler is not None:
                self.handler.ended(reason)

    def feed(self, data: bytes, now: float) -> None:
        """Bytes came from the peer; none at all is its end."""
        for message in self._framing.feed(data, now):
            if self.over.is_set() or self.handler is None:
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


class WebsocketServer:
    """Accepts children with a credential. `greet` makes the handler of each; `on_crash` is called with its errors, and
    with those of `pages`, which need no credential; `on_drop` with the address of a stranger that had to give way."""

    def __init__(
        self,
        greet: Callable[[ServerConnection], ConnectionHandler],
        admit: Admit,
        on_crash: Callable[[Exception], object],
        tls: ContextNow | None = None,
        pages: Pages | None = None,
        on_drop: Callable[[str], object] = say_nothing,
        gather_s: float = BATCH_GAP_S,
        most: int = MOST_CONNECTIONS,
    ) -> None:
        self._greet = greet
        self._admit = admit
        self._on_crash = on_crash
        self._tls = tls
        self._pages = pages
        self._door = Door(on_crash, on_drop)
        self._gather_s = gather_s
        self._most = most
        self._epoll = select.epoll()
        self._by_descriptor: dict[int, tuple[ServerConnection, SocketWire]] = {}
        self._count = 0

    async def serve(self, listen: Address, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen and serve until cancelled; `task_status` gets the address bound."""
        listeners = await trio.open_tcp_listeners(listen.port, host=listen.host)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._read_all)
                nursery.start_soon(self._door.serve, listeners, self._attend)
                task_status.started(Address(*listeners[0].socket.getsockname()[:2]))
        finally:
            self._epoll.close()

    async def _read_all(self) -> None:
        read_s = -math.inf
        while True:
            await trio.lowlevel.wait_readable(self._epoll.fileno())
            wait_s = read_s + self._gather_s - trio.current_time()
            if wait_s > 0:
                await trio.sleep(wait_s)
            read_s = now = trio.current_time()
            for fd, mask in self._epoll.poll(0, EVENTS_PER_BATCH):
                try:
                    self._serve_one(fd, mask, now)
                except Exception as error:
                    self._on_crash(error)
                    self._abandon(fd)

    def _serve_one(self, fd: int, mask: int, now: float) -> None:
        connection, wire = self._by_descriptor[fd]
        if mask & select.EPOLLOUT:
            self._epoll.modify(fd, select.EPOLLIN)
            if problem := wire.flush():
                connection.end(problem)
        if mask & ~select.EPOLLOUT and not connection.over.is_set():
            self._feed(connection, _read_available(fd), now)
        if connection.over.is_set():
            self._forget(fd)

    def _feed(self, connection: ServerConnection, data: bytes, now: float) -> None:
        try:
            connection.feed(data, now)
        except Exception as error:
            self._on_crash(error)
            with barrier(self._on_crash):
                connection.close(INTERNAL_ERROR)

    def _abandon(self, fd: int) -> None:
        if fd in self._by_descriptor:
            connection, _ = self._by_descriptor[fd]
            with barrier(self._on_crash):
                connection.end(INTERNAL_ERROR)
        with barrier(self._on_crash):
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        if self._by_descriptor.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    async def _attend(self, visit: Visit) -> None:
        """One connection from its first byte to its last."""
        notice_if_vanished(visit.stream)
        tls = None if self._tls is None else self._tls()
        async with accepted_stream(visit.stream, tls) as stream:
            ws, caller = await self._upgrade(stream)
            visit.settle()
            if self._count >= self._most:
                await _turn_away(stream, ws, self._most)
                return
            self._count += 1
            try:
                if isinstance(stream, trio.SSLStream):
                    await self._serve_stream(stream, ws, caller)
                else:
                    await self._serve_socket(stream, ws, caller)
            finally:
                self._count -= 1

    async def _upgrade(self, stream: ControlStream) -> tuple[WSConnection, ProvenPeer]:
        try:
            return await accept_upgrade(stream, self._admit, self._pages)
        except (NotUpgraded, trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:
            self._on_crash(error)
            raise NotUpgraded("a page could not be made") from error

    async def _serve_socket(self, tcp: trio.SocketStream, ws: WSConnection, caller: ProvenPeer) -> None:
        fd = tcp.socket.fileno()
        wire = SocketWire(fd, self._epoll)
        connection = ServerConnection(ws, wire, caller)
        self._by_descriptor[fd] = connection, wire
        self._epoll.register(fd, select.EPOLLIN)
        try:
            connection.handler = self._greet(connection)
            await connection.over.wait()
        finally:
            self._forget(fd)
            connection.end(STOPPED)
        with trio.move_on_after(FAREWELL_S):
            await wire.finish(tcp)
        await say_goodbye(tcp)

    async def _serve_stream(self, stream: ControlStream, ws: WSConnection, caller: ProvenPeer) -> None:
        wire = StreamWire()
        connection = ServerConnection(ws, wire, caller)

        async def read() -> None:
            while not connection.over.is_set():
                data = bytes(await stream.receive_some(CONNECTION_READ_BYTES))
                self._feed(connection, data, trio.current_time())
                await trio.sleep(TLS_READ_GAP_S)

        async def part(run: Callable[[], Awaitable[None]]) -> None:
            try:
                await run()
            except trio.BrokenResourceError:
                connection.end("the connection was lost")

        try:
            connection.handler = self._greet(connection)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(part, read)
                nursery.start_soon(part, lambda: wire.run(stream))
                await connection.over.wait()
                with trio.move_on_after(FAREWELL_S):
                    await wire.drained()
                nursery.cancel_scope.cancel()
        finally:
            connection.end(STOPPED)


async def _turn_away(stream: ControlStream, ws: WSConnection, most: int) -> None:
    await stream.send_all(Framing(ws).close(f"there are {most} children already"))
    if isinstance(stream, trio.SocketStream):
        await say_goodbye(stream)


def _read_available(fd: int) -> bytes:
    """What has arrived, after epoll reported the socket as readable; an error is the peer's end."""
    try:
        return os.read(fd, CONNECTION_READ_BYTES)
    except OSError:
        return b""
