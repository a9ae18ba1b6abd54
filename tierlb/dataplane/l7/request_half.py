"""The body of one request, from the downstream to the connection that carries it to a host.

What came before a host was found is kept here, which is at most one read: the downstream is paused meanwhile. A body is
counted, and framed anew for the host. Requests without a body have no such half: their head is all of them.

If a body stops, the client is at fault while the host reads, and else the host. Two suspicions are judged while it goes
on: that the client sends too slowly (`body_rate`), and that the host is gone (`net.peer_liveness`). Left out: how the
client framed the body (`downstream`).
"""

from typing import Final

from tierlb.dataplane.l7.body_rate import BodyRate
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.retry import Attempts
from tierlb.dataplane.l7.states import (
    BODY,
    PASSED,
    PASSING,
    WAITING,
    WHOLE,
    RequestEvent,
    after_request_event,
)
from tierlb.model.topology import PoolProtocol
from tierlb.net import peer_liveness
from tierlb.net.wheel import NEVER
from tierlb.wire.http_body import encode_chunk, last_chunk
from tierlb.wire.http_fields import Header

TAKEN_BACK_BYTES: Final = 16 * 1024
"""Of a body for a host that may refuse a request unseen (HTTP/2): more than most calls of gRPC have."""


class RequestHalf:
    """`body_bytes`: how much of the body came. `_rate` is None if none is demanded. `_sent_at`: when the host was last
    sent a part of it; `_doubted_at`: since when every look found the host gone. `_kept`: all that was sent, for a host
    that may refuse the request; None where that is too much, or cannot be."""

    __slots__ = ("_attempts", "_doubted_at", "_kept", "_rate", "_sent_at", "_unsent", "body_bytes", "state")

    def __init__(self, attempts: Attempts) -> None:
        self._attempts = attempts
        self.state = WAITING
        self.body_bytes = 0
        least_rate = attempts.front.config.snapshot.limits.body_rate
        self._rate = BodyRate(least_rate) if least_rate else None
        self._unsent = b""
        self._kept: bytes | None = b""
        self._sent_at = attempts.came
        self._doubted_at = NEVER

    @property
    def is_sent(self) -> bool:
        """Whether a host has all of it."""
        return self.state is PASSED

    def take(self, piece: bytes, trailers: tuple[Header, ...], *, ended: bool, raw_bytes: int) -> None:
        """The next piece of the body. `raw_bytes`: what it took on the wire; its rate is judged by them."""
        self.body_bytes += len(piece)
        if self._rate is not None:
            self._rate.add(raw_bytes)
        attempts = self._attempts
        if attempts.plan.body_bytes is None:
            piece = encode_chunk(piece)
            if ended:
                piece += last_chunk(trailers)
        if ended:
            self.state = after_request_event(self.state, RequestEvent.END)
        limit = attempts.front.config.snapshot.limits.body
        if limit is not None and self.body_bytes > limit:
            attempts.refuse_request(413, f"the body is larger than the {limit} bytes allowed here")
        elif self.state is PASSING or self.state is PASSED:
            self._pass_on(piece)
        else:
            self._unsent += piece

    def send(self) -> bytes:
        """The head is sent to a host; what came of the body so far, framed, to be sent with it."""
        self.state = after_request_event(self.state, RequestEvent.SEND)
        unsent, self._unsent = self._unsent, b""
        self._keep(unsent)
        return unsent

    def _keep(self, piece: bytes) -> None:
        kept, connection = self._kept, self._attempts.connection
        if kept is None:
            return
        refuses = connection is not None and connection.host.spec.protocol is not PoolProtocol.HTTP1
        self._kept = kept + piece if refuses and len(kept) + len(piece) <= TAKEN_BACK_BYTES else None

    def take_back(self) -> bool:
        """The host did nothing with the request. Whether all of it that came is here, to be sent to another host."""
        kept = self._kept
        if kept is None or self.state is WAITING or self.state is WHOLE:
            return kept is not None
        self.state = after_request_event(self.state, RequestEvent.TAKE_BACK)
        self._unsent, self._kept = kept, b""
        return True

    def _pass_on(self, piece: bytes) -> None:
        attempts = self._attempts
        connection, timeouts = attempts.connection, attempts.front.config.timeouts
        assert connection is not None
        if piece:
            self._keep(piece)
            connection.send(piece)
        if connection.response.state is BODY:
            if not connection.paused:
                connection.arm(timeouts.stream)
            if connection.backlog is not None and not self.is_sent:
                attempts.downstream.pause()
        elif self.is_sent:
            attempts.downstream.expect(NEVER)
            if attempts.ticket is not None:
                attempts.ticket.sent = attempts.front.reactor.now
            attempts.await_host(connection, timeouts.response)
        else:
            self.await_more(connection)

    # While the body goes on.

    def await_more(self, connection: PooledConnection) -> None:
        """A look at the host that is due stays due, since bytes from the client are no sign of life of the host."""
        attempts = self._attempts
        seconds, downstream = attempts.front.config.timeouts.stream, attempts.downstream
        self._sent_at = now = attempts.front.reactor.now
        if connection.backlog is None:
            attempts.ends = NEVER
            if connection.deadline > now + peer_liveness.LOOK_S:
                connection.arm(peer_liveness.LOOK_S)
            rate = self._rate
            if rate is not None and (self.body_bytes or self._is_asked_for(connection)):
                rate.go_on(now)
                seconds = max(0.0, min(seconds, rate.left_s(now)))
            downstream.expect(seconds)
        else:
            if self._rate is not None:
                self._rate.stop(now)
            downstream.expect(NEVER)
            downstream.pause()
            attempts.await_host(connection, seconds)

    def _is_asked_for(self, connection: PooledConnection) -> bool:
        """A client may wait for a 100 before it sends the body."""
        return connection.response.interims > 0 or not self._attempts.plan.head.expect_continue

    def gets_more_time(self) -> bool:
        """The time is over that the client had; whether it gets more. What is over may be a window of the rate, which
        was kept to, or all of the time."""
        attempts, rate = self._attempts, self._rate
        now = attempts.front.reactor.now
        left_s = self._sent_at + attempts.front.config.timeouts.stream - now
        if rate is None or left_s <= 0 or (rate.left_s(now) <= 0 and rate.is_too_slow(now)):
            return False
        attempts.downstream.expect(min(left_s, max(0.0, rate.left_s(now))))
        return True

    def on_drained(self, connection: PooledConnection) -> None:
        """The host has read what was sent."""
        if self.is_sent:
            return
        self._attempts.downstream.resume()
        if connection.response.state is not BODY:
            self.await_more(connection)

    def confirm(self, found_s: float) -> float:
        """What a look at the host found, with what earlier looks found taken into account."""
        now = self._attempts.front.reactor.now
        found_s, self._doubted_at = peer_liveness.confirm(found_s, now, self._sent_at, self._doubted_at)
        return found_s
