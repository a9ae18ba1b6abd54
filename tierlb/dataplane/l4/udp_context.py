"""What all sessions through an l4 node over UDP share: where they are counted, and who they belong to.

A client is counted from its first datagram until its session is over, whatever hosts it has had.
"""

from collections.abc import Mapping
from typing import Any

from tierlb.balance.availability import Availability
from tierlb.balance.drain import Remainder
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.hold import Hold
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.l4.kernel.seat import KernelSeat
from tierlb.dataplane.l4.unrouted import Unrouted
from tierlb.dataplane.l4.watch import UseWatch
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.tier_tls import InnerTls
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.tls import ListenerTls
from tierlb.net.datagrams import DatagramPort, DatagramSession
from tierlb.net.reactor import Reactor
from tierlb.net.server_tls import ServerTls
from tierlb.telemetry.sketch import Sketch
from tierlb.telemetry.tally import Tally
from tierlb.wire.proxy_protocol import SESSION_UNKNOWN


class UdpClient:
    """One client at one port: its `key` there, the tally of the parent that it comes from, the processes above that it
    passed, a line each, and when it came. `named`: its address, where a parent named it, and `asked` the one that it
    sent to, likewise. `tried`: hosts that refused
    its first datagram. `header` is what introduces it to nodes below. It is `settled` once it is counted no more."""

    __slots__ = ("asked", "began", "header", "key", "named", "port", "processes", "settled", "tally", "tried")

    def __init__(
        self, port: DatagramPort, key: Any, tally: Tally, began: float, named: tuple[str, int] | None = None
    ) -> None:
        self.port = port
        self.key = key
        self.named = named
        self.asked: tuple[str, int] | None = None
        self.tally = tally
        self.processes = b""
        self.began = began
        self.tried: tuple[Host, ...] = ()
        self.header = b""
        self.settled = False

    @property
    def source(self) -> tuple[str, int]:
        """Its host and port."""
        return self.named or self.port.source_of(self.key)

    @property
    def destination(self) -> tuple[str, int]:
        """The host and port that it sent to."""
        address = self.port.listener.address
        return self.asked or (address.host, address.port)


class PlacedSession(DatagramSession):
    """A client's session with a host."""

    __slots__ = ()

    ticket: ConnectionTicket[Host]

    def idle_since(self, now: float) -> float:
        """Since when nothing has passed; NEVER for one that does not give way."""
        raise NotImplementedError

    def give_way(self) -> bool:
        """End it for a new one; false if it does not give way."""
        raise NotImplementedError

    def end_soon(self) -> None:
        """The node ends."""
        raise NotImplementedError

    def end(self) -> None:
        """It is over; a datagram of the client begins another one."""
        raise NotImplementedError


class UdpSessions:
    """Those that have a host, in the order in which they began, and what else depends on them."""

    def __init__(self, hold: Hold, watch: UseWatch) -> None:
        self.placed: dict[PlacedSession, None] = {}
        self.held: set[UdpClient] = set()
        """Clients whose first datagram waits for a host."""
        self.hold = hold
        self.watch = watch
        self.leaving: dict[Host, float] = {}
        """Hosts that get nothing new, and since when a session asked for that."""

    def __len__(self) -> int:
        return len(self.placed) + len(self.held)

    def has_left(self, host: Host, now: float, drain_s: float) -> bool:
        """Whether a host that gets nothing new has had the drain time for the sessions that it had."""
        return now >= self.leaving.setdefault(host, now) + drain_s

    def tidy(self) -> None:
        """Forget hosts that have come back, or have no session any more."""
        self.leaving = {host: since for host, since in self.leaving.items() if host.closes and host.in_flight}

    def cut_from(self, host: Host) -> Remainder:
        """End the sessions of one host; what that was."""
        found = [session for session in self.placed if session.ticket.host is host]
        for session in found:
            session.end()
        return Remainder(connections=len(found))

    def cut(self) -> None:
        """End all."""
        for session in list(self.placed):
            session.end()


class UdpContext:
    """`config` is set before the first datagram comes, and swapped with each snapshot. `ending`: the node drains.
    `load_field`, `full` and `tls` have no effect here: there is no answer to put them in, and no TLS."""

    config: L4Config

    def __init__(
        self, name: str, reactor: Reactor, log: Any, identity: ParentIdentity, registry: HostRegistry, watch: UseWatch
    ) -> None:
        self.name = name
        self.reactor = reactor
        self.log = log
        self.identity = identity
        self.registry = registry
        self.counters = Counters()
        self.latencies = Sketch()
        self.explaining = Explaining()
        self.unrouted = Unrouted(self.counters, log)
        self.sessions = UdpSessions(Hold(reactor, log), watch)
        self.kernel = KernelSeat(self)
        self.load_field = b""
        self.tls: ServerTls | None = None
        self.shown: Mapping[ListenerTls, ServerTls] = {}
        self.inner_tls: InnerTls | None = None
        self.full = self.ending = False

    @property
    def draining(self) -> bool:
        """Whether it takes no new clients."""
        return self.ending or self.config.draining

    def way_to(self, host: Host) -> str:
        """How the datagrams of new clients get to this host, in a word."""
        return "nftables" if self.kernel.forwards else "relay"

    def moves_from(self, host: Host) -> bool:
        """Whether what clients send next is to go to another host than this one, which is not available."""
        if host.availability in (Availability.EJECTED, Availability.UNHEALTHY):
            return True
        return host.closes and self.sessions.has_left(host, self.reactor.now, self.config.drain_s)

    def place(self, client: UdpClient, datagrams: tuple[bytes, ...]) -> None:
        """Give the client's datagrams to a host that it has not tried yet."""
        raise NotImplementedError

    def introduce(self, port: DatagramPort, key: Any, data: bytes) -> None:
        """A datagram of a client that is unknown at a port for parents."""
        raise NotImplementedError

    def lose(self, client: UdpClient, *, answered: bool) -> None:
        """The client has no session here any more, and a parent is to name it again before what it sends next."""
        if client.named is not None:
            client.port.answer(SESSION_UNKNOWN, client.key)
        self.over(client, answered=answered)

    def over(self, client: UdpClient, *, answered: bool) -> None:
        """The client has no session any more. A second call does nothing."""
        if client.settled:
            return
        client.settled = True
        counters, now = self.counters, self.reactor.now
        client.tally.end(done=answered)
        client.tally.close()
        counters.connections -= 1
        counters.ended += 1
        counters.lived_s += now - client.began
        client.port.leave(client.key)
