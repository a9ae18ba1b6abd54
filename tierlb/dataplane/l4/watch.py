"""Which relayed connections are in use: a bounded number of them is looked at with every tick, in turn.

Only connections to endpoints without an agent are watched: nodes and agents report their requests. Of each end only the
time of its last byte is noted (`pipe.End.moved`). With 10 000 connections each is looked at every eight seconds, which
costs 0.3 % of a CPU.
"""

import random
from itertools import islice
from typing import Final, Protocol

from tierlb.balance.activity import LEAST_ACTIVITY, NEVER_MOVED, Activity, owes
from tierlb.balance.ticket import ConnectionTicket
from tierlb.dataplane.upstream.host import Host
from tierlb.net.wheel import NEVER

USE_LOOK_S: Final = 0.5
"""The usual time between two looks at a connection. Each differs by up to a half from it, or a heartbeat of one second
would be seen with every look, or never."""
LOOKS_PER_TICK: Final = 64


class Used(Protocol):
    """A connection, or a session over UDP."""

    @property
    def began(self) -> float: ...

    def moves(self) -> tuple[float, float]:
        """When something came last from the client and from the host."""


class Watched(Activity):
    """A connection and its ticket, which counts what each look makes of it. `settled`: another look would find the same
    until a byte moves."""

    __slots__ = ("settled", "ticket")

    def __init__(self, now: float, ticket: ConnectionTicket[Host]) -> None:
        super().__init__(now)
        self.ticket = ticket
        self.settled = False


class UseWatch:
    """All connections of a front whose use is to be known. `watched`: in the order in which they are due. `_new`: those
    that were never looked at. Many are over before that, and a record of each would cost 1 % of what a short one does.
    """

    __slots__ = ("_new", "_pool_served", "_rng", "_unsettled", "watched")

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._new: dict[Used, ConnectionTicket[Host]] = {}
        self.watched: dict[Used, Watched] = {}
        self._pool_served: dict[str, float] = {}
        self._unsettled = 0

    def __len__(self) -> int:
        return len(self._new) + len(self.watched)

    def begin(self, pipe: Used, ticket: ConnectionTicket[Host]) -> None:
        """It counts as a whole item until it is looked at."""
        if ticket.host.estimate.traits.by_activity:
            self._new[pipe] = ticket

    def end(self, pipe: Used) -> None:
        """It is over."""
        if self._new.pop(pipe, None) is None and (watched := self.watched.pop(pipe, None)) is not None:
            self._unsettled -= not watched.settled

    def tick(self, now: float) -> float:
        """Look at those that are due: half of the looks are for new ones at most. Returns when to call it again at the
        latest if no byte moves until then."""
        after_s = USE_LOOK_S * (0.5 + self._rng.random())
        due: list[tuple[Used, Watched]] = []
        for pipe, ticket in list(islice(self._new.items(), LOOKS_PER_TICK // 2)):
            if now - pipe.began < after_s:
                break
            del self._new[pipe]
            self._unsettled += 1
            due.append((pipe, Watched(pipe.began, ticket)))
        for pipe, watched in list(islice(self.watched.items(), LOOKS_PER_TICK - len(due))):
            if now - watched.looked_at < after_s:
                break
            del self.watched[pipe]
            due.append((pipe, watched))
        for pipe, watched in due:
            self.watched[pipe] = watched
            self._look(now, pipe, watched)
        return now + USE_LOOK_S / 2 if self._new or self._unsettled else NEVER

    def note_served(self, host: Host, asked: float) -> None:
        """The host has answered what came at this time."""
        target = host.spec.target
        host.served = max(host.served, asked)
        self._pool_served[target] = max(self._pool_served.get(target, NEVER_MOVED), asked)

    def is_silent_since(self, host: Host, asked: float) -> bool:
        """Whether the host has answered nothing that came then or later, while others of its pool have."""
        return host.served < asked < self._pool_served.get(host.spec.target, NEVER_MOVED)

    def _look(self, now: float, pipe: Used, watched: Watched) -> None:
        host = watched.ticket.host
        asked, answered = pipe.moves()
        if NEVER_MOVED < asked <= answered:
            self.note_served(host, asked)
        pool_served = self._pool_served.get(host.spec.target, NEVER_MOVED)
        waits = owes(now, asked, answered, host.served, pool_served)
        watched.look(now, max(pipe.began, asked, answered), waits=waits)
        before, watched.settled = watched.settled, watched.parked and watched.weight == LEAST_ACTIVITY
        self._unsettled += before - watched.settled
        watched.ticket.weigh(int(watched.parked), 1.0 - watched.weight)
