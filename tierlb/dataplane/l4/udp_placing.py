"""How a client that comes with a datagram gets a host: the `relay` forwarder for UDP.

As for a TCP connection, up to three hosts are tried. Whether a host takes a datagram shows later than whether it takes
a connection: `udp_session` comes back here with what a host refused.
"""

import errno
import socket
from typing import Any, Final

from tierlb.dataplane.connection_cap import ConnectionCap
from tierlb.dataplane.explanation import explain_choice
from tierlb.dataplane.l4.routes import NO_ROUTE
from tierlb.dataplane.l4.udp_context import UdpClient, UdpContext
from tierlb.dataplane.l4.udp_session import KEPT_BYTES, InnerSession, UdpSession, introduction_of
from tierlb.dataplane.parent_identity import processes_of
from tierlb.dataplane.upstream.host import Host
from tierlb.model.snapshot import Destination
from tierlb.net.datagrams import DatagramPort, DatagramSession, dial_datagrams
from tierlb.net.shortage import is_own
from tierlb.wire.client_hello import NO_HELLO
from tierlb.wire.explain_datagram import nonce_in, with_choice
from tierlb.wire.proxy_protocol import OVER_TLV, SESSION_UNKNOWN, VIA, encode_tlv, encode_v2

HOSTS_TRIED: Final = 3
"""For one datagram, as many as for one TCP connection."""


class HeldClient(DatagramSession):
    """A client whose destination has no host yet. Its first datagram waits; what it sends meanwhile is lost."""

    __slots__ = ("client", "context", "data")

    def __init__(self, context: UdpContext, client: UdpClient, data: bytes) -> None:
        self.context = context
        self.client = client
        self.data = data

    def ask(self, data: bytes) -> None:
        """There is nowhere to send it yet."""

    def abort(self) -> None:
        """It goes on when the wait is over."""

    def again(self) -> None:
        """There may be a host."""
        self.context.sessions.held.discard(self.client)
        self.context.place(self.client, (self.data,))


class UdpPlacing(UdpContext):
    """Gives clients hosts. `cap`: how many sessions there may be."""

    cap: ConnectionCap

    def newcomer(self, port: DatagramPort, key: Any, data: bytes) -> None:
        """A datagram of a client without a session."""
        now = self.reactor.now
        if self.ending:
            self.counters.rejected += 1
        elif not self.cap.admit(now):
            self.cap.refuse(now)
        elif port.listener.inner:
            self.introduce(port, key, data)
        else:
            self._begin(UdpClient(port, key, self.counters.tallies.outside, now), data)

    def introduce(self, port: DatagramPort, key: Any, data: bytes) -> None:
        header = introduction_of(data)
        parent = None if header is None else self.identity.parent(header)
        if header is not None and parent is not None and OVER_TLV in header.tlvs:
            return  # it is over here as well
        if header is None or header.source is None or parent is None:
            self.counters.rejected += 1
            is_note = header is not None and header.source is None  # an answer might be answered, without end
            if len(data) >= len(SESSION_UNKNOWN) and not is_note:
                port.answer(SESSION_UNKNOWN, key)
            return
        client = UdpClient(port, key, self.counters.tallies.of(parent), self.reactor.now, header.source)
        client.asked = header.destination
        client.processes = "\n".join(processes_of(parent, header)).encode("latin-1")
        self._begin(client, data[header.length :])

    def _begin(self, client: UdpClient, data: bytes) -> None:
        self.counters.connections += 1
        client.tally.begin()
        client.tally.open()
        self.counters.bytes_in += len(data)
        if self.explaining.active(self.reactor.now) and self.explaining.covers(nonce_in(data), self.reactor.now):
            self._explain(client, data)
        else:
            self.place(client, (data,))

    def _explain(self, client: UdpClient, data: bytes) -> None:
        """Add the choice for this client; a node below adds its own, an endpoint does not get it."""
        config, route = self.config, self._route_of(client)
        if route == NO_ROUTE:
            self._unrouted(client)
            return
        host_set = config.routes.splits[route].pick()
        host = host_set.choose((), config.key_of(client.source[0]))
        words = config.routes.told(route)
        told = with_choice(data, explain_choice(self.name, config.balance, host_set.hosts, host, route=words))
        if host is not None and host.spec.child:
            sock, code = dial_datagrams(host.spec.address, host.reach.port_at_risk)
            if not code:
                self._start(client, host, sock, (told,))
                return
            sock.close()
        client.port.answer(told, client.key)
        self.over(client, answered=False)

    def place(self, client: UdpClient, datagrams: tuple[bytes, ...]) -> None:
        """Holds or drops them where there is no host."""
        try:
            reason = self._place(client, datagrams)
        except Exception:
            self.over(client, answered=False)
            raise
        if reason is not None:
            if reason:
                self.log.warning("session_dropped", reason=reason, tried=[host.name for host in client.tried])
            self.counters.errors += 1
            self.lose(client, answered=False)

    def _place(self, client: UdpClient, datagrams: tuple[bytes, ...]) -> str | None:
        """Why no host took them; empty where this node lacked a resource, which was logged already."""
        config, route = self.config, self._route_of(client)
        if route == NO_ROUTE:
            self._unrouted(client)
            return None
        split = config.routes.splits[route]
        while len(client.tried) < HOSTS_TRIED:
            tried = client.tried
            host_set = (split.other(tried) if tried else None) or split.pick()
            host = host_set.choose(tried, config.key_of(client.source[0]) if config.hashes else 0)
            if host is None:
                held = not tried and self._hold(client, datagrams[0], host_set.destination)
                return None if held else host_set.why_none()
            try:
                sock, code = dial_datagrams(host.spec.address, host.reach.port_at_risk)
            except OSError as error:
                host.reach.dial_failed(error.errno or errno.EIO)
                return ""
            if not code:
                self._start(client, host, sock, datagrams)
                return None
            sock.close()
            host.reach.dial_failed(code)
            if is_own(code):
                return ""
            client.tried += (host,)
        return "no host took it"

    def _route_of(self, client: UdpClient) -> int:
        """The position of its route, or NO_ROUTE."""
        routes = self.config.routes
        return 0 if routes.only is not None else routes.find(client.source[0], client.destination[1], NO_HELLO)

    def _unrouted(self, client: UdpClient) -> None:
        self.unrouted.note(self.reactor.now, client.source[0], client.destination[1], None)
        self.lose(client, answered=False)

    def _hold(self, client: UdpClient, data: bytes, destination: Destination) -> bool:
        """Keep a datagram until there may be a host; false where that is not to be expected."""
        hold = self.sessions.hold
        if len(data) > KEPT_BYTES or not hold.applies(destination, client.began):
            return False
        held = HeldClient(self, client, data)
        client.port.sessions[client.key] = held
        self.sessions.held.add(client)
        hold.add(destination, client.began, held.again)
        return True

    def _start(self, client: UdpClient, host: Host, sock: socket.socket, datagrams: tuple[bytes, ...]) -> None:
        inner = client.port.listener.inner
        if host.spec.child and not client.header:
            tlvs = self.identity.credentials + (encode_tlv(VIA, client.processes) if client.processes else b"")
            client.header = encode_v2(client.source, client.destination, tlvs, datagrams=True)
        session = InnerSession(self, client, host, sock) if inner else UdpSession(self, client, host, sock)
        try:
            session.start(datagrams)
        except Exception:
            session.abort()
            raise
