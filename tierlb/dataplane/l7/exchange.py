"""One request and its response: from a host being chosen to the last byte handed to the client.

An exchange stands between a client connection and the pooled connection it borrowed. Request and response are
two independent streams (a host may answer before it has read the whole body), each with backpressure: who
cannot write makes the other side stop reading. Both bodies are counted and re-framed, never trusted to be as
long as they say.

When may it be tried again? A connect that failed has cost nothing, any request may go elsewhere (`CONNECTS`
times). A request that was sent may have been acted on: it is repeated once, and only if it is idempotent, has
no body, and not one byte of an answer came (RFC 9110 §9.2.2), within the retry budget. That covers the race in
which a host closes a kept connection just as a request is put on it. Elsewhere is another host of the same
share of a split, and where it has none, another share.

Whether the host's host is still there is asked when nothing has come for a while (`net.peer_liveness`), long before
the time for an answer is over, and while a body goes on as well.
"""

import errno
from typing import TYPE_CHECKING

from tierlb.balance.outlier import Fault
from tierlb.dataplane.l7.body_rate import BodyRate
from tierlb.dataplane.l7.plan import Plan
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.reply import CHUNKED, UNTIL_CLOSE, Reply, frame_for, with_lines
from tierlb.dataplane.l7.request_id import printable_id
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import Choice, HostSet
from tierlb.net import peer_liveness
from tierlb.net.shortage import is_own
from tierlb.net.wheel import NEVER
from tierlb.telemetry.tally import Tally
from tierlb.wire.http_body import BadBody, ChunkedDecoder, encode_chunk, last_chunk
from tierlb.wire.http_head import BadHead
from tierlb.wire.http_start import why_no_response

if TYPE_CHECKING:
    from tierlb.dataplane.l7.client import ClientConnection

CONNECTS = 3
MAX_INTERIMS = 16
"""Answers of status 1xx to one request: a 100, a few hints, a 102 now and then. A bad endpoint sends them for ever."""
TOO_MANY_REQUESTS = 429


