"""The same minimal HTTP responder twice: a trio task per connection, and the project's reactor.

It reads, finds the ends of request heads and sends a fixed 200 for each. It parses nothing, so what is
compared is only how bytes get from the kernel to Python and back.

Run as `python -m scripts.benchmarks.responders tasks|reactor HOST:PORT`.
"""

import functools
import socket
import sys

import trio

from tierlb.net.reactor import READ, Reactor
from tierlb.net.stream import Stream

HEAD_END = b"\r\n\r\n"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
BACKLOG = 4096


class Heads:
    """Counts the request heads that end in the bytes fed so far."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes | bytearray) -> int:
        """How many heads these bytes complete."""
        seen = self._rest + data
        end = seen.rfind(HEAD_END)
        self._rest = seen if end < 0 else seen[end + len(HEAD_END) :]
        return seen.count(HEAD_END)


async def serve_by_tasks(host: str, port: int) -> None:
    """One trio task per connection."""
    await trio.serve_tcp(_answer_all, port, host=host, backlog=BACKLOG)


async def _answer_all(stream: trio.SocketStream) -> None:
    heads = Heads()
    try:
        async for data in stream:
            if count := heads.feed(data):
                await stream.send_all(ANSWER * count)
    except trio.BrokenResourceError:
        return  # the client is gone


class Answering(Stream):
    """One connection in the reactor."""

    __slots__ = ("_heads",)

    def __init__(self, reactor: Reactor, sock: socket.socket) -> None:
        super().__init__(reactor, sock)
        self._heads = Heads()

    def on_data(self, data: bytes) -> None:
        if count := self._heads.feed(data):
            self.send(ANSWER * count)

    def on_eof(self) -> None:
        self.close()

    def on_broken(self, error: OSError) -> None:
        self.close()


async def serve_by_reactor(host: str, port: int) -> None:
    """One epoll set in one trio task."""
    reactor = Reactor(on_crash=_fail)
    with socket.create_server((host, port), backlog=BACKLOG) as listener:
        listener.setblocking(False)
        reactor.add(listener.fileno(), READ, functools.partial(_accept, reactor, listener))
        await reactor.run()


def _fail(error: BaseException) -> None:
    raise error


def _accept(reactor: Reactor, listener: socket.socket, mask: int) -> None:
    try:
        while True:
            sock, _ = listener.accept()
            sock.setblocking(False)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            Answering(reactor, sock).watch()
    except BlockingIOError:
        return


def main() -> None:
    """Serve until killed."""
    serve = {"tasks": serve_by_tasks, "reactor": serve_by_reactor}[sys.argv[1]]
    host, _, port = sys.argv[2].rpartition(":")
    trio.run(serve, host, int(port))


if __name__ == "__main__":
    main()
