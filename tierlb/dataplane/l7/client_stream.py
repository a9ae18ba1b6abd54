"""A client's connection as the front sees it, whatever protocol it speaks, and how it ends politely.

Ending politely means *lingering*: our side is shut, and what the client is still sending is thrown away for a while.
Closing with unread bytes would make the kernel reset the connection, and the answer may be lost with it (RFC 9112
§9.6).
"""

from collections.abc import Sequence

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.lifetime import Lifetime
from tierlb.dataplane.l7.relocation import Candidate
from tierlb.net.stream import Stream
from tierlb.net.wheel import NEVER

CLIENT_LINGER_S = 2.0
SILENT_S = 2.0
"""A connection that has not brought a whole first head for so long may give way when the node is full. It is not idle
before: a burst of clients that connect at once and ask a moment later must not push out one another."""


class ClientStream(Stream):
    """`lingering`: it ends, and what still comes is thrown away."""

    __slots__ = ("front", "lifetime", "lingering")

    def __init__(self, front: FrontState, fd: int, lifetime: Lifetime) -> None:
        super().__init__(front.reactor, fd)
        self.front = front
        self.lingering = False
        self.lifetime = lifetime

    @property
    def identity(self) -> ClientIdentity:
        """Of its client, as far as it is known yet."""
        raise NotImplementedError

    def under_way(self) -> Sequence[Exchange]:
        """The exchanges that are."""
        raise NotImplementedError

    def candidate(self) -> Candidate:
        """What `relocation` chooses by."""
        raise NotImplementedError

    def idle_since(self, now: float) -> float:
        """Since when it waits for a request; NEVER while it serves one, or has not been silent long enough."""
        raise NotImplementedError

    def give_way(self) -> bool:
        """Close it, for the node is full. False if a request is there that was not read yet."""
        raise NotImplementedError

    def end_within(self, seconds: float) -> None:
        """Let it end, as soon as what is under way after so long is over."""
        raise NotImplementedError

    def cut(self) -> None:
        """The drain time is over: end it, so that nothing that has begun looks whole."""
        raise NotImplementedError

    def on_busy(self) -> None:
        """The first of several requests at once began."""

    def on_idle(self) -> None:
        """The last of them is over."""

    # The end.

    def finish(self, *, linger: bool) -> None:
        """Close once everything is written; `linger` first if the client may still be sending."""
        if self.backlog is None and (self.eof or not linger):
            self.close()
            return
        self.lingering = True
        self.arm(CLIENT_LINGER_S if self.backlog is None else self.front.config.timeouts.stream)
        self.resume()
        if self.backlog is None:
            self.shutdown_write()

    def linger_on(self) -> None:
        """All is written; the client may still be sending."""
        if self.eof:
            self.close()
        else:
            self.arm(CLIENT_LINGER_S)
            self.shutdown_write()

    def on_progress(self) -> None:
        if self.deadline != NEVER:
            self.arm(self.front.config.timeouts.stream)
