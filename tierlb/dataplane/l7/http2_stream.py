"""One request over HTTP/2 and its response: the downstream of one exchange.

Left out: the connection (`http2_session`), the body of the request (`http2_upload`), and when frames go out
(`http2_output`).
"""

from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.explained import ExplainedExchange
from tierlb.dataplane.l7.http1 import RETRY_AFTER
from tierlb.dataplane.l7.http2_owner import StreamOwner
from tierlb.dataplane.l7.http2_tunnel import TunnelledStream
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.reply import Reply, own_answer
from tierlb.dataplane.l7.rule_answers import rule_answer, special_action
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.net.wheel import NEVER
from tierlb.wire.grpc_status import error_block, is_call
from tierlb.wire.http2_frames import INTERNAL_FAILURE, NO_ERROR
from tierlb.wire.http2_head import response_block, trailers_block
from tierlb.wire.http2_states import CLOSED, StreamEvent
from tierlb.wire.http_fields import Header


class Http2Stream(TunnelledStream):
    """`has_left`: the client has reset the stream or disconnected."""

    __slots__ = ("_is_head",)

    def __init__(self, owner: StreamOwner, stream_id: int, window: int) -> None:
        super().__init__(owner, stream_id, window)
        self.identity = owner.connection.identity
        self.has_left = False
        self._is_head = False

    def begin(self, plan: RequestPlan) -> None:
        """The request came; its body may still come."""
        connection = self.owner.connection
        front = connection.front
        connection.lifetime.requests += 1
        self._is_head = plan.is_head
        self.is_tunnel = plan.head.upgrade is not None
        self.body_left = None if self.is_tunnel else plan.body_bytes
        identity = self.identity
        action = front.config.action(plan) if identity.is_usual else special_action(front, identity, plan)
        if not isinstance(action, HostSet):
            self.identity.tally.arrive()
            answer = rule_answer(front, self.identity, plan, action, keep_alive=True)
            if self.is_tunnel and answer[9:10] == b"2":
                self.refuse(501, "no tunnel ends at this node")
            else:
                self._answer(answer)
            return
        explains = plan.nonce is not None and front.explaining.covers(plan.nonce, front.reactor.now)
        exchange = (ExplainedExchange if explains else Exchange)(front, self, plan, action)
        self.exchange = exchange
        self.identity.tally.begin()
        exchange.start()

    def serves(self, exchange: object) -> bool:
        return self.exchange is exchange

    # The response.

    def pass_interim(self, reply: Reply) -> None:
        if self.state is not CLOSED:
            self.owner.output.write_head(self, _block_of(reply), ended=False)

    def pass_head(self, reply: Reply, body: bytes, ended: bool, trailers: tuple[Header, ...] = ()) -> None:
        owner = self.owner
        connection = owner.connection
        front, lifetime = connection.front, connection.lifetime
        now = front.reactor.now
        if now >= lifetime.expires or front.full or (lifetime.movable and front.relocation.is_to_move(lifetime, now)):
            owner.part()
        self.expect(NEVER)
        if ended:
            self._end()
            if self.state is not CLOSED:
                owner.output.respond(self, _block_of(reply), body, trailers_block(trailers))
                self.await_reading()
        else:
            self.reply = reply
            if self.state is not CLOSED:
                owner.output.write_head(self, _block_of(reply), ended=False)
                if body:
                    owner.output.send(self, body, ended=False)

    def pass_body(self, piece: bytes) -> None:
        if self.state is not CLOSED:
            self.owner.output.send(self, piece, ended=False)

    def pass_end(self, piece: bytes, trailers: tuple[Header, ...]) -> None:
        self._end()
        if self.state is not CLOSED:
            self.owner.output.send(self, piece, ended=True, trailers=trailers_block(trailers))
            self.await_reading()

    def _end(self) -> None:
        """The response was handed over whole."""
        exchange, front = self.exchange, self.owner.connection.front
        assert exchange is not None
        self.exchange = self.reply = None
        self.identity.tally.end(done=True)
        front.latencies.add(front.reactor.now - exchange.came)
        if self._held:
            self.release()
        if self.state is CLOSED:
            self.owner.close(self)

    def on_sent_all(self) -> None:
        self.owner.resume(self)

    def on_sent_end(self) -> None:
        """A request of which the body is still to come is not wanted any more (RFC 9113 §8.1)."""
        self.owner.on_answered()
        if self.enter(StreamEvent.SEND_END) is CLOSED:
            self.owner.close(self)
        elif self.tunnel is None or self.tunnel.over:
            self.owner.reset(self, NO_ERROR)

    def go_on(self) -> None:
        if self.reply is not None and self.exchange is not None and not self.pending:
            self.exchange.on_downstream_drained()
        if self.tunnel is not None and not self.pending:
            self.tunnel.resume()
        super().go_on()

    # Other ends of the exchange.

    def drop(self) -> None:
        """The request, if there is one, ends without having been answered whole."""
        if self.exchange is not None:
            self.exchange = self.reply = None
            self.identity.tally.end(done=False)
        self.expect(NEVER)
        self.release()
        tunnel, self.tunnel = self.tunnel, None
        if tunnel is not None:
            tunnel.end()

    def answer_error(self, status: int, reason: str, *, retry_after: bool, extra: bytes) -> None:
        front = self.owner.connection.front
        self._answer_in_place(status, reason, front.load_field + (RETRY_AFTER if retry_after else b"") + extra)

    def refuse(self, status: int, reason: str, extra: bytes = b"") -> None:
        """Also without an exchange, for heads that cannot be understood or allowed."""
        if self.reply is not None:
            self.cut()
        else:
            self._answer_in_place(status, reason, extra)

    def _answer_in_place(self, status: int, reason: str, extra: bytes) -> None:
        exchange, name = self.exchange, self.owner.connection.front.name
        text = f"{name}: {reason}\n".encode()
        self.drop()
        if exchange is not None and is_call(exchange.plan.head.get(b"content-type")):
            if self.state is not CLOSED:
                self.owner.output.respond(self, error_block(status, f"{name}: {reason}"), b"", b"")
            return
        self._answer(own_answer(status, text, keep_alive=True, is_head=self._is_head, extra=extra))

    def _answer(self, message: bytes) -> None:
        """Send a whole response, which was made as one of HTTP/1."""
        if self.state is not CLOSED:
            head, _, body = message.partition(b"\r\n\r\n")
            self.owner.output.respond(self, response_block(head), body, b"")
            self.await_reading()
        else:
            self.owner.close(self)

    def cut(self) -> None:
        self.owner.reset(self, INTERNAL_FAILURE)

    def crash(self, error: Exception) -> None:
        self.owner.connection.reactor.crashed(self, error)

    def abort(self) -> None:
        """Handling an event of the exchange failed: a request of whose answer nothing was sent gets a 500. Without an
        exchange it was an answer of this node that failed."""
        exchange, answers = self.exchange, self.reply is not None
        if exchange is None:
            self.cut()
            return
        self.owner.connection.front.counters.errors += 1
        exchange.abandon()
        if answers:
            self.cut()
        else:
            self._answer_in_place(500, "an internal error, which is in the log", b"")


def _block_of(reply: Reply) -> bytes:
    block = reply.block
    if not block:
        block = reply.block = response_block(reply.lines)
    return block
