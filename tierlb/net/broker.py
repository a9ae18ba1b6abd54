"""The process that starts the nodes keeps the public listening sockets, and nodes borrow them.

A connection attempt waits in its listening socket's queue until it is accepted. If each node opened its own, a node
that ends would reset what waits in its queue. So the supervisor opens one socket for each public address and keeps it;
a node asks for it over a socket pair and is sent a descriptor of the very same socket (SCM_RIGHTS). All nodes of a tier
accept from one queue. So does a process that takes over from another, or a tier that is put in front of another:
whatever comes and goes, the queue stays.

The supervisor's first datagram there carries the process's credential. Other users can see arguments, and every child
process inherits the environment.

A node asks seldom, when its snapshot changes, and waits for the answer: it takes some ten µs. Requests and answers are
datagrams on a SOCK_SEQPACKET pair: `HOST:PORT`, answered with `HOST:PORT ok` and a descriptor, or with the reason why
not in the place of `ok`. The answer to a request that was given up may come later; it is known by its address.
"""

import errno
import os
import socket

from tierlb.model.address import Address

DESCRIPTOR_VARIABLE = "TIERLB_SOCKETS"
ANSWER_S = 2.0
MAX_BYTES = 512
OK = b"ok"


class Broker:
    """The node's end."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
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

    def listen(self, address: Address) -> socket.socket:
        """A non-blocking listening socket; raises OSError with a reason."""
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

    def _ask(self, request: bytes) -> tuple[bytes, list[int]]:
        self._sock.send(request)
        while True:
            data, descriptors, _, _ = socket.recv_fds(self._sock, MAX_BYTES, 1)
            asked, _, answer = data.partition(b" ")
            if asked == request or not data:
                return answer, descriptors
            for descriptor in descriptors:
                os.close(descriptor)
