"""The `handoff` forwarder: the accepted socket itself goes to a node below on the same machine, so that no byte passes
this node.

A child can be reached if its process listens in the meeting place (dataplane/handoff/listener.py) that this node was
given too, which containers share as a volume. That is looked for with each snapshot, and again when a connection is to
go there; until it has answered, connections are relayed.

What this node learns of a connection that it handed over is that it is over. It counts to its host like a relayed one
until then, but not to `limits.connections`, which is the child's to keep.
"""

from collections import deque
from collections.abc import Iterable
from typing import ClassVar, Final

from tierlb.dataplane.handoff.listener import name_of
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.given import Waiting
from tierlb.dataplane.l4.giver import GONE, Giver
from tierlb.dataplane.l4.placing import place
from tierlb.dataplane.upstream.host import Host
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Forwarding
from tierlb.net.meeting_place import MeetingPlace

LOOK_AGAIN_S = 1.0
"""After a child was not found in the meeting place. A look takes some 10 µs."""
PLACED_PER_TURN: Final = 64
"""Connections that came back, as many as are accepted in a turn."""


class Handoff(Forwarder):
    """`givers`: the ends towards children that were met. `_not_before`: when hosts are looked for again that were not
    found. `_wanted`: those that are reached in this way or not at all."""

    way: ClassVar[str] = "handoff"

    def __init__(self, context: L4Context, meeting_place: MeetingPlace | None) -> None:
        self._context = context
        self._place = meeting_place
        self.givers: dict[Host, Giver] = {}
        self._not_before: dict[Host, float] = {}
        self._wanted: list[Host] = []
        self._back: deque[tuple[Waiting, bool]] = deque()
        self.queued = False

    def follow(self, snapshot: Snapshot, hosts: Iterable[Host]) -> None:
        children = [host for host in hosts if host.spec.child]
        self._wanted = children if snapshot.forward is Forwarding.HANDOFF else []
        for host in [host for host in self.givers if host not in children]:
            self.givers[host].end()
        self._forget_gone()
        self._not_before.clear()
        for host in children:
            if host not in self.givers:
                try:
                    self._look_for(host)
                except Exception as error:  # the snapshot is to be served all the same
                    self._context.reactor.report(error)

    def reaches(self, host: Host) -> bool:
        giver = self.givers.get(host)
        if giver is not None and giver.state is not GONE:
            return giver.takes
        if not host.spec.child or self._context.reactor.now < self._not_before.get(host, 0.0):
            return False
        return self._look_for(host)

    def why_not(self, host: Host) -> str:
        if self._place is None:
            return f"{host.name} cannot be handed connections: this node was started without --handoff DIR"
        return f"{host.name} cannot be handed connections: it does not listen in the directory that --handoff names"

    def lacks(self) -> tuple[str, ...]:
        return tuple(self.why_not(host) for host in self._wanted if not self.reaches(host))

    def begin(self, client: int, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        return self.givers[host].give(client, caller, tried)

    def turn_away(self, client: int, caller: Caller) -> bool:
        """Have the host that had no room for it say that to the client; whether that could be done."""
        host = caller.full
        giver = self.givers.get(host) if isinstance(host, Host) else None
        return giver is not None and giver.takes and not giver.give(client, caller, (), is_last=True)

    @property
    def waiting(self) -> int:
        givers = self.givers.values()
        return len(self._back) + sum(len(giver.waiting) + giver.given.to_outlive for giver in givers)

    def cut(self) -> None:
        for giver in self.givers.values():
            if giver.given.to_outlive:
                giver.close()
            giver.cut()
        while self._back:
            each, _ = self._back.popleft()
            self._context.drop(each.client, each.caller)

    def close(self) -> None:
        for giver in self.givers.values():
            giver.close()
        self.cut()

    def on_turn(self) -> None:
        """Place some of the connections that came back."""
        for _ in range(min(PLACED_PER_TURN, len(self._back))):
            each, passes_over = self._back.popleft()
            host = each.ticket.host
            place(self._context, each.client, each.caller, (*each.tried, host) if passes_over else each.tried)
        if self._back:
            self._context.reactor.ready.add(self)

    def abort(self) -> None:
        """A connection could not be placed; the others are to be."""
        if self._back:
            self._context.reactor.ready.add(self)

    def _came_back(self, each: Waiting, passes_over: bool) -> None:
        self._back.append((each, passes_over))
        self._context.reactor.ready.add(self)

    def _look_for(self, host: Host) -> bool:
        """Whether its process listens in the meeting place."""
        place, now = self._place, self._context.reactor.now
        self._forget_gone()
        self._not_before[host] = now + LOOK_AGAIN_S
        if place is None:
            return False
        try:
            control = place.connect(name_of(host.name, host.spec.address))
        except OSError:
            return False
        try:
            self.givers[host] = Giver(self._context, host, control, self._came_back, place.network)
        except OSError:
            control.close()
            return False
        except Exception:
            control.close()
            raise
        return True

    def _forget_gone(self) -> None:
        self.givers = {host: giver for host, giver in self.givers.items() if giver.state is not GONE}
