"""What is rarely asked of a connected socket, by its descriptor.

The data path holds its connections as descriptors, each of which has one owner that closes it once. A socket object
would cost a microsecond and, where the descriptor comes from accept4, a system call. The questions here need one, for
as long as a question takes.
"""

import socket
from collections.abc import Callable
from typing import TypeVar

from tierlb.net.self_connect import LINGER_ZERO
from tierlb.net.unix_socket import LOCAL_CLIENT

T = TypeVar("T")


def asked(fd: int, question: Callable[[socket.socket], T]) -> T:
    """What the question finds of this stream socket, which stays open. Raises OSError."""
    sock = socket.socket(-1, socket.SOCK_STREAM, 0, fd)
    try:
        return question(sock)
    finally:
        sock.detach()


def error_of(fd: int) -> int:
    """The errno that waits there, which is used up by this; 0 if there is none."""
    return asked(fd, lambda sock: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))


def recv_peek(fd: int, most: int) -> bytes:
    """What there is to read, which stays there. Raises BlockingIOError if there is nothing."""
    return asked(fd, lambda sock: sock.recv(most, socket.MSG_PEEK))


def has_bytes(fd: int) -> bool:
    """Whether bytes wait there; not if it has failed."""
    try:
        return bool(recv_peek(fd, 1))
    except OSError:
        return False


def local_name(fd: int) -> tuple[str, int]:
    """The host and port that the peer connected to; LOCAL_CLIENT over a unix socket."""
    found = asked(fd, lambda sock: sock.getsockname())
    if isinstance(found, str):
        return LOCAL_CLIENT
    host, port = found[:2]
    return host, port


def tcp_info(fd: int, size: int) -> bytes:
    """The beginning of its `struct tcp_info`."""
    return asked(fd, lambda sock: sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, size))


def wake_at(fd: int, count: int) -> None:
    """Report it as readable when so many bytes wait there, or the end."""
    asked(fd, lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count))


def reset_at_close(fd: int) -> None:
    """Have `close` reset the connection."""
    asked(fd, lambda sock: sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO))
