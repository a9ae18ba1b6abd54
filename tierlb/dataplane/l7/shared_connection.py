"""A connection over HTTP/2 to a host, which carries several requests at once (`shared_session`: what goes over it).

It lies among the host's connections, in `Host.idle`, for as long as it may carry a further request. A connection is
made when no other has room. Over TLS the host has to agree on HTTP/2 (ALPN). Where it may agree on HTTP/1.1 instead,
the first of the requests that wait goes on with the socket then, and the others with connections of their own.
"""

import errno
from typing import Final

from tierlb.dataplane.l7.pooled import IDLE_S, Carried, PooledConnection
from tierlb.dataplane.l7.shared_session import SharedSession
from tierlb.dataplane.l7.shared_stream import SharedStream
from tierlb.dataplane.upstream.host import Host
from tierlb.model.topology import PoolProtocol
from tierlb.net.asked import error_of
from tierlb.net.client_tls import HTTP_2, NO_HTTP_2, ClientTls, agreed_on_nothing
from tierlb.net.peer_liveness import SILENT
from tierlb.net.reactor import ERROR, HANGUP, READ, WRITE, Reactor
from tierlb.net.stream import Stream
from tierlb.net.tls_layer import TlsLayer
from tierlb.net.wheel import NEVER
from tierlb.wire.http2_frames import NO_ERROR, BadConnection, goaway_frame

HOST_FRAMES_A_TURN: Final = 64
STALL_S: Final = 30.0
"""A host that reads nothing for so long gets no further requests on the connection: each would add to the backlog."""


