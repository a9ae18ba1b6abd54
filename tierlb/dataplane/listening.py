"""The listening sockets of one node, over snapshots.

Listeners are kept by their value, so that a change never closes a port that it does not name. One that is named no more
lingers for a moment, because parents may still connect before they have the change too. Public sockets come from the
broker, if there is one: these are borrowed, and what waits in their queues is left to the other processes. Where there
is a port for parents, parents on the same machine also find the node in the meeting place (`handoff.listener`).
"""

import contextlib
import errno
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.handoff.listener import HandoffListener
from tierlb.model.address import Address, Transport
from tierlb.model.snapshot import Listener
from tierlb.net.broker import Broker
from tierlb.net.datagrams import DatagramPort, OnNewcomer, datagram_port
from tierlb.net.listeners import (
    ACCEPTS_PER_EVENT,
    Accepted,
    Acceptor,
    Exhausted,
    is_kept,
    listens_at,
    open_socket,
)
from tierlb.net.reactor import READ, Reactor
from tierlb.net.sockaddr import has_ipv6
from tierlb.net.unix_socket import SocketFiles
from tierlb.net.wheel import NEVER

LISTENER_LINGER_S = 2.0
"""A parent learns at the same time that it is to send elsewhere. Until it has, it may still connect."""


def bound_to(listener: Listener, sock: Any) -> Address:
    """Where the listener's socket is bound."""
    return listener.address if listener.address.is_fixed else Address(*sock.getsockname()[:2])


def _is_same_place(one: Listener, other: Listener) -> bool:
    """Whether they are one socket for clients' connections, at most with other settings."""
    is_public = not (one.inner or other.inner) and one.protocol is Transport.TCP
    return is_public and listens_at(one) == listens_at(other) and one.address.is_fixed


def _check_apart(wanted: tuple[Listener, ...]) -> None:
    """Raises OSError for two listeners that are one place on this machine, where each connection would find the
    settings of either. `--host` can make one place of two addresses."""
    for index, one in enumerate(wanted):
        for other in wanted[:index]:
            if _is_same_place(one, other) and attrs.evolve(one, spare=other.spare) != other:
                text = f"two listeners with different settings are both at {one.address} on this machine: give them"
                raise OSError(errno.EADDRINUSE, f"{text} different ports, or start the node without --host")


