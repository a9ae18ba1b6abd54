"""How a request gets to a host, and when it is tried again.

* A connect that failed has cost nothing, so any request may go to another host, up to `REQUEST_CONNECTS` times in all.
* A request that was sent may have been acted on. It is sent once more, and only if it is idempotent, has no body, and
  not one byte of a response came (RFC 9110 §9.2.2), within the retry budget. That covers the race in which a host
  closes a kept connection just as a request is put on it.
* A request whose client left is not sent again.

Elsewhere is another host of the same share of a split, and another share where this one has no other host. A
destination that had no host so far is waited for (`dataplane.hold`).
"""

import errno
from collections.abc import Iterable
from typing import Final

from tierlb.balance.outlier import HostFault
from tierlb.balance.ticket import Ticket
from tierlb.dataplane.l7.announcing import announcement, kept_for
from tierlb.dataplane.l7.connecting import connect_to_host
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.front_state import FrontState
from tierlb.dataplane.l7.plan import RequestPlan
from tierlb.dataplane.l7.pooled import Carried, PooledConnection
from tierlb.dataplane.l7.request_id import printable_id
from tierlb.dataplane.l7.states import AWAITED
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.host_set import HostSet
from tierlb.net import peer_liveness
from tierlb.net.shortage import is_own

REQUEST_CONNECTS: Final = 3


class Tried:
    """What was tried for one request: hosts that are not tried again, how many connects, and whether the request was
    repeated after it had been sent. Not changed after it was made."""

    __slots__ = ("connects", "hosts", "repeated")

    def __init__(self, hosts: tuple[Host, ...], connects: int, *, repeated: bool) -> None:
        self.hosts = hosts
        self.connects = connects
        self.repeated = repeated


NOTHING_TRIED: Final = Tried((), 0, repeated=False)


def find_same_destination(host_sets: Iterable[HostSet], before: HostSet) -> HostSet | None:
    """The host set of the current snapshot that sends where this one of an earlier snapshot did. One whose split leads
    elsewhere too is the last choice, since it belongs to another rule."""
    targets, shares = before.destination.targets, before.shares
    same = [host_set for host_set in host_sets if host_set.destination.targets == targets]
    return min(same, key=lambda host_set: (host_set.shares != shares, host_set.is_share), default=None)


