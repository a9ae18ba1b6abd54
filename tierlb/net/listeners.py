"""Listening sockets in the reactor: accept in batches, refuse strangers, stand back at the connection cap."""

import errno
import os
import socket
from collections.abc import Callable
from typing import Final

from tierlb.model.address import Address, ListenAddress, Transport
from tierlb.model.snapshot import Listener
from tierlb.net.broker import Broker
from tierlb.net.datagrams import open_datagram_socket
from tierlb.net.descriptors import EXHAUSTED
from tierlb.net.io import accept4
from tierlb.net.networks import AcceptedNetworks
from tierlb.net.peer_liveness import ask_when_quiet, is_here
from tierlb.net.reactor import READ, Reactor
from tierlb.net.sockaddr import socket_family
from tierlb.net.unix_socket import listen_unix
from tierlb.net.wheel import NEVER, Timed

ACCEPTS_PER_EVENT: Final = 64
"""Then other connections get their turn; the rest waits in the kernel's queue. At l4 that is a turn of 4 to 6 ms. With
16 a connection cost 8 % more where 64 came at once."""
BACKLOG: Final = 4096
OUT_OF_DESCRIPTORS_S: Final = 0.1

ONE_NODE: Final = (
    ". Without `tierlb up` a unix socket serves one node of a machine: write replicas: 1, or run others elsewhere"
)

Accepted = Callable[[int, tuple[str, int], Listener], None]
"""Gets the descriptor of a connection, which is its own unless it raises."""
Exhausted = Callable[[socket.socket, Listener], bool]


def open_socket(listener: Listener, broker: Broker | None = None) -> socket.socket:
    """Bind and listen, or borrow a public address's socket where a broker keeps it. Raises OSError with the address in
    its message."""
    address = listener.address
    if broker is not None and is_kept(listener):
        return broker.listen(listens_at(listener))
    if listener.protocol is Transport.UDP:
        return open_datagram_socket(address, shared=listener.shared)
    family = socket_family(address)
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if address.is_unix:
            listen_unix(sock, address.host, listener.mode, BACKLOG)
            return sock
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if listener.shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bequeath(sock, address)
        sock.bind(address.sockaddr)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        advice = ONE_NODE if address.is_unix and error.errno == errno.EADDRINUSE else ""
        raise OSError(error.errno, f"cannot listen on {address}: {error.strerror}{advice}") from None
    return sock


def bequeath(sock: socket.socket, address: Address) -> None:
    """Set on a socket that is to listen there what those that it accepts inherit: no system call for each of them.
    Keepalive notices when the machine of a client is gone."""
    if address.is_unix:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if not is_here(address.host):
        ask_when_quiet(sock)


def listens_at(listener: Listener) -> ListenAddress:
    """Where it listens, and for what."""
    return ListenAddress(listener.address, listener.protocol)


def is_kept(listener: Listener) -> bool:
    """Whether its socket is borrowed if there is a broker, which keeps it when this process ends."""
    return listener.shared and listener.address.is_fixed


class Acceptor(Timed):
    """One listening socket. `room()` is how many connections may be taken now. When no descriptor is left for one,
    `on_exhausted` gets the listening socket; if it can do nothing about it either, the queue is left alone a while."""

    def __init__(
        self,
        reactor: Reactor,
        listener: Listener,
        sock: socket.socket,
        room: Callable[[], int],
        on_accept: Accepted,
        on_exhausted: Exhausted,
    ) -> None:
        self.reactor = reactor
        self.listener = listener
        self.sock = sock
        self.deadline = NEVER
        self.filed = NEVER
        self._room = room
        self._on_accept = on_accept
        self._on_exhausted = on_exhausted
        self._networks = AcceptedNetworks(listener.accept_from) if listener.accept_from else None
        self._fd = sock.fileno()
        self.watching = True
        self.strangers = 0
        reactor.add(self._fd, READ, self._ready)

    def _ready(self, mask: int) -> None:
        for _ in range(min(ACCEPTS_PER_EVENT, self._room())):
            try:
                if not self._accept(self.sock):
                    return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    if not self._on_exhausted(self.sock, self.listener):
                        self._stand_back(OUT_OF_DESCRIPTORS_S)
                    return
                continue  # that one connection died in the queue
        if self._room() <= 0:
            self._stand_back(NEVER)

    def take_from(self, other: socket.socket, most: int) -> None:
        """Take so many from the queue of another socket at this address, and no more than a turn's worth."""
        for _ in range(min(most, ACCEPTS_PER_EVENT, self._room())):
            try:
                if not self._accept(other):
                    return
            except OSError as error:
                if error.errno in EXHAUSTED:
                    return

    def _accept(self, listening: socket.socket) -> bool:
        """Take one; false if none waits."""
        accepted = accept4(listening)
        if accepted is None:
            return False
        fd, host, port = accepted
        if self._networks is not None and not self._networks.accept(host):
            self.strangers += 1
            os.close(fd)
            return True
        try:
            self._on_accept(fd, (host, port), self.listener)
        except Exception as error:  # those behind it in the queue are to be taken all the same
            self.reactor.close(fd)
            self.reactor.report(error)
        return True

    def _stand_back(self, seconds: float) -> None:
        """Leave the queue to the kernel: for a while, or until `come_back`."""
        if self.watching:
            self.watching = False
            self.reactor.modify(self._fd, 0)
        if seconds != NEVER:
            self.deadline = self.reactor.now + seconds
            self.reactor.wheel.file(self)

    def on_deadline(self) -> None:
        self.come_back()

    def follow(self, listener: Listener) -> None:
        """The same address with other settings, for connections from now on."""
        self.listener = listener
        self._networks = AcceptedNetworks(listener.accept_from) if listener.accept_from else None

    def come_back(self) -> None:
        """There is room again."""
        if not self.watching:
            self.watching = True
            self.reactor.modify(self._fd, READ)

    def finish(self) -> None:
        """Take what waits in the queue, which closing would reset, and close."""
        for _ in range(BACKLOG):
            try:
                if not self._accept(self.sock):
                    break
            except OSError as error:
                if error.errno in EXHAUSTED:
                    break
        self.close()

    def close(self) -> None:
        """At once, for what comes to the queue of a socket that is about to be closed is lost."""
        self.reactor.wheel.forget(self)
        self.reactor.close_at_once(self.sock.detach())
