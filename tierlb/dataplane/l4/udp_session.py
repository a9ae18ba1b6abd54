"""One client's datagrams to one host: a session.

UDP has no connections, so a session begins with the first datagram of a client at a port, and ends when nothing has
passed for the idle time, or earlier where the tier says how many `responses` answer a datagram and all have come. It
has a socket of its own that is connected to the host: so an answer finds its client by the socket that it comes to, the
kernel drops what others send there, and an ICMP error comes back as an errno of the session that it concerns.

* The first datagram is kept until the host answers or the client sends more. Where the host refused it (ICMP port
  unreachable), it goes to another host, as a connect would.
* A host that refuses later has lost the session. What the client sends next goes to another host. So does what it sends
  once its host is ejected or unhealthy, and after the drain time where the host drains or has left.
* A host that has answered nothing of a session, while its siblings answer what they were sent later, counts as failed,
  and the session ends.

Left out: what the client sent before its host failed, but for that first datagram. Programs that use UDP repeat what
they have no answer to.
"""

import errno
import socket
from typing import Final

from tierlb.balance.activity import NEVER_MOVED
from tierlb.balance.availability import Availability
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.l4.udp_context import PlacedSession, UdpClient, UdpContext
from tierlb.dataplane.upstream.host import Host
from tierlb.net.datagrams import MOST_DATAGRAM_BYTES
from tierlb.net.io import recv, send
from tierlb.net.reactor import READ
from tierlb.net.wheel import NEVER
from tierlb.wire.proxy_protocol import SESSION_KNOWN, SESSION_UNKNOWN, SIGNATURE, BadProxyHeader, ProxyHeader, parse_v2

ANSWERS_PER_EVENT: Final = 16
"""Read from one host in a row. Then other sessions get their turn."""
KEPT_BYTES: Final = 1500
"""A longer first datagram is not kept, so that clients who send only one each do not fill the memory."""
SILENT_AFTER_S: Final = 2.0
"""A host that has not answered a session for so long is compared with its siblings. DNS clients wait for 5 s."""
CONFIRMED_S: Final = 10.0
"""A client that went on after an answer is at the address that it gives. For so long after it was used, its session
does not give way to others."""
TAKES_MORE: Final = Availability.AVAILABLE
TRANSIENT: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM})
"""Errors of a send for which no host is to blame: there is no room, the datagram is too long for the way, or a local
firewall drops it. The datagram is lost."""


