"""The public listening sockets of a cluster on this machine, kept for as long as any tier listens there.

A node is lent the sockets of its own tier's addresses, as the topologies of the change under way name them, and no
others: a node process under an attacker's control cannot have other ports opened by a supervisor that may be root.

A socket is bound from the start, so that a taken port is noticed then, and listens as soon as the first node borrows
it. Before that connections are refused: in the queue they would wait for a node that may never come up.

See net/broker.py for why nodes do not open them themselves.
"""

import contextlib
import errno
import socket
from array import array
from collections.abc import Iterator, Mapping

import attrs
import trio

from tierlb.local.ports import bind, start_listening
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
    """Binds each address once; `keep` closes those that are needed no more."""

    _open: dict[Address, socket.socket] = attrs.field(factory=dict, init=False)
    _tiers: dict[Address, set[str]] = attrs.field(factory=dict, init=False)
    """Those that may borrow each address. Two may during a change that moves an address from one to the other."""

    def open(self, address: Address, tier: str) -> None:
        """Have it bound for the nodes of a tier. Raises PortTaken, which says for what and what to do."""
        if address.port and address not in self._open:
            sock = bind(address, f"tiers.{tier}.listen")
            try:
                bequeath(sock, address)
            except BaseException:
                sock.close()
                raise
            self._open[address] = sock
        self._tiers.setdefault(address, set()).add(tier)

    def keep(self, addresses: Mapping[Address, str]) -> None:
        """Close all others; each of these is one tier's from now on."""
        for address in [address for address in self._open if address not in addresses]:
            self._open.pop(address).close()
        self._tiers = {address: {tier} for address, tier in addresses.items()}

    async def serve(self, sock: trio.socket.SocketType, tier: str) -> None:
        """Answer one node of the tier until its end of the pair is closed. What this process or the kernel lacks for
        one answer is no end of it: the node asks again."""
        with sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):  # it ended with an answer unread
            while request := await _next(sock):
                answer, descriptors = self._answer(tier, request)
                with trio.move_on_after(SEND_S), _failing():
                    await _send(sock, (request + b" " + answer)[:MAX_BYTES], descriptors)

    def close(self) -> None:
        """The cluster ends."""
        self.keep({})

    def _answer(self, tier: str, request: bytes) -> tuple[bytes, list[int]]:
        try:
            address = parse_address(request.decode())
            if tier not in self._tiers.get(address, ()):
                return f"the topology names no address {address} for tier {tier}".encode(), []
            self.open(address, tier)
            if sock := self._open.get(address):
                start_listening(sock, address, f"tiers.{tier}.listen", BACKLOG)
                return OK, [sock.fileno()]
        except (ValueError, OSError) as problem:
            return str(problem).encode(), []
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
