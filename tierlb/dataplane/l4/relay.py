"""The `relay` forwarder: connect to a host, announce the client, join the two sockets.

Until a host has accepted, nothing is read from the client, so a connect that fails costs nothing: another
host gets the connection. On the handshake's end the client's first bytes, mostly there by then, travel in the same
packet as the PROXY header.
"""

import errno
from typing import ClassVar

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Pending
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.placing import place
from tierlb.dataplane.upstream.host import Host
from tierlb.net.asked import error_of, local_name
from tierlb.net.bulk import READ_BYTES
from tierlb.net.client_tls import ClientTls
from tierlb.net.io import recv, send
from tierlb.net.reactor import ERROR, HANGUP, READ, WRITE
from tierlb.net.shortage import is_own
from tierlb.net.tls_layer import TlsLayer
from tierlb.wire.announcement import Origin
from tierlb.wire.proxy_protocol import encode_v2


class Handshake(Pending):
    """One connect attempt towards a host on behalf of one caller."""

    __slots__ = ("caller", "client", "context", "passed_on", "ticket", "tls", "tried")

    caller: Caller
    client: int
    context: L4Context
    passed_on: bool
    ticket: ConnectionTicket[Host]
    tls: ClientTls | None
    tried: tuple[Host, ...]

    @classmethod
    def begin(
        cls,
        context: L4Context,
        fd: int,
        client: int,
        caller: Caller,
        host: Host,
        tried: tuple[Host, ...],
        tls: ClientTls | None,
        *,
        made: bool = False,
    ) -> None:
        """The connect to `host` has begun, or is `made`. `tls`: what is spoken, whatever snapshots say meanwhile."""
        handshake = cls(context.reactor, fd)
        handshake.context, handshake.client, handshake.caller = context, client, caller
        handshake.ticket = host.begin_connection(context.reactor.now, caller.tally)
        handshake.passed_on, handshake.tls = False, tls
        handshake.tried = tried
        context.connections.pending.add(handshake)
        try:
            handshake.arm(context.config.connect_s)
            handshake.watch(READ if made else WRITE)
            if made and tls is not None:
                handshake.secure(tls)
        except OSError as error:
            handshake.fail(error.errno or errno.EIO)
        except Exception:
            handshake.abort()
            raise

    def on_ready(self, mask: int) -> None:
        if self.layer is not None:
            super().on_ready(mask)
            return
        code = error_of(self.fd) if mask & (ERROR | HANGUP) else 0
        if code:
            self.fail(code)
        elif self.tls is None:
            self.on_secured()
        else:
            self.mask = READ
            self.reactor.modify(self.fd, READ)
            self.arm(self.context.config.connect_s)
            self.secure(self.tls)

    def secure(self, tls: ClientTls) -> None:
        """Speak TLS with the host, behind the PROXY header of a pool with `proxy_protocol`. Raises OSError."""
        host = self.ticket.host
        if host.spec.announces is not None:
            send(self.fd, header_for(self.context, self.client, self.caller, host))
        TlsLayer(self, tls.context, is_server=False, host=tls.name_of(host.spec.address.host)).begin()

    def on_secured(self) -> None:
        """All that is to come before the client's bytes is done."""
        context, host = self.context, self.ticket.host
        host.reach.connected()
        first = first_bytes(context, self.client, self.caller, host, secured=self.tls is not None)
        context.connections.pending.discard(self)
        context.join(self.client, self.fd, self.ticket, self.caller, first, self)

    def on_eof(self) -> None:
        self.on_broken(OSError(errno.ECONNRESET, "the host ended the handshake"))

    def on_deadline(self) -> None:
        self.fail(errno.ETIMEDOUT)

    def on_broken(self, error: OSError) -> None:
        if self.layer is not None:
            host = self.ticket.host
            host.context.on_insecure(host, str(error.strerror))
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

    way: ClassVar[str] = "relay"

    def __init__(self, context: L4Context) -> None:
        self._context = context

    def begin(self, client: int, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        spec, tls = host.spec, host.speaks
        secures = tls is not None
        fd, code = host.reach.dial(speaks_first=spec.child or secures or spec.announces is not None, asker=client)
        if fd < 0:
            return code
        try:
            if code or secures:
                Handshake.begin(self._context, fd, client, caller, host, tried, tls, made=not code)
            else:
                self._join(fd, client, caller, host)
        except Exception:
            self._context.reactor.close(fd)
            raise
        return 0

    def _join(self, fd: int, client: int, caller: Caller, host: Host) -> None:
        """The connection is made already, as on loopback."""
        context = self._context
        host.reach.connected()
        first = first_bytes(context, client, caller, host)
        ticket = host.begin_connection(context.reactor.now, caller.tally)
        try:
            context.join(client, fd, ticket, caller, first)
        except Exception:
            ticket.give_back(context.reactor.now)
            raise


def header_for(context: L4Context, client: int, caller: Caller, host: Host) -> bytes:
    """The PROXY header for a host: where it is a node or its pool has `proxy_protocol`."""
    here = caller.destination or local_name(client)
    if host.spec.announces is not None:
        origin = caller.origin or Origin(caller.source, None)
        return origin.header(host.spec.announces, here, secured=caller.secured)
    if host.spec.child:
        return encode_v2(caller.source, here, context.identity.credentials + caller.tlvs())
    return b""


def first_bytes(context: L4Context, client: int, caller: Caller, host: Host, *, secured: bool = False) -> bytes:
    """The first bytes for a host: a PROXY header, unless it came before TLS, and what the client has sent so far. Of
    one that comes through TLS here, that is what was read already."""
    is_sent = secured and host.spec.announces is not None
    first = b"" if is_sent else header_for(context, client, caller, host)
    if caller.layer is not None:
        return first + caller.ahead
    try:
        return first + (recv(client, READ_BYTES) or b"")
    except OSError:
        return first  # the pipe finds it broken
