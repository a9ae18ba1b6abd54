"""One client's datagrams to one host: a session.

UDP has no connections, so a session begins with the first datagram of a client at a port, and ends when nothing has
passed for the idle time, or earlier where the tier says how many `responses` answer a datagram and all have come. It
has a socket of its own that is connected to the host: so an answer finds its client by the socket that it comes to, the
kernel drops what others send there, and an ICMP error comes back as an errno of the session that it concerns.

* The first datagram is kept until the host answers or the client sends more. Where the host refused it (ICMP port
  unreachable), it goes to another host, as a connect would.
* A host that refuses later has lost the session. What the client sends next goes to another host. So does what it sends
  once its host is ejected or unhealthy, once a node below neither reports nor answers, and after the drain time where
  the host drains or has left. That a host cannot be reached may be over in a moment, and costs a session that it
  answered lately nothing.
* A host that leaves a session without an answer, while its siblings answer what they were sent later, counts as failed,
  and the session ends.

Left out: what the client sent before its host failed, but for that first datagram. Programs that use UDP repeat what
they have no answer to.
"""

import contextlib
import errno
import socket
from typing import Final

from tierlb.balance.activity import NEVER_MOVED
from tierlb.balance.availability import Availability
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.l4.udp_context import PlacedSession, UdpClient, UdpContext
from tierlb.dataplane.upstream.host import Host
from tierlb.net.datagrams import MOST_DATAGRAM_BYTES, forget_errors
from tierlb.net.io import recv, send
from tierlb.net.reactor import READ
from tierlb.net.wheel import NEVER
from tierlb.wire.proxy_protocol import (
    OVER_TLV,
    SESSION_KNOWN,
    SESSION_UNKNOWN,
    SIGNATURE,
    BadProxyHeader,
    ProxyHeader,
    encode_local,
    encode_tlv,
    parse_v2,
)

ANSWERS_PER_EVENT: Final = 16
"""Read from one host in a row. Then other sessions get their turn."""
KEPT_BYTES: Final = 1500
"""A longer first datagram is not kept, so that clients who send only one each do not fill the memory."""
SILENT_AFTER_S: Final = 2.0
"""A host that has answered nothing of a session for so long is compared with its siblings. DNS clients wait for 5 s."""
LOST_AFTER_S: Final = 15.0
"""The same where it has answered before. WireGuard is silent for up to 10 s where it has nothing to say."""
LAST_ANSWER_S: Final = 2.0
"""How long a node that ends waits for an answer where it reads no more questions."""
CONFIRMED_S: Final = 10.0
"""A client that went on after an answer is at the address that it gives. For so long after it was used, its session
does not give way to others."""
TAKES_MORE: Final = Availability.AVAILABLE
TRANSIENT: Final = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ENOMEM, errno.EMSGSIZE, errno.EPERM})
"""Errors of a send for which no host is to blame: there is no room, the datagram is too long for the way, or a local
firewall drops it. The datagram is lost."""
UNREACHABLE: Final = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH})
"""ICMP errors of the way to the host, which may be over in a moment."""


