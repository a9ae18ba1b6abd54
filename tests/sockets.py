"""What a test does with a socket of trio's at once: the reactor and all other tasks wait meanwhile, so that several
events are in one batch."""

import contextlib
import os
import socket
from collections.abc import Iterator

import trio


@contextlib.contextmanager
def plain(sock: trio.socket.SocketType) -> Iterator[socket.socket]:
    """The same socket without trio; it never blocks."""
    with socket.socket(fileno=os.dup(sock.fileno())) as same:
        same.setblocking(False)
        yield same


def send_now(stream: trio.SocketStream, data: bytes) -> None:
    """All of it; there has to be room."""
    with plain(stream.socket) as sock:
        assert sock.send(data) == len(data)
