"""HTTP/1 towards a client: requests come one after the other on one connection, and responses go out in their order.

This takes the bodies of requests apart and frames responses (RFC 9112 §6, §7). A response whose end only the close of
the host's connection tells is chunked for HTTP/1.1 clients, so that a cut is never mistaken for an end.
"""

import errno
import socket

from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.explained import ExplainedExchange
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.kept_stream import KeptStream
from tierlb.dataplane.l7.lifetime import Lifetime
from tierlb.dataplane.l7.plan import Plan
from tierlb.dataplane.l7.reply import Reply, frame_for, own_answer
from tierlb.dataplane.l7.rule_answers import rule_answer
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.net.wheel import NEVER
from tierlb.wire.http_body import BadBody, ChunkedDecoder, encode_chunk, last_chunk
from tierlb.wire.http_head import Header

RETRY_AFTER = b"Retry-After: 1\r\n"


class Http1Downstream(Downstream):
    """`exchange` is that of the request under way, None between requests. `reply` is the head of the response that was
    passed on to it, None before. `body_left`: how many bytes of the request's body are still to come; None while it is
    chunked. `keep_alive`: whether the last response left the connection open; False before the first. `heard_at`: when
    bytes of the request under way, or behind it, last came."""

    __slots__ = (
        "_connection",
        "_decoder",
        "_front",
        "_plan",
        "body_left",
        "exchange",
        "heard_at",
        "keep_alive",
        "reply",
    )

    _plan: Plan

    def __init__(self, front: FrontState, connection: KeptStream, identity: ClientIdentity) -> None:
        self.identity = identity
        self.has_left = False
        self.exchange: Exchange | None = None
        self.reply: Reply | None = None
        self.body_left: int | None = 0
        self.keep_alive = False
        self.heard_at = 0.0
        self._front = front
        self._connection = connection
        self._decoder: ChunkedDecoder | None = None

    # Requests.

    def begin(self, plan: Plan) -> None:
        """A request came. The connection's buffer holds what came behind its head."""
        front, connection = self._front, self._connection
        connection.deadline = NEVER
        connection.lifetime.requests += 1
        action = front.config.action(plan)
        if not isinstance(action, HostSet):
            self.identity.tally.arrive()
            keep_alive = self.keep_alive = plan.keep_alive and plan.body_bytes == 0 and connection.may_ask_again
            connection.send(rule_answer(front, self.identity, plan, action, keep_alive=keep_alive))
            connection.go_on(keep_alive=keep_alive, unread=plan.body_bytes != 0)
            return
        self._plan = plan
        self.keep_alive = plan.keep_alive
        self.heard_at = now = front.reactor.now
        explains = plan.nonce is not None and front.explaining.covers(plan.nonce, now)
        exchange = (ExplainedExchange if explains else Exchange)(front, self, plan, action)
        self.exchange = exchange
        self.identity.tally.begin()
        if plan.body_bytes == 0 or self._takes_first(plan, exchange):
            exchange.start()

    def _takes_first(self, plan: Plan, exchange: Exchange) -> bool:
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
        self.heard_at = now = self._front.reactor.now
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

    # Responses.

    def pass_interim(self, reply: Reply) -> None:
        """HTTP/1.0 knows none."""
        if self._plan.head.minor:
            self._send(reply.lines + b"\r\n")

    def pass_whole(self, reply: Reply, body: bytes) -> None:
        self._send(self._head(reply) + body)
        self._end()

    def pass_head(self, reply: Reply) -> None:
        self._send(self._head(reply))
        self.reply = reply

    def _head(self, reply: Reply) -> bytes:
        """The head as it is sent, which says whether the connection is kept."""
        plan, connection, front = self._plan, self._connection, self._front
        lifetime, minor = connection.lifetime, plan.head.minor
        keep_alive = self.keep_alive = (
            plan.keep_alive
            and self.body_left == 0
            and connection.may_ask_again
            and (minor == 1 or reply.length >= 0 or plan.is_head)
            and not (lifetime.movable and front.relocation.is_to_move(lifetime, front.reactor.now))
        )
        connection.deadline = NEVER
        if keep_alive and minor and not plan.is_head:
            return reply.whole
        return frame_for(reply, is_head=plan.is_head, minor=minor, keep_alive=keep_alive)

    def pass_body(self, piece: bytes) -> None:
        self._send(encode_chunk(piece) if self._is_chunked else piece)

    def pass_end(self, piece: bytes, trailers: tuple[Header, ...]) -> None:
        if self._is_chunked:
            piece = encode_chunk(piece) + last_chunk(trailers)
        if piece:
            self._send(piece)
        self._end()

    @property
    def _is_chunked(self) -> bool:
        """Whether the body that goes on is chunked for the client: its head could not tell its length."""
        return self.reply is not None and self.reply.length < 0 and self._plan.head.minor > 0

    def _send(self, data: bytes) -> None:
        self._front.counters.bytes_out += len(data)
        self._connection.send(data)

    @property
    def is_behind(self) -> bool:
        return self._connection.backlog is not None

    def _end(self) -> None:
        """The response was handed over whole."""
        exchange, connection = self.exchange, self._connection
        assert exchange is not None
        self.exchange = self.reply = None
        self.identity.tally.end(done=True)
        took_s = self._front.reactor.now - exchange.came
        connection.lifetime.waited_s += took_s
        self._front.latencies.add(took_s)
        if self.keep_alive and (not connection.eof or connection.buffer):
            connection.next_request()
        else:
            connection.finish(linger=self.body_left != 0 or bool(connection.buffer))

    def drop(self) -> None:
        """The request under way, if there is one, ends without having been answered whole."""
        if self.exchange is not None:
            self.exchange = self.reply = None
            self.identity.tally.end(done=False)

    # Other ends.

    def answer_error(self, status: int, reason: str, *, retry_after: bool, extra: bytes) -> None:
        """The connection stays if its framing is still certain."""
        plan, connection, front = self._plan, self._connection, self._front
        keep_alive = plan.keep_alive and self.body_left == 0 and connection.may_ask_again
        self.drop()
        connection.send(
            own_answer(
                status,
                f"{front.name}: {reason}\n".encode(),
                keep_alive=keep_alive,
                minor=plan.head.minor,
                is_head=plan.is_head,
                extra=front.load_field + (RETRY_AFTER if retry_after else b"") + extra,
            )
        )
        connection.go_on(keep_alive=keep_alive, unread=self.body_left != 0)

    def refuse(self, status: int, reason: str, extra: bytes = b"") -> None:
        """Also without an exchange, for heads that cannot be understood or allowed."""
        connection = self._connection
        if self.reply is not None:
            connection.close()
            return
        self.drop()
        text = f"{self._front.name}: {reason}\n".encode()
        connection.send(own_answer(status, text, keep_alive=False, extra=extra))
        connection.go_on(keep_alive=False, unread=True)

    @property
    def ends_by_close(self) -> bool:
        """Whether the client would take the end of the connection for that of the response."""
        return not self._plan.head.minor and (self.reply is None or self.reply.length < 0)

    def cut(self) -> None:
        if self.ends_by_close:
            self._connection.reset()
        else:
            self.drop()
            self._connection.finish(linger=False)

    def crash(self, error: Exception) -> None:
        self._front.reactor.crashed(self._connection, error)

    def detach(self) -> tuple[socket.socket, bytes, bytes, float]:
        connection = self._connection
        unsent, ahead = b"".join(connection.backlog or ()), connection.take_buffer()
        sock = connection.detach()
        self.exchange = None  # its place in the tally is the tunnel's now
        return sock, unsent, ahead, connection.lifetime.began

    # Whether the connection may be moved (`relocation`).

    @property
    def lifetime(self) -> Lifetime:
        return self._connection.lifetime

    @property
    def waits(self) -> bool:
        """Whether it waits for a response that has not begun, and that keeps a place at a host."""
        exchange = self.exchange
        if exchange is None or self.reply is not None or exchange.ticket is None:
            return False
        return exchange.ticket.is_queued

    @property
    def activity(self) -> float:
        """Requests per second of the time in which it did not wait for responses."""
        exchange, now = self.exchange, self._front.reactor.now
        return self._connection.lifetime.activity(now, 0.0 if exchange is None else now - exchange.came)