class UdpSession(PlacedSession):
    """`asked` and `answered`: when the client and the host sent last. `waits_since`: when the client sent what the host
    has answered nothing after. `owed`: how many datagrams the host still has to send. `kept`: the first datagram, until
    it is known to have arrived. `bare`: datagrams go to the host as they came, because it is an endpoint, or a node
    that knows the client by now. `batch`: the reactor's batch in which the host's socket was read last."""

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
        "waits_since",
    )

    def __init__(self, context: UdpContext, client: UdpClient, host: Host, sock: socket.socket) -> None:
        now = context.reactor.now
        self.context = context
        self.client = client
        self.sock = sock
        self.fd = sock.fileno()
        self.bare = not host.spec.child
        self.asked = self.waits_since = now
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
        if (host.availability is not TAKES_MORE or host.closes) and self._is_left():
            self._release()
            context.place(self.client, (data,))
            return
        waited, self.asked = self.asked > self.answered, context.reactor.now
        if not waited:
            self.waits_since = self.asked
        context.counters.bytes_in += len(data)
        kept, self.kept = self.kept, None
        if not self._send(data):
            self._refused((data,) if kept is None else (kept, data))

    def _is_left(self) -> bool:
        """Whether the client's next datagram goes to another host. A node below that closes may have ended the session,
        and one that reports no more may serve still."""
        host = self.ticket.host
        if self.context.moves_from(host):
            return True
        if host.closes:
            return not self.bare
        return host.availability is Availability.SILENT and self._waits_for(SILENT_AFTER_S)

    def _waits_for(self, seconds: float) -> bool:
        return self.asked > self.answered and self.context.reactor.now - self.waits_since >= seconds

    def _send(self, data: bytes) -> bool:
        """False where the host is lost."""
        self.owed += self.context.config.responses
        try:
            sent = send(self.fd, data if self.bare else self.client.header + data)
        except OSError as error:
            if self._is_lost_by(error):
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
            self.context.lose(self.client, answered=self.answered > NEVER_MOVED)

    def on_ready(self, mask: int) -> None:
        """A host that answers a lot is read on as long as there is something; of any other one datagram is read,
        because a read that finds nothing costs as much."""
        context, client, host = self.context, self.client, self.ticket.host
        batch = context.reactor.batches
        many, self.batch = batch - self.batch <= 1, batch
        for _ in range(ANSWERS_PER_EVENT if many else 1):
            try:
                data = recv(self.fd, MOST_DATAGRAM_BYTES)
            except OSError as error:
                self.broken(error)
                return
            if data is None:
                return
            if data.startswith(SIGNATURE) and self._is_note(data):
                continue
            if self.answered == NEVER_MOVED:
                self._first_answer()
            self.answered = context.reactor.now
            if self.asked > host.served:
                host.served = self.asked
            context.counters.bytes_out += len(data)
            client.port.answer(data, client.key)
            if self.owed:
                self.owed -= 1
                if not self.owed:
                    self._finish()
                    return

    def broken(self, error: OSError) -> None:
        """An ICMP error came back for something that was sent."""
        if self._is_lost_by(error):
            self._refused(() if self.kept is None else (self.kept,))

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

    def _is_lost_by(self, error: OSError) -> bool:
        """Whether the host has no such session (any more). Notes the failure where the host is to blame for it."""
        code = error.errno or errno.EIO
        if code not in TRANSIENT:
            self.ticket.host.reach.dial_failed(code)
            if code not in UNREACHABLE or self.answered == NEVER_MOVED or self._waits_for(SILENT_AFTER_S):
                return True
        forget_errors(self.sock)
        return False

    def on_deadline(self) -> None:
        """Time to see whether it is idle, or its host silent."""
        context, now = self.context, self.context.reactor.now
        last_s = now - max(self.asked, self.answered)
        idle_s = context.config.idle_s
        if context.ending and not self.client.port.watching:
            idle_s = min(idle_s, LAST_ANSWER_S)
        host, watch = self.ticket.host, context.sessions.watch
        if self.asked <= self.answered:
            watch.note_served(host, self.asked)
        patience_s = SILENT_AFTER_S if self.answered == NEVER_MOVED else LOST_AFTER_S
        waits = self._waits_for(patience_s)
        if waits and host.spec.child:
            self.bare = False  # it may have lost the session, and not have said so to a datagram shorter than that
        silent = waits and watch.is_silent_since(host, self.waits_since)
        if silent:
            host.reach.connect_failed(refused=False)
        if silent or last_s >= idle_s:
            self.end()
            return
        self.deadline = now + min(patience_s, idle_s - last_s)
        context.reactor.wheel.file(self)

    def end_soon(self) -> None:
        """The node ends. Where the client's datagrams go to another process by now, only an answer is waited for."""
        if not self.client.port.watching:
            self.deadline = max(self.asked, self.answered) + LAST_ANSWER_S
            self.context.reactor.wheel.file(self)

    def end(self) -> None:
        """It is over, whatever nodes above and below think."""
        self._end_below()
        self._release()
        self.context.lose(self.client, answered=self.answered > NEVER_MOVED)

    def _finish(self) -> None:
        """It is over there too."""
        self._release()
        self.context.over(self.client, answered=self.answered > NEVER_MOVED)

    def _end_below(self) -> None:
        """A node below would keep its session for its own idle time."""
        if self.ticket.host.spec.child:
            with contextlib.suppress(OSError):
                send(self.fd, encode_local(self.context.identity.credentials + encode_tlv(OVER_TLV, b"")))

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
        context.reactor.close(self.sock.detach())
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
                if OVER_TLV in header.tlvs:
                    self._end_below()
                    self._finish()
                    return
                if header.source is not None and header.source != self.client.source:
                    self._finish()  # the parent's socket belongs to another client by now
                    self.context.introduce(self.client.port, self.client.key, data)
                    return
                self.client.port.answer(SESSION_KNOWN, self.client.key)
                data = data[header.length :]
        super().ask(data)


def introduction_of(data: bytes) -> ProxyHeader | None:
    """The PROXY header at the start of a datagram, if it is whole."""
    try:
        return parse_v2(data, datagram=True)
    except BadProxyHeader:
        return None
