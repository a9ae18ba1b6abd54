"""The `relay` forwarder: connect to a host, announce the client, join the two sockets.

Until a host has accepted, nothing is read from the client, so a connect that fails costs nothing: another
host gets the connection. On the handshake's end the client's first bytes, mostly there by then, travel in the same
packet as the PROXY header.
"""

import contextlib
import errno
import socket
from functools import partial

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.explanation import explain_choice
from tierlb.dataplane.l4.context import Caller, L4Context, Pending
from tierlb.dataplane.upstream.host import Host
from tierlb.net.bulk import READ_BYTES
from tierlb.net.reactor import WRITE
from tierlb.net.self_connect import connect_outcome
from tierlb.net.shortage import is_own
from tierlb.net.stream import dial
from tierlb.wire.proxy_protocol import encode_v2

CONNECTS = 3
"""Hosts that are tried for one connection."""


class Handshake(Pending):
    """One connect attempt towards a host on behalf of one caller."""

    __slots__ = ("caller", "client", "context", "passed_on", "ticket", "tried")

    caller: Caller
    client: socket.socket
    context: L4Context
    passed_on: bool
    ticket: ConnectionTicket[Host]
    tried: tuple[Host, ...]

    @classmethod
    def begin(
        cls,
        context: L4Context,
        sock: socket.socket,
        client: socket.socket,
        caller: Caller,
        host: Host,
        tried: tuple[Host, ...],
    ) -> None:
        """The connect to `host` has begun on `sock`."""
        handshake = cls(context.reactor, sock)
        handshake.context, handshake.client, handshake.caller = context, client, caller
        handshake.ticket = host.begin_connection(context.reactor.now, caller.tally)
        handshake.passed_on = False
        handshake.tried = tried
        context.connections.pending.add(handshake)
        try:
            handshake.arm(context.config.connect_s)
            handshake.watch(WRITE)
        except OSError as error:
            handshake.fail(error.errno or errno.EIO)
        except Exception:
            handshake.abort()
            raise

    def on_ready(self, mask: int) -> None:
        context, host, client = self.context, self.ticket.host, self.client
        code = connect_outcome(self.sock, host.reach.port_at_risk)
        if code:
            self.fail(code)
            return
        host.reach.connected()
        first = b""
        if host.spec.child:
            tlvs = context.identity.credentials + self.caller.tlvs()
            first = encode_v2(self.caller.source, client.getsockname()[:2], tlvs)
        with contextlib.suppress(OSError):  # nothing yet, or broken: the pipe finds either
            first += client.recv(READ_BYTES)
        context.connections.pending.discard(self)
        context.join(client, self, self.ticket, self.caller, first)

    def on_deadline(self) -> None:
        self.fail(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        self.fail(error.errno or errno.EIO)

    def abandon(self) -> None:
        """Neither this host nor another one is to have it any more."""
        self._end()
        self.context.drop(self.client, self.caller)

    def abort(self) -> None:
        """A handler failed, whatever it had done by then: the caller is let go, unless it was passed on."""
        try:
            if not (self.passed_on or self.caller.settled):
                self.abandon()
        finally:
            self.close()

    def _end(self) -> None:
        """It is not counted at the host any more. A second call does nothing."""
        self.context.connections.pending.discard(self)
        self.ticket.give_back(self.context.reactor.now)
        self.close()

    def fail(self, code: int) -> None:
        """This host did not take it: the next one, or the end."""
        host = self.ticket.host
        self._end()
        host.reach.dial_failed(code)
        relay(self.context, self.client, self.caller, (*self.tried, host), short=is_own(code))
        self.passed_on = True


def relay(
    context: L4Context,
    client: socket.socket,
    caller: Caller,
    tried: tuple[Host, ...] = (),
    *,
    short: bool = False,
) -> None:
    """Give the client's connection to a host that was not `tried` yet; holds or closes it when there is none, and
    closes it where that fails. `short`: the last try failed because descriptors, ports or memory ran out here."""
    try:
        _relay(context, client, caller, tried, short=short)
    except Exception:
        context.drop(client, caller)
        raise


def _relay(context: L4Context, client: socket.socket, caller: Caller, tried: tuple[Host, ...], *, short: bool) -> None:
    reason = "no host accepted it"
    while len(tried) < CONNECTS:
        config, hold = context.config, context.connections.hold
        host_set = (config.split.other(tried) if tried else None) or config.split.pick()
        host = host_set.choose(tried, config.key_of(caller.source[0]))
        if host is None and not tried and hold.applies(host_set.destination, caller.began):
            hold.add(host_set.destination, caller.began, partial(relay, context, client, caller), client)
            return
        if context.explaining.active(context.reactor.now):
            caller.explained += explain_choice(context.name, config.balance, host_set.hosts, host) + b"\n"
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
                Handshake.begin(context, sock, client, caller, host, tried)
            except Exception:
                sock.close()
                raise
            return
        sock.close()
        host.reach.dial_failed(code)
        short = is_own(code)
        tried = (*tried, host)
    context.give_up(client, caller, tried, "" if short else reason)
