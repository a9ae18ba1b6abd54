"""One public address and its listening sockets: each node of the tier has one, and so a queue of its own.

One queue for all wakes every idle node for each connection, and in a burst the node that wakes first takes most of it
(DECISIONS.md). With a socket each the kernel spreads connections, and wakes one node. What one queue gave for free is
done here instead:

* Sockets are numbered as the nodes are. A process that replaces another takes the very same socket, with its queue.
* Only sockets with a process that accepts from them get new connections (net/steering.py). Datagrams of one client
  come to one socket as long as that has a process.
* What waits in a socket without a process, or in that of a process that does not get to it, is taken by its siblings
  (local/queue_watch.py).

A socket stays open for as long as the address does, because a handshake that began before the last steering ends in its
queue. It takes part again when a node with its number comes back.
"""

import secrets
import socket
from typing import Generic

import attrs

from tierlb.local.ports import PortTaken, bind, start_listening
from tierlb.local.queue_watch import Process, QueueOffer, QueueWatch
from tierlb.model.address import ListenAddress, Transport
from tierlb.net.listeners import BACKLOG, bequeath
from tierlb.net.steering import steer, steer_by_client
from tierlb.net.unix_socket import chmod_if, identity_of, unlink_if

ONLY = 0
"""The number of the socket that all nodes share: unix sockets have no SO_REUSEPORT."""


@attrs.define
class SharedPort(Generic[Process]):
    """`purpose`: the key of the topology file that names the address."""

    address: ListenAddress
    purpose: str
    mode: int | None
    """The permissions of a unix socket."""
    _spare: socket.socket | None
    """Bound first, and not assigned to a node yet."""
    _sockets: dict[int, socket.socket] = attrs.field(factory=dict, init=False)
    """By the number of the node, in the order in which they began to listen."""
    _borrowers: list[Process] = attrs.field(factory=list, init=False)
    _watch: QueueWatch[Process] = attrs.field(init=False)
    _seed: int = attrs.field(factory=lambda: secrets.randbits(31), init=False)
    """Clients over UDP cannot know which node they get."""

    _file: tuple[int, int] | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        if self.address.address.is_unix:
            self._file = identity_of(self.address.address.host)
        self._watch = QueueWatch(keeps_together=self.address.transport is Transport.UDP)

    @classmethod
    def bound(cls, address: ListenAddress, purpose: str, mode: int | None = None) -> "SharedPort[Process]":
        """Raises PortTaken where another process has it."""
        sock = bind(address, purpose, mode=mode)
        if address.address.is_unix:
            return cls(address, purpose, mode, sock)
        # Only now: with the option from the start, it could be bound beside that of another cluster.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = cls(address, purpose, None, sock)
        try:
            _prepare(sock, address)
        except BaseException:
            port.close()
            raise
        return port

    def permit(self, mode: int | None) -> None:
        """Give a unix socket these permissions, unless its file is gone. Raises PortTaken."""
        if mode != self.mode:
            try:
                chmod_if(self.address.address.host, mode, self._file)
            except OSError as error:
                text = f"{self.purpose}: the permissions of {self.address} cannot be changed: {error.strerror}"
                raise PortTaken(text) from error
            self.mode = mode

    @property
    def has_lost_file(self) -> bool:
        """Whether clients no longer find the unix socket: its file was removed, or another one is there."""
        return self._file is not None and identity_of(self.address.address.host) != self._file

    def lend(self, borrower: Process) -> socket.socket:
        """The socket of the process's node, which listens from now on. Raises OSError."""
        number = ONLY if self.address.address.is_unix else borrower.number
        sock = self._sockets.get(number) or self._listen(number)
        if borrower not in self._borrowers:
            self._borrowers.append(borrower)
            self._steer()
        return sock

    def take_back(self, borrower: Process) -> None:
        """The process accepts no more here."""
        if borrower in self._borrowers:
            self._borrowers.remove(borrower)
            self._steer()

    @property
    def borrowers(self) -> tuple[Process, ...]:
        """The processes that accept here."""
        return tuple(self._borrowers)

    @property
    def is_spread(self) -> bool:
        """Whether there is more than one queue, and so something to look for."""
        return len(self._sockets) > 1

    def look(self) -> list[QueueOffer[Process]]:
        """What processes of other nodes should take from queues. To be called at regular times."""
        return self._watch.look(self._sockets, self._borrowers) if self.is_spread else []

    def orphans(self) -> list[QueueOffer[Process]]:
        """What they should take from queues without a process."""
        if self.address.address.is_unix:
            return []
        return self._watch.orphans(self._sockets, self._borrowers)

    def close(self) -> None:
        """Close all sockets; what waits in their queues is reset."""
        unlink_if(self.address.address.host, self._file)  # while it listens, no other process replaces it
        for sock in (self._spare, *self._sockets.values()):
            if sock is not None:
                sock.close()
        self._spare = None
        self._sockets.clear()

    def _listen(self, number: int) -> socket.socket:
        spare = self._spare
        sock = self._another() if spare is None else spare
        try:
            start_listening(sock, self.address, self.purpose, BACKLOG)
        except BaseException:
            if sock is not spare:
                sock.close()
            raise
        if sock is spare:
            self._spare = None
        self._sockets[number] = sock
        return sock

    def _another(self) -> socket.socket:
        sock = bind(self.address, self.purpose, shared=True)
        try:
            _prepare(sock, self.address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _steer(self) -> None:
        """Without a process the choice stays as it was: connections wait for the first one."""
        lent = self._numbers()
        if lent and self.is_spread:
            sock = next(iter(self._sockets.values()))
            indices = [index for index, number in enumerate(self._sockets) if number in lent]
            if self.address.transport is Transport.UDP:
                steer_by_client(sock, len(self._sockets), indices, self._seed)
            else:
                steer(sock, indices)

    def _numbers(self) -> set[int]:
        return {each.number for each in self._borrowers}


def _prepare(sock: socket.socket, address: ListenAddress) -> None:
    if address.transport is Transport.TCP:
        bequeath(sock, address.address)
