"""An l4 node's side of the data plane: what it does with connections, snapshots and a drain."""

import random
from collections.abc import Iterable
from functools import partial
from typing import Any

from tierlb.balance.drain import Remainder
from tierlb.dataplane.handoff.taker import Introduced
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.l4.context import L4Context, Owing
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.handoff import Handoff
from tierlb.dataplane.l4.introduction import Introduction
from tierlb.dataplane.l4.parent_securing import ParentSecuring
from tierlb.dataplane.l4.relay import Relay
from tierlb.dataplane.l4.routes import routes_of
from tierlb.dataplane.l4.securing import receive
from tierlb.dataplane.l4.watch import UseWatch
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.host import Host, log_change, log_insecure
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.model.topology import Forwarding
from tierlb.net.meeting_place import NOT_GIVEN, MeetingPlace
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.wire.announcement import Origin


class L4Front(L4Context):
    """Accepts connections, and gets each whole one to a host."""

    def __init__(
        self,
        name: str,
        reactor: Reactor,
        rng: random.Random,
        log: Any,
        identity: ParentIdentity,
        meeting_place: MeetingPlace | None = None,
        why_none: str = NOT_GIVEN,
    ) -> None:
        watch = UseWatch(rng)
        registry = HostRegistry(reactor, rng, self._host_changed, Shortages(log.warning), watch.tick)
        super().__init__(name, reactor, log, identity, registry, watch)
        registry.context.on_insecure = partial(log_insecure, log)
        relay, handoff = Relay(self), Handoff(self, meeting_place, why_none)
        self._ways: dict[Forwarding, tuple[Forwarder, ...]] = {
            Forwarding.AUTO: (handoff, relay),
            Forwarding.RELAY: (relay,),
            Forwarding.HANDOFF: (handoff,),
            Forwarding.NFTABLES: (relay,),  # of what the kernel leaves to the node
        }
        self._all_forwarders: tuple[Forwarder, ...] = (handoff, relay)

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the configuration for that of this snapshot; existing connections stay where they are."""
        routes, destinations = routes_of(snapshot, self.registry)
        self.config = L4Config(snapshot, routes)
        self.counters.tallies.forwarding = snapshot.kernel_parent_names
        self.kernel.follow(snapshot, self.registry.hosts)
        self.forwarders = self._ways[snapshot.forward]
        for forwarder in self._all_forwarders:
            forwarder.follow(snapshot, self.registry.hosts if forwarder in self.forwarders else ())
        self.connections.hold.note(destinations)

    def listen(self, addresses: tuple[Address, ...]) -> None:
        """Clients connect to these."""
        self.kernel.listen(addresses)

    async def run(self) -> None:
        """Beside the reactor, for as long as the node serves."""
        await self.kernel.run()

    def note_guidance(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """Nothing to do: a relayed connection ends when its client or its host ends it."""

    def move(self, now: float) -> bool:
        """Nothing moves, likewise; the kernel's rules follow the hosts."""
        self.kernel.look()
        return False

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener, origin: Origin | None = None) -> None:
        """A connection arrived. `origin`: what a balancer above told of it."""
        caller = Caller(peer, self.counters.tallies.outside, self.reactor.now, origin)
        self.counters.connections += 1
        if listener.inner and self.inner_tls is not None:
            ParentSecuring.begin(self, fd, caller, self.inner_tls)
        elif listener.inner:
            Introduction.begin(self, fd, caller, direct=listener.direct)
        elif listener.tls is None:
            receive(self, fd, caller, None)
        elif (tls := self.shown.get(listener.tls)) is None:
            self.drop(fd, caller)  # the listener ends, and its certificates are not served any more
        else:
            receive(self, fd, caller, tls)

    def take(self, fd: int, introduced: Introduced) -> None:
        """A parent handed over a connection."""
        self.counters.connections += 1
        receive(self, fd, Caller.introduced(introduced), self.tls)

    def may_give_way(self) -> Iterable[Pipe | Owing]:
        """Connections that can be closed for new ones if they are idle."""
        waiting = [each for each in self.connections.pending if isinstance(each, Owing)]
        return [*self.connections.may_give_way, *waiting]

    def turn_away(self, fd: int, *, at_once: bool, secured: bool) -> None:
        """The node is full. TCP has no way to tell the client, so the connection is closed."""
        self.reactor.close(fd)

    def drain(self) -> None:
        """Connections under way run on until their host ends them or the node's deadline comes."""
        self.ending = True
        for pipe in list(self.connections.relayed):
            pipe.end_soon()

    @property
    def lacks(self) -> tuple[str, ...]:
        """What operators should know of hosts that cannot be reached as the snapshot wants, in sentences."""
        return (*self.kernel.lacks, *(lack for forwarder in self.forwarders for lack in forwarder.lacks()))

    @property
    def tunnels(self) -> tuple[Pipe, ...]:
        """An l4 node cannot see which connections are upgraded."""
        return ()

    @property
    def drained(self) -> bool:
        return not (self.connections or self.connections.hold.items or self._waiting) and self.kernel.is_idle

    def remainder(self) -> Remainder:
        """What is under way, in connections: l4 cannot tell requests from other bytes."""
        return Remainder(connections=len(self.connections) + self._waiting + self.counters.forwarded)

    @property
    def _waiting(self) -> int:
        return sum(forwarder.waiting for forwarder in self._all_forwarders)

    def cut_from(self, host: Host) -> Remainder:
        """End what is under way at one host; what that was."""
        elsewhere = sum(forwarder.cut_from(host) for forwarder in self._all_forwarders) + self.kernel.cut_from(host)
        return Remainder(connections=self.connections.cut_from(host) + elsewhere)

    def cut(self) -> None:
        """The deadline is over: end what is left."""
        self.connections.cut()
        for forwarder in self._all_forwarders:
            forwarder.cut()
        self.kernel.cut()

    def close(self) -> None:
        """The node ends."""
        self.connections.cut()
        self.kernel.cut()
        for forwarder in self._all_forwarders:
            forwarder.close()
        self.connections.hold.close()
        self.registry.close()

    def _host_changed(self, event: HostEvent, host: Host) -> None:
        log_change(self.log, event, host)
