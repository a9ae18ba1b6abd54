"""Messages with descriptors beside them (SCM_RIGHTS) on unix sockets of kind SOCK_SEQPACKET.

A message is delivered whole to one reader. Descriptors that are in one stay open in the kernel until it is read, even
if both the process that sent it and its own copies of them are gone.
"""

import array
import os
import socket
from collections.abc import Iterable, Sequence

MAX_PACKET_BYTES = 64 * 1024
_INT_BYTES = array.array("i").itemsize
_buffer = bytearray(MAX_PACKET_BYTES)
"""For every message, in the one thread that reads them: to make one for each costs more than all the rest."""


class Packet:
    """`data` is empty where the other end is closed. `is_short`: this process had no number free for some of the
    descriptors, which are lost."""

    __slots__ = ("data", "descriptors", "is_short")

    def __init__(self, data: bytes, descriptors: list[int], *, is_short: bool) -> None:
        self.data = data
        self.descriptors = descriptors
        self.is_short = is_short


def send_packet(sock: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send it whole, or raise OSError; BlockingIOError where the queue is full."""
    if descriptors:
        beside = array.array("i", descriptors)
        sock.sendmsg((data,), ((socket.SOL_SOCKET, socket.SCM_RIGHTS, beside),))
    else:
        sock.send(data)


def receive_packet(sock: socket.socket, max_descriptors: int) -> Packet:
    """The next message. Raises OSError; BlockingIOError where there is none."""
    space = socket.CMSG_SPACE(max_descriptors * _INT_BYTES)
    size, beside, flags, _ = sock.recvmsg_into((_buffer,), space, socket.MSG_CMSG_CLOEXEC)
    descriptors: list[int] = []
    for level, kind, found in beside:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            numbers = array.array("i")
            numbers.frombytes(found[: len(found) - len(found) % _INT_BYTES])
            descriptors += numbers
    return Packet(bytes(memoryview(_buffer)[:size]), descriptors, is_short=bool(flags & socket.MSG_CTRUNC))


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that are not wanted."""
    for descriptor in descriptors:
        os.close(descriptor)


def has_room_for(count: int, like: int) -> bool:
    """Whether this process has so many numbers free. `like`: an open descriptor."""
    held: list[int] = []
    try:
        for _ in range(count):
            held.append(os.dup(like))  # noqa: PERF401 (those before one that fails are to be closed)
    except OSError:
        return False
    finally:
        close_all(held)
    return True
