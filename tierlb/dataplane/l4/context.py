"""What all connections through an l4 node share: where they are counted, and what becomes of each.

A connection comes, is introduced where a parent sends it, gets a host, and is relayed. It counts as open until it is
dropped, or until the pipe that relays it is over.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.handoff.taker import Handed
from tierlb.dataplane.hold import Hold
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.kernel.seat import KernelSeat
from tierlb.dataplane.l4.unrouted import Unrouted
from tierlb.dataplane.l4.watch import UseWatch
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.tier_tls import InnerTls
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.tls import ListenerTls
from tierlb.net.reactor import Reactor
from tierlb.net.server_tls import ServerTls
from tierlb.net.stream import Stream
from tierlb.telemetry.sketch import Sketch
from tierlb.telemetry.tally import Tally


class Pending(Stream):
    """A step of a connection that is not relayed yet."""

    __slots__ = ()

    def abandon(self) -> None:
        """The node ends, and the connection with it."""
        raise NotImplementedError


class Unplaced(Pending):
    """A step of a connection that has no host yet, of which the client is all there is."""

    __slots__ = ("caller", "context")

    caller: Caller
    context: "L4Context"

    def abandon(self) -> None:
        self.close()
        if self in self.context.connections.pending:
            self.context.connections.pending.discard(self)
            self.context.drop(self.fd, self.caller)

    def on_broken(self, error: OSError) -> None:
        self.abandon()

    def give_way(self) -> bool:
        """Close it for a new connection."""
        self.abandon()
        return True


class Owing(Unplaced):
    """Of which the client owes something since it `came`: while the node is full, it may give way."""

    __slots__ = ("came",)

    came: float

    def idle_since(self, now: float) -> float:
        """Since when it owes it."""
        return self.came


class L4Connections:
    """Those that are `pending`, those that are relayed with their tickets, and those that are held for a host."""

    def __init__(self, hold: Hold, watch: UseWatch) -> None:
        self.hold = hold
        self.watch = watch
        self.pending: set[Pending] = set()
        self.relayed: dict[Pipe, ConnectionTicket[Host]] = {}

    def __len__(self) -> int:
        return len(self.relayed) + len(self.pending)

    @property
    def may_give_way(self) -> list[Pipe]:
        """Connections that can be closed for new ones if they are idle: those to l7 nodes, whose clients can tell a
        connection that was closed between requests. What goes straight to endpoints may be any protocol, so of those
        only connections that have carried no byte."""
        return [pipe for pipe, ticket in self.relayed.items() if pipe.is_unused or ticket.host.spec.child]

    def cut_from(self, host: Host) -> int:
        """End what is relayed to one host; how many that were."""
        pipes = [pipe for pipe, ticket in self.relayed.items() if ticket.host is host]
        for pipe in pipes:
            pipe.finish(broken=True)
        return len(pipes)

    def cut(self) -> None:
        """End all, so that neither side takes it for an end."""
        for pipe in list(self.relayed):
            pipe.finish(broken=True)
        for pending in list(self.pending):
            pending.abandon()


class L4Context:
    """`config` is set before the first connection comes, and swapped with each snapshot. `counters.items` are
    connections relayed. `forwarders`: those that the snapshot allows, the best first. `tls`: what clients are shown
    that parents send; `shown`: by what it says of their listener, those that connect here. `inner_tls`: what nodes
    above are shown. `load_field` and `full` have no effect here: there is no answer to put them in. `ending`: the node
    drains."""

    config: L4Config
    forwarders: tuple[Forwarder, ...]

    def __init__(
        self, name: str, reactor: Reactor, log: Any, identity: ParentIdentity, registry: HostRegistry, watch: UseWatch
    ) -> None:
        self.name = name
        self.reactor = reactor
        self.log = log
        self.identity = identity
        self.registry = registry
        self.counters = Counters()
        self.latencies = Sketch()
        self.explaining = Explaining()
        self.unrouted = Unrouted(self.counters, log)
        self.connections = L4Connections(Hold(reactor, log), watch)
        self.kernel = KernelSeat(self)
        self.load_field = b""
        self.tls: ServerTls | None = None
        self.shown: Mapping[ListenerTls, ServerTls] = {}
        self.inner_tls: InnerTls | None = None
        self.full = self.ending = False

    @property
    def draining(self) -> bool:
        """Whether it takes no new connections."""
        return self.ending or self.config.draining

    def forwarder_to(self, host: Host, *, stays: bool = False) -> Forwarder | None:
        """The best way to this host now, None if there is none. A socket that `stays` goes the last way that there is,
        which is a relay where one is allowed: only this node learns when it is to end, or what its records hold."""
        for forwarder in self.forwarders[::-1] if stays else self.forwarders:
            if forwarder.reaches(host):
                return forwarder
        return None

    def way_to(self, host: Host) -> str:
        """How the next connection gets to this host, in a word; empty if in none."""
        if self.kernel.forwards:
            return "nftables"
        forwarder = self.forwarder_to(host)
        return "" if forwarder is None else forwarder.way

    def join(
        self,
        client: int,
        upstream: int,
        ticket: ConnectionTicket[Host],
        caller: Caller,
        first: bytes,
        handshake: Stream | None = None,
    ) -> None:
        """A host accepted: from here on bytes are copied both ways, and it is the pipe that is counted. `handshake`:
        what watches the host's side until now, if anything does."""
        pipe = Pipe(self.reactor, client, upstream, self.config.idle_s, partial(self._relay_over, ticket, caller))
        caller.settle()
        self.connections.relayed[pipe] = ticket
        self.connections.watch.begin(pipe, ticket)
        try:
            if caller.layer is not None:
                pipe.speak_through(pipe.client, caller.layer, caller.unsent)
            if handshake is not None:
                pipe.upstream.take_over(handshake)
            pipe.start(to_upstream=first)
            if self.ending:
                pipe.end_soon()
        except Exception:
            pipe.finish(broken=True)
            raise

    def _relay_over(self, ticket: ConnectionTicket[Host], caller: Caller, pipe: Pipe, broken: bool) -> None:
        counters = self.counters
        counters.bytes_in += pipe.client.carried
        counters.bytes_out += pipe.upstream.carried
        counters.piped_bytes += pipe.client.carried + pipe.upstream.carried
        self.connections.relayed.pop(pipe, None)
        self.connections.watch.end(pipe)
        if pipe.refusal:
            host = ticket.host
            host.context.on_insecure(host, pipe.refusal)
            host.reach.connect_failed(refused=False)
        self.count_over(ticket, caller.tally, caller.began, caller.handed)

    def count_over(self, ticket: ConnectionTicket[Host], tally: Tally, began: float, handed: Handed | None) -> None:
        """A connection that a host had is over. It may have been handed to this node."""
        counters, now = self.counters, self.reactor.now
        lasted_s = now - began
        counters.connections -= 1
        counters.timed += 1
        counters.ended += 1
        counters.seconds += lasted_s
        counters.lived_s += lasted_s
        tally.end(done=True)
        tally.close()
        ticket.done(now)
        self.latencies.add(lasted_s)
        ticket.host.peak.observe(now, lasted_s)
        if handed is not None:
            handed.over()

    def give_up(self, client: int, caller: Caller, tried: tuple[Host, ...], reason: str) -> None:
        """No host took the connection. It is closed, as TCP has no error answer. Without a `reason`, this node lacked a
        resource, which was logged already."""
        if reason:
            self.log.warning("connection_dropped", reason=reason, tried=[host.name for host in tried])
        self.counters.errors += 1
        self.drop(client, caller)

    def drop(self, client: int, caller: Caller) -> None:
        """The connection is over before a host had it, and counts no more; also after an error half-way."""
        if not caller.settled:
            caller.settled = True
            self.reactor.close(client)
            self.count_dropped(caller.tally if caller.counted else None, caller.handed)

    def count_dropped(self, tally: Tally | None, handed: Handed | None) -> None:
        """A connection is over that no host has. `tally`: where it is counted as an item, if it is."""
        self.counters.connections -= 1
        if tally is not None:
            tally.end(done=False)
            tally.close()
        if handed is not None:
            handed.over()
