"""Bound UDP sockets in the reactor: datagrams are read in batches, and each goes to the session of its client.

A port knows its sessions by their clients' addresses, so a datagram costs one look-up beside its two system calls. One
of an unknown client goes to `on_newcomer`. Answers leave by the same socket. Where that is bound to all addresses of
the machine, they leave from the address that was asked (IP_PKTINFO): from another one a client would not take them.

No datagram is passed on in part: the buffer is larger than the largest one.

Where the C module is built (net/io.py), `BatchPort` reads and writes many datagrams with one system call.

A port that is taken out of service reads no more, or for its sessions alone, and closes with the last of them.
"""

import contextlib
import errno
import socket
from collections.abc import Callable, Hashable
from typing import Any, Final

from mypy_extensions import mypyc_attr

from tierlb.model.address import Address
from tierlb.model.snapshot import Listener
from tierlb.net.io import IN_C, recvmmsg, sendmmsg
from tierlb.net.io_twin import BATCH, Datagram
from tierlb.net.networks import AcceptedNetworks
from tierlb.net.reactor import READ, Reactor
from tierlb.net.self_connect import reached_itself
from tierlb.net.sockaddr import unpack_sockaddr
from tierlb.net.wheel import Timed

DATAGRAMS_PER_EVENT: Final = 64
"""Then others get their turn; the rest waits in the kernel's buffer. A relayed datagram takes some 10 µs."""
MOST_DATAGRAM_BYTES: Final = 65536
"""A read of so many bytes is never filled: a UDP datagram over IPv6 has at most 65,527 bytes of data."""
RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""What the kernel keeps for a port between two turns, as far as net.core.rmem_max allows. The usual 208 KiB are 250
datagrams: what comes within 2 ms at 100,000 a second."""
IP_PKTINFO: Final = 8
"""<linux/in.h>; the socket module has no name for it."""
CONTROL_BYTES: Final = 64
"""Room for one control message with the address that was asked."""
IP_RECVERR: Final = 11
IPV6_RECVERR: Final = 25
"""<linux/in.h>, <linux/in6.h>. Without it a socket hears of a closed port, but not of a machine that is gone."""


@mypyc_attr(allow_interpreted_subclasses=True)
class DatagramSession(Timed):
    """What a port passes a known client's datagrams to."""

    __slots__ = ()

    def ask(self, data: bytes) -> None:
        """The client sent this."""
        raise NotImplementedError

    def abort(self) -> None:
        """A handler failed: the session ends."""
        raise NotImplementedError


OnNewcomer = Callable[["DatagramPort", Any, bytes], None]
"""Port, the client's key at it, and what it sent."""
OnLost = Callable[[int], None]
"""So many answers that the kernel did not take."""


class DatagramPort:
    """One socket. `sessions` by their clients' keys, here the addresses. `burst`: how many datagrams are read in a row,
    as many as were there lately: a read that finds nothing costs as much as one that does. `watching`: it reads.
    `ended`: it is out of service, and closes with the last session."""

    __slots__ = (
        "_fd",
        "_networks",
        "_on_lost",
        "_on_newcomer",
        "burst",
        "ended",
        "listener",
        "reactor",
        "sessions",
        "sock",
        "strangers",
        "watching",
    )

    def __init__(
        self, reactor: Reactor, listener: Listener, sock: socket.socket, on_newcomer: OnNewcomer, on_lost: OnLost
    ) -> None:
        self.reactor = reactor
        self.listener = listener
        self.sock = sock
        self.sessions: dict[Hashable, DatagramSession] = {}
        self.burst = 1
        self.strangers = 0
        self.ended = False
        self.watching = True
        self._on_newcomer = on_newcomer
        self._on_lost = on_lost
        self._networks = AcceptedNetworks(listener.accept_from) if listener.accept_from else None
        self._fd = sock.fileno()
        reactor.add(self._fd, READ, self._ready)

    def answer(self, data: bytes, client: Any) -> None:
        """Send to the client with this key. What the kernel does not take now is lost, as on any full link."""
        try:
            self.sock.sendto(data, client)
        except OSError:
            self._on_lost(1)

    def take_from(self, other: socket.socket, most: int) -> None:
        """Take so many from the buffer of another socket at this address, and no more than a turn's worth."""
        self._read(other, min(most, DATAGRAMS_PER_EVENT))

    @staticmethod
    def _receive(sock: socket.socket) -> tuple[bytes, Any]:
        """One datagram and its client's key. Raises OSError."""
        return sock.recvfrom(MOST_DATAGRAM_BYTES)

    def source_of(self, client: Any) -> tuple[str, int]:
        """Host and port of the client with this key."""
        host, number = client[:2]
        return host, number

    def _ready(self, mask: int) -> None:
        burst = self.burst
        count = self._read(self.sock, burst)
        self.burst = min(burst * 2, DATAGRAMS_PER_EVENT) if count == burst else max(1, count)

    def _read(self, sock: socket.socket, most: int) -> int:
        """Pass on what is there; how many datagrams that was."""
        count = 0
        while count < most:
            try:
                data, client = self._receive(sock)
            except BlockingIOError:
                break
            count += 1
            self._pass_on(data, client)
            if not self.watching:  # that was the end of the last session of a port out of service
                break
        return count

    def _pass_on(self, data: bytes, client: Any) -> None:
        """To the client's session, or as a newcomer's; those behind it are to be read whatever comes of it."""
        session = self.sessions.get(client)
        try:
            if session is not None:
                session.ask(data)
                return
            if self._networks is None or self._networks.accept(self.source_of(client)[0]):
                self._on_newcomer(self, client, data)
            else:
                self.strangers += 1
        except Exception as error:
            self.reactor.crashed(session, error)

    def leave(self, client: Hashable) -> None:
        """The session of this client is over."""
        self.sessions.pop(client, None)
        if self.ended and not self.sessions:
            self._close()

    def finish(self) -> None:
        """Out of service: what is there is taken, and what its sessions' clients send from then on."""
        self.burst = DATAGRAMS_PER_EVENT
        self._ready(READ)
        self.ended = True
        if not self.sessions:
            self.close()

    def close(self) -> None:
        """Read no more. Sessions may still answer by the socket, which closes with the last of them."""
        self.ended = True
        if not self.sessions:
            self._close()
        elif self.watching:
            self.watching = False
            self.reactor.remove(self._fd)

    def _close(self) -> None:
        """At once, as clients may send to it until then."""
        self.watching = False
        if self.sock.fileno() >= 0:
            self.reactor.close_at_once(self.sock.detach())


