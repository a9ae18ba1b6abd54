"""The `relay` forwarder: connect to a host, announce the client, join the two sockets.

Until a host has accepted, nothing is read from the client, so a connect that fails costs nothing: another
host gets the connection. On the handshake's end the client's first bytes, mostly there by then, travel in the same
packet as the PROXY header.
"""

import contextlib
import errno
import socket

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Pending
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.placing import place
from tierlb.dataplane.upstream.host import Host
from tierlb.net.bulk import READ_BYTES
from tierlb.net.reactor import WRITE
from tierlb.net.self_connect import connect_outcome
from tierlb.net.shortage import is_own
from tierlb.wire.proxy_protocol import encode_v2


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
        place(self.context, self.client, self.caller, (*self.tried, host), short=is_own(code))
        self.passed_on = True


class Relay(Forwarder):
    """The way to any host that can be connected to."""

    def __init__(self, context: L4Context) -> None:
        self._context = context

    def begin(self, client: socket.socket, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        sock, code = host.context.dial(host.spec.address, speaks_first=host.spec.child)
        if code:
            sock.close()
            return code
        try:
            Handshake.begin(self._context, sock, client, caller, host, tried)
        except Exception:
            sock.close()
            raise
        return 0
