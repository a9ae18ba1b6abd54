"""The `relay` forwarder: connect to a host, say who the client is, join the two sockets.

Until a host has accepted, nothing is read from the client, so a connect that fails costs nothing: another
host gets the connection. On the handshake's end the client's first bytes, mostly there by then, travel in the same
packet as the PROXY header.
"""

import contextlib
import errno
import socket
from functools import partial
from typing import TYPE_CHECKING

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.explanation import explain
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.host import Host
from tierlb.net.bulk import READ_BYTES
from tierlb.net.reactor import WRITE
from tierlb.net.self_connect import connect_outcome
from tierlb.net.shortage import is_own
from tierlb.net.stream import Stream, dial
from tierlb.telemetry.tally import Tally
from tierlb.wire.proxy_protocol import EXPLAINED, VIA, encode_tlv, encode_v2

if TYPE_CHECKING:
    from tierlb.dataplane.l4.front import L4Front

CONNECTS = 3
MOST_EXPLAINED_BYTES = 3500


class Caller:
    """Whose connection it is: the client's address, where it is counted, and since when it is here. `explained`: how
    l4 nodes above and here chose for it, a line each, while somebody wants to know. `way`: the processes above through
    which it came, a line each. `over`: it is not counted as a connection that waits to be relayed."""

    __slots__ = ("began", "explained", "over", "source", "tally", "way")

    def __init__(
        self, source: tuple[str, int], tally: Tally, began: float, explained: bytes = b"", way: bytes = b""
    ) -> None:
        self.over = False
        self.source = source
        self.tally = tally
        self.began = began
        self.explained = explained
        self.way = way

    def tlvs(self) -> bytes:
        """What a child is told of it; as much of the explanation as a header holds."""
        way = encode_tlv(VIA, self.way) if self.way else b""
        if not self.explained:
            return way
        return way + encode_tlv(EXPLAINED, self.explained[:MOST_EXPLAINED_BYTES].rpartition(b"\n")[0])


class Handshake(Stream):
    """One connect attempt towards a host on behalf of one caller."""

    __slots__ = ("caller", "client", "front", "passed_on", "ticket", "tried")

    def __init__(
        self,
        front: "L4Front",
        sock: socket.socket,
        client: socket.socket,
        caller: Caller,
        host: Host,
        tried: tuple[Host, ...],
    ) -> None:
        super().__init__(front.reactor, sock)
        self.front = front
        self.client = client
        self.caller = caller
        self.ticket = host.begin_connection(front.reactor.now, caller.tally)
        self.passed_on = False
        self.tried = tried
        front.handshakes.add(self)
        try:
            self.arm(front.snapshot.timeouts.connect)
            self.watch(WRITE)
        except OSError as error:
            self.fail(error.errno or errno.EIO)
        except Exception:
            self.abort()
            raise

    def on_ready(self, mask: int) -> None:
        front, host, client = self.front, self.ticket.host, self.client
        code = connect_outcome(self.sock, host.reach.port_at_risk)
        if code:
            self.fail(code)
            return
        host.reach.connected()
        first = b""
        if host.spec.child:
            tlvs = front.kin.credentials + self.caller.tlvs()
            first = encode_v2(self.caller.source, client.getsockname()[:2], tlvs)
        with contextlib.suppress(OSError):  # nothing yet, or broken: the pipe hears of either
            first += client.recv(READ_BYTES)
        front.handshakes.discard(self)
        front.join(client, self, first)

    def on_deadline(self) -> None:
        self.fail(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self.fail(error.errno or errno.EIO)

    def abandon(self) -> None:
        """Neither this host nor another one is to have it any more."""
        self._end()
        self.front.drop(self.client, self.caller)

    def abort(self) -> None:
        """A handler failed, whatever it had done by then: the caller is let go, unless it was passed on."""
        try:
            if not self.passed_on:
                self._end()
        finally:
            if not self.passed_on:
                self.front.drop(self.client, self.caller)
            self.close()

    def _end(self) -> None:
        """It is not counted at the host any more. A second call does nothing."""
        self.front.handshakes.discard(self)
        self.ticket.give_back(self.front.reactor.now)
        self.close()

    def fail(self, code: int) -> None:
        """This host did not take it: the next one, or the end."""
        front, host = self.front, self.ticket.host
        self._end()
        host.reach.dial_failed(code)
        relay(front, self.client, self.caller, (*self.tried, host), short=is_own(code))
        self.passed_on = True


def relay(
    front: "L4Front",
    client: socket.socket,
    caller: Caller,
    tried: tuple[Host, ...] = (),
    *,
    short: bool = False,
) -> None:
    """Give the client's connection to a host that was not `tried` yet; holds or closes it when there is none, and
    closes it where that fails. `short`: it was for want of something here that the last try failed."""
    try:
        _relay(front, client, caller, tried, short=short)
    except Exception:
        front.drop(client, caller)
        raise


def _relay(front: "L4Front", client: socket.socket, caller: Caller, tried: tuple[Host, ...], *, short: bool) -> None:
    reason = "no member accepted it"
    while len(tried) < CONNECTS:
        host_set = (front.split.other(tried) if tried else None) or front.split.pick()
        host = host_set.choose(tried, front.hash_of(caller.source[0]) if front.by_source else 0)
        if host is None and not tried and front.hold.applies(host_set.destination, caller.began):
            front.hold.add(host_set.destination, caller.began, partial(relay, front, client, caller), client)
            return
        if front.explaining.active(front.reactor.now):
            caller.explained += explain(front.name, front.snapshot.balance, host_set.hosts, host) + b"\n"
        if host is None:
            reason = host_set.why_none()
            break
        try:
            sock, code = dial(host.spec.address, speaks_first=host.spec.child)
        except OSError as error:
            host.reach.dial_failed(error.errno or errno.EIO)
            short = True
            break
        if not code:
            try:
                Handshake(front, sock, client, caller, host, tried)
            except Exception:
                sock.close()
                raise
            return
        sock.close()
        host.reach.dial_failed(code)
        short = is_own(code)
        tried = (*tried, host)
    front.give_up(client, caller, tried, "" if short else reason)


class TunnelEnd:
    """What to settle when a relayed connection is over."""

    __slots__ = ("caller", "front", "ticket")

    def __init__(self, front: "L4Front", ticket: ConnectionTicket[Host], caller: Caller) -> None:
        self.front = front
        self.ticket = ticket
        self.caller = caller

    def __call__(self, pipe: Pipe, broken: bool) -> None:
        self.front.over(pipe, self.ticket, self.caller)
