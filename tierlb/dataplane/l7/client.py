"""A client's connection: request heads in, responses out, one exchange at a time, answers in order.

Pipelined requests wait in `buffer`, whose size is bounded by not reading on. A client that shuts down its sending
side right behind its request still gets its answer (abort.py). Refusals close the connection, and do so *lingering*:
our side is shut, what the client is still sending is thrown away for a while, because closing with unread bytes makes
the kernel reset the connection and the answer may be lost with it (RFC 9112 §9.6).
"""

import errno
import math
import socket
from typing import TYPE_CHECKING

from tierlb.dataplane.explanation import answered, response_fields
from tierlb.dataplane.kinship import way_of
from tierlb.dataplane.l7.abort import has_left
from tierlb.dataplane.l7.exchange import Exchange
from tierlb.dataplane.l7.explained import ExplainedExchange
from tierlb.dataplane.l7.max_forwards import FinalRecipient
from tierlb.dataplane.l7.plan import Plan
from tierlb.dataplane.l7.redirect import location
from tierlb.dataplane.l7.reply import own_answer
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.model.topology import Redirect, Respond
from tierlb.net.bulk import READ_BYTES
from tierlb.net.stream import Stream
from tierlb.net.wheel import NEVER
from tierlb.wire.http_head import BadHead, find_head_end
from tierlb.wire.http_start import check_request_start
from tierlb.wire.proxy_protocol import EXPLAINED, BadProxyHeader, ProxyHeader, parse_v2

if TYPE_CHECKING:
    from tierlb.dataplane.l7.front import L7Front

PIPELINED_BYTES = 64 * 1024
HEADS_A_TURN = 8
"""Requests that are begun before other connections get their turn, where this node answers at once. A head counts as
one more for each KiB. Clients that pipeline at all send some ten requests."""
RETRY_AFTER = b"Retry-After: 1\r\n"
LINGER_S = 2.0
SETTLING_S = 0.2
"""Added to the age of a connection by which its requests are divided: the first ones come at once."""
SILENT_S = 2.0
"""A connection that has not brought a whole first head for so long may give way when the node is full. It is not idle
before: a crowd that connects at once and asks a moment later must not push out its own hosts."""


