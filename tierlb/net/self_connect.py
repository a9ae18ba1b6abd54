"""A TCP connection that reached itself.

connect(2) to a port of this machine on which nothing listens, and that the kernel happens to choose as the local port
too, succeeds: both ends are one socket (simultaneous open, RFC 9293 §3.5). What is written comes back as the answer,
and the service that belongs on the port cannot start. Only ports in the kernel's range for local ports can be hit, in
one of some 28,000 connects, so only their connections are looked at.
"""

import errno
import os
import socket
import struct
from pathlib import Path
from typing import Final

import trio

RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")
"""Of both families."""
USUAL_RANGE: Final = (32768, 60999)
LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 seconds: `close` sends a reset."""


def local_ports() -> tuple[int, int]:
    """The first and the last port that the kernel chooses for connections."""
    try:
        first, last = RANGE.read_text().split()
        return int(first), int(last)
    except (OSError, ValueError):
        return USUAL_RANGE


def reached_itself(sock: socket.socket | trio.socket.SocketType) -> bool:
    """Whether both ends of a connected socket are the same."""
    try:
        return bool(sock.getsockname() == sock.getpeername())
    except OSError:
        return False


def abandon(sock: socket.socket | trio.socket.SocketType) -> None:
    """Have `close` reset the connection instead of leaving the port in TIME-WAIT."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)


async def open_stream(host: str, port: int) -> trio.SocketStream:
    """As trio.open_tcp_stream; a connection that reached itself raises ConnectionRefusedError. Where the name has one
    address, the error is the one of its connect."""
    try:
        stream = await trio.open_tcp_stream(host, port)
    except OSError as error:
        if isinstance(error.__cause__, OSError):
            raise error.__cause__ from None
        raise
    if reached_itself(stream.socket):
        abandon(stream.socket)
        await trio.aclose_forcefully(stream)
        raise ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
    return stream