class Attempts(Carried):
    """The attempts of one request, one after the other, each with a ticket of its own.

    `came` is when the request did. `ends`: when the host's time is over, as long as no response has begun. `id_number`
    is that of the id which the host was sent, if this node made it up.
    """

    __slots__ = (
        "came",
        "choice",
        "connection",
        "downstream",
        "ends",
        "front",
        "id_number",
        "plan",
        "ticket",
        "tried",
    )

    front: FrontState
    downstream: Downstream
    plan: RequestPlan
    choice: HostSet
    came: float
    ends: float
    ticket: Ticket[Host] | None
    connection: PooledConnection | None
    tried: Tried
    id_number: int

    def start(self) -> None:
        """Choose a host and send the request, on a kept connection if there is one."""
        front, plan, tried = self.front, self.plan, self.tried
        hashing, kind = front.config.hashing, plan.kind
        key = 0 if hashing is None else hashing.key(plan, self.downstream.identity)
        long = front.exchanges.long[kind.number]
        host = self.choose(tried.hosts, key, long)
        if host is None:
            self._hold_or_refuse()
            return
        self.ticket = host.begin(front.reactor.now, self.downstream.identity.tally, kind, long=long)
        idle, announced = host.idle, b""
        if host.spec.announces is not None:
            announced = announcement(host.spec.announces, plan, self.downstream.identity, host)
            idle = [] if tried.repeated else kept_for(host, announced)
        while idle and not tried.repeated and host.speaks_http1:
            connection = idle.pop()
            if connection.is_clean() if plan.repeatable else connection.is_alive():
                connection.exchange = self
                self.connection = connection
                self.on_connected()
                return
            connection.close()
        self._connect(host, announced)

    def choose(self, tried: tuple[Host, ...], key: int, long: bool) -> Host | None:
        """The host for the next attempt (`HostSet.choose`)."""
        return self.choice.choose(tried, key, long)

    def _connect(self, host: Host, announced: bytes = b"") -> None:
        front, tried = self.front, self.tried
        self.tried = Tried(tried.hosts, tried.connects + 1, repeated=tried.repeated)
        timeout_s = front.config.timeouts.connect
        upgrades = self.plan.head.upgrade is not None
        connection = connect_to_host(front.reactor, host, timeout_s, announced, upgrades=upgrades)
        if isinstance(connection, int):
            self.on_connect_failed(connection)
            return
        connection.exchange = self
        self.connection = connection
        if not connection.connecting:
            self.on_connected()
        elif self.plan.body_bytes != 0:
            self.downstream.pause()

    def on_other_protocol(self, connection: PooledConnection | None) -> None:
        ticket, tried = self.ticket, self.tried
        assert ticket is not None
        self.connection = connection
        if connection is not None:
            connection.exchange = self
            return
        self.tried = Tried(tried.hosts, tried.connects - 1, repeated=tried.repeated)
        try:
            self._connect(ticket.host)
        except Exception as error:
            self.failed(error)

    def on_connect_failed(self, code: int) -> None:
        """`code`: EPROTONOSUPPORT where the host speaks HTTP/2 alone and the request asks for an upgrade, for which
        the host is not to blame."""
        ticket, tried = self.ticket, self.tried
        assert ticket is not None
        host = ticket.host
        self.connection = None
        ticket.give_back(self.front.reactor.now)
        if code != errno.EPROTONOSUPPORT:
            host.reach.dial_failed(code)
        self.tried = tried = Tried((*tried.hosts, host), tried.connects, repeated=tried.repeated)
        if tried.connects < REQUEST_CONNECTS and (self.choice.has_other(tried.hosts) or self._take_other_share()):
            self.start()
        elif is_own(code):
            self.refuse(503, "this node is short of resources", retry_after=True)
        elif code == errno.EPROTONOSUPPORT:
            self.refuse_request(502, "the endpoint speaks HTTP/2 alone, which carries no upgrade")
        elif code == errno.ETIMEDOUT:
            self.refuse(504, "connecting to the endpoint took too long", host.name)
        else:
            name = f"{host.name} ({errno.errorcode.get(code, code)})"
            self.refuse(502, "the endpoint cannot be reached", name)

    # Sending again.

    def lost(self, what: str, *, silent: bool = False) -> None:
        """The connection broke before a response: the host did `what`. Send the request again, if that is allowed, else
        fail. A host that is `silent` has not just closed a connection that lay idle."""
        front, connection, ticket, tried = self.front, self.connection, self.ticket, self.tried
        assert connection is not None
        assert ticket is not None
        now = front.reactor.now
        may_be_repeated = (
            not tried.repeated
            and not self.downstream.has_left
            and (self.plan.repeatable or (connection.refused and self.takes_back()))
        )
        if (
            not may_be_repeated
            or connection.response.state is not AWAITED
            or not front.exchanges.retry_budget.spend(now, front.counters.items)
        ):
            self.fail(502, what)
            return
        # Else it may be the race in which a kept connection is closed.
        blamed = silent or (connection.uses == 1 and not connection.refused)
        if blamed:
            ticket.failed(now, HostFault.GATEWAY)
        self._send_again(ticket.host, blamed=blamed)

    def _send_again(self, host: Host, *, blamed: bool) -> None:
        hosts = self._avoid(host, blamed=blamed)
        self.abandon()
        self.tried = Tried(hosts, self.tried.connects, repeated=True)
        self.start()

    def is_sent_again(self) -> bool:
        """The host answered a gRPC call with UNAVAILABLE and nothing else; whether it goes to another one instead."""
        front, ticket, tried = self.front, self.ticket, self.tried
        assert ticket is not None
        now = front.reactor.now
        if (
            tried.repeated
            or self.downstream.has_left
            or not self.choice.has_other((*tried.hosts, ticket.host))
            or not self.takes_back()
            or not front.exchanges.retry_budget.spend(now, front.counters.items)
        ):
            return False
        ticket.failed(now, HostFault.ANSWER)
        self._send_again(ticket.host, blamed=True)
        return True

    def takes_back(self) -> bool:
        """A host did nothing with the request: whether all of it is here, so that it can be sent to another one."""
        raise NotImplementedError

    def _avoid(self, host: Host, *, blamed: bool) -> tuple[Host, ...]:
        """The hosts that the repeated request is not sent to. It goes elsewhere if another host is available, since
        this one may have died and the request is not repeated twice. A host that may just have closed an idle
        connection is no reason to leave its share, nor the place that a hash gives."""
        tried = (*self.tried.hosts, host)
        if any(each not in tried for each in self.choice.available):
            return tried if blamed or self.front.config.hashing is None else self.tried.hosts
        if blamed and (other := self.choice.of_other_share(tried)) is not None and other.sound:
            self._take(other, tried)
            return tried
        return self.tried.hosts

    def _take_other_share(self) -> bool:
        """Go to another share of the split, if one has a host that was not tried."""
        other = self.choice.of_other_share(self.tried.hosts)
        if other is not None:
            self._take(other, self.tried.hosts)
        return other is not None

    def _take(self, host_set: HostSet, tried: tuple[Host, ...]) -> None:
        """Choose from this one from now on."""
        self.choice = host_set

    # Where there is no host.

    def _hold_or_refuse(self) -> None:
        """Wait for the first host of a destination that is starting, with the body unread."""
        destination, hold = self.choice.destination, self.front.exchanges.hold
        if self.tried.hosts or not hold.applies(destination, self.came):
            self.refuse(503, f"no host can answer: {self.choice.why_none()}", retry_after=True)
            return
        if self.plan.body_bytes != 0:
            self.downstream.pause()
        hold.add(destination, self.came, self._try_again)

    def _try_again(self) -> None:
        """After it was held. The hosts that there are now are those of another snapshot's host set."""
        if not self.downstream.serves(self):
            return
        try:
            host_set = find_same_destination(self.front.registry.host_sets, self.choice)
            if host_set is not None:
                self._take(host_set, self.tried.hosts)
            if self.plan.body_bytes != 0:
                self.downstream.resume()
            self.start()
        except Exception as error:
            self.failed(error)

    def await_host(self, connection: PooledConnection, seconds: float) -> None:
        """The host has so long from now on, if it is there."""
        self.ends = self.front.reactor.now + seconds
        connection.arm(min(seconds, peer_liveness.LOOK_S))

    # Ends.

    def release(self) -> None:
        """Close the connection, if there is one."""
        connection, self.connection = self.connection, None
        if connection is not None:
            connection.exchange = None
            try:
                connection.close()
            except Exception:
                connection.close()
                raise

    def abandon(self) -> None:
        """No response is wanted any more, or none can be had. The host is not to blame."""
        if self.ticket is not None:
            self.ticket.give_back(self.front.reactor.now)
        self.release()

    def failed(self, error: Exception) -> None:
        """An internal error: nothing is kept, and the client is let go."""
        try:
            self.abandon()
        except Exception as second:
            self.front.reactor.report(second)
        self.downstream.crash(error)

    def refuse_request(self, status: int, reason: str) -> None:
        """The request cannot be understood or allowed."""
        self.front.counters.rejected += 1
        self.abandon()
        self.downstream.refuse(status, reason)

    def fail(self, status: int, what: str) -> None:
        """There is no response, for which the host is to blame."""
        ticket = self.ticket
        assert ticket is not None
        ticket.failed(self.front.reactor.now, self.fault(HostFault.GATEWAY))
        self.refuse(status, f"the endpoint {what}", ticket.host.name)

    def fault(self, fault: HostFault) -> HostFault:
        """What fails at a second host as well is the request's own fault."""
        return HostFault.REPEATED if self.tried.repeated and self.tried.hosts else fault

    def refuse(self, status: int, reason: str, detail: str = "", *, retry_after: bool = False) -> None:
        """Answer in the host's place. `detail`, the host's name and an errno, is for the log and for explained
        requests: clients get the reason and the request's id."""
        front, request_id = self.front, self._request_id()
        front.counters.errors += 1
        self.abandon()
        if detail:  # without one the answer has the whole reason, and a shortage is logged once per burst
            front.log.warning("request_failed", id=request_id, status=status, reason=reason, host=detail)
        text, extra = f"{reason}\nrequest id: {request_id}", self.explained(status, reason, detail)
        self.downstream.answer_error(status, text, retry_after=retry_after, extra=extra)

    def explained(self, status: int, reason: str, detail: str) -> bytes:
        """Header lines on how hosts were chosen, for an answer of this node (`explained.ExplainedExchange`)."""
        return b""

    def _request_id(self) -> str:
        """As it was sent to the host, or would be."""
        if self.plan.has_id:
            return printable_id(self.plan.head.get(b"x-request-id") or b"")
        ids = self.front.exchanges.ids
        return ids.text(self.id_number or ids.next())