class UdpSession(PlacedSession):
    """`asked` and `answered`: when the client and the host sent last. `owed`: how many datagrams the host still has to
    send. `kept`: the first datagram, until it is known to have arrived. `bare`: datagrams go to the host as they came,
    because it is an endpoint, or a node that knows the client by now. `batch`: the reactor's batch in which the host's
    socket was read last."""

    __slots__ = (
        "answered",
        "asked",
        "bare",
        "batch",
        "client",
        "context",
        "fd",
        "kept",
        "owed",
        "sock",
        "ticket",
    )

    def __init__(self, context: UdpContext, client: UdpClient, host: Host, sock: socket.socket) -> None:
        now = context.reactor.now
        self.context = context
        self.client = client
        self.sock = sock
        self.fd = sock.fileno()
        self.bare = not host.spec.child
        self.asked = now
        self.answered = NEVER_MOVED
        self.batch = 0
        self.owed = 0
        self.kept: bytes | None = None
        self.deadline = self.filed = NEVER
        self.ticket: ConnectionTicket[Host] = host.begin_connection(now, client.tally)

    @property
    def began(self) -> float:
        return self.ticket.began

    def moves(self) -> tuple[float, float]:
        """When the client and the host sent last."""
        return self.asked, self.answered

    def idle_since(self, now: float) -> float:
        last = max(self.asked, self.answered)
        confirmed = self.answered > NEVER_MOVED and self.asked > self.began
        return NEVER if confirmed and now - last < CONFIRMED_S else last

    def give_way(self) -> bool:
        self.end()
        return True

    def start(self, datagrams: tuple[bytes, ...]) -> None:
        """Send the client's first datagrams to the host."""
        context = self.context
        context.sessions.placed[self] = None
        self.client.port.sessions[self.client.key] = self
        if not context.config.responses:  # else what is in flight is known by the answers
            context.sessions.watch.begin(self, self.ticket)
        self.deadline = self.asked + min(SILENT_AFTER_S, context.config.idle_s)
        context.reactor.wheel.file(self)
        context.reactor.add(self.fd, READ, self.on_ready)
        for number, data in enumerate(datagrams):
            if not self._send(data):
                self._refused(datagrams[number:])
                return
        if len(datagrams) == 1 and len(datagrams[0]) <= KEPT_BYTES:
            self.kept = datagrams[0]

    def ask(self, data: bytes) -> None:
        context, host = self.context, self.ticket.host
        self.asked = context.reactor.now
        if (host.availability is not TAKES_MORE or host.closes) and context.moves_from(host):
            self._release()
            context.place(self.client, (data,))
            return
        context.counters.bytes_in += len(data)
        kept, self.kept = self.kept, None
        if not self._send(data):
            self._refused((data,) if kept is None else (kept, data))

    def _send(self, data: bytes) -> bool:
        """False where the host is to blame; the error is noted."""
        self.owed += self.context.config.responses
        try:
            sent = send(self.fd, data if self.bare else self.client.header + data)
        except OSError as error:
            if error.errno not in TRANSIENT:
                self.ticket.host.reach.dial_failed(error.errno or errno.EIO)
                return False
            sent = 0
        if not sent and data:
            self.context.counters.lost_datagrams += 1
        return True

    def _refused(self, datagrams: tuple[bytes, ...]) -> None:
        """The host is not there. What it surely did not get goes to another one."""
        self.client.tried += (self.ticket.host,)
        self._release()
        if datagrams:
            self.context.place(self.client, datagrams)
        else:
            self.context.over(self.client, answered=self.answered > NEVER_MOVED)

    def on_ready(self, mask: int) -> None:
        """A host that answers a lot is read on as long as there is something; of any other one datagram is read,
        because a read that finds nothing costs as much."""
        context, client = self.context, self.client
        batch = context.reactor.batches
        many, self.batch = batch - self.batch <= 1, batch
        for _ in range(ANSWERS_PER_EVENT if many else 1):
            try:
                data = recv(self.fd, MOST_DATAGRAM_BYTES)
            except OSError as error:
                self._broken(error)
                return
            if data is None:
                return
            if data.startswith(SIGNATURE) and self._is_note(data):
                continue
            if self.answered == NEVER_MOVED:
                self._first_answer()
            self.answered = context.reactor.now
            context.counters.bytes_out += len(data)
            client.port.answer(data, client.key)
            if self.owed:
                self.owed -= 1
                if not self.owed:
                    self.end()
                    return

    def _first_answer(self) -> None:
        """The host is there, and the first datagram has arrived."""
        context, ticket = self.context, self.ticket
        self.kept = None
        self.bare = True
        self.client.tried = ()
        took_s = context.reactor.now - ticket.began
        context.latencies.add(took_s)
        context.counters.timed += 1
        context.counters.seconds += took_s
        ticket.host.peak.observe(context.reactor.now, took_s)
        ticket.host.reach.connected()
        context.sessions.watch.note_served(ticket.host, ticket.began)

    def _is_note(self, data: bytes) -> bool:
        """Whether a node below says that it knows the client, or that it does not (any more)."""
        if data not in (SESSION_KNOWN, SESSION_UNKNOWN) or not self.ticket.host.spec.child:
            return False
        self.bare = data == SESSION_KNOWN
        return True

    def _broken(self, error: OSError) -> None:
        """An ICMP error came back for something that was sent."""
        if error.errno in TRANSIENT:
            return
        self.ticket.host.reach.dial_failed(error.errno or errno.EIO)
        self._refused(() if self.kept is None else (self.kept,))

    def on_deadline(self) -> None:
        """Time to see whether it is idle, or its host silent."""
        context, now = self.context, self.context.reactor.now
        last_s = now - max(self.asked, self.answered)
        idle_s = context.config.idle_s
        silent = self.answered == NEVER_MOVED and context.sessions.watch.is_silent_since(self.ticket.host, self.began)
        if silent:
            self.ticket.host.reach.connect_failed(refused=False)
        if silent or last_s >= idle_s:
            self.end()
            return
        left_s = idle_s - last_s
        self.deadline = now + (left_s if self.answered > NEVER_MOVED else min(SILENT_AFTER_S, left_s))
        context.reactor.wheel.file(self)

    def end(self) -> None:
        """It is over."""
        self._release()
        self.context.over(self.client, answered=self.answered > NEVER_MOVED)

    def abort(self) -> None:
        """A handler failed."""
        if self in self.context.sessions.placed:
            self.end()

    def _release(self) -> None:
        """Give up the socket and what is counted at the host."""
        context = self.context
        del context.sessions.placed[self]
        context.sessions.watch.end(self)
        context.reactor.wheel.forget(self)
        context.reactor.close(self.sock)
        if self.answered > NEVER_MOVED:
            self.ticket.done(context.reactor.now)
        else:
            self.ticket.give_back(context.reactor.now)


class InnerSession(UdpSession):
    """A session that a parent passes on. Until the parent has had something back, it puts a PROXY header before each
    datagram."""

    __slots__ = ()

    def ask(self, data: bytes) -> None:
        if data.startswith(SIGNATURE):
            header = introduction_of(data)
            if header is not None and self.context.identity.parent(header) is not None:
                if header.source is not None and header.source != self.client.source:
                    self.end()  # the parent's socket belongs to another client by now
                    self.context.introduce(self.client.port, self.client.key, data)
                    return
                if self.answered == NEVER_MOVED:
                    self.client.port.answer(SESSION_KNOWN, self.client.key)
                data = data[header.length :]
        super().ask(data)


def introduction_of(data: bytes) -> ProxyHeader | None:
    """The PROXY header at the start of a datagram, if it is whole."""
    try:
        return parse_v2(data, datagram=True)
    except BadProxyHeader:
        return None
