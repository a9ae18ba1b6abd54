"""A client's connection over HTTP/1 from one request to the next: kept for another one, or ended."""

from typing import Final

from tierlb.dataplane.l7.client_stream import ClientStream
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.lifetime import Lifetime
from tierlb.dataplane.l7.reply import own_answer
from tierlb.dataplane.tier_tls import PLAIN_PARENT
from tierlb.net.bulk import READ_BYTES
from tierlb.net.server_tls import ServerTls
from tierlb.net.tls_layer import TlsLayer

NOT_TLS: Final = "this port speaks TLS: write https:// in the place of http://"
PIPELINED_BYTES: Final = 64 * 1024
"""Of requests that wait for their turn. While there are more, nothing is read."""


class KeptStream(ClientStream):
    """`buffer`: bytes of requests that wait for their turn. `introduced`: the PROXY header came with which a parent's
    connection begins, or none is due. `server`: what a client that speaks TLS is shown."""

    __slots__ = ("buffer", "introduced", "server")

    def __init__(self, front: FrontState, fd: int, *, introduced: bool) -> None:
        super().__init__(front, fd, Lifetime(front.reactor.now, draining=front.config.draining))
        self.buffer = b""
        self.server: ServerTls | None = None
        self.introduced = introduced

    def secure(self, tls: ServerTls, first: bytes = b"") -> None:
        """The client speaks TLS. `first`: what came of that already. Handshake and head share a deadline."""
        self.server = tls
        TlsLayer(self, tls.context, is_server=True).begin(first)

    def parent_secured(self, layer: TlsLayer) -> None:
        """The TLS between two tiers is there, and the PROXY header is to come through it."""
        inner = self.front.inner_tls
        refusal = "no tier sends here any more" if inner is None else inner.refusal(layer, self.reactor.now)
        if refusal:
            self.handshake_failed(refusal)
            self.close()

    def handshake_failed(self, reason: str) -> None:
        """With a client or a parent. It is counted and logged."""
        front = self.front
        front.counters.rejected += 1
        if self.introduced:
            front.log.info("connection_refused", reason=reason)
        else:
            front.log.warning("parent_refused", peer=self.identity.address.decode(), reason=reason)

    def on_unsecured(self, data: bytes) -> None:
        if not self.introduced:
            self.handshake_failed(PLAIN_PARENT)
            self.close()
            return
        self.front.counters.rejected += 1
        self.send(own_answer(400, f"{self.front.name}: {NOT_TLS}\n".encode(), keep_alive=False))
        self.finish(linger=True)

    def pump(self) -> None:
        """Begin the requests that are complete."""
        raise NotImplementedError

    def next_request(self) -> None:
        """Wait for the next request, or take it if it is here."""
        self.read_bytes = READ_BYTES
        config, now = self.front.config, self.reactor.now
        if config.draining:
            self.deadline = at = max(now, self.lifetime.expires) + config.grace_s
        else:
            self.deadline = at = now + config.timeouts.idle
        if at < self.filed:
            self.reactor.wheel.file(self)
        if self.paused and len(self.buffer) <= PIPELINED_BYTES:
            self.resume()
        if self.buffer:
            self.pump()

    @property
    def may_ask_again(self) -> bool:
        """Whether further requests are welcome and possible; those that came before the client's end still count."""
        lasts = self.reactor.now < self.lifetime.expires and not self.front.full
        return lasts and (not self.eof or bool(self.buffer))

    def go_on(self, *, keep_alive: bool, unread: bool) -> None:
        """A response was handed over. `unread`: the client may still be sending its request."""
        if keep_alive:
            self.next_request()
        else:
            self.finish(linger=unread or bool(self.buffer))

    def finish(self, *, linger: bool) -> None:
        self.buffer = b""
        super().finish(linger=linger)

    def take_buffer(self) -> bytes:
        """What came and was not looked at."""
        taken, self.buffer = self.unread + self.buffer, b""
        self.unread = b""
        return taken
