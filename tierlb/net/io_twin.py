"""What `_io.c` does, in Python, for where it is not built: system calls on non-blocking sockets.

Nothing here waits, and that there is nothing to do is a value instead of an exception. Descriptors are those of
sockets. Sizes are at least 1.
"""

import errno
import os
import socket
from collections.abc import Sequence
from typing import TypeAlias

from tierlb.net.asked import asked
from tierlb.net.sockaddr import pack_sockaddr, unpack_sockaddr
from tierlb.net.unix_socket import LOCAL_CLIENT

Datagram: TypeAlias = tuple[bytes, bytes]
"""What it holds, and a `struct sockaddr` (net/sockaddr.py): whom it came from, or is for; b"" where the socket is
connected."""
Copied: TypeAlias = int | tuple[int, bytes, int] | None

BATCH = 32
"""Datagrams per call at most. More make a call no cheaper, and others wait meanwhile."""
DATAGRAM_BYTES = 65536


def recv(fd: int, most: int) -> bytes | None:
    """What there is, up to so many bytes; empty at the end, None if there is nothing now. Raises OSError."""
    try:
        return os.read(fd, most)
    except BlockingIOError:
        return None


def send(fd: int, data: bytes | memoryview) -> int:
    """How many bytes the kernel took, 0 if none now. Raises OSError."""
    try:
        return os.write(fd, data)
    except BlockingIOError:
        return 0


def copy(fd: int, peer: int, most: int) -> Copied:
    """Send what there is at `fd`, up to so many bytes (65536 at most), to `peer`: how many bytes that were; 0 at the
    end, None if there is nothing now. If not all could be sent: how many were read, those that were not sent, and the
    errno if the peer failed, else 0. Raises OSError if `fd` failed."""
    try:
        data = os.read(fd, most)
    except BlockingIOError:
        return None
    if not data:
        return 0
    try:
        sent = os.write(peer, data)
    except BlockingIOError:
        sent = 0
    except OSError as error:
        return len(data), data, error.errno or errno.EIO
    return sent if sent == len(data) else (len(data), data[sent:], 0)


def shutdown(fd: int) -> None:
    """No more will be sent. Raises OSError."""
    asked(fd, lambda sock: sock.shutdown(socket.SHUT_WR))


def accept4(listening: socket.socket) -> tuple[int, str, int] | None:
    """The next connection of a listening socket: its descriptor, which does not block and is not inherited, and the
    host and port that it came from, LOCAL_CLIENT over a unix socket. None if there is none now. Raises OSError."""
    try:
        sock, peer = listening.accept()
    except BlockingIOError:
        return None
    sock.setblocking(False)
    host, port = peer[:2] if sock.family != socket.AF_UNIX else LOCAL_CLIENT
    return sock.detach(), host, port


def recvmmsg(sock: socket.socket) -> list[Datagram]:
    """The datagrams that there are, up to BATCH. Raises OSError."""
    found: list[Datagram] = []
    try:
        while len(found) < BATCH:
            data, address = sock.recvfrom(DATAGRAM_BYTES)
            found.append((data, pack_sockaddr(address)))
    except BlockingIOError:
        pass
    except OSError:
        if not found:
            raise
    return found


def sendmmsg(sock: socket.socket, datagrams: Sequence[Datagram]) -> int:
    """How many of them, from the first on, the kernel took: up to BATCH, 0 if none now. Raises OSError if the first one
    failed."""
    sent = 0
    try:
        for data, address in datagrams[:BATCH]:
            if address:
                sock.sendto(data, unpack_sockaddr(address))
            else:
                sock.send(data)
            sent += 1
    except BlockingIOError:
        pass
    except OSError:
        if not sent:
            raise
    return sent
