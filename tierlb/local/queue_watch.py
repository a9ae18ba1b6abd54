"""Which queues of a port others should empty, and who takes how much.

A queue in which something waits has a process that gets to it soon, unless

* no process accepts from it (its node ended or left): it is offered at once;
* its process stands still: it has not run between two looks (stopped, or waiting for a disk);
* its process is behind: at so many looks in a row something waited. It is relieved by those that are not.

What waits is divided among all that help, so that none of them gets the whole of a burst. A process that its quota
stalls for a part of each period runs between two looks, and is left alone.

Datagrams of one client have to stay together, so that a buffer of UDP is offered to one helper, and no process that
runs is relieved of it.
"""

import select
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Generic, Protocol, TypeVar

import attrs

LOOKS_BEHIND = 5
"""With a look every 0.2 s: a second in which the queue was never seen empty."""
QUEUE_LENGTH_AT = 24
"""Of `tcpi_unacked` in struct tcp_info (linux/tcp.h), which for a listening socket is the number of connections that
wait."""


class Borrower(Protocol):
    """A process that accepts from a socket."""

    @property
    def number(self) -> int:
        """Of its node, from 1 up."""

    def has_run(self) -> bool:
        """Whether it ran since this was asked last."""


Process = TypeVar("Process", bound=Borrower)


@attrs.frozen
class QueueOffer(Generic[Process]):
    """The process is to take at most so many from the socket of another node."""

    process: Process
    sock: socket.socket
    most: int


@attrs.define
class QueueWatch(Generic[Process]):
    """Of one port. `keeps_together`: what one socket has is for one helper."""

    keeps_together: bool
    _looks: dict[int, int] = attrs.field(factory=dict, init=False)
    """By number, at how many looks in a row something waited."""
    _turn: int = attrs.field(default=0, init=False)

    def look(self, sockets: Mapping[int, socket.socket], borrowers: Sequence[Process]) -> list[QueueOffer[Process]]:
        """What to offer. To be called at regular times, with all sockets by their numbers."""
        waiting = _waiting(sockets)
        self._looks = {number: self._looks.get(number, 0) + 1 for number in waiting}
        offers: list[QueueOffer[Process]] = []
        for number in waiting:
            owners = [each for each in borrowers if each.number == number]
            others = [each for each in borrowers if each.number != number]
            free = [each for each in others if each.number not in waiting]
            if self._stands_still(owners, self._looks[number]):
                offers += self._divided(sockets[number], free or others)
            elif self._looks[number] >= LOOKS_BEHIND and not self.keeps_together:
                offers += self._divided(sockets[number], free)
        return offers

    def orphans(self, sockets: Mapping[int, socket.socket], borrowers: Sequence[Process]) -> list[QueueOffer[Process]]:
        """What to offer of queues without a process, at any time."""
        lent = {each.number for each in borrowers}
        left = {number: sock for number, sock in sockets.items() if number not in lent}
        return [offer for number in _waiting(left) for offer in self._divided(sockets[number], borrowers)]

    @staticmethod
    def _stands_still(owners: Sequence[Process], looks: int) -> bool:
        have_run = [each.has_run() for each in owners]  # of all, for the next look too
        return not owners or (looks > 1 and not any(have_run))

    def _divided(self, sock: socket.socket, helpers: Sequence[Process]) -> Iterator[QueueOffer[Process]]:
        if not helpers:
            return
        self._turn += 1
        first = self._turn % len(helpers)
        if self.keeps_together:
            yield QueueOffer(helpers[first], sock, socket.SOMAXCONN)
            return
        left = queue_length(sock)
        share = -(-left // len(helpers))
        for helper in (*helpers[first:], *helpers[:first]):
            if left > 0:
                yield QueueOffer(helper, sock, min(share, left))
            left -= share


def _waiting(sockets: Mapping[int, socket.socket]) -> list[int]:
    """The numbers of those in whose queues something waits."""
    poll = select.poll()
    numbers = {sock.fileno(): number for number, sock in sockets.items()}
    for descriptor in numbers:
        poll.register(descriptor, select.POLLIN)
    return [numbers[descriptor] for descriptor, _ in poll.poll(0)]


def queue_length(sock: socket.socket) -> int:
    """How many connections wait in the queue of a listening socket; at least 1."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, QUEUE_LENGTH_AT + 4)
    return max(1, int(struct.unpack_from("I", info, QUEUE_LENGTH_AT)[0]))
