"""One request and its response, between the downstream that it came from and the host that was chosen for it.

The two halves are independent streams (a host may answer before it has read the whole body), each with backpressure: a
side that cannot write makes the other side stop reading. What each half may do next is in `states`; how a host is
chosen, and whether a request is tried again, in `retry`; how the client is served, in `downstream`.

When nothing has come from a host for a while, this looks whether the host is still there (`net.peer_liveness`), long
before the time for a response is over, and while a body goes on as well.
"""

from typing import Final

from tierlb.balance.outlier import HostFault
from tierlb.dataplane.l7.downstream import Downstream, NoRoomForTunnelError
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.reply import BLAMED, Reply, with_lines
from tierlb.dataplane.l7.request_half import RequestHalf
from tierlb.dataplane.l7.response_half import BadResponseError
from tierlb.dataplane.l7.retry import NOTHING_TRIED, Attempts
from tierlb.dataplane.l7.states import BODY, DONE
from tierlb.dataplane.l7.trailers import rated_status, take_reports
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.net import peer_liveness
from tierlb.net.wheel import NEVER
from tierlb.wire.http_fields import Header

TOO_MANY_REQUESTS: Final = 429
UNAVAILABLE: Final = 503


class Exchange(Attempts):
    """Each event comes from one side: `on_connect…`, `on_response_…` and `on_upstream_…` from the connection to the
    host, `on_downstream_drained` from the downstream, which also calls `request`, the half that a request with a body
    has."""

    __slots__ = ("request",)

    def __init__(self, front: FrontState, downstream: Downstream, plan: RequestPlan, choice: HostSet) -> None:
        self.front = front
        self.downstream = downstream
        self.plan = plan
        self.choice = choice
        self.came = front.reactor.now
        self.ticket = self.connection = None
        self.tried = NOTHING_TRIED
        self.id_number = 0
        self.request = None if plan.body_bytes == 0 else RequestHalf(self)

    def takes_back(self) -> bool:
        return self.request is None or self.request.take_back()

    # Towards the host.

    def on_connected(self) -> None:
        """Send the head and as much of the body as came."""
        connection, front, plan, request = self.connection, self.front, self.plan, self.request
        assert connection is not None
        connection.uses += 1
        identity, config = self.downstream.identity, front.config
        if plan.has_id:
            message = b"%b%b\r\n\r\n" % (plan.opening, identity.passed)
            if plan.behind_node is not None:
                message = plan.with_node(identity.passed, identity.address, identity.node)
        else:
            ids = front.exchanges.ids
            ids.count = self.id_number = number = ids.count + 1
            message = b"%b%b%x\r\n\r\n" % (plan.opening, identity.forwarded_for, number)
            if plan.behind_node is not None:
                message = plan.with_node(b"%b%x" % (identity.forwarded_for, number), identity.address, identity.node)
        if connection.uses == 1:
            message = (connection.first or (config.preface if connection.host.spec.child else b"")) + message
        if request is not None:
            message += request.send()
        connection.send(message)
        if request is None or request.is_sent:
            assert self.ticket is not None
            self.ticket.sent = now = front.reactor.now
            self.ends = now + config.timeouts.response
            connection.deadline = at = now + config.quiet_s
            if at < connection.filed:
                front.reactor.wheel.file(connection)
        else:
            self.downstream.resume()
            connection.deadline = NEVER
            request.await_more(connection)

    def on_upstream_progress(self) -> None:
        """The host reads on."""
        timeouts, connection, request = self.front.config.timeouts, self.connection, self.request
        if connection is None or connection.paused:
            return
        if connection.response.state is BODY:
            connection.arm(timeouts.stream)
        elif request is None or request.is_sent:
            self.await_host(connection, timeouts.response)
        else:
            self.await_host(connection, timeouts.stream)

    def on_upstream_drained(self) -> None:
        if self.connection is not None and self.request is not None:
            self.request.on_drained(self.connection)

    def on_upstream_deadline(self) -> None:
        """The time of the host is over, or it is time to look whether it is still there."""
        connection, request, now = self.connection, self.request, self.front.reactor.now
        assert connection is not None
        if self._is_answering:
            self._cut_off("the host stalled in the middle of its response")
        elif now >= self.ends:
            self.fail(504, "took too long to answer")
        else:
            again_s = self.front.reactor.next_look_s(connection.fd)
            if request is not None and not request.is_sent:
                again_s = request.confirm(again_s)
            left_s = min(again_s, self.ends - now)
            if again_s == peer_liveness.GONE:
                connection.on_broken(peer_liveness.vanished())
            elif left_s < NEVER:
                connection.arm(left_s)

    # Towards the client.

    def on_response_data(self, data: bytes) -> None:
        connection, config, is_head = self.connection, self.front.config, self.plan.is_head
        assert connection is not None
        response = connection.response
        if response.state is BODY:
            self._pass_body(connection, data)
            return
        try:
            reply = response.read_head(data, config.replies, config.snapshot.limits.head, is_head)
            while reply is not None and reply.status < 200:
                if reply.status == 101:
                    self._switch_protocols(reply)
                    return
                if not self._pass_interim(connection, reply):
                    return
                reply = response.read_head(response.rest, config.replies, config.snapshot.limits.head, is_head)
        except BadResponseError as error:
            self.fail(502, f"sent an answer that cannot be passed on: {error.reason}")
            return
        if reply is not None:
            self._pass_head(reply)

    def _pass_interim(self, connection: PooledConnection, reply: Reply) -> bool:
        """Whether to go on with the rest now, which else waits until the client reads on."""
        self.downstream.pass_interim(reply)
        rest = connection.response.rest
        if self.downstream.is_behind:
            connection.put_back(rest)
            self._hold(connection)
            return False
        return bool(rest)

    def _pass_head(self, reply: Reply) -> None:
        front, connection, ticket = self.front, self.connection, self.ticket
        assert connection is not None
        assert ticket is not None
        now, response = front.reactor.now, connection.response
        if self.downstream.demands_switch and reply.status < 300:
            ticket.done(now)  # what the client asked for is no fault of the host
            self.refuse_request(502, "the endpoint did not switch protocols, which the request demands")
            return
        if reply.orca is not None:
            ticket.host.estimate.note_stated(now, reply.orca.rps, reply.orca.busy, reply.orca.slots)
        if reply.rated == UNAVAILABLE and reply.rated != reply.status and self.is_sent_again():
            return
        if front.load_field:
            reply = with_lines(reply, front.load_field)
        piece, bad = response.rest, ""
        if piece and response.state is BODY:
            try:
                piece = response.read_body(piece, now)
            except BadResponseError as error:
                piece, bad = b"", error.reason
        if response.state is DONE:
            trailers = response.trailers
            self._complete(connection, reply, trailers)
            if trailers:
                trailers = take_reports(trailers, connection.host, now, front.config.replies.orca)
            self.downstream.pass_head(reply, piece, True, trailers)
            return
        if reply.blamed:
            ticket.sent = 0.0
        else:
            ticket.answered(now, reply.length < 0)
        self.downstream.pass_head(reply, piece, False)
        if bad:
            self._cut_off(bad)
            return
        if response.rest:
            connection.put_back(response.rest)
        self._await_more(connection)

    def _pass_body(self, connection: PooledConnection, data: bytes) -> None:
        response = connection.response
        try:
            piece = response.read_body(data, self.front.reactor.now)
        except BadResponseError as error:
            self._cut_off(error.reason)
            return
        if response.state is DONE:
            self._pass_end(connection, piece)
            return
        if piece:
            self.downstream.pass_body(piece)
        if response.rest:
            connection.put_back(response.rest)
        self._await_more(connection)

    def _pass_end(self, connection: PooledConnection, piece: bytes) -> None:
        response = connection.response
        reply, trailers = response.reply, response.trailers
        assert reply is not None
        self._complete(connection, reply, trailers)
        if trailers:
            front = self.front
            trailers = take_reports(trailers, connection.host, front.reactor.now, front.config.replies.orca)
        self.downstream.pass_end(piece, trailers)

    def _await_more(self, connection: PooledConnection) -> None:
        connection.arm(self.front.config.timeouts.stream)
        if self.downstream.is_behind:
            self._hold(connection)

    def _hold(self, connection: PooledConnection) -> None:
        """The client does not read. So the host is not read either, and it is the client that has a deadline."""
        connection.pause()
        connection.disarm()
        self.downstream.expect(self.front.config.timeouts.stream)

    def on_downstream_drained(self) -> None:
        """The client has read what was passed on."""
        connection, front, request = self.connection, self.front, self.request
        if connection is None:
            return
        if connection.response.state is BODY:
            self.downstream.expect(NEVER)
            connection.resume()
            connection.arm(front.config.timeouts.stream)
        elif connection.paused:  # behind an interim response
            self.downstream.expect(NEVER)
            connection.resume()
            if request is None or request.is_sent:
                connection.arm(min(max(0.0, self.ends - front.reactor.now), front.config.quiet_s))
            else:
                request.await_more(connection)

    def _switch_protocols(self, reply: Reply) -> None:
        """101: from here on there is a tunnel instead."""
        connection, ticket, front, request = self.connection, self.ticket, self.front, self.request
        assert connection is not None
        assert ticket is not None
        if self.plan.head.upgrade is None or reply.upgrade is None or not (request is None or request.is_sent):
            self.fail(502, "sent an answer that cannot be passed on: it switched protocols without being asked")
            return
        try:
            front.exchanges.tunnels.join(self.downstream, connection, ticket, reply, front.config.timeouts.idle)
        except NoRoomForTunnelError:
            self.refuse(503, "this node is short of resources", retry_after=True)
            return
        self.ticket = self.connection = connection.exchange = None

    # Ends.

    def _complete(self, connection: PooledConnection, reply: Reply, trailers: tuple[Header, ...]) -> None:
        """All of the response came, and the rest of it is about to be passed on."""
        ticket, front, request = self.ticket, self.front, self.request
        assert ticket is not None
        now, rated, blamed = front.reactor.now, reply.rated, reply.blamed
        if trailers and not blamed:
            rated = rated_status(trailers) or rated
            blamed = rated in BLAMED
        if blamed:
            fault = HostFault.OVERLOADED if rated == TOO_MANY_REQUESTS else HostFault.ANSWER
            ticket.sent = 0.0
            parked = ticket.failed(now, self.fault(fault))
        else:
            parked = ticket.answered_whole(now, reply.length < 0)
        if parked:
            front.counters.waited += 1
        if front.config.times_hosts:
            ticket.host.peak.observe(now, now - ticket.began)
        if reply.keep_alive and connection.response.is_clean and (request is None or request.is_sent):
            connection.keep()
            self.connection = None
        else:
            self.release()

    def on_response_end(self) -> None:
        """The host closed its side."""
        connection = self.connection
        assert connection is not None
        if not self._is_answering:
            self.lost("closed the connection without an answer")
        elif connection.response.end_by_close():
            self._pass_end(connection, b"")
        else:
            self._cut_off("the host closed the connection in the middle of its response")

    def on_upstream_broken(self, *, silent: bool) -> None:
        if not self._is_answering:
            what = "is silent, as if its host were gone" if silent else "reset the connection without an answer"
            self.lost(what, silent=silent)
        elif silent:
            self._cut_off("the host fell silent in the middle of its response")
        else:
            self._cut_off("the host reset the connection in the middle of its response")

    @property
    def _is_answering(self) -> bool:
        """Whether the final head was passed on, and the body goes on."""
        return self.connection is not None and self.connection.response.state is BODY

    def _cut_off(self, reason: str) -> None:
        """The response has begun, so it can only be cut in a way that does not look like an end. The host is to blame,
        unless its ticket was settled before."""
        front = self.front
        if self.ticket is not None:
            self.ticket.failed(front.reactor.now, self.fault(HostFault.GATEWAY))
        front.counters.errors += 1
        front.log.warning("response_cut", reason=reason)
        self.abandon()
        self.downstream.cut()

    def withdraw(self) -> None:
        """The host is in maintenance and may have no more items. It is not to blame."""
        ticket = self.ticket
        assert ticket is not None
        ticket.done(self.front.reactor.now)
        if self._is_answering:
            self._cut_off(f"{ticket.host.name} is in maintenance")
        else:
            self.refuse(503, "the endpoint is in maintenance", ticket.host.name, retry_after=True)
