"""The queue in which connections wait until a child reads them. This process keeps a copy of the child's end, so that
it can read back what the child did not: each message goes to one of the two.
"""

import socket
from collections import deque
from collections.abc import Sequence
from typing import Final

from tierlb.net.descriptors import DESCRIPTORS_PER_CONNECTION
from tierlb.net.packets import Packet, has_room_for, receive_packet, send_packet
from tierlb.net.reactor import Reactor
from tierlb.net.wheel import NEVER
from tierlb.wire.handoff import MAX_ENTRIES, first_number

NOTED_EVERY_S: Final = 0.05
"""How exactly it is known since when a message waits to be read."""
QUEUE_BYTES: Final = 64 * 1024
"""Of kernel memory for messages: some 80 of them, and 1,280 connections at most. More wait in this process, where they
can still go to another host at once."""
ALL_READ: Final = -1
"""In place of a number where every message has been read."""


class SharedQueue:
    """`out` is this process's end, `copy` the copy of the child's. Raises OSError."""

    __slots__ = ("_noted", "copy", "out")

    def __init__(self) -> None:
        kind = socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        self.out, self.copy = socket.socketpair(socket.AF_UNIX, kind)
        self.out.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, QUEUE_BYTES // 2)  # the kernel doubles it
        self._noted: deque[tuple[float, int]] = deque()

    def send(self, now: float, number: int, data: bytes, descriptors: Sequence[int]) -> None:
        """Send a message whose first entry has this number, higher than all before. Raises OSError; BlockingIOError
        where the queue is full."""
        send_packet(self.out, data, descriptors)
        if not self._noted or now - self._noted[-1][0] >= NOTED_EVERY_S:
            self._noted.append((now, number))

    @property
    def may_hold_unread(self) -> bool:
        """Whether anything was sent since the queue was last found empty."""
        return bool(self._noted)

    def oldest(self) -> int:
        """The number of the first connection in the oldest unread message; ALL_READ if all were read."""
        try:
            found = self.copy.recv(64, socket.MSG_PEEK)
        except OSError:
            found = b""
        if not found:
            self._noted.clear()
            return ALL_READ
        return first_number(found)

    def unread_since(self) -> float:
        """About when the oldest unread message was sent; NEVER if all were read."""
        oldest, noted = self.oldest(), self._noted
        if oldest == ALL_READ:
            return NEVER
        while len(noted) > 1 and noted[1][1] <= oldest:
            noted.popleft()
        return noted[0][0]

    def has_room(self) -> bool:
        """Whether this process has descriptors for any message, and to pass on what is in it."""
        return has_room_for(MAX_ENTRIES * DESCRIPTORS_PER_CONNECTION, self.copy.fileno())

    def take_back(self) -> Packet | None:
        """Read the oldest unread message, so that the child cannot. None if all were read."""
        try:
            packet = receive_packet(self.copy, MAX_ENTRIES)
        except OSError:
            return None
        return packet if packet.data else None

    def end(self, reactor: Reactor) -> None:
        """Send nothing more; unread messages stay. The reactor may watch `out`."""
        if self.out.fileno() >= 0:
            reactor.close_at_once(self.out.detach())

    def close(self, reactor: Reactor) -> None:
        """Leave unread messages to the child; they are lost if the child has closed its end. Closing it again does
        nothing."""
        self.end(reactor)
        self.copy.close()
