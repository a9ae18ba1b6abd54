"""A node below another one at l4: the parent's PROXY header is read before the connection is relayed."""

import socket
from typing import TYPE_CHECKING

from tierlb.dataplane.kinship import way_of
from tierlb.dataplane.l4.relay import Caller, relay
from tierlb.net.stream import Stream
from tierlb.wire.proxy_protocol import EXPLAINED, MAX_HEADER_BYTES, BadProxyHeader, ProxyHeader, parse_v2

if TYPE_CHECKING:
    from tierlb.dataplane.l4.front import L4Front

HEADER_S = 5.0


class Introduction(Stream):
    """Waits for the PROXY header of one connection. It peeks: what follows the header stays in the socket."""

    __slots__ = ("front", "peer", "seen_bytes")

    def __init__(self, front: "L4Front", sock: socket.socket, peer: tuple[str, int]) -> None:
        super().__init__(front.reactor, sock)
        self.front = front
        self.peer = peer
        self.seen_bytes = 0
        self.watch()
        self.arm(HEADER_S)
        front.introductions.add(self)

    def on_ready(self, mask: int) -> None:
        self._ready_for(mask)

    def _read(self) -> None:
        try:
            seen = self.sock.recv(MAX_HEADER_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError as error:
            self.on_broken(error)
            return
        try:
            header = parse_v2(seen)
        except BadProxyHeader as error:
            self._refuse(error.reason)
            return
        if header is not None:
            self._introduced(header)
        elif len(seen) == self.seen_bytes:
            self._refuse("the connection ended before its PROXY header")
        else:
            self.seen_bytes = len(seen)
            self._wake_at(self.seen_bytes + 1)

    def _introduced(self, header: ProxyHeader) -> None:
        front = self.front
        parent = front.kin.parent(header)
        if parent is None:
            self._refuse("it does not know the key of this cluster")
            return
        self.sock.recv(header.length)
        self._wake_at(1)
        explained = header.tlvs[EXPLAINED] + b"\n" if header.tlvs.get(EXPLAINED) else b""
        tally, way = front.counters.tallies.of(parent), "\n".join(way_of(parent, header)).encode("latin-1")
        caller = Caller(header.source or self.peer, tally, front.reactor.now, explained, way)
        front.introductions.discard(self)
        relay(front, self.detach(), caller)

    def _wake_at(self, count: int) -> None:
        """Bytes that were only peeked at keep the socket readable: ask to be woken for more than these, or the end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)

    def _refuse(self, reason: str) -> None:
        self.front.counters.rejected += 1
        self.front.log.warning("connection_refused", reason=f"no PROXY header where a parent sends one: {reason}")
        self.on_deadline()

    def on_broken(self, error: OSError) -> None:
        self.on_deadline()

    def on_deadline(self) -> None:
        if self in self.front.introductions:
            self.front.introductions.discard(self)
            self.front.counters.connections -= 1
        self.close()
