"""Tunnels: connections whose protocol was switched by a 101 response. From there on two sockets are simply joined.

A tunnel keeps the ticket of the request that it came of. Its time does not count as the time of an answer.
"""

import attrs

from tierlb.balance.ticket import Ticket
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l7.client_identity import ClientIdentity
from tierlb.dataplane.l7.downstream import Downstream
from tierlb.dataplane.l7.lifetime import count_end
from tierlb.dataplane.l7.pooled import PooledConnection
from tierlb.dataplane.l7.reply import Reply
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.host import Host
from tierlb.net.reactor import Reactor


@attrs.frozen(eq=False)
class Tunnel:
    """`began`: when the client's connection did, below 0 if that goes on without the tunnel."""

    ticket: Ticket[Host]
    identity: ClientIdentity
    began: float
    downstream: Downstream


class Tunnels:
    """The tunnels of one node, by their pipes."""

    def __init__(self, reactor: Reactor, counters: Counters) -> None:
        self.pipes: dict[Pipe, Tunnel] = {}
        self._reactor = reactor
        self._counters = counters

    def join(
        self, downstream: Downstream, connection: PooledConnection, ticket: Ticket[Host], reply: Reply, idle_s: float
    ) -> None:
        """Join both sides behind this 101 response, which is passed on with whatever either side sent meanwhile."""
        identity, protocol = downstream.identity, reply.upgrade or b""
        to_host = connection.take_unsent()
        fd, unsent, ahead, began, layer = downstream.detach()
        try:
            pipe = Pipe(self._reactor, fd, connection.detach(), idle_s, self._over)
        except Exception:
            self._reactor.close(fd)
            self._reactor.close(connection.fd)
            self._count_end(identity, began, done=False)
            raise
        ticket.stay_parked()
        self.pipes[pipe] = Tunnel(ticket, identity, began, downstream)
        try:
            downstream.on_joined(pipe)
            if pipe not in self.pipes:
                return  # the client has left
            if layer is not None:
                pipe.speak_through(pipe.client, layer, unsent)
                unsent = b""
            if connection.layer is not None:
                pipe.speak_through(pipe.upstream, connection.layer, to_host)
                to_host = b""
            head = b"%b%bConnection: upgrade\r\nUpgrade: %b\r\n\r\n" % (unsent, reply.lines, protocol)
            pipe.start(to_client=head + connection.response.rest, to_upstream=to_host + ahead)
        except Exception:
            pipe.finish(broken=True)
            raise

    def cut(self, host: Host | None = None) -> int:
        """End all, or those to one host; how many those were."""
        cut = [pipe for pipe, tunnel in self.pipes.items() if host is None or tunnel.ticket.host is host]
        for pipe in cut:
            pipe.finish(broken=True)
        return len(cut)

    def _over(self, pipe: Pipe, broken: bool) -> None:
        tunnel = self.pipes.pop(pipe)
        counters = self._counters
        counters.bytes_in += pipe.client.carried
        counters.bytes_out += pipe.upstream.carried
        counters.piped_bytes += pipe.client.carried + pipe.upstream.carried
        self._count_end(tunnel.identity, tunnel.began, done=True)
        if tunnel.ticket.done(self._reactor.now):
            counters.waited += 1
        tunnel.downstream.on_tunnel_over(broken=broken)

    def _count_end(self, identity: ClientIdentity, began: float, *, done: bool) -> None:
        if began >= 0:
            count_end(self._counters, identity, self._reactor.now - began)
        identity.tally.end(done=done)
