"""The sockets that a parent in another network namespace handed over, such as one in another container.

A socket belongs to the network in which it was accepted, wherever it is handed. With its container the parent's network
goes, and then nothing comes through these sockets any more, not even an end. So they end when the parent does.
"""

import os
import socket


class Lent:
    """Those whose connections are not over, by their numbers: the descriptor, and which socket that was. A node that
    hands a connection on closes its descriptor, whose number may be another socket's then."""

    __slots__ = ("_sockets", "has_ended")

    def __init__(self) -> None:
        self._sockets: dict[int, tuple[int, int]] = {}
        self.has_ended = False

    def __len__(self) -> int:
        return len(self._sockets)

    def begin(self, number: int, descriptor: int) -> None:
        """It was handed over."""
        self._sockets[number] = descriptor, os.fstat(descriptor).st_ino
        if self.has_ended:
            self.end()

    def over(self, number: int) -> None:
        """Its connection is over, or went back."""
        self._sockets.pop(number, None)

    def end(self) -> None:
        """The parent is gone. Handlers find their sockets at an end, and do what they do when a client leaves."""
        self.has_ended = True
        while self._sockets:
            _shut(*self._sockets.popitem()[1])


def _shut(descriptor: int, which: int) -> None:
    """Shut it down if it is still that socket."""
    try:
        if os.fstat(descriptor).st_ino != which:
            return
        sock = socket.socket(fileno=descriptor)
    except OSError:  # closed
        return
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:  # reset meanwhile
        pass
    finally:
        sock.detach()
