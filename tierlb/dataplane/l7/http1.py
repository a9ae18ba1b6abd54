"""HTTP/1 towards a client: how responses are framed, in the order of their requests.

A response that ends with the close of the host's connection is chunked for HTTP/1.1 clients, so that a cut is never
mistaken for an end.
"""

from typing import Final

from tierlb.dataplane.l7.http1_requests import Http1Requests
from tierlb.dataplane.l7.reply import Reply, frame_for, own_answer
from tierlb.dataplane.pipe import Pipe
from tierlb.net.layer import Layer
from tierlb.net.wheel import NEVER
from tierlb.wire.http_body import encode_chunk, last_chunk
from tierlb.wire.http_fields import Header

RETRY_AFTER: Final = b"Retry-After: 1\r\n"


class Http1Downstream(Http1Requests):
    """The downstream of all exchanges of one connection."""

    __slots__ = ()

    def pass_interim(self, reply: Reply) -> None:
        """HTTP/1.0 has none, so nothing is sent."""
        if self._plan.head.minor:
            self._send(reply.lines + b"\r\n")

    def pass_head(self, reply: Reply, body: bytes, ended: bool, trailers: tuple[Header, ...] = ()) -> None:
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
        if reply.length < 0 and minor and not plan.is_head:
            body = encode_chunk(body) + last_chunk(trailers) if ended else encode_chunk(body)
        if keep_alive and minor and not plan.is_head:
            message = reply.whole + body
        else:
            message = frame_for(reply, is_head=plan.is_head, minor=minor, keep_alive=keep_alive) + body
        front.counters.bytes_out += len(message)
        connection.send(message)
        if ended:
            self._end()
        else:
            self.reply = reply

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
        """Whether the body that goes on is chunked for the client: its head has no length. HEAD is answered without."""
        plan, reply = self._plan, self.reply
        return reply is not None and reply.length < 0 and plan.head.minor > 0 and not plan.is_head

    def _send(self, data: bytes) -> None:
        self._front.counters.bytes_out += len(data)
        self._connection.send(data)

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

    # Other ends of an exchange.

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

    def detach(self) -> tuple[int, bytes, bytes, float, Layer | None]:
        connection = self._connection
        unsent, ahead = connection.take_unsent(), connection.take_buffer()
        fd = connection.detach()
        self.exchange = None  # its place in the tally is the tunnel's now
        return fd, unsent, ahead, connection.lifetime.began, connection.layer

    @property
    def demands_switch(self) -> bool:
        return False

    def on_joined(self, pipe: Pipe) -> None:
        """The pipe has the socket."""

    def on_tunnel_over(self, *, broken: bool) -> None:
        """The pipe has closed the socket."""
