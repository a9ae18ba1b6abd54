"""An l4 node's side of the plane: the current snapshot made ready for the next connection."""

import random
import socket
from collections.abc import Iterable
from typing import Any

from tierlb.balance.drain import Remainder
from tierlb.balance.hashing import stable_hash
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.explanation import Explaining
from tierlb.dataplane.hold import Hold
from tierlb.dataplane.kinship import Kinship
from tierlb.dataplane.l4.introduction import Introduction
from tierlb.dataplane.l4.relay import Caller, Handshake, TunnelEnd, relay
from tierlb.dataplane.l4.watch import Watch
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.host import Host, log_change
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.dataplane.upstream.split import Split
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.topology import Admin, Policy
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.telemetry.sketch import Sketch


class L4Front:
    """Accepts connections and owns what they share. `counters.items` are connections relayed."""

    def __init__(self, name: str, reactor: Reactor, rng: random.Random, log: Any, kin: Kinship) -> None:
        self.name = name
        self.kin = kin
        self.by_source = False
        self.reactor = reactor
        self.log = log
        self.rng = rng
        self.counters = Counters()
        self.latencies = Sketch()
        self.draining = self._ending = False
        self.full = False
        self.explaining = Explaining()
        self.load_field = b""
        self.handshakes: set[Handshake] = set()
        self.introductions: set[Introduction] = set()
        self.pipes: set[Pipe] = set()
        self.hold = Hold(reactor, log)
        self.watch = Watch(rng)
        self.registry = HostRegistry(reactor, rng, self._host_changed, Shortages(log.warning), self.watch.tick)
        self.snapshot: Snapshot
        self.split: Split

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the snapshot whole; existing connections stay where they are."""
        action = snapshot.rules[0].action
        assert isinstance(action, Send)
        self.split = Split(self.registry.rebuild_host_sets(action.destinations, snapshot), self.rng)
        self.by_source = snapshot.balance is Policy.MAGLEV
        self.snapshot = snapshot
        self.hold.note(action.destinations)
        self.draining = self._ending or snapshot.admin is not Admin.READY

    def heed(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """Nothing to do: a relayed connection ends when its client or its host ends it."""

    def move(self, now: float) -> None:
        """Nothing to do, likewise."""

    def hash_of(self, host: str) -> int:
        """What consistent hashing goes by."""
        return stable_hash(host.encode())

    def accept(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """A connection arrived."""
        if listener.inner:
            Introduction(self, sock, peer)
            self.counters.connections += 1
        else:
            self.counters.connections += 1
            relay(self, sock, Caller(peer, self.counters.tallies.outside, self.reactor.now))

    def may_give_way(self) -> Iterable[Pipe]:
        """Connections that can be closed for new ones if they are idle: those to l7 nodes, whose clients can tell a
        connection that was closed between requests. What goes straight to endpoints may be any protocol, so of those
        only connections that have carried no byte."""
        return [
            pipe
            for pipe in self.pipes
            if pipe.is_unused or (isinstance(pipe.on_closed, TunnelEnd) and pipe.on_closed.ticket.host.spec.child)
        ]

    def turn_away(self, sock: socket.socket, *, at_once: bool) -> None:
        """The node is full. There is no protocol to say so in."""
        sock.close()

    def join(self, client: socket.socket, handshake: Handshake, first: bytes) -> None:
        """A host accepted: from here on bytes are copied both ways."""
        caller = handshake.caller
        end = TunnelEnd(self, handshake.ticket, caller)
        pipe = Pipe(self.reactor, client, handshake.sock, self.snapshot.timeouts.idle, end)
        caller.tally.begin()
        caller.tally.open()
        self.pipes.add(pipe)
        self.watch.begin(pipe, handshake.ticket)
        handshake.passed_on = caller.over = True  # from here on it is the pipe that is counted
        try:
            pipe.upstream.take_over(handshake)
            pipe.start(to_upstream=first)
            if self._ending:
                pipe.end_soon()
        except Exception:
            pipe.finish(broken=True)
            raise

    def over(self, pipe: Pipe, ticket: ConnectionTicket[Host], caller: Caller) -> None:
        counters, now = self.counters, self.reactor.now
        lasted_s = now - caller.began
        counters.connections -= 1
        counters.timed += 1
        counters.ended += 1
        counters.seconds += lasted_s
        counters.lived_s += lasted_s
        caller.tally.end(done=True)
        caller.tally.close()
        counters.bytes_in += pipe.client.carried
        counters.bytes_out += pipe.upstream.carried
        counters.piped_bytes += pipe.client.carried + pipe.upstream.carried
        ticket.done(now)
        self.pipes.discard(pipe)
        self.watch.end(pipe)
        self.latencies.add(lasted_s)
        ticket.host.peak.observe(now, lasted_s)

    def give_up(self, client: socket.socket, caller: Caller, tried: tuple[Host, ...], reason: str) -> None:
        """No host took the connection. There is no protocol to say so in: it is closed. Without a `reason` it is this
        node that lacks something, which was logged already."""
        if reason:
            self.log.warning("connection_dropped", reason=reason, tried=[c.spec.name for c in tried])
        self.counters.errors += 1
        self.drop(client, caller)

    def drop(self, client: socket.socket, caller: Caller) -> None:
        """The connection is over before it was relayed, and counts no more; also after an error half-way."""
        if not caller.over:
            caller.over = True
            self.counters.connections -= 1
            client.close()

    def drain(self) -> None:
        """Connections under way run on until their host ends them or the node's deadline comes."""
        self.draining = self._ending = True
        for pipe in list(self.pipes):
            pipe.end_soon()

    @property
    def tunnels(self) -> tuple[Pipe, ...]:
        """l4 cannot know which connections are upgraded."""
        return ()

    @property
    def drained(self) -> bool:
        return not (self.pipes or self.handshakes or self.introductions or self.hold.items)

    def remainder(self) -> Remainder:
        """What is under way, in connections: l4 cannot tell requests from other bytes."""
        return Remainder(connections=len(self.pipes) + len(self.handshakes) + len(self.introductions))

    def cut_from(self, host: Host) -> Remainder:
        """End what is under way at one host; what that was."""
        ends = ((pipe, pipe.on_closed) for pipe in self.pipes)
        pipes = [pipe for pipe, end in ends if isinstance(end, TunnelEnd) and end.ticket.host is host]
        for pipe in pipes:
            pipe.finish(broken=True)
        return Remainder(connections=len(pipes))

    def cut(self) -> None:
        """The deadline is over: end what is left, so that neither side takes it for an end."""
        for pipe in list(self.pipes):
            pipe.finish(broken=True)
        for handshake in list(self.handshakes):
            handshake.abandon()
        for introduction in list(self.introductions):
            introduction.on_deadline()

    def close(self) -> None:
        """The node ends."""
        self.cut()
        self.hold.close()
        self.registry.close()

    def _host_changed(self, event: HostEvent, host: Host) -> None:
        log_change(self.log, event, host)
