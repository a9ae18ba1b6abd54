"""The process that starts the nodes keeps the public listening sockets, and nodes borrow them.

A connection attempt waits in its listening socket's queue until it is accepted. If each node opened its own, a node
that ends would reset what waits in its queue. So the supervisor opens one socket for each public address and keeps it;
a node asks for it over a socket pair and is sent a descriptor of the very same socket (SCM_RIGHTS). Each node of a tier
has a socket of its own there. A process that takes over from another accepts from the same one, and what waits in that
of a node that ended is taken by another: whatever comes and goes, the queues stay (local/shared_port.py).

The supervisor's first datagram there carries the process's credential. Other users can see arguments, and every child
process inherits the environment.

A node asks seldom, when its snapshot changes, and waits for the answer: it takes some ten µs. Requests and answers are
datagrams on a SOCK_SEQPACKET pair: `HOST:PORT` (`HOST:PORT/udp`), answered with `HOST:PORT ok` and a descriptor, or
with the reason why not in the place of `ok`. The answer to a request that was given up may come later; it is known by
its address. A node that accepts no more there sends `HOST:PORT returned`. Without being asked, the supervisor sends
`HOST:PORT take` with the socket of another node, from whose queue this one is to take what waits.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
from typing import NamedTuple

from tierlb.model.address import ListenAddress, parse_listen_address

DESCRIPTOR_VARIABLE = "TIERLB_SOCKETS"
ANSWER_S = 2.0
MAX_BYTES = 512
OK = b"ok"
RETURNED = b" returned"
TAKE = b"take "
MAX_OFFERS = 16
"""Queues of others that are not looked at yet. More are offered again when they still are not empty."""


class Offered(NamedTuple):
    """A socket of another node, from whose queue this one is to take so many. The caller of `offers` closes it."""

    address: ListenAddress
    sock: socket.socket
    most: int


class Broker:
    """The node's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._offered: list[Offered] = []
        sock.settimeout(ANSWER_S)

    @classmethod
    def inherited(cls) -> "Broker | None":
        """The one that this process was started with, if it was."""
        text = os.environ.pop(DESCRIPTOR_VARIABLE, "")
        return cls(socket.socket(fileno=int(text))) if text.isdigit() else None

    def introduction(self) -> tuple[str, bytes]:
        """The supervisor's first datagram: this process's credential and its reception key. Raises OSError."""
        credential, _, reception = self._sock.recv(MAX_BYTES).decode("ascii").partition("\n")
        return credential, bytes.fromhex(reception)

    def listen(self, address: ListenAddress) -> socket.socket:
        """A non-blocking listening socket, over UDP a bound one; raises OSError with a reason."""
        try:
            answer, descriptors = self._ask(str(address).encode())
        except OSError as error:
            raise OSError(error.errno, f"cannot listen on {address}: the supervisor does not answer") from None
        if answer == OK and not descriptors:  # the kernel drops what the receiver has no number for
            raise OSError(errno.EMFILE, f"cannot listen on {address}: no descriptor is free in this process")
        if answer != OK:
            raise OSError(errno.EADDRINUSE, answer.decode("utf-8", "replace") or f"cannot listen on {address}")
        sock = socket.socket(fileno=descriptors[0])
        sock.setblocking(False)
        return sock

    def give_back(self, address: ListenAddress) -> None:
        """Say that this process accepts no more there."""
        with self._without_waiting(), contextlib.suppress(OSError):  # the supervisor is gone, or does not read
            self._sock.send(str(address).encode() + RETURNED)

    def fileno(self) -> int:
        """Readable when there may be something for `offers`."""
        return self._sock.fileno()

    def offers(self) -> list[Offered]:
        """Those since the last time. Raises OSError when the supervisor is gone."""
        with self._without_waiting(), contextlib.suppress(BlockingIOError):
            while True:
                data, descriptors, _, _ = socket.recv_fds(self._sock, MAX_BYTES, 1)
                if not data and not self._offered:
                    raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
                if not data:
                    break
                self._keep_offer(data, descriptors)
        offered, self._offered = self._offered, []
        return offered

    def _ask(self, request: bytes) -> tuple[bytes, list[int]]:
        self._sock.send(request)
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._sock, MAX_BYTES, 1)
            asked, _, answer = data.partition(b" ")
            if not answer.startswith(TAKE) and (asked == request or not data):
                return answer, descriptors
            self._keep_offer(data, descriptors)

    @contextlib.contextmanager
    def _without_waiting(self) -> Iterator[None]:
        answer_s = self._sock.gettimeout()
        self._sock.setblocking(False)
        try:
            yield
        finally:
            self._sock.settimeout(answer_s)

    def _keep_offer(self, data: bytes, descriptors: list[int]) -> None:
        """Of an unexpected message; the answer to a request that was given up is none."""
        asked, _, word = data.partition(b" ")
        for descriptor in descriptors:
            if word.startswith(TAKE) and len(self._offered) < MAX_OFFERS:
                address, most = parse_listen_address(asked.decode()), int(word.removeprefix(TAKE))
                self._offered.append(Offered(address, socket.socket(fileno=descriptor), most))
            else:
                os.close(descriptor)
