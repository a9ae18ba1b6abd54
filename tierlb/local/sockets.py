"""The public listening sockets of a cluster on this machine, open for as long as any tier listens there.

A node gets the sockets of its own tier's addresses, as named by the topologies of the current change, and no others: a
node process under an attacker's control cannot have a supervisor that may be root open other ports.

An address is bound from the start, so that a taken port is noticed at once. It listens only when the first node borrows
a socket. Until then connections are refused, because in the queue they would wait for a node that may never start.
Datagrams wait from the start, and so do connections to unix sockets, which listen as soon as they are bound
(net/unix_socket.py).

See net/broker.py for why nodes do not open them themselves, and local/shared_port.py for how nodes share an address.
"""

import contextlib
import errno
import socket
from array import array
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import attrs
import trio

from tierlb.local.queue_watch import QueueOffer
from tierlb.local.shared_port import SharedPort
from tierlb.model.address import ListenAddress, parse_listen_address
from tierlb.net.broker import MAX_BYTES, OK, RETURNED, TAKE
from tierlb.net.descriptors import EXHAUSTED

LACKING = EXHAUSTED | {errno.ETOOMANYREFS}
"""Includes the kernel's limit on descriptors in transit between processes."""
RETRY_RECEIVE_S = 0.1
SEND_S = 2.0
"""A node that has not read earlier answers for so long no longer waits for this one (net/broker.py)."""
LOOK_S = 0.2
"""A connection that the kernel gave to a process that stands still waits one to two of these for another."""


@attrs.define(eq=False)
class NodeProcess:
    """One process of a node, for as long as it runs."""

    sock: trio.socket.SocketType
    tier: str
    number: int
    pid: int
    _ran_ns: str = attrs.field(default="", init=False)

    def has_run(self) -> bool:
        """Whether it used a processor since this was asked last."""
        before = self._ran_ns
        try:
            self._ran_ns = Path(f"/proc/{self.pid}/schedstat").read_text().split()[0]
        except (OSError, IndexError):  # it has just ended, or the kernel does not count this
            return False
        return self._ran_ns != before

    def offer(self, address: ListenAddress, sock: socket.socket, most: int) -> None:
        """Have it take so many from the queue. If it does not read what it is sent, or anything is lacking for it, the
        next look finds the queue again."""
        with (
            contextlib.suppress(OSError),
            socket.fromfd(self.sock.fileno(), socket.AF_UNIX, socket.SOCK_SEQPACKET) as end,
        ):
            socket.send_fds(
                end, [b"%s %s%d" % (str(address).encode(), TAKE, most)], [sock.fileno()], socket.MSG_DONTWAIT
            )


@attrs.define
class Sockets:
    """Binds each address once; `keep` closes those that are no longer needed. `run` beside it."""

    _open: dict[ListenAddress, SharedPort[NodeProcess]] = attrs.field(factory=dict, init=False)
    _tiers: dict[ListenAddress, set[str]] = attrs.field(factory=dict, init=False)
    """The tiers that may borrow each address. There are two during a change that moves an address from one to the
    other."""

    _lent: trio.Event = attrs.field(factory=trio.Event, init=False)

    def open(self, address: ListenAddress, tier: str, mode: int | None = None) -> None:
        """Bind the address for the nodes of a tier; a unix socket with these permissions. Raises PortTaken."""
        if address.address.is_fixed and address not in self._open:
            self._open[address] = SharedPort.bound(address, f"tiers.{tier}.listen", mode)
        elif (port := self._open.get(address)) is not None:
            port.permit(mode)
        self._tiers.setdefault(address, set()).add(tier)

    def keep(self, addresses: Mapping[ListenAddress, str]) -> None:
        """Close all other addresses; each of these belongs to one tier from now on, and a process of another one that
        has not given its socket back gets nothing new there."""
        for address in [address for address in self._open if address not in addresses]:
            self._open.pop(address).close()
        self._tiers = {address: {tier} for address, tier in addresses.items()}
        for address, port in self._open.items():
            for process in port.borrowers:
                if process.tier not in self._tiers[address]:
                    port.take_back(process)

    @property
    def addresses(self) -> frozenset[ListenAddress]:
        """Those that are bound."""
        return frozenset(self._open)

    def lost_files(self) -> tuple[ListenAddress, ...]:
        """The unix sockets that clients no longer find by their paths."""
        return tuple(address for address, port in self._open.items() if port.has_lost_file)

    async def run(self) -> None:
        """Have queues emptied whose own processes do not get to it, for ever."""
        while True:
            if not any(port.is_spread for port in self._open.values()):
                self._lent = trio.Event()
                await self._lent.wait()
            await trio.sleep(LOOK_S)
            self.look()

    def look(self) -> None:
        """Offer what waits too long in any queue to processes of other nodes, none of which is waited for."""
        for port in self._open.values():
            _send_offers(port, port.look())

    async def serve(self, sock: trio.socket.SocketType, tier: str, number: int = 1, pid: int = 0) -> None:
        """Answer the process of node `number` of the tier until its end of the pair is closed. If this process or the
        kernel lacks something for one answer, the node asks again."""
        process = NodeProcess(sock, tier, number, pid)
        with sock, contextlib.suppress(ConnectionResetError, BrokenPipeError):  # the node ended with an answer unread
            try:
                while request := await _next_request(sock):
                    if request.endswith(RETURNED):
                        self._take_back(process, request)
                        continue
                    answer, descriptors = self._answer(process, request)
                    with trio.move_on_after(SEND_S), _failing():
                        await _send(sock, (request + b" " + answer)[:MAX_BYTES], descriptors)
            finally:
                for port in self._open.values():
                    port.take_back(process)
                    _send_offers(port, port.orphans())

    def close(self) -> None:
        """Close all sockets at the end of the cluster."""
        self.keep({})

    def _answer(self, process: NodeProcess, request: bytes) -> tuple[bytes, list[int]]:
        tier = process.tier
        try:
            address = parse_listen_address(request.decode())
            if tier not in self._tiers.get(address, ()):
                return f"the topology names no address {address} for tier {tier}".encode(), []
            if address not in self._open:
                self.open(address, tier)
            if port := self._open.get(address):
                sock = port.lend(process)
                self._lent.set()
                return OK, [sock.fileno()]
        except (ValueError, OSError) as problem:
            return str(problem).encode(), []
        return b"a public address needs a port", []

    def _take_back(self, process: NodeProcess, request: bytes) -> None:
        with contextlib.suppress(ValueError):
            if port := self._open.get(parse_listen_address(request.removesuffix(RETURNED).decode())):
                port.take_back(process)
                _send_offers(port, port.orphans())


def _send_offers(port: SharedPort[NodeProcess], offers: Iterable[QueueOffer[NodeProcess]]) -> None:
    for offer in offers:
        offer.process.offer(port.address, offer.sock, offer.most)


async def _next_request(sock: trio.socket.SocketType) -> bytes:
    while True:
        with _failing():
            return await sock.recv(MAX_BYTES)
        await trio.sleep(RETRY_RECEIVE_S)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    """Ignore errors that do not concern the peer."""
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