class WildcardPort(DatagramPort):
    """A port at all addresses of the machine. A client's key is its address and a control message that has answers
    leave from the address that it asked."""

    __slots__ = ()

    def answer(self, data: bytes, client: Any) -> None:
        try:
            self.sock.sendmsg((data,), client[1], 0, client[0])
        except OSError:
            self._on_lost(1)

    @staticmethod
    def _receive(sock: socket.socket) -> tuple[bytes, Any]:
        data, control, _, address = sock.recvmsg(MOST_DATAGRAM_BYTES, CONTROL_BYTES)
        return data, (address, tuple(map(_for_answers, control)))

    def source_of(self, client: Any) -> tuple[str, int]:
        host, number = client[0][:2]
        return host, number


class BatchPort(DatagramPort):
    """A port where the C module reads and writes many datagrams at a time. A client's key is its address as the kernel
    has it. Answers of one turn of the reactor leave together."""

    __slots__ = ("_outbox", "queued")

    def __init__(
        self, reactor: Reactor, listener: Listener, sock: socket.socket, on_newcomer: OnNewcomer, on_lost: OnLost
    ) -> None:
        super().__init__(reactor, listener, sock, on_newcomer, on_lost)
        self.queued = False
        self._outbox: list[Datagram] = []

    def answer(self, data: bytes, client: Any) -> None:
        self._outbox.append((data, client))
        if len(self._outbox) >= BATCH:
            self._flush()
        elif not self.queued:
            self.reactor.ready.add(self)

    def on_turn(self) -> None:
        """The end of a batch of events."""
        self._flush()

    def _flush(self) -> None:
        outbox, self._outbox = self._outbox, []
        while outbox:
            try:
                sent = sendmmsg(self.sock, outbox)
            except OSError:  # the first one cannot be sent
                self._on_lost(1)
                sent = 1
            if not sent:
                self._on_lost(len(outbox))
                return
            outbox = outbox[sent:]

    def leave(self, client: Hashable) -> None:
        if self.ended:
            self._flush()
        super().leave(client)

    def _read(self, sock: socket.socket, most: int) -> int:
        count = 0
        while count < most:
            found = recvmmsg(sock)
            for data, client in found:
                self._pass_on(data, client)
                if not self.watching:  # as in `DatagramPort._read`
                    break
            count += len(found)
            if len(found) < BATCH or not self.watching:
                break
        return count

    def source_of(self, client: Any) -> tuple[str, int]:
        return unpack_sockaddr(client)[:2]


def _for_answers(control: tuple[int, int, bytes]) -> tuple[int, int, bytes]:
    """The control message without the interface, over IPv4: routes decide by which one an answer leaves. Over IPv6 that
    of a link-local address is needed."""
    level, kind, info = control
    if level == socket.IPPROTO_IP:
        return level, kind, bytes(4) + info[4:8] + bytes(4)
    return level, kind, info


def datagram_port(
    reactor: Reactor, listener: Listener, sock: socket.socket, on_newcomer: OnNewcomer, on_lost: OnLost
) -> DatagramPort:
    """The port of a bound socket."""
    kind = DatagramPort
    if _is_wildcard(sock.getsockname()[0]):
        kind = WildcardPort
    elif IN_C:
        kind = BatchPort
    return kind(reactor, listener, sock, on_newcomer, on_lost)


def open_datagram_socket(address: Address, *, shared: bool) -> socket.socket:
    """Bound and non-blocking. `shared`: other processes may bind the same address. SO_REUSEADDR would let any process
    of the machine do that and take the port's traffic. Raises OSError with the address in its message."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if _is_wildcard(address.host):
            _ask_for_destinations(sock)
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        sock.bind(address.sockaddr)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}") from None
    return sock


def _ask_for_destinations(sock: socket.socket) -> None:
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)


def _is_wildcard(host: str) -> bool:
    return host in ("0.0.0.0", "::")  # noqa: S104 (a comparison)


def dial_datagrams(address: Address, port_at_risk: int) -> tuple[socket.socket, int]:
    """A non-blocking socket that is connected to the address, and 0 or the errno of why it is not. `port_at_risk`: the
    port, if the kernel may choose it for this socket too, which would send to itself then. Raises OSError (EMFILE…)
    where no socket can be made."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    code = sock.connect_ex(address.sockaddr)
    if not code and port_at_risk and sock.getsockname()[1] == port_at_risk and reached_itself(sock):
        code = errno.ECONNREFUSED
    return sock, code


def forget_errors(sock: socket.socket) -> None:
    """Take the ICMP errors that the kernel keeps for a dialed socket, which would be ready for as long."""
    with contextlib.suppress(OSError):
        for _ in range(DATAGRAMS_PER_EVENT):
            sock.recvmsg(0, 0, socket.MSG_ERRQUEUE)
