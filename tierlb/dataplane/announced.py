"""A connection that a balancer above announces with the PROXY protocol, until its header is there.

Only listeners with `proxy_protocol` have such connections, from the networks that it names; from any other peer a
header is not believed. The header is peeked at until it is whole and then taken out of the socket, so what follows is
the client's, and the socket can be handed over to another node like any other. A peer that sends none in time, or
something else, is refused, since its own address would be taken for the client's.
"""

from collections.abc import Callable
from typing import Any, Final

from tierlb.dataplane.counters import Counters
from tierlb.model.snapshot import Listener
from tierlb.net.asked import recv_peek
from tierlb.net.io import recv
from tierlb.net.networks import AcceptedNetworks
from tierlb.net.reactor import ERROR, HANGUP, ON_CHANGE, PEER_ENDED, READ, Reactor
from tierlb.net.stream import Stream
from tierlb.wire.announcement import Origin, kept_tlvs, parse_any
from tierlb.wire.proxy_protocol import MAX_HEADER_BYTES, BadProxyHeader

MOST_KNOWN: Final = 64
"""Lists of networks, one for each listener that has one. Snapshots bring others."""
LEFT: Final = PEER_ENDED | HANGUP | ERROR
OnKnown = Callable[[int, tuple[str, int], Listener, Origin | None], None]
"""Gets the descriptor, the address of the client, the listener, and what the balancer told."""


class Announcements:
    """The connections of one node whose headers are awaited. `on_known` gets each; until then it counts as open."""

    def __init__(self, reactor: Reactor, log: Any, counters: Counters, on_known: OnKnown) -> None:
        self.reactor = reactor
        self.log = log
        self.counters = counters
        self.on_known = on_known
        self.pending: set[Announcement] = set()
        self._networks: dict[tuple[str, ...], AcceptedNetworks] = {}

    def begin(self, fd: int, peer: tuple[str, int], listener: Listener, within_s: float) -> bool:
        """Wait for the header of a connection. False if the peer is not among those that may announce clients."""
        networks = self._networks.get(listener.announced_from)
        if networks is None:
            if len(self._networks) >= MOST_KNOWN:
                self._networks.clear()
            networks = self._networks[listener.announced_from] = AcceptedNetworks(listener.announced_from)
        if not networks.accept(peer[0]):
            return False
        announcement = Announcement(self.reactor, fd)
        announcement.awaited, announcement.peer, announcement.listener = self, peer, listener
        announcement.began = self.reactor.now
        announcement.watch(READ | PEER_ENDED | ON_CHANGE)  # what was only peeked at keeps a socket readable
        announcement.arm(within_s)
        self.pending.add(announcement)
        self.counters.connections += 1
        return True

    def cut(self) -> None:
        """The node ends."""
        for each in list(self.pending):
            each.give_up()


class Announcement(Stream):
    """One connection."""

    __slots__ = ("awaited", "began", "listener", "peer")

    awaited: Announcements
    began: float
    listener: Listener
    peer: tuple[str, int]

    def on_ready(self, mask: int) -> None:
        try:
            seen = recv_peek(self.fd, MAX_HEADER_BYTES)
        except BlockingIOError:
            return
        except OSError:
            self.give_up()
            return
        try:
            header = parse_any(seen)
        except BadProxyHeader as error:
            self._refuse(error.reason)
            return
        if header is None:
            if mask & LEFT and seen:
                self._refuse("the connection ended before its PROXY header")
            elif mask & LEFT:  # as a check of the port does
                self.give_up()
            return
        recv(self.fd, header.length)
        told = None
        if header.source is not None:
            told = Origin(header.source, header.destination, kept_tlvs(header.tlvs))
        self._known(told)

    def _known(self, told: Origin | None) -> None:
        awaited, peer, listener = self.awaited, self.peer, self.listener
        awaited.pending.discard(self)
        awaited.counters.connections -= 1
        fd = self.detach()
        try:
            awaited.on_known(fd, peer if told is None else told.source, listener, told)
        except Exception:
            awaited.reactor.close(fd)
            raise

    def on_deadline(self) -> None:
        self._refuse("its PROXY header did not arrive in time")

    def on_broken(self, error: OSError) -> None:
        self.give_up()

    def _refuse(self, reason: str) -> None:
        awaited, at = self.awaited, str(self.listener.address)
        awaited.counters.rejected += 1
        awaited.log.warning("announcement_refused", peer=self.peer[0], listener=at, reason=reason)
        self.give_up()

    def give_up(self) -> None:
        """It ends without a client."""
        if self in self.awaited.pending:
            self.awaited.pending.discard(self)
            self.awaited.counters.connections -= 1
        self.close()

    def idle_since(self, now: float) -> float:
        """Since when it waits."""
        return self.began

    def give_way(self) -> bool:
        """Close it for a new connection."""
        self.give_up()
        return True

    def abort(self) -> None:
        """A handler failed."""
        self.give_up()
