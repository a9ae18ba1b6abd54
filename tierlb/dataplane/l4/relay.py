"""The `relay` forwarder: connect to a member, say who the client is, join the two sockets.

Until a member has accepted, nothing is read from the client, so a connect that fails costs nothing: another
member gets the connection. On the handshake's end the client's first bytes, mostly there by then, travel in the same
packet as the PROXY header.
"""

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.roster import Candidate
from tierlb.net.reactor import WRITE
from tierlb.net.stream import READ_BYTES, Stream, dial
from tierlb.wire.proxy_protocol import encode_v2

if TYPE_CHECKING:
    from tierlb.dataplane.l4.front import L4Front

CONNECTS = 3


class Handshake(Stream):
    """One connect attempt towards a member on behalf of one client; `source` is the client's address."""

    __slots__ = ("candidate", "client", "front", "source", "tried")

    def __init__(
        self,
        front: "L4Front",
        sock: socket.socket,
        client: socket.socket,
        source: tuple[str, int],
        candidate: Candidate,
        tried: tuple[Candidate, ...],
    ) -> None:
        super().__init__(front.reactor, sock)
        self.front = front
        self.client = client
        self.source = source
        self.candidate = candidate
        self.tried = tried
        front.handshakes.add(self)
        self.watch(WRITE)
        self.arm(front.snapshot.timeouts.connect)

    def on_ready(self, mask: int) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.fail(code)
            return
        front, candidate, client = self.front, self.candidate, self.client
        front.handshakes.discard(self)
        candidate.connected()
        first = b""
        if candidate.member.proxy_protocol:
            first = encode_v2(self.source, client.getsockname()[:2])
        with contextlib.suppress(OSError):  # nothing yet, or broken: the pipe hears of either
            first += client.recv(READ_BYTES)
        front.join(client, self, candidate, first)

    def on_deadline(self) -> None:
        self.fail(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self.fail(error.errno or errno.EIO)

    def fail(self, code: int) -> None:
        """This member did not take it: the next one, or the end."""
        front, candidate = self.front, self.candidate
        front.handshakes.discard(self)
        self.close()
        candidate.in_flight -= 1
        candidate.connect_failed(refused=code == errno.ECONNREFUSED)
        relay(front, self.client, self.source, (*self.tried, candidate))


def relay(front: "L4Front", client: socket.socket, source: tuple[str, int], tried: tuple[Candidate, ...] = ()) -> None:
    """Give the client's connection to a member that was not `tried` yet; closes it when there is none."""
    while len(tried) < CONNECTS:
        candidate = front.split.pick().choose(tried)
        if candidate is None:
            break
        try:
            sock, code = dial(candidate.member.address, speaks_first=candidate.member.proxy_protocol)
        except OSError as error:
            front.log.error("no socket for a connection", error=str(error))
            break
        if not code:
            candidate.in_flight += 1
            Handshake(front, sock, client, source, candidate, tried)
            return
        sock.close()
        candidate.connect_failed(refused=code == errno.ECONNREFUSED)
        tried = (*tried, candidate)
    front.give_up(client, tried)


class TunnelEnd:
    """What to settle when a relayed connection is over."""

    __slots__ = ("candidate", "front")

    def __init__(self, front: "L4Front", candidate: Candidate) -> None:
        self.front = front
        self.candidate = candidate

    def __call__(self, pipe: Pipe, broken: bool) -> None:
        self.front.over(pipe, self.candidate)
