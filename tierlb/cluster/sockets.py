"""The public listening sockets of a cluster on this machine, kept for as long as any tier listens there.

See net/broker.py for why nodes do not open them themselves.
"""

import contextlib
import os
import socket
from collections.abc import Iterable

import attrs
import trio

from tierlb.cluster.ports import PortTaken, listen
from tierlb.model.address import Address, parse_address
from tierlb.net.broker import MAX_BYTES, OK
from tierlb.net.listeners import BACKLOG, bequeath


@attrs.define
class Sockets:
    """Opens each address once; `keep` closes those that are needed no more."""

    _open: dict[Address, socket.socket] = attrs.field(factory=dict, init=False)
    _purposes: dict[Address, str] = attrs.field(factory=dict, init=False)

    def open(self, address: Address, purpose: str) -> None:
        """Raises PortTaken, which says for what and what to do."""
        if address.port and address not in self._open:
            sock = self._open[address] = listen(address, purpose)
            bequeath(sock, address)
            sock.listen(BACKLOG)
        self._purposes[address] = purpose

    def keep(self, addresses: Iterable[Address]) -> None:
        """Close all others."""
        wanted = frozenset(addresses)
        for address in [address for address in self._open if address not in wanted]:
            self._open.pop(address).close()
        self._purposes = {address: purpose for address, purpose in self._purposes.items() if address in wanted}

    async def serve(self, sock: trio.socket.SocketType) -> None:
        """Answer one node until its end of the pair is closed."""
        with sock, contextlib.suppress(ConnectionResetError):  # it ended with an answer unread
            while request := await sock.recv(MAX_BYTES):
                self._answer(sock, request)

    def close(self) -> None:
        """The cluster ends."""
        self.keep(())

    def _answer(self, sock: trio.socket.SocketType, request: bytes) -> None:
        try:
            address = parse_address(request.decode())
            self.open(address, self._purposes.get(address, "a listener"))
        except (ValueError, PortTaken) as problem:
            _send(sock, request, str(problem).encode(), [])
            return
        if address in self._open:
            _send(sock, request, OK, [self._open[address].fileno()])
        else:
            _send(sock, request, b"a public address needs a port", [])


def _send(sock: trio.socket.SocketType, request: bytes, answer: bytes, descriptors: list[int]) -> None:
    """At once: the peer waits for nothing else. One that does not read is dead, and its own business."""
    try:
        with socket.socket(fileno=os.dup(sock.fileno())) as duplicate:
            socket.send_fds(duplicate, [(request + b" " + answer)[:MAX_BYTES]], descriptors)
    except (BlockingIOError, BrokenPipeError, ConnectionResetError):
        return


def pair() -> tuple[trio.socket.SocketType, socket.socket]:
    """The supervisor's end and the one for the node's process to inherit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return trio.socket.from_stdlib_socket(ours), theirs
