"""A connection to a host: made for one exchange, kept for the next.

It carries bytes and hands everything that is a matter of HTTP to the exchange it serves. Between exchanges it lies in
its host's `idle` stack (the freshest on top) and watches for the host to close it. Before it is used again, the
exchange that takes it sees that no bytes wait in it. After an answer to HEAD, a 204 or a 304 that announces a body it
is closed: some servers send that body all the same, a moment later. When the host's machine does not answer, all idle
connections are closed too, so that the next request has to connect.
"""

import errno
from array import array
from fcntl import ioctl
from ssl import SSLContext
from termios import FIONREAD

from mypy_extensions import mypyc_attr

from tierlb.dataplane.l7.response_half import ResponseHalf
from tierlb.dataplane.l7.states import AWAITED
from tierlb.dataplane.upstream.host import Host
from tierlb.model.topology import PoolProtocol
from tierlb.net.asked import error_of, recv_peek
from tierlb.net.bulk import READ_BYTES
from tierlb.net.client_tls import ClientTls, agreed_on_nothing
from tierlb.net.io import send
from tierlb.net.peer_liveness import SILENT
from tierlb.net.reactor import ERROR, HANGUP, READ, WRITE, Reactor
from tierlb.net.stream import Stream
from tierlb.net.tls_layer import TlsLayer

ANNOUNCED_IDLE_S = 5.0
"""Only its client can use such a connection again, which may have left."""
IDLE_S = 60.0
"""Under the 75 s (nginx) and 60+ s that servers commonly keep a connection, so that we close first."""
IDLE_PER_HOST = 256
_waiting = array("i", [0])
"""Where the kernel writes how many bytes wait: no object is made for a look, and no exception."""


