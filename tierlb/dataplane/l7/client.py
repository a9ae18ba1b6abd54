"""A client's connection over HTTP/1: heads of requests come in, and the requests are begun one after the other.

Pipelined requests wait in a buffer, whose size is bounded by not reading on. A client that shuts down its sending side
right behind its request still gets its answer (`abort`). Requests and responses are a matter of `http1`, and the end of
the connection is one of `kept_stream`.
"""

import errno
from collections.abc import Sequence
from typing import Final

from tierlb.dataplane.l7.abort import has_left
from tierlb.dataplane.l7.client_identity import ClientIdentity, after_handshake, forwarded, read_introduction
from tierlb.dataplane.l7.client_stream import SILENT_S, ClientStream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.heads import request_head_end
from tierlb.dataplane.l7.http1 import RETRY_AFTER, Http1Downstream
from tierlb.dataplane.l7.http2_connection import Http2Connection
from tierlb.dataplane.l7.kept_stream import PIPELINED_BYTES, KeptStream
from tierlb.dataplane.l7.lifetime import count_end
from tierlb.dataplane.l7.relocation import Candidate
from tierlb.dataplane.l7.reply import own_answer
from tierlb.model.tls import Alpn
from tierlb.model.topology import ClientAbort
from tierlb.net.tls_layer import TlsLayer
from tierlb.net.wheel import NEVER
from tierlb.wire.client_certificate import encode_client_certificate
from tierlb.wire.http2_frames import is_http2
from tierlb.wire.http_fields import BadHead
from tierlb.wire.proxy_protocol import BadProxyHeader, may_be_v2

HEADS_A_TURN: Final = 8
"""Requests that are begun before other connections get their turn, where this node answers at once. A head counts as
one more for each KiB. Clients that pipeline at all send some ten requests."""
TLS_RECORD: Final = b"\x16\x03"
"""So the first message of a client begins that speaks TLS."""
SPEAKS_NO_TLS: Final = "this port speaks no TLS: write http:// in the place of https://"


