"""An l4 node's side of the data plane over UDP: what it does with datagrams of new clients, snapshots and a drain."""

import random
from collections.abc import Iterable
from typing import Any

from tierlb.balance.drain import Remainder
from tierlb.dataplane.handoff.taker import Introduced
from tierlb.dataplane.l4.config import L4Config
from tierlb.dataplane.l4.routes import routes_of
from tierlb.dataplane.l4.udp_context import PlacedSession
from tierlb.dataplane.l4.udp_placing import UdpPlacing
from tierlb.dataplane.l4.watch import UseWatch
from tierlb.dataplane.parent_identity import ParentIdentity
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.upstream.condition import HostEvent
from tierlb.dataplane.upstream.host import Host, log_change
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.address import Address
from tierlb.model.load import Guidance, SubtreeLoad
from tierlb.model.snapshot import Listener, Snapshot
from tierlb.net.reactor import Reactor
from tierlb.net.shortage import Shortages
from tierlb.wire.announcement import Origin


class UdpFront(UdpPlacing):
    """Gives each client a session with a host."""

    def __init__(self, name: str, reactor: Reactor, rng: random.Random, log: Any, identity: ParentIdentity) -> None:
        watch = UseWatch(rng)
        registry = HostRegistry(reactor, rng, self._host_changed, Shortages(log.warning), watch.tick)
        super().__init__(name, reactor, log, identity, registry, watch)

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the configuration for that of this snapshot; existing sessions stay where they are."""
        routes, destinations = routes_of(snapshot, self.registry)
        self.config = L4Config(snapshot, routes)
        self.kernel.follow(snapshot, self.registry.hosts)
        self.sessions.hold.note(destinations)
        self.sessions.tidy()

    def note_guidance(self, now: float, load: SubtreeLoad, guidance: Guidance) -> None:
        """Nothing to do: a session stays with its host."""

    def move(self, now: float) -> bool:
        """Nothing moves, likewise; the kernel's rules follow the hosts."""
        self.kernel.look()
        return False

    def listen(self, addresses: tuple[Address, ...]) -> None:
        """Clients send to these."""
        self.kernel.listen(addresses)

    async def run(self) -> None:
        """Beside the reactor, for as long as the node serves."""
        await self.kernel.run()

    @property
    def lacks(self) -> tuple[str, ...]:
        return self.kernel.lacks

    def accept(self, fd: int, peer: tuple[str, int], listener: Listener, origin: Origin | None = None) -> None:
        """There are no connections over UDP."""
        self.reactor.close(fd)

    def take(self, fd: int, introduced: Introduced) -> None:
        """There are no connections over UDP."""
        self.reactor.close(fd)
        introduced.handed.over()

    def may_give_way(self) -> Iterable[PlacedSession]:
        """Sessions that can be ended for new ones if they are idle."""
        return list(self.sessions.placed)

    def turn_away(self, fd: int, *, at_once: bool, secured: bool) -> None:
        """There are no connections over UDP."""
        self.reactor.close(fd)

    def drain(self) -> None:
        """Sessions under way run on until they are idle or the node's deadline comes."""
        self.ending = True
        for session in self.sessions.placed:
            session.end_soon()

    @property
    def tunnels(self) -> tuple[Pipe, ...]:
        """There are none."""
        return ()

    @property
    def drained(self) -> bool:
        return not self.sessions and self.kernel.is_idle

    def remainder(self) -> Remainder:
        """What is under way, in sessions."""
        return Remainder(connections=len(self.sessions) + self.counters.forwarded)

    def cut_from(self, host: Host) -> Remainder:
        """End what is under way at one host; what that was."""
        return Remainder(connections=self.sessions.cut_from(host).connections + self.kernel.cut_from(host))

    def cut(self) -> None:
        """The deadline is over: end what is left."""
        self.sessions.cut()
        self.kernel.cut()

    def close(self) -> None:
        """The node ends."""
        self.cut()
        self.sessions.hold.close()
        for client in self.sessions.held:
            self.over(client, answered=False)
        self.registry.close()

    def _host_changed(self, event: HostEvent, host: Host) -> None:
        log_change(self.log, event, host)