class Carried:
    """What a connection serves, and hands its events to."""

    __slots__ = ()

    def on_connected(self) -> None:
        """The connection can be written to."""
        raise NotImplementedError

    def on_connect_failed(self, code: int) -> None:
        """The connection was not made, and is closed."""
        raise NotImplementedError

    def on_response_data(self, data: bytes) -> None:
        raise NotImplementedError

    def on_response_end(self) -> None:
        """The host closed its side."""
        raise NotImplementedError

    def on_upstream_broken(self, *, silent: bool) -> None:
        """The host reset the connection, or is gone (`silent`)."""
        raise NotImplementedError

    def on_upstream_progress(self) -> None:
        """The host read on, but there is a backlog still."""
        raise NotImplementedError

    def on_upstream_drained(self) -> None:
        """The host has read all of the backlog."""
        raise NotImplementedError

    def on_upstream_deadline(self) -> None:
        raise NotImplementedError

    def failed(self, error: Exception) -> None:
        """Handling one of these events failed."""
        raise NotImplementedError

    def on_other_protocol(self, connection: "PooledConnection | None") -> None:
        """The host agreed on another protocol than was expected: go on with this connection, or with one of its own."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
class PooledConnection(Stream):
    """`connecting` until the handshakes of TCP and TLS are over; `uses` counts the exchanges it has carried, and
    `response` is what came of the response to the present one. `refused`: the host reported that it did not process
    the request. `announced`: the PROXY header with which it begins; requests of other clients do not go on it.
    `first`: the same, until it is sent. `tls`: what it speaks, as it was when it was begun."""

    __slots__ = ("announced", "connecting", "exchange", "first", "host", "refused", "response", "tls", "uses")

    def __init__(self, reactor: Reactor, fd: int, host: Host) -> None:
        super().__init__(reactor, fd)
        self.host = host
        self.exchange: Carried | None = None
        self.response = ResponseHalf()
        self.announced = self.first = b""
        self.connecting = True
        self.refused = False
        self.tls: ClientTls | None = None
        self.uses = 0

    @classmethod
    def open(cls, reactor: Reactor, host: Host, timeout_s: float, announced: bytes = b"") -> "PooledConnection | int":
        """Begin to connect, which may be over at once; an errno where it failed."""
        try:
            fd, code = host.reach.dial()
        except OSError as error:
            return error.errno or errno.EIO
        if fd < 0:
            return code
        try:
            connection = cls(reactor, fd, host)
            connection.announced = connection.first = announced
            tls = connection.tls = host.speaks
            if code == 0 and tls is not None:
                connection.watch()
                connection.arm(timeout_s)
                connection.secure(tls)
            elif code == 0:
                connection.connecting = False
                connection.watch()
                host.reach.connected()
            else:
                connection.mask = READ | WRITE
                reactor.add(fd, READ | WRITE, connection.on_connected)
                connection.arm(timeout_s)
        except OSError as error:
            reactor.close(fd)
            return error.errno or errno.EIO
        except Exception:
            reactor.close(fd)
            raise
        return connection

    def keep(self) -> None:
        """The exchange is over and the connection is good for another, unless the host has closed it."""
        self.exchange = None
        self.read_bytes = READ_BYTES
        self.response.state = AWAITED  # NEXT
        idle = self.host.idle
        is_stale = bool(self.announced) is (self.host.spec.announces is None)
        is_stale = is_stale or (self.tls is not self.host.tls and not self.host.spec.child)
        if self.host.closes or self.eof or is_stale or not self.host.speaks_http1 or len(idle) >= IDLE_PER_HOST:
            self.close()
            return
        if self.paused:
            self.resume()
        idle.append(self)
        self.deadline = at = self.reactor.now + (ANNOUNCED_IDLE_S if self.announced else IDLE_S)
        if at < self.filed:
            self.reactor.wheel.file(self)

    def is_clean(self) -> bool:
        """Look that no bytes wait, as a late 408 does, for they would be taken for the next answer. The poll of the
        batch was the look, but for connections that are still to be read, or may be (`Reactor.unserved`): for them it
        takes a system call. That the host has closed it is not always seen: a request that is put on it then is
        repeated."""
        reactor = self.reactor
        return (reactor.polled and self.fd not in reactor.unserved) or self.is_unread()

    def is_unread(self) -> bool:
        """Whether no bytes wait in the kernel (one system call)."""
        ioctl(self.fd, FIONREAD, _waiting)
        return not _waiting[0]

    def is_alive(self) -> bool:
        """Look (one system call) whether the host has closed it, for requests that must not be sent twice."""
        try:
            recv_peek(self.fd, 1)
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False  # its end, or bytes without a request

    def close(self) -> None:
        if not self.closed and self.exchange is None and self in self.host.idle:
            self.host.idle.remove(self)
        super().close()

    # What the stream reports.

    # Each hands its event to the exchange. An error there is the exchange's to clear up: this connection may be at rest
    # or closed by then, and its client would be forgotten.

    def on_connected(self, mask: int) -> None:
        """The handshake of TCP is over, well or not; from here on the reactor calls `on_ready`."""
        code = error_of(self.fd) if mask & (ERROR | HANGUP) else 0
        if code:
            self._connect_failed(code)
            return
        self.mask = READ
        self.reactor.replace(self.fd, READ, self.on_ready)
        tls = self.tls
        if tls is None:
            self.on_secured()
        else:
            self.secure(tls)

    def secure(self, tls: ClientTls) -> None:
        """Speak TLS with the host, which has the connect timeout for its handshake, too. The PROXY header goes before
        it. Raises OSError."""
        if self.first:
            send(self.fd, self.first)
            self.first = b""
        name = tls.name_of(self.host.spec.address.host)
        TlsLayer(self, self.context_in(tls), is_server=False, host=name).begin()

    def context_in(self, tls: ClientTls) -> SSLContext:
        """What this connection offers."""
        return tls.context_http1

    def on_secured(self) -> None:
        """It can be written to."""
        self.connecting = False
        self.host.reach.connected()
        exchange = self.exchange
        if exchange is None:
            self.keep()
            return
        try:
            exchange.on_connected()
        except Exception as error:
            exchange.failed(error)

    def _connect_failed(self, code: int) -> None:
        exchange = self.exchange
        self.exchange = None
        try:
            self.close()
            if exchange is not None:
                exchange.on_connect_failed(code)
        except Exception as error:
            if exchange is None:
                raise
            exchange.failed(error)

    def on_data(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            self.close()  # bytes without a request: what comes next cannot be trusted either
            return
        try:
            exchange.on_response_data(data)
        except Exception as error:
            exchange.failed(error)

    def on_eof(self) -> None:
        if self.connecting:
            self.on_broken(OSError(errno.ECONNRESET, "the endpoint ended the handshake"))
            return
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        try:
            exchange.on_response_end()
        except Exception as error:
            exchange.failed(error)

    def on_broken(self, error: OSError) -> None:
        if self.connecting:
            reason = str(error.strerror)
            if self.host.spec.protocol is PoolProtocol.AUTO and agreed_on_nothing(reason):
                self._connect_failed(errno.EPROTONOSUPPORT)
                return
            self.host.context.on_insecure(self.host, reason)
            self._connect_failed(error.errno or errno.EIO)
            return
        if error.errno == errno.EPROTO:  # as where the host refuses our certificate, which it looks at last
            self.host.context.on_insecure(self.host, str(error.strerror))
        silent = error.errno in SILENT
        if silent:
            for connection in self.host.idle[:]:
                connection.close()
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        try:
            exchange.on_upstream_broken(silent=silent)
        except Exception as bug:
            exchange.failed(bug)

    def _hung_up(self) -> None:
        """A host that answers without having read the whole request resets the connection behind its answer. What
        came before is passed on first, as the client reads on; then `lost` is reported."""
        if not self.paused or self.is_unread():
            super()._hung_up()
            return
        code = error_of(self.fd)
        if code:
            self.lost = OSError(code, errno.errorcode.get(code, "?"))
        self.reactor.remove(self.fd)
        self.mask = -1

    def on_progress(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            try:
                exchange.on_upstream_progress()
            except Exception as error:
                exchange.failed(error)

    def on_drained(self) -> None:
        exchange = self.exchange
        if exchange is not None:
            try:
                exchange.on_upstream_drained()
            except Exception as error:
                exchange.failed(error)

    def on_deadline(self) -> None:
        if self.connecting:
            self._connect_failed(errno.ETIMEDOUT)
            return
        exchange = self.exchange
        if exchange is None:
            self.close()
            return
        try:
            exchange.on_upstream_deadline()
        except Exception as error:
            exchange.failed(error)
