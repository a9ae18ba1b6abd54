"""A connection from a node of another tier, where the cluster has `security.tls`: its TLS, and the PROXY header in it.

What follows the header came through the layer as well, so it is kept as `Caller.ahead` until the connection has a host.
Such a socket cannot be handed on, as the next process does not have its keys.
"""

from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context, Owing
from tierlb.dataplane.l4.introduction import HEADER_S, introduced
from tierlb.dataplane.l4.securing import receive
from tierlb.dataplane.tier_tls import PLAIN_PARENT, InnerTls
from tierlb.net.tls_layer import TlsLayer
from tierlb.wire.proxy_protocol import BadProxyHeader, parse_v2


class ParentSecuring(Owing):
    """Waits for the handshake and for the header. `seen`: what came of the header."""

    __slots__ = ("inner", "seen")

    inner: InnerTls
    seen: bytes

    @classmethod
    def begin(cls, context: L4Context, fd: int, caller: Caller, inner: InnerTls) -> None:
        """Wait for the parent to begin."""
        try:
            securing = cls(context.reactor, fd)
            securing.context, securing.caller, securing.inner, securing.seen = context, caller, inner, b""
            securing.came = context.reactor.now
            securing.watch()
            securing.arm(HEADER_S)
            context.connections.pending.add(securing)
        except Exception:
            context.drop(fd, caller)
            raise
        try:
            TlsLayer(securing, inner.context, is_server=True).begin()
        except Exception as error:  # the stream owns the descriptor by now, which is to be closed once
            context.reactor.crashed(securing, error)

    def on_secured(self) -> None:
        layer = self.layer
        assert isinstance(layer, TlsLayer)
        refusal = self.inner.refusal(layer, self.context.reactor.now)
        if refusal:
            self._refuse(refusal)

    def on_data(self, data: bytes) -> None:
        self.seen += data
        try:
            header = parse_v2(self.seen)
        except BadProxyHeader as bad:
            self._refuse(f"no PROXY header where a parent sends one: {bad.reason}")
            return
        if header is None:
            return
        context, caller = self.context, self.caller
        if not introduced(context, caller, header):
            self._refuse("it does not know the key of this cluster")
            return
        caller.ahead = self.seen[header.length :]
        caller.keep_layer(self)
        context.connections.pending.discard(self)
        receive(context, self.detach(), caller, context.tls)

    def on_eof(self) -> None:
        """Also the end of a probe, which shows nothing but that it may connect."""
        self.abandon()

    def on_unsecured(self, data: bytes) -> None:
        self._refuse(PLAIN_PARENT)

    def on_broken(self, error: OSError) -> None:
        layer = self.layer
        if isinstance(layer, TlsLayer) and (layer.established or not layer.begun):
            self.abandon()  # a probe of the port, or a parent that was cut before its header
        else:
            self._refuse(f"the TLS handshake failed: {error.strerror}")

    def on_deadline(self) -> None:
        self._refuse("its TLS handshake and PROXY header did not arrive in time")

    def _refuse(self, reason: str) -> None:
        if not self.closed:
            self.context.counters.rejected += 1
            self.context.log.warning("parent_refused", peer=self.caller.source[0], reason=reason)
            self.abandon()
