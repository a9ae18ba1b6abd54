"""What `_io.c` does, in Python, for where it is not built: system calls on non-blocking sockets.

Nothing here waits, and that there is nothing to do is a value instead of an exception. Descriptors are those of
sockets. Sizes are at least 1.
"""

import errno
import os
import socket
import sys
from collections.abc import Sequence
from typing import Final, TypeAlias

from tierlb.net.asked import asked, has_bytes
from tierlb.net.self_connect import abandon
from tierlb.net.sockaddr import SocketAddress, pack_sockaddr, unpack_sockaddr
from tierlb.net.unix_socket import LOCAL_CLIENT

Datagram: TypeAlias = tuple[bytes, bytes]
"""What it holds, and a `struct sockaddr` (net/sockaddr.py): whom it came from, or is for; b"" where the socket is
connected."""
Copied: TypeAlias = int | tuple[int, bytes, int] | None

BATCH = 32
"""Datagrams per call at most. More make a call no cheaper, and others wait meanwhile."""
DATAGRAM_BYTES = 65536

SPEAKS_FIRST: Final = 1
HERE: Final = 2
AT_RISK: Final = 4
"""Flags of `start_connect`."""


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


def shutdown(fd: int) -> int:
    """No more will be sent; 0. Raises OSError."""
    asked(fd, lambda sock: sock.shutdown(socket.SHUT_WR))
    return 0


def start_connect(name: bytes, flags: int, asker: int) -> tuple[int, int]:
    """Begin a connection to a `struct sockaddr`: its descriptor with 0 where it is made and EINPROGRESS where it is
    under way, or -1 with the errno of a failure. Raises OSError where no socket can be made.

    Over TCP, with `SPEAKS_FIRST`, or if bytes wait at the descriptor `asker` (-1: there is none), the handshake's last
    ACK waits for what is sent first. `HERE`: it is worth a second call to learn whether the connection is made, as on
    loopback. `AT_RISK`: one that reached itself is refused (net/self_connect.py).
    """
    family = int.from_bytes(name[:2], sys.byteorder)
    to = os.fsdecode(name[2:].rstrip(b"\0")) if family == socket.AF_UNIX else unpack_sockaddr(name)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        code = _connect(sock, to, flags, asker)
    except BaseException:
        sock.close()
        raise
    if code in (0, errno.EINPROGRESS):
        return sock.detach(), code
    sock.close()
    return -1, code


def _connect(sock: socket.socket, to: SocketAddress | str, flags: int, asker: int) -> int:
    if sock.family == socket.AF_UNIX:
        return sock.connect_ex(to)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if flags & SPEAKS_FIRST or (asker >= 0 and has_bytes(asker)):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 0)
    code = sock.connect_ex(to)
    if code == errno.EINPROGRESS and flags & HERE:
        code = sock.connect_ex(to)
        code = errno.EINPROGRESS if code == errno.EALREADY else code
    if flags & AT_RISK and sock.getsockname() == to:
        abandon(sock)
        return errno.ECONNREFUSED
    return code


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
