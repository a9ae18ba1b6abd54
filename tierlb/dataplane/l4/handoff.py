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
from functools import partial
from typing import ClassVar, Final

from tierlb.dataplane.handoff.listener import name_of
from tierlb.dataplane.l4.caller import Caller
from tierlb.dataplane.l4.context import L4Context
from tierlb.dataplane.l4.forwarding import Forwarder
from tierlb.dataplane.l4.given import Waiting
from tierlb.dataplane.l4.giver import Giver
from tierlb.dataplane.l4.placing import place
from tierlb.dataplane.l4.returns import carry_out
from tierlb.dataplane.upstream.host import Host
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Forwarding
from tierlb.net.meeting_place import MeetingPlace

LOOK_AGAIN_S = 1.0
"""After a child was not found in the meeting place. A look takes some 10 µs."""
PLACED_PER_TURN: Final = 64
"""Connections that came back, as many as are accepted in a turn."""


class Handoff(Forwarder):
    """`givers`: the ends towards children that were met. `_aside`: those of processes that take no more and are not
    over; another process of the same child may be met meanwhile. `_not_before`: when hosts are looked for again that
    were not found. `_wanted`: those that are reached in this way or not at all. `_back`: connections that came back and
    are to be placed. `_why_none`: why there is no meeting place."""

    way: ClassVar[str] = "handoff"
    passes_sockets: ClassVar[bool] = True

    def __init__(self, context: L4Context, meeting_place: MeetingPlace | None, why_none: str) -> None:
        self._context = context
        self._place = meeting_place
        self._why_none = why_none
        self.givers: dict[Host, Giver] = {}
        self._aside: list[Giver] = []
        self._not_before: dict[Host, float] = {}
        self._wanted: list[Host] = []
        self._back: deque[tuple[Waiting, bool]] = deque()
        self.queued = False

    def follow(self, snapshot: Snapshot, hosts: Iterable[Host]) -> None:
        children = [host for host in hosts if host.spec.child]
        self._wanted = children if snapshot.forward is Forwarding.HANDOFF else []
        self._not_before.clear()
        reactor = self._context.reactor
        for host, giver in list(self.givers.items()):
            carry_out(reactor, partial(giver.follow, is_wanted=host in children))
        carry_out(reactor, self._set_aside)
        for host in children:
            if host not in self.givers:
                try:
                    self._look_for(host)
                except Exception as error:  # the snapshot is to be served all the same
                    reactor.report(error)

    def reaches(self, host: Host) -> bool:
        giver = self.givers.get(host)
        if giver is not None and not giver.is_parting:
            return giver.takes
        if not host.spec.child or self._context.reactor.now < self._not_before.get(host, 0.0):
            return False
        return self._look_for(host)

    def why_not(self, host: Host) -> str:
        if self._place is None:
            return f"{host.name} cannot be handed connections: {self._why_none}"
        return f"{host.name} cannot be handed connections: it does not listen in the directory that --handoff names"

    def lacks(self) -> tuple[str, ...]:
        return tuple(self.why_not(host) for host in self._wanted if not self.reaches(host))

    def begin(self, client: int, caller: Caller, host: Host, tried: tuple[Host, ...]) -> int:
        return self.givers[host].give(client, caller, tried)

    def turn_away(self, client: int, caller: Caller, tried: tuple[Host, ...]) -> bool:
        host = caller.full
        giver = self.givers.get(host) if isinstance(host, Host) else None
        return giver is not None and giver.takes and not giver.give(client, caller, tried, is_last=True)

    @property
    def waiting(self) -> int:
        return len(self._back) + sum(giver.to_wait_for for giver in self._all())

    def cut(self) -> None:
        for giver in self._all():
            carry_out(self._context.reactor, giver.close if giver.given.apart else giver.cut)
        while self._back:
            each, _ = self._back.popleft()
            self._context.drop(each.client, each.caller)

    def close(self) -> None:
        carry_out(self._context.reactor, self._part, self.cut)

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

    def _part(self) -> None:
        for giver in self._all():
            giver.close()

    def _all(self) -> list[Giver]:
        return [*self.givers.values(), *self._aside]

    def _came_back(self, each: Waiting, passes_over: bool) -> None:
        context = self._context
        if not passes_over:  # it is to go there in another way
            self._not_before[each.ticket.host] = context.reactor.now + LOOK_AGAIN_S
        context.reactor.ready.add(self)
        self._back.append((each, passes_over))

    def _look_for(self, host: Host) -> bool:
        """Whether its process listens in the meeting place."""
        place, reactor = self._place, self._context.reactor
        self._set_aside()
        self._not_before[host] = reactor.now + LOOK_AGAIN_S
        if place is None:
            return False
        try:
            control = place.connect(name_of(host.name, host.spec.address))
        except OSError:
            return False
        try:
            self.givers[host] = Giver(self._context, host, control, self._came_back, place.network)
        except OSError:
            reactor.close(control.detach())
            return False
        except Exception:
            reactor.close(control.detach())
            raise
        return True

    def _set_aside(self) -> None:
        """Those that take no more, until they are over."""
        self._aside = [giver for giver in self._all() if giver.is_parting and not giver.returns.is_over]
        self.givers = {host: giver for host, giver in self.givers.items() if not giver.is_parting}
