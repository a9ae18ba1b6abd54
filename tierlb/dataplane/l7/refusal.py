"""A client that is turned away because the node is full: a 503 with Retry-After, then the close.

Nothing of the request is read before the answer, and nothing is kept. Closing a socket with unread bytes resets it,
and the reset may overtake the answer (RFC 9112 §9.6), so what the client sends is thrown away for a moment first.
"""

import os
from typing import Final

from tierlb.dataplane.l7.reply import own_answer
from tierlb.net.io import recv, send, shutdown
from tierlb.net.reactor import Reactor
from tierlb.net.stream import Stream

REFUSED_LINGER_S: Final = 1.0
MOST_LINGERING: Final = 64
"""Refusals that linger at once. The oldest is closed for the next one, so that they take no descriptors to speak of."""


class RefusedConnection(Stream):
    """One connection that gets `answer` and ends."""

    __slots__ = ("refusals",)

    def __init__(self, reactor: Reactor, fd: int, answer: bytes, refusals: "Refusals") -> None:
        super().__init__(reactor, fd)
        self.refusals = refusals
        self.watch()
        self.arm(REFUSED_LINGER_S)
        self.send(answer)
        if self.backlog is None:
            self.shutdown_write()
        else:  # a send buffer that does not hold one short answer
            self.close()

    def on_data(self, data: bytes) -> None:
        """Thrown away."""

    def on_eof(self) -> None:
        self.close()

    def on_broken(self, error: OSError) -> None:
        self.close()

    def on_deadline(self) -> None:
        self.close()

    def close(self) -> None:
        super().close()
        self.refusals.over(self)


class Refusals:
    """Those under way, oldest first."""

    __slots__ = ("_lingering", "_reactor", "_text")

    def __init__(self, name: str, reactor: Reactor) -> None:
        self._reactor = reactor
        self._lingering: dict[RefusedConnection, None] = {}
        self._text = f"{name}: this node is full, try again in a moment\n".encode()

    def refuse(self, fd: int) -> None:
        """Answer and close."""
        while len(self._lingering) >= MOST_LINGERING:
            next(iter(self._lingering)).close()
        refusal = RefusedConnection(self._reactor, fd, self._answer(), self)
        if not refusal.closed:
            self._lingering[refusal] = None

    def refuse_at_once(self, fd: int) -> None:
        """The same while there is no descriptor to spare: whether the answer arrives is up to the kernel."""
        try:
            send(fd, self._answer())
            shutdown(fd)
            recv(fd, 65536)  # most requests have arrived by now; unread, they would make the close a reset
        except OSError:
            pass  # nothing was sent yet, or the client is gone
        finally:
            os.close(fd)

    def _answer(self) -> bytes:
        return own_answer(503, self._text, keep_alive=False, extra=b"Retry-After: 1\r\n")

    def over(self, refusal: RefusedConnection) -> None:
        self._lingering.pop(refusal, None)

    def close(self) -> None:
        for refusal in list(self._lingering):
            refusal.close()