class ClientConnection(KeptStream):
    """`direct`: a connection to the inner port may be a client's, which begins with a request. `in_head`: a head has
    begun and is not complete, of which the first `_seen` bytes were looked at. `_pumping`: `pump` is running."""

    __slots__ = ("_clients", "_pumping", "_seen", "direct", "downstream", "in_head")

    def __init__(
        self,
        front: FrontState,
        fd: int,
        identity: ClientIdentity,
        clients: set[ClientStream],
        *,
        introduced: bool,
        direct: bool = False,
    ) -> None:
        """`clients`: those of its front, which it is among until it is closed, or its socket given away."""
        super().__init__(front, fd, introduced=introduced)
        self.downstream = Http1Downstream(front, self, identity)
        self.direct = direct
        self.in_head = False
        self._seen = 0
        self._pumping = False
        self._clients = clients
        clients.add(self)
        self.watch()
        self.arm(front.config.timeouts.head)
        identity.tally.open()

    @property
    def identity(self) -> ClientIdentity:
        return self.downstream.identity

    def under_way(self) -> Sequence[Exchange]:
        exchange = self.downstream.exchange
        return () if exchange is None else (exchange,)

    def candidate(self) -> Candidate:
        return self.downstream.candidate()

    # Reading.

    def on_data(self, data: bytes) -> None:
        front, downstream = self.front, self.downstream
        front.counters.bytes_in += len(data)
        if downstream.exchange is None:
            if self.lingering:
                return
            if not self.buffer and self.introduced and self.backlog is None:
                book = front.config.books[downstream.identity.book]
                plan = book.known.get(data)
                if plan is None:
                    plan = book.plan_whole(data)
                if plan is not None and plan.body_bytes == 0:
                    self.in_head = False
                    downstream.begin(plan)
                    return
            self._put_by(data)
        elif downstream.body_left != 0:
            rest = downstream.take(data)
            if rest:
                self._put_by(rest)
        else:
            downstream.received_at = self.reactor.now
            self._put_by(data)

    def _put_by(self, data: bytes) -> None:
        """Keep bytes until their turn comes, which may be now."""
        self.buffer += data
        if not self.queued:
            self.pump()
        if len(self.buffer) > PIPELINED_BYTES and not self.in_head:
            self.pause()

    def pump(self) -> None:
        """Begin requests while there are complete heads and nothing is in the way. A loop: answers may come at once.

        A client that does not read its answers is in the way too: they would pile up here.
        """
        if self._pumping:
            return
        self._pumping = True
        work = 0
        while self.buffer and self._is_free:
            if work >= HEADS_A_TURN:
                self.reactor.ready.add(self)
                break
            before = len(self.buffer)
            if not self._next_head():
                break
            work += 1 + (before - len(self.buffer)) // 1024
        self._pumping = False
        if self.eof and not self.queued and self._is_free:
            self._end_of_requests()  # it came before the answers to the last

    @property
    def _is_free(self) -> bool:
        """Whether a request may begin."""
        busy = self.downstream.exchange is not None or self.backlog is not None
        return not (busy or self.lingering or self.closed)

    def on_turn(self) -> None:
        """Go on with a body in very many chunks, or with the requests that wait."""
        if not (self.unread or self.end_waits):
            self.pump()
            return
        super().on_turn()
        downstream = self.downstream
        if self.eof and downstream.exchange is not None and downstream.body_left != 0 and not self.unread:
            self.on_broken(OSError(errno.ECONNRESET, "the request ended before its body"))

    def _next_head(self) -> bool:
        """Take one head out of the buffer and begin its request; false when more bytes are needed."""
        if not self.introduced and not introduce(self):
            return False
        front, downstream = self.front, self.downstream
        if self.buffer.startswith(b"\r\n"):  # RFC 9112 §2.2: one empty line before a request is forgiven
            self.buffer = self.buffer[2:]
            self._seen = 0
        buffer = self.buffer
        if buffer.startswith(b"PRI ") and not self.lifetime.requests and is_http2(buffer):
            self._speak_http2()
            return False
        if not self.in_head and buffer.startswith(TLS_RECORD):
            front.counters.rejected += 1
            front.log.warning("tls_on_plain_port", client=downstream.identity.address.decode(), action=SPEAKS_NO_TLS)
            downstream.refuse(400, SPEAKS_NO_TLS)
            return False
        try:
            end = request_head_end(buffer, self._seen if self.in_head else 0, front.config.snapshot.limits.head)
            if end < 0:
                self.resume()
                if buffer and not self.in_head:  # its deadline runs from its first byte and is not moved by later ones
                    self.in_head = True
                    self.arm(front.config.timeouts.head)
                self._seen = len(buffer)
                return False
            plan = front.config.books[downstream.identity.book].plan(buffer[:end])
        except BadHead as error:
            front.counters.rejected += 1
            downstream.refuse(error.status, error.reason)
            return False
        self.buffer = buffer[end:]
        self.in_head = False
        downstream.begin(plan)
        return True

    def _speak_http2(self) -> None:
        """The client begins as one of HTTP/2 does that knows that it is spoken here (RFC 9113 §3.3)."""
        read = self.take_buffer()
        Http2Connection(self, self._clients).on_data(read)

    def _end_of_requests(self) -> None:
        """The client sends no more, and no request is under way."""
        if self.in_head and self.buffer:
            self.front.counters.rejected += 1
            self.downstream.refuse(400, "the request ended in the middle of its head")
        else:
            self.close()

    # Giving way.

    def idle_since(self, now: float) -> float:
        if self.queued or not self._is_free:
            return NEVER
        timeouts = self.front.config.timeouts
        if self.downstream.keep_alive and not self.in_head:
            return self.deadline - timeouts.idle
        since = self.deadline - timeouts.head if self.in_head else self.lifetime.began
        return since if now - since >= SILENT_S else NEVER

    def give_way(self) -> bool:
        """Close it, for the node is full; a head that has begun is answered. False if a request is there that was not
        read yet: it would be lost with the connection."""
        if not self.in_head and self.has_unread:
            return False
        if self.in_head:
            reason = f"{self.front.name}: this node is full and the request head was slow to arrive\n"
            self.send(own_answer(503, reason.encode(), keep_alive=False, extra=RETRY_AFTER))
        self.close()
        return True

    def end_within(self, seconds: float) -> None:
        """End with the first answer after so long; if there is none by then, when nothing is under way."""
        lifetime, now = self.lifetime, self.reactor.now
        lifetime.expires = min(lifetime.expires, now + seconds)
        if self._is_free and not self.in_head:
            self.arm(min(seconds + self.front.config.grace_s, max(0.0, self.deadline - now)))

    # What the stream reports.

    def on_secured(self) -> None:
        front, layer, downstream = self.front, self.layer, self.downstream
        assert isinstance(layer, TlsLayer)
        if not self.introduced:
            self.parent_secured(layer)
            return
        der = layer.peer_certificate
        shown = None if self.server is None else self.server.shown_for(layer.server_name)
        if der is not None or shown is not None:
            certificate = b"" if der is None else encode_client_certificate(der, layer.peer_fields)
            prefix = front.exchanges.ids.prefix
            downstream.identity = after_handshake(downstream.identity, prefix, certificate, shown)
        if layer.alpn == Alpn.HTTP_2.value:  # which alone is spoken then, from the first byte (RFC 9113 §3.2)
            Http2Connection(self, self._clients)

    def on_eof(self) -> None:
        downstream = self.downstream
        exchange = downstream.exchange
        if exchange is None:
            if self.backlog is None:
                if not self.queued:
                    self._end_of_requests()
            elif not self.buffer:
                self.finish(linger=False)
        elif downstream.body_left != 0:
            exchange.abandon()
            self.close()
        elif downstream.reply is None and has_left(self.reactor.now, downstream.received_at):
            downstream.has_left = True
            if self.front.config.snapshot.client_abort is ClientAbort.CANCEL:
                exchange.abandon()
                self.close()

    def on_broken(self, error: OSError) -> None:
        layer = self.layer
        if isinstance(layer, TlsLayer) and not layer.established and (layer.begun or self.introduced):
            self.handshake_failed(f"the TLS handshake failed: {error.strerror}")
        if self.downstream.exchange is not None:
            self.downstream.exchange.abandon()
        self.close()

    def on_drained(self) -> None:
        if self.downstream.exchange is not None:
            self.downstream.exchange.on_downstream_drained()
        elif self.lingering:
            self.linger_on()
        else:
            self.go_on(keep_alive=self.may_ask_again, unread=False)

    def on_deadline(self) -> None:
        downstream = self.downstream
        exchange = downstream.exchange
        if exchange is not None and downstream.reply is None and self.backlog is None:
            if exchange.request is not None and exchange.request.gets_more_time():
                return
            exchange.refuse_request(408, "the request body stopped coming, or came more slowly than limits.body_rate")
        elif exchange is not None:
            self.on_broken(OSError(errno.ETIMEDOUT, "the client stalled"))
        elif self.in_head and self.backlog is None and not self.lingering:
            self.front.counters.rejected += 1
            downstream.refuse(408, "the request head did not arrive in time")
        else:
            self.close()

    def cut(self) -> None:
        """The drain time is over. A request without an answer gets one; an answer that has begun breaks off so that it
        does not look whole."""
        downstream = self.downstream
        exchange, answers = downstream.exchange, downstream.reply is not None
        if exchange is not None:
            exchange.abandon()
            self.front.counters.errors += 1
        if self.backlog is not None or (answers and downstream.ends_by_close):
            self.reset()
        elif self.lingering or answers or not (exchange is not None or self.in_head):
            self.close()
        else:
            downstream.refuse(503, "this node ends, and the time for answers is over", RETRY_AFTER)

    def abort(self) -> None:
        """A handler failed: a request of whose answer nothing was sent gets a 500, and the connection ends."""
        if self.closed:
            return
        exchange, is_answered = self.downstream.exchange, False
        try:
            if exchange is not None:
                self.front.counters.errors += 1
                exchange.abandon()
                if self.downstream.reply is None:
                    self.downstream.refuse(500, "an internal error, which is in the log")
                    is_answered = True
        finally:
            if exchange is None:
                self.close()
            elif not is_answered:
                self.reset()

    def detach(self) -> int:
        """The descriptor becomes a tunnel's."""
        self.front.relocation.forget(self.lifetime)
        fd = super().detach()
        self._clients.discard(self)
        return fd

    def close(self) -> None:
        if self.closed:
            return
        self.downstream.drop()
        try:
            super().close()
        finally:
            count_end(self.front.counters, self.downstream.identity, self.reactor.now - self.lifetime.began)
            self.front.relocation.forget(self.lifetime)
            self._clients.discard(self)
            self.downstream.part()


