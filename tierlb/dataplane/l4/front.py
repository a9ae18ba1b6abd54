"""An l4 node's side of the plane: the current snapshot made ready for the next connection."""

import random
import socket
from typing import Any

from tierlb.dataplane.counters import Counters
from tierlb.dataplane.l4.introduction import Introduction
from tierlb.dataplane.l4.relay import Handshake, TunnelEnd, relay
from tierlb.dataplane.pipe import Pipe
from tierlb.dataplane.roster import Candidate, Roster, Split
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.net.reactor import Reactor
from tierlb.net.stream import Stream


class L4Front:
    """Accepts connections and owns what they share. `counters.items` are connections relayed."""

    def __init__(self, name: str, reactor: Reactor, rng: random.Random, log: Any) -> None:
        self.name = name
        self.reactor = reactor
        self.log = log
        self.rng = rng
        self.counters = Counters()
        self.draining = False
        self.handshakes: set[Handshake] = set()
        self.introductions: set[Introduction] = set()
        self.pipes: set[Pipe] = set()
        self.roster = Roster(reactor, rng, self._member_changed)
        self.snapshot: Snapshot
        self.split: Split

    def apply(self, snapshot: Snapshot) -> None:
        """Swap the snapshot whole; existing connections stay where they are."""
        action = snapshot.rules[0].action
        assert isinstance(action, Send)
        self.split = Split(self.roster.regroup(action.destinations, snapshot.balance), self.rng)
        self.snapshot = snapshot

    def accept(self, sock: socket.socket, peer: tuple[str, int], listener: Listener) -> None:
        """A connection arrived."""
        self.counters.connections += 1
        if listener.proxy_protocol:
            Introduction(self, sock, peer)
        else:
            relay(self, sock, peer)

    def join(self, client: socket.socket, member: Stream, candidate: Candidate, first: bytes) -> None:
        """A member accepted: from here on bytes are copied both ways."""
        self.counters.items += 1
        self.counters.in_flight += 1
        pipe = Pipe(self.reactor, client, member.sock, self.snapshot.timeouts.idle, TunnelEnd(self, candidate))
        self.pipes.add(pipe)
        pipe.member.take_over(member)
        pipe.start(to_member=first)
        if self.draining:
            pipe.end_soon()

    def over(self, pipe: Pipe, candidate: Candidate) -> None:
        counters = self.counters
        counters.connections -= 1
        counters.in_flight -= 1
        counters.bytes_in += pipe.client.carried
        counters.bytes_out += pipe.member.carried
        candidate.in_flight -= 1
        candidate.done += 1
        self.pipes.discard(pipe)

    def give_up(self, client: socket.socket, tried: tuple[Candidate, ...]) -> None:
        """No member took the connection. There is no protocol to say so in: it is closed."""
        self.counters.errors += 1
        self.counters.connections -= 1
        self.log.warning("connection dropped", reason="no member accepted it", tried=[c.member.name for c in tried])
        client.close()

    def drain(self) -> None:
        """Connections under way run on until their member ends them or the node's deadline comes."""
        self.draining = True
        for pipe in list(self.pipes):
            pipe.end_soon()

    @property
    def drained(self) -> bool:
        return not (self.pipes or self.handshakes or self.introductions)

    def close(self) -> None:
        """The deadline is over: cut what is left."""
        for pipe in list(self.pipes):
            pipe.finish(broken=True)
        for handshake in self.handshakes:
            handshake.client.close()
        for waiting in [*self.handshakes, *self.introductions]:
            waiting.close()
        self.roster.close()

    def _member_changed(self, event: str, candidate: Candidate) -> None:
        log = self.log.warning if event == "ejected" else self.log.info
        log(f"member {event}", member=candidate.member.name, address=str(candidate.member.address))