class SharedConnection(Stream):
    """`waiting`: streams that begin when it is made. `uses`: the streams that it has carried."""

    __slots__ = ("connecting", "host", "session", "tls", "uses", "waiting")

    def __init__(self, reactor: Reactor, fd: int, host: Host) -> None:
        super().__init__(reactor, fd)
        self.host = host
        self.connecting = True
        self.tls: ClientTls | None = None  # what it speaks, as it was when it was begun
        self.uses = 0
        self.waiting: list[SharedStream] = []
        self.session = SharedSession(self)

    @property
    def has_room(self) -> bool:
        """Whether it can carry a further request."""
        session = self.session
        return session.has_room and len(session.streams) + len(self.waiting) < session.most and not self.closed

    def stream(self) -> SharedStream:
        """A further one, which is `connecting` as long as the connection is."""
        stream = SharedStream(self.reactor, self.session, self.host)
        stream.uses = self.uses
        self.uses += 1
        stream.connecting = self.connecting
        if self.connecting:
            self.waiting.append(stream)
        elif self.backlog is None:
            self.disarm()
        return stream

    def begin(self, code: int, timeout_s: float) -> None:
        """The handshake has begun, or is over (0). Raises OSError."""
        tls = self.tls = self.host.speaks
        if code == 0 and tls is not None:
            self.watch()
            self.arm(timeout_s)
            self._secure(tls)
        elif code == 0:
            self.watch()
            self.made()
        else:
            self.mask = READ | WRITE
            self.reactor.add(self.fd, READ | WRITE, self.on_connected)
            self.arm(timeout_s)

    def on_connected(self, mask: int) -> None:
        """The handshake is over, well or not."""
        code = error_of(self.fd) if mask & (ERROR | HANGUP) else 0
        if code:
            self._connect_failed(code)
            return
        self.mask = READ
        self.reactor.replace(self.fd, READ, self.on_ready)
        tls = self.tls
        if tls is None:
            self.made()
        else:
            self._secure(tls)

    def _secure(self, tls: ClientTls) -> None:
        """The host has the connect timeout for the handshake of TLS, too."""
        name = tls.name_of(self.host.spec.address.host)
        TlsLayer(self, tls.context, is_server=False, host=name).begin()

    def on_secured(self) -> None:
        layer, host = self.layer, self.host
        assert isinstance(layer, TlsLayer)
        if layer.alpn == HTTP_2:
            host.agreed_on(http1=False)
            self.made()
        elif host.spec.protocol is PoolProtocol.AUTO:
            speak_http1(self, layer)
        else:
            self.on_broken(OSError(errno.EPROTO, NO_HTTP_2))

    def made(self) -> None:
        """Requests can go."""
        self.connecting = False
        self.disarm()
        self.reactor.ready.add(self)
        self.host.reach.connected()
        waiting, self.waiting = self.waiting, []
        for stream in waiting:
            stream.on_made()

    def _connect_failed(self, code: int) -> None:
        waiting, self.waiting = self.waiting, []
        self._end()
        for stream in waiting:
            stream.on_not_made(code)

    # What the stream reports.

    def on_data(self, data: bytes) -> None:
        try:
            rest = self.session.receive(data, HOST_FRAMES_A_TURN)
        except BadConnection as error:
            self.session.output.write(goaway_frame(0, error.code, error.reason))
            self.session.output.flush()
            self.on_broken(OSError(errno.EPROTO, error.reason))
            return
        if rest:
            self.put_back(rest)

    def on_turn(self) -> None:
        if self.unread:
            super().on_turn()
        if self.closed or self.connecting:
            return
        self.session.output.flush()
        if self.backlog is not None and self.deadline == NEVER:
            self.arm(STALL_S)
        if not self.session.streams and not self.waiting:
            self._rest()

    def _rest(self) -> None:
        """No request is under way."""
        session = self.session
        if session.is_leaving or session.most < 1 or self.host.closes or self.eof:
            self._end()
        elif self.deadline == NEVER:
            self.arm(IDLE_S)

    def on_eof(self) -> None:
        self.on_broken(OSError(errno.ECONNRESET, "the host closed the connection"))

    def on_broken(self, error: OSError) -> None:
        self.leave_host()
        if self.connecting:
            reason = str(error.strerror)
            if agreed_on_nothing(reason) and self.host.spec.protocol is PoolProtocol.H2:
                reason = NO_HTTP_2
            self.host.context.on_insecure(self.host, reason)
            self._connect_failed(error.errno or errno.EIO)
            return
        if error.errno in SILENT:
            for connection in self.host.idle[:]:
                connection.close()
        self.session.lose_all(error)
        self._end()

    def on_progress(self) -> None:
        self.arm(STALL_S)

    def on_drained(self) -> None:
        self.disarm()
        self.session.output.pump()
        self.reactor.ready.add(self)

    def on_deadline(self) -> None:
        if self.connecting:
            self._connect_failed(errno.ETIMEDOUT)
        elif self.backlog is not None:
            self.on_broken(OSError(errno.EPROTO, "the host does not read"))
        elif not self.session.streams:
            self._end()

    # The end.

    def close(self) -> None:
        """Take no more requests, and end with those that are under way."""
        self.session.is_leaving = True
        self.leave_host()
        if not self.session.streams and not self.waiting:
            self._end()

    def leave_host(self) -> None:
        """It gets no further requests."""
        if self in self.host.idle:
            self.host.idle.remove(self)

    def _end(self) -> None:
        self.leave_host()
        if not self.closed and not self.connecting and self.backlog is None and self.lost is None and not self.eof:
            self.session.output.write(goaway_frame(0, NO_ERROR))
            self.session.output.flush()
        super().close()


def speak_http1(shared: SharedConnection, layer: TlsLayer) -> None:
    """The host agreed on HTTP/1.1."""
    waiting, shared.waiting = shared.waiting, []
    shared.leave_host()
    connection = PooledConnection(shared.reactor, shared.fd, shared.host)
    connection.take_over(shared)
    connection.tls = shared.tls
    shared.host.agreed_on(http1=True)
    others: list[Carried] = []
    for stream in waiting:
        exchange, stream.exchange = stream.exchange, None
        stream.close()
        if exchange is None:
            continue
        if connection.exchange is None:
            exchange.on_other_protocol(connection)
        else:
            others.append(exchange)
    connection.on_secured()
    layer.moved()
    for each in others:
        each.on_other_protocol(None)


def shared_stream_to(reactor: Reactor, host: Host, timeout_s: float) -> SharedStream | int:
    """A stream to the host, on a connection that has room or a new one; an errno where that failed."""
    for connection in host.idle[::-1]:
        if isinstance(connection, SharedConnection) and connection.has_room:
            return connection.stream()
    try:
        fd, code = host.reach.dial()
    except OSError as error:
        return error.errno or errno.EIO
    if fd < 0:
        return code
    try:
        made = SharedConnection(reactor, fd, host)
        made.begin(code, timeout_s)
    except OSError as error:
        reactor.close(fd)
        return error.errno or errno.EIO
    except Exception:
        reactor.close(fd)
        raise
    host.idle.append(made)
    return made.stream()
