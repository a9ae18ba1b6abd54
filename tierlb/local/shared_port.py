"""One public address and its listening sockets: each node of the tier has one, and so a queue of its own.

One queue for all wakes every idle node for each connection, and in a burst the node that wakes first takes most of it
(DECISIONS.md). With a socket each the kernel spreads connections, and wakes one node. What one queue gave for free is
done here instead:

* Sockets are numbered as the nodes are. A process that replaces another takes the very same socket, with its queue.
* Only sockets with a process that accepts from them get new connections (net/steering.py). Datagrams of one client
  come to one socket as long as that has a process.
* What waits in a socket without a process, or in that of a process that does not get to it, is taken by a sibling:
  `waiting` finds such sockets, and the caller lends them to `helper`.

A socket stays open for as long as the address does, because a handshake that began before the last steering ends in its
queue. It takes part again when a node with its number comes back.
"""

import secrets
import select
import socket
from typing import Generic, Protocol, TypeVar

import attrs

from tierlb.local.ports import bind, start_listening
from tierlb.model.address import ListenAddress, Transport
from tierlb.net.listeners import BACKLOG, bequeath
from tierlb.net.steering import steer, steer_by_client


class Borrower(Protocol):
    """A process that accepts from a socket."""

    @property
    def number(self) -> int:
        """Of its node, from 1 up."""


Process = TypeVar("Process", bound=Borrower)


@attrs.define
class SharedPort(Generic[Process]):
    """`purpose`: the key of the topology file that names the address."""

    address: ListenAddress
    purpose: str
    _spare: socket.socket | None
    """Bound first, and not assigned to a node yet."""
    _sockets: dict[int, socket.socket] = attrs.field(factory=dict, init=False)
    """By the number of the node, in the order in which they began to listen."""
    _borrowers: list[Process] = attrs.field(factory=list, init=False)
    _waited: set[int] = attrs.field(factory=set, init=False)
    """The numbers of the sockets in whose queues something waited at the last look."""
    _helped: int = attrs.field(default=0, init=False)
    _seed: int = attrs.field(factory=lambda: secrets.randbits(31), init=False)
    """Clients over UDP cannot know which node they get."""

    @classmethod
    def bound(cls, address: ListenAddress, purpose: str) -> "SharedPort[Process]":
        """Raises PortTaken where another process has it."""
        sock = bind(address, purpose)
        # Only now: with the option from the start, it could be bound beside that of another cluster.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        port = cls(address, purpose, sock)
        try:
            _prepare(sock, address)
        except BaseException:
            port.close()
            raise
        return port

    def lend(self, borrower: Process) -> socket.socket:
        """The socket of the process's node, which listens from now on. Raises OSError."""
        sock = self._sockets.get(borrower.number) or self._listen(borrower.number)
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
    def is_spread(self) -> bool:
        """Whether there is more than one queue, and so something to look for."""
        return len(self._sockets) > 1

    def waiting(self) -> list[tuple[int, socket.socket]]:
        """The sockets, by number, in whose queues something waits that their own processes do not take: there is none,
        or something waited at the look before too."""
        poll, lent = select.poll(), self._numbers()
        numbers = {sock.fileno(): number for number, sock in self._sockets.items()}
        for descriptor in numbers:
            poll.register(descriptor, select.POLLIN)
        before = self._waited
        self._waited = {numbers[descriptor] for descriptor, _ in poll.poll(0)}
        return [(number, self._sockets[number]) for number in self._waited if number in before or number not in lent]

    def helper(self, number: int) -> Process | None:
        """A process of another node, each in its turn; those that get to their own queues come first."""
        others = [each for each in self._borrowers if each.number != number]
        candidates = [each for each in others if each.number not in self._waited] or others
        if not candidates:
            return None
        self._helped += 1
        return candidates[self._helped % len(candidates)]

    def close(self) -> None:
        """Close all sockets; what waits in their queues is reset."""
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
