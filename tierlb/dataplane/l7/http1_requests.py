"""Requests over HTTP/1: they come one after the other on one connection, and their bodies are taken apart here.

Source: RFC 9112 §6 and §7. Left out: the heads of requests (`plan`), and how responses go out (`http1`).
"""

import errno

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.explained import ExplainedExchange
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.kept_stream import KeptStream
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.relocation import Candidate
from tierlb.dataplane.l7.reply import Reply
from tierlb.dataplane.l7.rule_answers import rule_answer, special_action
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.net.wheel import NEVER
from tierlb.wire.http_body import BadBody, ChunkedDecoder
from tierlb.wire.http_fields import Header


class Http1Requests(Downstream):
    """`exchange` is that of the request under way, None between requests. `reply` is the head of the response that was
    passed on to it, None before. `body_left`: how many bytes of the request's body are still to come; None while it is
    chunked. `keep_alive`: whether the last response left the connection open; False before the first. `received_at`:
    when bytes of the request under way, or behind it, last came."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_front",
        "_plan",
        "body_left",
        "exchange",
        "keep_alive",
        "received_at",
        "reply",
    )
    __deletable__ = ("_connection",)

    _plan: RequestPlan

    def __init__(self, front: FrontState, connection: KeptStream, identity: ClientIdentity) -> None:
        self.identity = identity
        self.has_left = False
        self.exchange: Exchange | None = None
        self.reply: Reply | None = None
        self.body_left: int | None = 0
        self.keep_alive = False
        self.received_at = 0.0
        self._front = front
        self._connection = connection
        self._decoder: ChunkedDecoder | None = None

    def part(self) -> None:
        """The connection is closed, and no request is under way. Both are freed at once, as there is no cycle left."""
        del self._connection

    def begin(self, plan: RequestPlan) -> None:
        """A request came. The connection's buffer holds what came behind its head."""
        front, connection = self._front, self._connection
        connection.deadline = NEVER
        connection.lifetime.requests += 1
        identity = self.identity
        action = front.config.action(plan) if identity.is_usual else special_action(front, identity, plan)
        if not isinstance(action, HostSet):
            self.identity.tally.arrive()
            keep_alive = self.keep_alive = plan.keep_alive and plan.body_bytes == 0 and connection.may_ask_again
            connection.send(rule_answer(front, self.identity, plan, action, keep_alive=keep_alive))
            connection.go_on(keep_alive=keep_alive, unread=plan.body_bytes != 0)
            return
        self._plan = plan
        self.keep_alive = plan.keep_alive
        self.received_at = now = front.reactor.now
        explains = plan.nonce is not None and front.explaining.covers(plan.nonce, now)
        exchange = (ExplainedExchange if explains else Exchange)(front, self, plan, action)
        self.exchange = exchange
        self.identity.tally.begin()
        if plan.body_bytes == 0 or self._takes_first(plan, exchange):
            exchange.start()

    def _takes_first(self, plan: RequestPlan, exchange: Exchange) -> bool:
        """Take what came of the body behind the head; false if that ended the exchange."""
        connection = self._connection
        self.body_left = plan.body_bytes
        self._decoder = ChunkedDecoder() if plan.body_bytes is None else None
        if connection.buffer:
            connection.buffer = self.take(connection.take_buffer())
        if not self.serves(exchange):
            return False
        if connection.eof and self.body_left != 0 and not connection.unread:
            connection.on_broken(OSError(errno.ECONNRESET, "the request ended before its body"))
            return False
        return True

    def take(self, data: bytes) -> bytes:
        """The next bytes of a request whose body goes on; returns those that are behind its end."""
        exchange, connection = self.exchange, self._connection
        assert exchange is not None
        assert exchange.request is not None
        self.received_at = now = self._front.reactor.now
        trailers: tuple[Header, ...] = ()
        if self._decoder is None:
            left = self.body_left or 0
            piece, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
            self.body_left = left - len(piece)
        else:
            try:
                pieces, rest = self._decoder.feed(data, now)
            except BadBody as error:
                exchange.refuse_request(400, error.reason)
                return b""
            piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            if self._decoder.done:
                self.body_left = 0
                trailers = self._decoder.trailers
            else:
                connection.put_back(rest)
                rest = b""
        raw_bytes = len(data) - len(connection.unread)
        exchange.request.take(piece, trailers, ended=self.body_left == 0, raw_bytes=raw_bytes)
        return rest if self.serves(exchange) else b""

    def serves(self, exchange: object) -> bool:
        return self.exchange is exchange

    def pause(self) -> None:
        if self.body_left != 0:
            self._connection.pause()

    def resume(self) -> None:
        self._connection.resume()

    def expect(self, seconds: float) -> None:
        if seconds < NEVER:
            self._connection.arm(seconds)
        else:
            self._connection.disarm()

    @property
    def is_behind(self) -> bool:
        return self._connection.backlog is not None

    def drop(self) -> None:
        """The request under way, if there is one, ends without having been answered whole."""
        if self.exchange is not None:
            self.exchange = self.reply = None
            self.identity.tally.end(done=False)

    def crash(self, error: Exception) -> None:
        self._front.reactor.crashed(self._connection, error)

    def candidate(self) -> Candidate:
        """What `relocation` chooses by."""
        exchange, lifetime, now = self.exchange, self._connection.lifetime, self._front.reactor.now
        if exchange is None:
            return Candidate(lifetime, False, lifetime.activity(now, 0.0))
        waits = self.reply is None and exchange.ticket is not None and exchange.ticket.is_queued
        return Candidate(lifetime, waits, lifetime.activity(now, now - exchange.came))