def placed(client: ClientConnection, arrived: float) -> None:
    """A parent placed the connection here. Its client had connected at `arrived`."""
    front, now = client.front, client.reactor.now
    front.relocation.place(client.lifetime, now, draining=front.config.draining)
    client.arm(front.config.timeouts.head - max(0.0, now - arrived))
    if front.relocation.is_gone(client.downstream.identity.processes):
        client.end_within(0.0)


def introduce(client: ClientConnection) -> bool:
    """Read a parent's PROXY header; false while it is not complete, or when it is refused."""
    front, downstream = client.front, client.downstream
    config, before = front.config, downstream.identity
    try:
        found = (
            forwarded(before.address, config.snapshot.kernel_parents, front.counters.tallies)
            if client.direct and not may_be_v2(client.buffer)
            else read_introduction(client.buffer, config.identity, front.counters.tallies)
        )
    except BadProxyHeader as error:
        front.counters.rejected += 1
        front.log.warning("connection_refused", reason=f"no PROXY header as a parent sends it: {error.reason}")
        client.close()
        return False
    if found is None:
        return False
    client.introduced = True
    client.buffer = client.buffer[found.length :]
    before.tally.close()
    found.tally.open()
    tls = None if found.client is None or found.secured else front.tls
    address = before.address.decode() if found.client is None else found.client
    downstream.identity = ClientIdentity(
        address,
        found.tally,
        front.exchanges.ids.prefix,
        trusted=found.client is None or config.trusts(address),
        secured=tls is not None or found.secured,
        processes=found.processes,
        explained=found.explained,
        certificate=found.told.certificate,
        shown=found.told.shown,
        origin=found.origin or before.origin,
    )
    if found.client is not None:
        placed(client, client.reactor.now)
    else:
        client.arm(config.timeouts.head)
    if tls is not None:
        first, client.buffer = client.buffer, b""
        client.secure(tls, first)
    return True