class Exchange:
    """`request_left` counts body bytes still to come (None while chunked); `response_left` likewise, or its framing.

    `came` is when the request came, `began` when it was given to the host that has it: it begins anew at another one.
    `ends`: when the host's time is over, as long as no answer has begun. It is looked at before. While the body goes
    on, `fed` is when some of it was last sent, and `doubted` since when every look found the host's host gone.
    """

    __slots__ = (
        "began",
        "body_done_at",
        "body_rate",
        "came",
        "client",
        "connection",
        "connects",
        "doubted",
        "ends",
        "fed",
        "front",
        "head_so_far",
        "host",
        "host_set",
        "interims",
        "named",
        "plan",
        "reply",
        "request_bytes",
        "request_decoder",
        "request_done",
        "request_left",
        "response_decoder",
        "response_left",
        "retried",
        "sent",
        "tried",
        "unsent",
    )

    def __init__(self, client: "ClientConnection", plan: Plan, host_set: Choice) -> None:
        self.client = client
        self.front = client.front
        self.plan = plan
        self.host_set = host_set
        self.came = self.began = client.reactor.now
        self.host: Host | None = None
        self.connection: PooledConnection | None = None
        self.reply: Reply | None = None
        self.head_so_far = b""
        self.interims = 0
        self.tried: tuple[Host, ...] = ()
        self.connects = 0
        self.retried = False
        self.unsent = b""
        self.sent = 0.0
        self.request_left = plan.body_bytes
        self.request_done = plan.body_bytes == 0
        if not self.request_done:
            self.request_bytes = 0
            self.body_rate = BodyRate(self.front.body_rate) if self.front.body_rate else None
            self.fed = self.body_done_at = self.came
            self.doubted = NEVER
            self.request_decoder = ChunkedDecoder() if plan.body_bytes is None else None

    @property
    def asked(self) -> float:
        """When the last byte of the request came."""
        return self.came if self.plan.body_bytes == 0 else self.body_done_at

    @property
    def ends_by_close(self) -> bool:
        """Whether the client would take the end of the connection for that of the answer."""
        return not self.plan.head.minor and (self.reply is None or self.reply.length < 0)

    @property
    def kind(self) -> int:
        return self.plan.kind.number

    @property
    def tally(self) -> Tally:
        return self.client.tally

    # Towards a host.

    def start(self) -> None:
        """Choose a host and send the request, on a kept connection if there is one."""
        front = self.front
        key = front.key_of(self.client, self.plan) if front.hashes else 0
        long = front.long[self.plan.kind.number]
        host = self.host = self.host_set.choose(self.tried, key, long)
        if host is None:
            self._hold_or_refuse()
            return
        host.in_flight += 1
        host.moments -= front.reactor.now
        if long:
            host.park_early(self)
        else:
            host.under_way[self] = host.done + host.in_flight
            if host.samples:
                host.sample(self)
        idle = host.idle
        while idle and not self.retried:
            connection = idle.pop()
            if connection.is_clean() if self.plan.repeatable else connection.is_alive():
                connection.exchange = self
                self.connection = connection
                self._send_request()
                return
            connection.close()
        self._connect(host)

    def _hold_or_refuse(self) -> None:
        """No host: wait for the first one of a destination that is starting, with the body unread."""
        destination, hold = self.host_set.destination, self.front.hold
        if self.tried or not hold.applies(destination, self.came):
            self._refuse_without_host()
            return
        if not self.request_done:
            self.client.pause()
        hold.add(destination, self.came, self._try_again)

    def _try_again(self) -> None:
        """After it was held. The hosts that there are now are those of another snapshot's host set."""
        if self.client.exchange is not self:
            return  # the client is gone
        try:
            host_set = self.front.host_set_now(self.host_set)
            if host_set is not None:
                self._take_host_set(host_set)
            if not self.request_done:
                self.client.resume()
            self._start_anew()
        except Exception as error:
            self.failed(error)

    def _start_anew(self) -> None:
        """For the next host its age counts from now, and no answer is due until the request has been sent."""
        self.began = self.front.reactor.now
        self.sent = 0.0
        self.start()

    def _take_host_set(self, host_set: HostSet) -> None:
        self.host_set = host_set

    def _takes_other_share(self) -> bool:
        """Go to another share of the split, if one has a host that was not tried."""
        other = self.host_set.of_other_share(self.tried)
        if other is not None:
            self._take_host_set(other)
        return other is not None

    def _connect(self, host: Host) -> None:
        self.connects += 1
        connection = PooledConnection.open(self.front.reactor, host, self.front.snapshot.timeouts.connect)
        if isinstance(connection, int):
            self.on_connect_failed(connection)
            return
        connection.exchange = self
        self.connection = connection
        if not self.request_done:
            self.client.pause()

    def on_connected(self) -> None:
        self._send_request()

    def on_connect_failed(self, code: int) -> None:
        """Nothing was sent: another host may have it."""
        host = self.host
        assert host is not None
        host.dial_failed(code)
        self._let_go(reusable=False)
        self.tried = (*self.tried, host)
        if self.connects < CONNECTS and (self.host_set.has_other(self.tried) or self._takes_other_share()):
            self._start_anew()
        elif is_own(code):
            self._refuse(503, "this node is short of resources", retry_after=True)
        elif code == errno.ETIMEDOUT:
            self._refuse(504, "connecting to the endpoint took too long", host.spec.name)
        else:
            name = f"{host.spec.name} ({errno.errorcode.get(code, code)})"
            self._refuse(502, "the endpoint cannot be reached", name)

    def _send_request(self) -> None:
        connection = self.connection
        assert connection is not None
        connection.uses += 1
        message = self.client.upstream_head(self.plan)
        self.named = self.front.requests_named
        if connection.uses == 1 and connection.host.spec.child:
            message = self.front.preface + message
        if self.unsent:
            message += self.unsent
            self.unsent = b""
        connection.send(message)
        if self.request_done:
            front = self.front
            self.sent = now = front.reactor.now
            self.ends = now + front.response_s
            connection.deadline = at = now + front.quiet_s
            if at < connection.filed:
                front.reactor.wheel.file(connection)
        else:
            self.client.resume()
            connection.deadline = NEVER
            self._await_request(connection)

    def on_request_data(self, data: bytes) -> bytes:
        """Take body bytes from the client; returns what lies behind the body's end."""
        self.body_done_at = self.front.reactor.now
        try:
            piece, rest = self._cut_body(data)
        except BadBody as error:
            self._refuse_body(400, error.reason)
            return b""
        if self.body_rate is not None:
            self.body_rate.add(len(data) - len(self.client.unread))
        limit = self.front.snapshot.limits.body
        if limit is not None and self.request_bytes > limit:
            self._refuse_body(413, f"the body is larger than the {limit} bytes allowed here")
            return b""
        connection = self.connection
        if connection is None or connection.connecting:
            self.unsent += piece
        else:
            self._pass_on_body(connection, piece)
        return rest

    def _cut_body(self, data: bytes) -> tuple[bytes, bytes]:
        """The bytes to send on, framed, and the rest that is not of this body."""
        if self.request_decoder is None:
            left = self.request_left or 0
            piece, rest = (data, b"") if len(data) <= left else (data[:left], data[left:])
            self.request_left = left - len(piece)
            self.request_done = self.request_left == 0
            self.request_bytes += len(piece)
            return piece, rest
        pieces, rest = self.request_decoder.feed(data, self.front.reactor.now)
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.request_bytes += len(body)
        framed = encode_chunk(body)
        if self.request_decoder.done:
            self.request_done = True
            return framed + last_chunk(self.request_decoder.trailers), rest
        self.client.put_back(rest)
        return framed, b""

    def _pass_on_body(self, connection: PooledConnection, piece: bytes) -> None:
        if piece:
            connection.send(piece)
        if self.reply is not None:
            if not connection.paused:
                connection.arm(self.front.snapshot.timeouts.stream)
            if connection.backlog is not None and not self.request_done:
                self.client.pause()
        elif self.request_done:
            self.client.disarm()
            self.sent = self.front.reactor.now
            self._give(connection, self.front.response_s)
        else:
            self._await_request(connection)

    def _await_request(self, connection: PooledConnection) -> None:
        """The body goes on. Who is to blame if it does not: the client that does not send, or the host that
        does not read. A look that is due stays so: what the client says tells nothing of the host."""
        seconds = self.front.snapshot.timeouts.stream
        self.fed = now = self.front.reactor.now
        if connection.backlog is None:
            self.ends = NEVER
            if connection.deadline > now + peer_liveness.LOOK_S:
                connection.arm(peer_liveness.LOOK_S)
            rate = self.body_rate
            if rate is not None and (self.request_bytes or self.interims or not self.plan.head.expect_continue):
                rate.go_on(now)
                seconds = max(0.0, min(seconds, rate.left_s(now)))
            self.client.arm(seconds)
        else:
            if self.body_rate is not None:
                self.body_rate.stop(now)
            self.client.disarm()
            self.client.pause()
            self._give(connection, seconds)

    def goes_on_after_deadline(self) -> bool:
        """The client's time for more of the body is over: a window of its rate, which may be well, or all of it."""
        rate, now = self.body_rate, self.front.reactor.now
        stream_left_s = self.fed + self.front.snapshot.timeouts.stream - now
        if rate is None or stream_left_s <= 0 or (rate.left_s(now) <= 0 and rate.is_too_slow(now)):
            return False
        self.client.arm(min(stream_left_s, max(0.0, rate.left_s(now))))
        return True

    def _give(self, connection: PooledConnection, seconds: float) -> None:
        """The host has so long from now on, if its host lives."""
        self.ends = self.front.reactor.now + seconds
        connection.arm(min(seconds, peer_liveness.LOOK_S))

    def _refuse_body(self, status: int, reason: str) -> None:
        self.front.counters.rejected += 1
        self._let_go(reusable=False)
        if self.reply is None:
            self.client.refuse(status, reason)
        else:
            self.client.close()

    def on_upstream_progress(self) -> None:
        """The host reads on."""
        timeouts, connection = self.front.snapshot.timeouts, self.connection
        if connection is None or connection.paused:
            return
        if self.reply is None:
            self._give(connection, timeouts.response if self.request_done else timeouts.stream)
        else:
            connection.arm(timeouts.stream)

    def on_upstream_drained(self) -> None:
        connection = self.connection
        if self.request_done or connection is None:
            return
        self.client.resume()
        if self.reply is None:
            self._await_request(connection)

    # Towards the client.

    def on_response_data(self, data: bytes) -> None:
        if self.reply is not None:
            self._response_body(data)
            return
        if self.head_so_far:
            data = self.head_so_far + data
        limit = self.front.head_bytes
        while self.reply is None:
            end = data.find(b"\r\n\r\n") + 4
            if end == 3 and len(data) <= limit:
                self._keep_partial_head(data)
                return
            if end == 3 or end > limit:
                self._bad_answer(f"its response head is larger than the {limit} bytes allowed here")
                return
            try:
                reply = self.front.replies.reply(data[:end])
            except BadHead as error:
                self._bad_answer(why_no_response(data[:end], 0) or error.reason)
                return
            data = data[end:]
            if reply.status >= 200:
                self._response_head(reply, data)
                return
            if reply.status == 101:
                self._switch_protocols(reply, data)
                return
            self.head_so_far = b""
            if not self._interim(reply, data) or not data:
                return

    def _keep_partial_head(self, data: bytes) -> None:
        reason = why_no_response(data, len(self.head_so_far))
        self.head_so_far = data
        if reason is not None:
            self._bad_answer(reason)

    def _interim(self, reply: Reply, rest: bytes) -> bool:
        """Pass on a 1xx answer; whether to go on with the rest now, which else waits until the client reads on."""
        self.interims += 1
        if self.interims > MAX_INTERIMS:
            self._bad_answer(f"more than {MAX_INTERIMS} interim answers")
            return False
        if self.plan.head.minor:
            self._to_client(reply.lines + b"\r\n")
        if self.client.backlog is None:
            return True
        connection = self.connection
        assert connection is not None
        connection.put_back(rest)
        self._hold(connection)
        return False

    def _response_head(self, reply: Reply, rest: bytes) -> None:
        plan, client = self.plan, self.client
        if self.sent:
            host = self.host
            assert host is not None
            if reply.blamed:
                self.sent = 0.0
            else:
                took_s = self.front.reactor.now - self.sent
                if host.early:
                    host.answered_early(self, reply.length < 0, took_s, self.front.registry.kinds)
                else:
                    host.times[plan.kind.number + (reply.length < 0)].append(took_s)
                self.sent = -took_s
        if self.front.load_field:
            reply = with_lines(reply, self.front.load_field)
        self.reply = reply
        self.head_so_far = b""
        if reply.telling:
            self._heed(reply)
        client.deadline = NEVER
        minor = plan.head.minor
        keep_alive = client.keep_alive = (
            plan.keep_alive
            and self.request_done
            and client.may_ask_again
            and (minor == 1 or reply.length >= 0 or plan.is_head)
            and not (client.movable and client.is_to_move())
        )
        left = 0 if plan.is_head else reply.length
        if left == len(rest) and keep_alive and minor and not plan.is_head:
            message = reply.whole + rest
            self.front.counters.bytes_out += len(message)
            client.send(message)
            self._complete(reusable=True)
            return
        self._to_client(frame_for(reply, is_head=plan.is_head, minor=minor, keep_alive=keep_alive))
        self.response_left = left
        self.response_decoder = ChunkedDecoder() if left == CHUNKED else None
        if left == 0:
            self._complete(reusable=not rest and not (plan.is_head and reply.length))
        elif rest:
            self._response_body(rest)
        else:
            self._await_more()

    def _heed(self, reply: Reply) -> None:
        """What the host's answer says of the host."""
        host, said = self.host, reply.orca
        assert host is not None
        if said is not None:
            host.estimate.state(self.front.reactor.now, said.rps, said.busy, said.slots)

    def _response_body(self, data: bytes) -> None:
        left = self.response_left
        if left >= 0:
            self._response_bytes(data, left)
        elif left == CHUNKED:
            self._response_chunks(data)
        else:
            self._to_client(encode_chunk(data) if self.plan.head.minor else data)
            self._await_more()

    def _response_bytes(self, data: bytes, left: int) -> None:
        surplus = len(data) > left
        piece = data[:left] if surplus else data
        self.response_left = left - len(piece)
        self._to_client(piece)
        if self.response_left == 0:
            self._complete(reusable=not surplus)
        else:
            self._await_more()

    def _response_chunks(self, data: bytes) -> None:
        decoder = self.response_decoder
        assert decoder is not None
        try:
            pieces, rest = decoder.feed(data, self.front.reactor.now)
        except BadBody as error:
            self._cut_off(error.reason)
            return
        minor = self.plan.head.minor
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        framed = encode_chunk(body) if minor else body
        if decoder.done and minor:
            framed += last_chunk(decoder.trailers)
        if framed:
            self._to_client(framed)
        if decoder.done:
            self._complete(reusable=not rest)
        else:
            if rest:
                assert self.connection is not None
                self.connection.put_back(rest)
            self._await_more()

    def _await_more(self) -> None:
        connection, client = self.connection, self.client
        assert connection is not None
        connection.arm(self.front.snapshot.timeouts.stream)
        if client.backlog is not None:
            self._hold(connection)

    def _hold(self, connection: PooledConnection) -> None:
        """The client does not read: neither is its host read, and it is the client that has a deadline."""
        connection.pause()
        connection.disarm()
        self.client.arm(self.front.snapshot.timeouts.stream)

    def on_client_drained(self) -> None:
        connection = self.connection
        if connection is None:
            return
        if self.reply is not None:
            self.client.disarm()
            connection.resume()
            connection.arm(self.front.snapshot.timeouts.stream)
        elif connection.paused:
            self._go_on_after_interim(connection)

    def _go_on_after_interim(self, connection: PooledConnection) -> None:
        self.client.disarm()
        connection.resume()
        if self.request_done:
            connection.arm(min(max(0.0, self.ends - self.front.reactor.now), self.front.quiet_s))
        else:
            self._await_request(connection)

    def _to_client(self, data: bytes) -> None:
        self.front.counters.bytes_out += len(data)
        self.client.send(data)

    def _switch_protocols(self, reply: Reply, rest: bytes) -> None:
        """101: from here on the two sockets are simply joined."""
        connection, client, host = self.connection, self.client, self.host
        assert connection is not None
        assert host is not None
        if self.plan.head.upgrade is None or reply.upgrade is None or not self.request_done:
            self._bad_answer("it switched protocols without being asked")
            return
        head = (
            b"".join(client.backlog or ())
            + reply.lines
            + b"Connection: upgrade\r\nUpgrade: "
            + reply.upgrade
            + b"\r\n\r\n"
        )
        after_head = b"".join(connection.backlog or ()) + client.take_buffer()
        front, sock = self.front, client.leave()
        try:
            pipe = Pipe(
                front.reactor,
                sock,
                connection.detach(),
                front.snapshot.timeouts.idle,
                lambda pipe, broken: front.tunnel_over(pipe, host, client.tally, client.began),
            )
        except Exception:
            sock.close()
            connection.sock.close()
            front.tunnel_lost(client.tally, client.began)
            raise
        host.stay_parked(self, pipe, self.front.registry.kinds)
        connection.exchange = self.host = self.connection = None  # from here on it is the tunnel that is counted
        front.tunnels[pipe] = host
        try:
            pipe.start(to_client=head + rest, to_upstream=after_head)
        except Exception:
            pipe.finish(broken=True)
            raise

    # Ends.

    def on_response_end(self) -> None:
        """The host closed its side."""
        if self.reply is None:
            self._lost("closed the connection without an answer")
        elif self.response_left == UNTIL_CLOSE:
            if self.plan.head.minor:
                self._to_client(last_chunk(()))
            self._complete(reusable=False)
        else:
            self._cut_off("the member closed the connection in the middle of its answer")

    def on_upstream_broken(self, *, silent: bool) -> None:
        if self.reply is None:
            what = "is silent, as if its host were gone" if silent else "reset the connection without an answer"
            self._lost(what, silent=silent)
        elif silent:
            self._cut_off("the member fell silent in the middle of its answer, as if its host were gone")
        else:
            self._cut_off("the member reset the connection in the middle of its answer")

    def on_upstream_deadline(self) -> None:
        if self.reply is not None:
            self._cut_off("the member stalled in the middle of its answer")
        elif self.front.reactor.now >= self.ends:
            self._fail(504, "took too long to answer")
        else:
            self._look()

    def _look(self) -> None:
        """There is time left, but is there somebody who could answer?"""
        connection, now = self.connection, self.front.reactor.now
        assert connection is not None
        again_s = peer_liveness.next_look_s(connection.sock)
        if not self.request_done:
            again_s = self._believe(again_s, now)
        left_s = min(again_s, self.ends - now)
        if again_s == peer_liveness.GONE:
            connection.on_broken(peer_liveness.vanished())
        elif left_s < NEVER:
            connection.arm(left_s)

    def _believe(self, again_s: float, now: float) -> float:
        """What a look has found while the body goes on. If some was sent lately, one look is not enough."""
        if again_s != peer_liveness.GONE:
            self.doubted = NEVER
            return again_s
        self.doubted = min(self.doubted, now)
        return max(peer_liveness.GONE, min(self.fed, self.doubted) + peer_liveness.LOOK_S - now)

    def on_client_gone(self) -> None:
        """Nobody waits for the answer any more."""
        self._let_go(reusable=False)

    def _lost(self, what: str, *, silent: bool = False) -> None:
        """The connection broke before an answer. Who is `silent` has not just closed what lay idle."""
        front = self.front
        if (
            self.plan.repeatable
            and not self.retried
            and not self.client.left
            and not self.head_so_far
            and not self.interims
            and front.retry_budget.spend(front.reactor.now, front.counters.items)
        ):
            connection, host = self.connection, self.host
            assert connection is not None
            assert host is not None
            to_blame = silent or connection.uses == 1
            if to_blame:  # not the race in which a kept connection is closed: it took it and failed
                host.done += 1
                host.erred()
            self._avoid(host, to_blame=to_blame)
            self.retried = True
            self._let_go(reusable=False)
            self._start_anew()
        else:
            self._fail(502, what)

    def _avoid(self, host: Host, *, to_blame: bool) -> None:
        """Repeat it elsewhere if there is a host available: this one may have died, and a retry is not tried again.
        One that may well have closed what lay idle is no reason to leave its share."""
        tried = (*self.tried, host)
        if any(each not in tried for each in self.host_set.available):
            if to_blame or not self.front.hashes:
                self.tried = tried
        elif to_blame and (other := self.host_set.of_other_share(tried)) is not None and other.sound:
            self.tried = tried
            self._take_host_set(other)

    def _bad_answer(self, reason: str) -> None:
        self._fail(502, f"sent an answer that cannot be passed on: {reason}")

    def _fail(self, status: int, what: str) -> None:
        assert self.host is not None
        name = self.host.spec.name
        self.host.done += 1
        self.host.erred(self._fault(Fault.GATEWAY))
        self._let_go(reusable=False)
        self._refuse(status, f"the endpoint {what}", name)

    def _fault(self, fault: Fault) -> Fault:
        """What fails at a second host as well is the request's own fault."""
        return Fault.REPEATED if self.retried and self.tried else fault

    def _cut_off(self, reason: str) -> None:
        """The answer has begun, so all that is left is not to make its cut look like an end."""
        self.front.counters.errors += 1
        if self.host is not None:
            self.host.done += 1
            self.host.erred(self._fault(Fault.GATEWAY))
        self._let_go(reusable=False)
        self._break_off(reason)

    def take_from_host(self) -> None:
        """The host is in maintenance and is to have nothing any more, for which it is not to blame."""
        assert self.host is not None
        name = self.host.spec.name
        self.host.done += 1
        self._let_go(reusable=False)
        if self.reply is None:
            self._refuse(503, "the endpoint is in maintenance", name, retry_after=True)
        else:
            self.front.counters.errors += 1
            self._break_off(f"{name} is in maintenance")

    def _break_off(self, reason: str) -> None:
        self.front.log.warning("response cut", reason=reason)
        if self.ends_by_close:
            self.client.reset()
        else:
            self.client.break_off()

    def _refuse_without_host(self) -> None:
        self._refuse(503, f"nobody is there to answer: {self.host_set.why_none()}", retry_after=True)

    def _refuse(self, status: int, reason: str, detail: str = "", *, retry_after: bool = False) -> None:
        """Answer in the host's place. `detail`, the host's name and an errno, is for the log and for those who may
        have requests explained: clients are told what failed and the request's id."""
        front, request_id = self.front, self._request_id()
        front.counters.errors += 1
        if detail:  # without one the client is told everything, and a shortage is logged once per burst
            front.log.warning("request_failed", id=request_id, status=status, reason=reason, host=detail)
        said = f"{reason}\nrequest id: {request_id}"
        self.client.answer_error(status, said, retry_after=retry_after, extra=self._extra())

    def _extra(self) -> bytes:
        """Further lines for an answer of this node."""
        return b""

    def _request_id(self) -> str:
        """As it was sent upstream, or would be."""
        plan, front = self.plan, self.front
        if plan.has_id:
            return printable_id(plan.head.get(b"x-request-id") or b"")
        number = getattr(self, "named", 0)
        if not number:
            front.requests_named = number = front.requests_named + 1
        return f"{front.id_prefix.decode()}{number:x}"

    def _complete(self, *, reusable: bool) -> None:
        host, reply = self.host, self.reply
        assert host is not None
        assert reply is not None
        host.done += 1
        if reply.blamed:
            host.erred(self._fault(Fault.OVERLOADED if reply.status == TOO_MANY_REQUESTS else Fault.ANSWER))
        if self.front.times_hosts:
            now = self.front.reactor.now
            host.peak.observe(now, now - self.began)
        if self._let_go(reusable=reusable and reply.keep_alive and self.request_done):
            self.front.counters.waited += 1
        self.client.exchange_over()

    def _let_go(self, *, reusable: bool) -> bool:
        """Give the connection back, or close it, and stop counting. Whether it was parked."""
        host, connection = self.host, self.connection
        self.host = self.connection = None
        parked = False
        if host is not None:
            host.in_flight -= 1
            host.moments += self.front.reactor.now
            if host.under_way.pop(self, None) is None:
                host.unpark(self)
                parked = True
        if connection is not None:
            connection.exchange = None
            try:
                if reusable and not connection.eof:
                    connection.keep()
                else:
                    connection.close()
            except Exception:
                connection.close()
                raise
        return parked

    def failed(self, error: Exception) -> None:
        """An internal error in an event of the host's connection: nothing is kept, and the client is let go."""
        try:
            self.abandon()
        except Exception as second:
            self.front.reactor.report(second)
        self.front.reactor.crashed(self.client, error)

    def abandon(self) -> None:
        """Stop counting and close the connection to the host, whatever has been done of that."""
        host, connection = self.host, self.connection
        self.host = self.connection = None
        if host is not None:
            host.in_flight -= 1
            host.moments += self.front.reactor.now
            if host.under_way.pop(self, None) is None:
                host.unpark(self)
        if connection is not None:
            connection.exchange = None
            connection.close()
