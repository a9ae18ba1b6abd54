"""A node of an l4 tier with `tls:` ends the TLS of clients here, and relays what it holds.

The handshake comes before a host is chosen, so that one that a client breaks off costs no host anything. Nodes below
learn from the PROXY header that the client speaks TLS, and what came of its handshake (`wire.told_tls`). They expect
none themselves.
"""

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Owing
from tierlb.dataplane.l4.placing import place
from tierlb.net.server_tls import ServerTls
from tierlb.net.tls_layer import TlsLayer
from tierlb.wire.client_certificate import encode_client_certificate
from tierlb.wire.client_hello import NO_HELLO, ClientHello, Verdict, normal_server_name
from tierlb.wire.told_tls import told_tlvs


class Securing(Owing):
    """The handshake with one client, which is shown certificates of the `server`."""

    __slots__ = ("server",)

    server: ServerTls

    @classmethod
    def begin(cls, context: L4Context, fd: int, caller: Caller, tls: ServerTls) -> None:
        """Wait for the client to begin."""
        try:
            securing = cls(context.reactor, fd)
            securing.context, securing.caller, securing.came = context, caller, context.reactor.now
            securing.server = tls
            securing.watch()
            securing.arm(context.config.head_s)
            context.connections.pending.add(securing)
        except Exception:
            context.drop(fd, caller)
            raise
        try:
            caller.give_layer(securing)
            ahead, caller.ahead = caller.ahead, b""
            under = securing.layer
            TlsLayer(securing, tls.context, is_server=True).begin(ahead)
            if under is not None and not securing.closed:
                under.moved()
        except Exception as error:  # the stream owns the descriptor by now, which is to be closed once
            context.reactor.crashed(securing, error)

    def on_secured(self) -> None:
        context, caller = self.context, self.caller
        context.connections.pending.discard(self)
        layer = self.layer
        assert isinstance(layer, TlsLayer)
        protocols = () if layer.alpn is None else (layer.alpn,)
        caller.hello = ClientHello(Verdict.WHOLE, normal_server_name(layer.server_name or ""), protocols)
        caller.told = _told(layer, self.server, caller.hello)
        caller.keep_layer(self)
        caller.secured = True
        place(context, self.detach(), caller)

    def on_unsecured(self, data: bytes) -> None:
        self._refuse("the client does not speak TLS, as `tls` of this tier demands")

    def on_broken(self, error: OSError) -> None:
        self._refuse(f"the TLS handshake failed: {error.strerror}")

    def on_deadline(self) -> None:
        self._refuse("the TLS handshake took too long")

    def _refuse(self, reason: str) -> None:
        if not self.closed:
            self.context.counters.rejected += 1
            self.context.log.info("connection_refused", reason=reason)
            self.abandon()


def _told(layer: TlsLayer, server: ServerTls, hello: ClientHello) -> bytes:
    """What nodes below are to know of the client's TLS."""
    der, shown = layer.peer_certificate, server.shown_for(layer.server_name)
    certificate = b"" if der is None else encode_client_certificate(der, layer.peer_fields)
    return told_tlvs(hello.server_name, layer.alpn, certificate, b"" if shown is None else shown.encoded())


def receive(context: L4Context, fd: int, caller: Caller, tls: ServerTls | None) -> None:
    """Give a connection whose client is known a host. With `tls` the client speaks TLS, and its handshake comes first,
    unless a node above has ended it: such a connection has no ClientHello either."""
    if caller.secured:
        caller.hello = NO_HELLO
    if tls is not None and not caller.secured:
        Securing.begin(context, fd, caller, tls)
    else:
        place(context, fd, caller)