class ClientConnection(Stream):
    """`peer`: the client's address; `peer_named`: what follows `X-Forwarded-For: ` upstream, to the request's number.

    `movable`: it came through an l4 parent, which would give the client's next connection to whom it is best; so it
    ends at `expires`, or when there is too much here; `moves`: it ends with the answer that it waits for. `asked`: its
    requests so far, `waited_s`: how long answers took in all. `way` are the processes that it came through, `explained`
    is how they chose. `keep_alive`: whether the last answer left the connection open; False before the first. `seen`:
    the bytes of an unfinished head that were looked at. `left`: the client ended its side after having waited
    (abort.py). `piped_at`: when bytes last came behind the request under way.
    """

    __slots__ = (
        "asked",
        "began",
        "buffer",
        "exchange",
        "expires",
        "explained",
        "front",
        "in_head",
        "introduced",
        "keep_alive",
        "left",
        "lingering",
        "movable",
        "moves",
        "peer",
        "peer_named",
        "piped_at",
        "pumping",
        "seen",
        "tally",
        "trusted",
        "waited_s",
        "way",
    )

    def __init__(self, front: "L7Front", sock: socket.socket, peer: str, *, trusted: bool, introduced: bool) -> None:
        super().__init__(front.reactor, sock)
        self.front = front
        self.buffer = b""
        self.exchange: Exchange | None = None
        self.keep_alive = False
        self.in_head = False
        self.seen = 0
        self.left = False
        self.piped_at = -math.inf
        self.lingering = False
        self.pumping = False
        self.introduced = introduced
        self.movable = self.moves = False
        self.asked = 0
        self.waited_s = 0.0
        self.way: tuple[str, ...] = ()
        self.expires = front.reactor.now if front.draining else math.inf
        self.explained: tuple[bytes, ...] = ()
        self.began = front.reactor.now
        self.tally = front.counters.tallies.outside
        self.trusted = trusted
        self._comes_from(peer)
        self.watch()
        self.arm(front.snapshot.timeouts.head)
        self.tally.connections += 1

    def _comes_from(self, peer: str) -> None:
        self.peer = peer.encode()
        self.peer_named = b"%b\r\nX-Request-Id: %b" % (self.peer, self.front.id_prefix)

    def upstream_head(self, plan: Plan) -> bytes:
        """The whole head that goes to a host; a request that has no id gets one."""
        if plan.has_id:
            return b"%b%b\r\n\r\n" % (plan.opening, self.peer)
        front = self.front
        front.requests_named = number = front.requests_named + 1
        return b"%b%b%x\r\n\r\n" % (plan.opening, self.peer_named, number)

    # Reading.

    def on_data(self, data: bytes) -> None:
        counters = self.front.counters
        counters.bytes_in += len(data)
        exchange = self.exchange
        if exchange is None:
            if self.lingering:
                return
            if not self.buffer and self.introduced and self.backlog is None:
                plan = self.front.books[self.trusted].known.get(data)
                if plan is not None and plan.body_bytes == 0:
                    self._begin(plan)
                    return
            self._put_by(data)
        elif not exchange.request_done:
            rest = exchange.on_request_data(data)
            if rest:
                self._put_by(rest)
        else:
            self.piped_at = self.reactor.now
            self._put_by(data)

    def _put_by(self, data: bytes) -> None:
        """Keep bytes until their turn comes, which may be now."""
        self.buffer += data
        if not self.queued:
            self._pump()
        if len(self.buffer) > PIPELINED_BYTES and not self.in_head:
            self.pause()

    def take_buffer(self) -> bytes:
        taken, self.buffer = self.unread + self.buffer, b""
        self.unread = b""
        return taken

    def _pump(self) -> None:
        """Begin exchanges while there are complete heads and nothing is in the way. A loop: answers may come at once.

        A client that does not read its answers is in the way too: they would pile up here.
        """
        if self.pumping:
            return
        self.pumping = True
        work = 0
        while self.exchange is None and self.backlog is None and self.buffer and not self.lingering and not self.closed:
            if work >= HEADS_A_TURN:
                self.reactor.ready.add(self)
                break
            before = len(self.buffer)
            if not self._next_head():
                break
            work += 1 + (before - len(self.buffer)) // 1024
        self.pumping = False
        if self.exchange is None and self.eof and self.backlog is None and not self.queued and not self.closed:
            self._end_of_requests()  # it came before the answers to the last

    def on_turn(self) -> None:
        """Go on with a body in very many chunks, or with the requests that wait."""
        if not self.unread:
            self._pump()
            return
        super().on_turn()
        exchange = self.exchange
        if self.eof and exchange is not None and not exchange.request_done and not self.unread:
            self.on_broken(OSError(errno.ECONNRESET, "the request ended before its body"))

    def _next_head(self) -> bool:
        """Take one head out of the buffer and act on it; false when more bytes are needed."""
        if not self.introduced and not self._take_proxy_header():
            return False
        buffer = self.buffer
        if buffer.startswith(b"\r\n"):  # RFC 9112 §2.2: one empty line before a request is forgiven
            buffer = self.buffer = buffer[2:]
            self.seen = 0
        end = find_head_end(buffer)
        limit = self.front.head_bytes
        if end > limit or (end < 0 and len(buffer) > limit):
            self._refuse_large_head(buffer[:limit])
            return False
        if end < 0:
            self._await_head()
            return False
        try:
            plan = self.front.books[self.trusted].plan(buffer[:end])
        except BadHead as error:
            self.front.counters.rejected += 1
            self.refuse(error.status, error.reason)
            return False
        self.buffer = buffer[end:]
        self._begin(plan)
        return True

    def _await_head(self) -> None:
        """The head has begun: its deadline runs from its first byte and is not moved by later ones."""
        self.resume()
        if not self.buffer:
            return
        if not self.in_head:
            self.in_head = True
            self.seen = 0
            self.arm(self.front.snapshot.timeouts.head)
        try:
            check_request_start(self.buffer, self.seen)
        except BadHead as error:
            self.front.counters.rejected += 1
            self.refuse(error.status, error.reason)
            return
        self.seen = len(self.buffer)

    def _end_of_requests(self) -> None:
        """The client sends no more, and no request is under way."""
        if self.in_head and self.buffer:
            self.front.counters.rejected += 1
            self.refuse(400, "the request ended in the middle of its head")
        else:
            self.close()

    def _refuse_large_head(self, start: bytes) -> None:
        self.front.counters.rejected += 1
        if b"\r\n" in start:
            self.refuse(431, f"the request head is larger than the {len(start)} bytes allowed here")
        else:
            self.refuse(414, f"the request line is longer than the {len(start)} bytes allowed here")

    def _take_proxy_header(self) -> bool:
        try:
            header = parse_v2(self.buffer)
        except BadProxyHeader as error:
            return self._turn_away(error.reason)
        if header is None:
            return False
        parent = self.front.kin.parent(header)
        if parent is None:
            return self._turn_away("it does not know the key of this cluster")
        self.buffer = self.buffer[header.length :]
        self._introduce(parent, header)
        return True

    def _introduce(self, parent: str, header: ProxyHeader) -> None:
        """An l4 parent speaks for a client, whose own word counts little; an l7 parent says who the client is."""
        self.introduced = True
        self.tally.connections -= 1
        self.tally = self.front.counters.tallies.of(parent)
        self.tally.connections += 1
        if header.source is not None:
            self._comes_from(header.source[0])
            self.trusted = self.front.trusts(header.source[0])
            self.movable = True
            self.way = way_of(parent, header)
            self.expires = self.front.expiry()
            self.front.movable += 1
            if header.tlvs.get(EXPLAINED):
                self.explained = tuple(header.tlvs[EXPLAINED].split(b"\n"))
        else:
            self.trusted = True
        self.arm(self.front.snapshot.timeouts.head)
        if any(process in self.front.gone for process in self.way):
            self.end_within(0.0)

    def _turn_away(self, reason: str) -> bool:
        self.front.counters.rejected += 1
        self.front.log.warning("connection refused", reason=f"no PROXY header as a parent sends it: {reason}")
        self.close()
        return False

    # Acting.

    @property
    def may_ask_again(self) -> bool:
        """Whether further requests are welcome and possible; those that came before the client's end still count."""
        return self.reactor.now < self.expires and not self.front.full and (not self.eof or bool(self.buffer))

    def idle_since(self, now: float) -> float:
        """Since when it waits for a request; NEVER while it serves one, or has not been silent long enough."""
        if self.exchange is not None or self.backlog is not None or self.queued or self.lingering or self.closed:
            return NEVER
        if self.keep_alive and not self.in_head:
            return self.deadline - self.front.idle_s
        since = self.deadline - self.front.snapshot.timeouts.head if self.in_head else self.began
        return since if now - since >= SILENT_S else NEVER

    def give_way(self) -> bool:
        """Close it, for the node is full; a head that has begun is answered. False if a request is there that was not
        read yet: it would be lost with the connection."""
        if not self.in_head and self._is_asking():
            return False
        if self.in_head:
            reason = f"{self.front.name}: this node is full and the request head was slow to arrive\n"
            self.send(own_answer(503, reason.encode(), keep_alive=False, extra=RETRY_AFTER))
        self.close()
        return True

    def _is_asking(self) -> bool:
        try:
            return bool(self.sock.recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def end_within(self, seconds: float) -> None:
        """End with the first answer after so long; if there is none by then, when nothing is under way."""
        self.expires = min(self.expires, self.reactor.now + seconds)
        if self.exchange is None and not self.in_head and not self.lingering and self.backlog is None:
            self.arm(min(seconds + self.front.grace_s, max(0.0, self.deadline - self.reactor.now)))

    def is_to_move(self) -> bool:
        """Whether this connection, which is `movable`, is to end with the answer under way, so that its client finds a
        better place. One that has `expired` may not ask again anyway."""
        return self.moves or self.front.closing.take(self.reactor.now)

    @property
    def waits(self) -> bool:
        """Whether it waits for an answer that has not begun, and that keeps a place at a host."""
        exchange = self.exchange
        if exchange is None or exchange.reply is not None or exchange.host is None:
            return False
        return exchange in exchange.host.under_way

    @property
    def activity(self) -> float:
        """Requests per second of the time in which it did not wait for answers."""
        exchange, now = self.exchange, self.reactor.now
        waits_s = 0.0 if exchange is None else now - exchange.came
        return self.asked / (now - self.began - self.waited_s - waits_s + SETTLING_S)

    def _begin(self, plan: Plan) -> None:
        front = self.front
        tally = self.tally
        tally.arrivals += 1
        self.asked += 1
        self.in_head = False
        self.deadline = NEVER
        action = front.action(plan)
        if not isinstance(action, HostSet):
            self._answer_here(plan, action)
            return
        asked = plan.nonce is not None and front.explaining.covers(plan.nonce, self.reactor.now)
        exchange = (ExplainedExchange if asked else Exchange)(self, plan, action)
        self.exchange = exchange
        tally.in_flight += 1
        self.keep_alive = plan.keep_alive
        if not exchange.request_done and self.buffer:
            self.buffer = exchange.on_request_data(self.take_buffer())
            if self.exchange is not exchange:
                return
        if self.eof and not exchange.request_done and not self.unread:
            self.on_broken(OSError(errno.ECONNRESET, "the request ended before its body"))
        else:
            exchange.start()

    def _answer_here(self, plan: Plan, action: Respond | Redirect | FinalRecipient | None) -> None:
        """Routes that answer without a host. An unread body is not worth reading: the connection closes."""
        keep_alive = self.keep_alive = plan.keep_alive and plan.body_bytes == 0 and self.may_ask_again
        extra = self.front.load_field
        if isinstance(action, FinalRecipient):
            action = action.answer(plan.head)
        if action is None:
            status, body, kind = 404, f"{self.front.name}: no route matches this request\n", None
        elif isinstance(action, Redirect):
            status, body, kind = action.status, "", None
            extra += b"Location: " + location(action, plan.head, trusted=self.trusted) + b"\r\n"
        else:
            status, body, kind = action.status, action.body, action.content_type
        if plan.nonce is not None and self.front.explaining.covers(plan.nonce, self.reactor.now):
            extra += response_fields((*self.explained, answered(self.front.name, status)))
        self.send(
            own_answer(
                status,
                body.encode(),
                keep_alive=keep_alive,
                minor=plan.head.minor,
                is_head=plan.is_head,
                content_type=kind or "text/plain; charset=utf-8",
                extra=extra,
            )
        )
        self._next_or_close(keep_alive, unread=plan.body_bytes != 0)

    def exchange_over(self) -> None:
        """The response has been handed over whole."""
        exchange = self.exchange
        assert exchange is not None
        self.exchange = None
        tally, front = self.tally, self.front
        tally.in_flight -= 1
        tally.done += 1
        took_s = front.reactor.now - exchange.came
        self.waited_s += took_s
        front.latencies.add(took_s)
        if self.keep_alive and (not self.eof or self.buffer):
            self._next()
        else:
            self._finish(linger=not exchange.request_done or bool(self.buffer))

    def answer_error(self, status: int, reason: str, *, retry_after: bool, extra: bytes = b"") -> None:
        """Answer a request that could not be served; the connection stays if its framing is still certain.

        `extra` holds further complete header lines.
        """
        exchange = self.exchange
        assert exchange is not None
        keep_alive = exchange.plan.keep_alive and exchange.request_done and self.may_ask_again
        self.exchange = None
        self.tally.in_flight -= 1
        self.send(
            own_answer(
                status,
                f"{self.front.name}: {reason}\n".encode(),
                keep_alive=keep_alive,
                minor=exchange.plan.head.minor,
                is_head=exchange.plan.is_head,
                extra=self.front.load_field + (RETRY_AFTER if retry_after else b"") + extra,
            )
        )
        self._next_or_close(keep_alive, unread=not exchange.request_done)

    def break_off(self) -> None:
        """End after an answer that broke off; what there is of it still goes out."""
        self.exchange = None
        self.tally.in_flight -= 1
        self._finish(linger=False)

    def refuse(self, status: int, reason: str, extra: bytes = b"") -> None:
        """Answer input that cannot be understood or allowed, and close."""
        if self.exchange is not None:
            self.exchange = None
            self.tally.in_flight -= 1
        self.send(own_answer(status, f"{self.front.name}: {reason}\n".encode(), keep_alive=False, extra=extra))
        self._next_or_close(False, unread=True)

    def _next_or_close(self, keep_alive: bool, *, unread: bool) -> None:
        if not keep_alive:
            self._finish(linger=unread or bool(self.buffer))
        else:
            self._next()

    def _next(self) -> None:
        """Wait for the next request, or take it if it is here."""
        self.read_bytes = READ_BYTES
        front, now = self.front, self.reactor.now
        self.deadline = at = max(now, self.expires) + front.grace_s if front.draining else now + front.idle_s
        if at < self.filed:
            self.reactor.wheel.file(self)
        if self.paused and len(self.buffer) <= PIPELINED_BYTES:
            self.resume()
        if self.buffer:
            self._pump()

    def _finish(self, *, linger: bool) -> None:
        """Close once everything is written; `linger` first if the client may still be sending."""
        if self.backlog is None and (self.eof or not linger):
            self.close()
            return
        self.lingering = True
        self.buffer = b""
        self.arm(LINGER_S if self.backlog is None else self.front.snapshot.timeouts.stream)
        self.resume()
        if self.backlog is None:
            self.shutdown_write()

    # What the stream reports.

    def on_eof(self) -> None:
        exchange = self.exchange
        if exchange is None:
            if self.backlog is None:
                if not self.queued:
                    self._end_of_requests()
            elif not self.buffer:
                self._finish(linger=False)
        elif not exchange.request_done:
            exchange.on_client_gone()
            self.close()
        elif exchange.reply is None and has_left(self.reactor.now, max(exchange.asked, self.piped_at)):
            self.left = True
            if self.front.cancels:
                exchange.on_client_gone()
                self.close()

    def on_broken(self, error: OSError) -> None:
        if self.exchange is not None:
            self.exchange.on_client_gone()
        self.close()

    def on_progress(self) -> None:
        if self.deadline is not NEVER:
            self.arm(self.front.snapshot.timeouts.stream)

    def on_drained(self) -> None:
        if self.exchange is not None:
            self.exchange.on_client_drained()
        elif not self.lingering:
            self._next_or_close(self.may_ask_again, unread=False)
        elif self.eof:
            self.close()
        else:
            self.arm(LINGER_S)
            self.shutdown_write()

    def on_deadline(self) -> None:
        exchange = self.exchange
        if exchange is not None and exchange.reply is None and self.backlog is None:
            if exchange.goes_on_after_deadline():
                return
            exchange.on_client_gone()
            self.front.counters.rejected += 1
            self.refuse(408, "the request body stopped coming, or came more slowly than limits.body_rate")
        elif exchange is not None:
            self.on_broken(OSError(errno.ETIMEDOUT, "the client stalled"))
        elif self.in_head and self.backlog is None and not self.lingering:
            self.front.counters.rejected += 1
            self.refuse(408, "the request head did not arrive in time")
        else:
            self.close()

    def cut(self) -> None:
        """The drain time is over. A request without an answer gets one; an answer that has begun breaks off so that it
        does not look whole."""
        exchange = self.exchange
        if exchange is not None:
            exchange.on_client_gone()
            self.front.counters.errors += 1
        if self.backlog is not None:
            self.reset()
        elif self.lingering:
            self.close()
        elif self.in_head or (exchange is not None and exchange.reply is None):
            self.refuse(503, "this node ends, and the time for answers is over", RETRY_AFTER)
        elif exchange is not None and exchange.reply is not None and exchange.ends_by_close:
            self.reset()
        else:
            self.close()

    def leave(self) -> socket.socket:
        """The socket becomes a tunnel's; the request that asked for it stays in flight until the tunnel ends."""
        self._settle_down()
        sock = self.detach()
        self.exchange = None
        self.front.clients.discard(self)
        return sock

    def _settle_down(self) -> None:
        """It cannot be moved any more."""
        if self.movable:
            self.movable = False
            self.front.movable -= 1

    def abort(self) -> None:
        """A handler failed: a request of whose answer nothing was sent gets a 500, and the connection ends."""
        if self.closed:
            return
        exchange, is_answered = self.exchange, False
        try:
            if exchange is not None:
                self.front.counters.errors += 1
                exchange.abandon()
                if exchange.reply is None:
                    self.refuse(500, "an internal error, which is in the log")
                    is_answered = True
        finally:
            if exchange is None:
                self.close()
            elif not is_answered:
                self.reset()

    def close(self) -> None:
        if not self.closed:
            if self.exchange is not None:
                self.exchange = None
                self.tally.in_flight -= 1
            try:
                super().close()
            finally:
                self.front.client_gone(self)
                self._settle_down()
