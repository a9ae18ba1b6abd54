"""How a request gets a connection to a host that has no kept one for it: by what the host's pool speaks.

Where the endpoints of a pool agree on a protocol themselves (ALPN), what a host agreed on last is expected of it. It is
a stream of HTTP/2 that waits for the first connection, so that many requests do not make many connections; one that
is expected to be of HTTP/1.1 may come to be of HTTP/2. Requests that ask for an upgrade go over HTTP/1.1, which is all
that their connections offer.
"""

from ssl import SSLContext
from typing import Final

from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.shared_connection import SharedConnection, shared_stream_to
from tierlb.dataplane.upstream.host import Host
from tierlb.model.topology import PoolProtocol
from tierlb.net.client_tls import HTTP_2, ClientTls
from tierlb.net.reactor import Reactor
from tierlb.net.tls_layer import TlsLayer

_HTTP1: Final = PoolProtocol.HTTP1
_AUTO: Final = PoolProtocol.AUTO


def connect_to_host(
    reactor: Reactor, host: Host, timeout_s: float, announced: bytes, *, upgrades: bool
) -> PooledConnection | int:
    """A connection, or a stream of one, which may be `connecting`; an errno where that failed. `upgrades`: the request
    asks for another protocol."""
    protocol = host.spec.protocol
    if protocol is _HTTP1 or (protocol is _AUTO and upgrades):
        return PooledConnection.open(reactor, host, timeout_s, announced)
    if protocol is _AUTO and host.speaks_http1:
        return NegotiatedConnection.open(reactor, host, timeout_s)
    return shared_stream_to(reactor, host, timeout_s)


class NegotiatedConnection(PooledConnection):
    """A connection that is expected to be of HTTP/1.1."""

    __slots__ = ()

    def context_in(self, tls: ClientTls) -> SSLContext:
        return tls.context

    def on_secured(self) -> None:
        layer = self.layer
        if isinstance(layer, TlsLayer) and layer.alpn == HTTP_2:
            self._speak_http2(layer)
        else:
            super().on_secured()

    def _speak_http2(self, layer: TlsLayer) -> None:
        host = self.host
        exchange, self.exchange = self.exchange, None
        connection = SharedConnection(self.reactor, self.fd, host)
        connection.take_over(self)
        connection.tls = self.tls
        host.agreed_on(http1=False)
        host.idle.append(connection)
        connection.made()
        if exchange is not None:
            exchange.on_other_protocol(connection.stream())
            try:
                exchange.on_connected()
            except Exception as error:
                exchange.failed(error)
        layer.moved()
