"""The public listening sockets of a cluster on this machine, kept for as long as any tier listens there.

See net/broker.py for why nodes do not open them themselves.
"""

import contextlib
import errno
import socket
from array import array
from collections.abc import Iterable, Iterator

import attrs
import trio

from tierlb.cluster.ports import listen
from tierlb.model.address import Address, parse_address
from tierlb.net.broker import MAX_BYTES, OK
from tierlb.net.descriptors import EXHAUSTED
from tierlb.net.listeners import BACKLOG, bequeath

LACKING = EXHAUSTED | {errno.ETOOMANYREFS}
"""The kernel lets a user have only so many descriptors under way between processes."""
AGAIN_S = 0.1
SEND_S = 2.0
"""A node that has not read earlier answers for so long does not wait for this one any more (net/broker.py)."""


@attrs.define
class Sockets:
    """Opens each address once; `keep` closes those that are needed no more."""

    _open: dict[Address, socket.socket] = attrs.field(factory=dict, init=False)
    _purposes: dict[Address, str] = attrs.field(factory=dict, init=False)

    def open(self, address: Address, purpose: str) -> None:
        """Raises PortTaken, which says for what and what to do."""
        if address.port and address not in self._open:
            sock = listen(address, purpose)
            try:
                bequeath(sock, address)
                sock.listen(BACKLOG)
            except BaseException:
                sock.close()
                raise
            self._open[address] = sock
        self._purposes[address] = purpose

    def keep(self, addresses: Iterable[Address]) -> None:
        """Close all others."""
        wanted = frozenset(addresses)
        for address in [address for address in self._open if address not in wanted]:
            self._open.pop(address).close()
        self._purposes = {address: purpose for address, purpose in self._purposes.items() if address in wanted}

    async def serve(self, sock: trio.socket.SocketType) -> None:
        """Answer one node until its end of the pair is closed. What this process or the kernel lacks for one answer is
        no end of it: the node asks again."""
        with sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it ended with an answer unread
            while request := await _next(sock):
                answer, descriptors = self._answer(request)
                with trio.move_on_after(SEND_S), _failing():
                    await _send(sock, (request + b" " + answer)[:MAX_BYTES], descriptors)

    def close(self) -> None:
        """The cluster ends."""
        self.keep(())

    def _answer(self, request: bytes) -> tuple[bytes, list[int]]:
        try:
            address = parse_address(request.decode())
            self.open(address, self._purposes.get(address, "a listener"))
        except (ValueError, OSError) as problem:
            return str(problem).encode(), []
        if address in self._open:
            return OK, [self._open[address].fileno()]
        return b"a public address needs a port", []


async def _next(sock: trio.socket.SocketType) -> bytes:
    while True:
        with _failing():
            return await sock.recv(MAX_BYTES)
        await trio.sleep(AGAIN_S)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Let errors pass unnoticed that say nothing of the peer."""
    try:
        yield
    except OSError as error:
        if error.errno not in LACKING:
            raise


async def _send(sock: trio.socket.SocketType, answer: bytes, descriptors: list[int]) -> None:
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", descriptors))] if descriptors else []
    await sock.sendmsg([answer], rights)


def pair() -> tuple[trio.socket.SocketType, socket.socket]:
    """The supervisor's end and the one for the node's process to inherit."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    return trio.socket.from_stdlib_socket(ours), theirs