class Listening:
    """`counters` are those of the front that there is then: connections that a listener refused by their addresses
    are added to them as it ends."""

    def __init__(
        self,
        reactor: Reactor,
        broker: Broker | None,
        handoffs: HandoffListener,
        on_accept: Accepted,
        on_exhausted: Exhausted,
        on_newcomer: OnNewcomer,
        counters: Callable[[], Counters],
    ) -> None:
        self._reactor = reactor
        self._broker = broker
        self.handoffs = handoffs
        self._on_accept = on_accept
        self._on_exhausted = on_exhausted
        self._on_newcomer = on_newcomer
        self._counters = counters
        self._acceptors: dict[Listener, Acceptor | DatagramPort] = {}
        self._finishing: dict[Listener, DatagramPort] = {}
        """Ports out of service that are open for their sessions."""
        self._addresses: dict[Listener, Address] = {}
        self._files = SocketFiles()
        self._lingering: dict[Listener, tuple[Acceptor | DatagramPort, float]] = {}
        """Listeners that are named no more, and until when they accept."""
        if broker is not None:
            reactor.add(broker.fileno(), READ, self._take_offers)

    def open(self, wanted: Iterable[Listener], had: Mapping[Listener, Address]) -> dict[Listener, Any]:
        """Sockets for those that are new, at the ports that they `had` if these are free. Raises OSError if one cannot
        be opened, and then none is."""
        had = self._addresses | dict(had)
        self._finishing = {listener: port for listener, port in self._finishing.items() if port.watching}
        is_open = {*self._acceptors, *self._lingering, *self._finishing}
        opened: dict[Listener, Any] = {}
        wanted = tuple(wanted)
        _check_apart(wanted)
        try:
            for listener in wanted:
                if listener.spare and not has_ipv6():
                    continue
                if not (listener in is_open or listener in opened or self._known_as(listener)):
                    known = self._open_again(listener, had.get(listener))
                    opened[listener] = known or open_socket(listener, self._broker)
        except OSError:
            for listener, sock in opened.items():
                sock.close()
                self._give_back(listener)
            raise
        return opened

    def _known_as(self, listener: Listener) -> Listener | None:
        """A listener that is open at the same place with other settings: its socket stays."""
        known = (*self._acceptors, *self._lingering)
        return None if listener in known else next((each for each in known if _is_same_place(each, listener)), None)

    def _rename(self, known: Listener, listener: Listener) -> None:
        acceptor = self._acceptors.pop(known, None) or self._lingering.pop(known)[0]
        assert isinstance(acceptor, Acceptor)
        acceptor.follow(listener)
        self._acceptors[listener] = acceptor
        self._addresses[listener] = self._addresses.pop(known)
        self._files.permit(listener.address, listener.mode)

    @staticmethod
    def _open_again(listener: Listener, had: Address | None) -> Any:
        """At the port that the kernel chose when it was open before, if it is free."""
        if had is None or listener.address.is_fixed:
            return None
        with contextlib.suppress(OSError):
            return open_socket(attrs.evolve(listener, address=Address(listener.address.host, had.port)))
        return None

    def replace(
        self,
        wanted: tuple[Listener, ...],
        opened: Mapping[Listener, Any],
        linger_s: Callable[[Listener], float],
        now: float,
    ) -> None:
        """Accept from these, of which some were `opened` for it. Others go on for `linger_s`."""
        for listener in wanted:
            if (known := self._known_as(listener)) is not None:
                self._rename(known, listener)
        for listener in [known for known in self._acceptors if known not in wanted]:
            self._lingering[listener] = (self._acceptors.pop(listener), now + linger_s(listener))
        for listener in [known for known in self._lingering if known in wanted]:
            self._acceptors[listener] = self._lingering.pop(listener)[0]
        for listener in [known for known in self._finishing if known in wanted]:
            port = self._acceptors[listener] = self._finishing.pop(listener)
            port.ended = False
        self._end_lingering(now)
        for listener, sock in opened.items():
            self._acceptors[listener] = self._acceptor(listener, sock)
            self._addresses[listener] = bound_to(listener, sock)
            if listener.address.is_unix and not self._is_borrowed(listener):
                self._files.note(listener.address)
        inner = (each for each in self._acceptors if each.inner and each.protocol is Transport.TCP)
        self.handoffs.follow(self._addresses[each] for each in inner)

    def _acceptor(self, listener: Listener, sock: Any) -> Acceptor | DatagramPort:
        if listener.protocol is Transport.UDP:
            return datagram_port(self._reactor, listener, sock, self._on_newcomer, self._note_lost)
        room = lambda: ACCEPTS_PER_EVENT  # noqa: E731
        return Acceptor(self._reactor, listener, sock, room, self._on_accept, self._on_exhausted)

    def _note_lost(self, count: int) -> None:
        self._counters().lost_datagrams += count

    def addresses(self, listeners: Iterable[Listener]) -> tuple[Address, ...]:
        """Where they are bound, or were."""
        return tuple(self._addresses.get(listener, listener.address) for listener in listeners)

    @property
    def strangers(self) -> int:
        """Connections that the listeners refused so far, without those of listeners that ended."""
        return sum(acceptor.strangers for acceptor in self._all())

    def tick(self, now: float) -> float:
        """End those that lingered for long enough; let those accept again that stood back. Returns when to call it
        again at the latest."""
        self._end_lingering(now)
        for acceptor in self._acceptors.values():
            if isinstance(acceptor, Acceptor) and not acceptor.watching and acceptor.filed == NEVER:
                acceptor.come_back()
        return min((until for _, until in self._lingering.values()), default=NEVER)

    def drain(self) -> None:
        """End all. What waits in a queue of our own is taken, and what parents on this machine hand over is left to
        them."""
        for acceptor in self._all():
            self._end(acceptor)
        self.handoffs.drain()
        self._forget()

    def close(self) -> None:
        """At once."""
        for acceptor in (*self._all(), *self._finishing.values()):
            self._files.remove(acceptor.listener.address)
            acceptor.close()
        self.handoffs.close()
        self._forget()

    def _take_offers(self, mask: int) -> None:
        """Take what waits in the queues of other nodes, for which the supervisor asks."""
        assert self._broker is not None
        try:
            offers = self._broker.offers()
        except OSError:  # the supervisor is gone
            self._reactor.remove(self._broker.fileno())
            return
        for address, sock, most in offers:
            with sock:
                for acceptor in self._acceptors.values():
                    if listens_at(acceptor.listener) == address:
                        acceptor.take_from(sock, most)

    def _all(self) -> list[Acceptor | DatagramPort]:
        return [*self._acceptors.values(), *(acceptor for acceptor, _ in self._lingering.values())]

    def _forget(self) -> None:
        self._acceptors.clear()
        self._lingering.clear()
        self._finishing.clear()

    def _end_lingering(self, now: float) -> None:
        """One that other processes accept from need not linger."""
        for listener, (acceptor, until) in list(self._lingering.items()):
            if now >= until or self._is_borrowed(listener):
                del self._lingering[listener]
                self._end(acceptor)

    def _end(self, acceptor: Acceptor | DatagramPort) -> None:
        if self._is_borrowed(acceptor.listener):
            acceptor.close()
            self._give_back(acceptor.listener)
        else:
            self._files.remove(acceptor.listener.address)
            acceptor.finish()
            if isinstance(acceptor, DatagramPort):
                self._finishing[acceptor.listener] = acceptor
        self._counters().rejected += acceptor.strangers

    def _give_back(self, listener: Listener) -> None:
        if self._broker is not None and is_kept(listener):
            self._broker.give_back(listens_at(listener))

    def _is_borrowed(self, listener: Listener) -> bool:
        return self._broker is not None and is_kept(listener)
