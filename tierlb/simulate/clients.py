"""Clients that keep a connection: the first tier chooses once per connection, not per item.

Each client has a schedule of its own (a Poisson stream) and one item in progress at a time. Items that fall due
meanwhile wait, and their time counts from when they were due. A client with items of another kind sends the next one as
soon as it has its answer. A node whose parents' guidance makes it close connections does so as a response ends, those
with most requests first if it is slow; the client then reconnects through the first tier with its next item.
"""

import math
import random
from collections import deque
from collections.abc import Sequence

import attrs

from tierlb.balance.ticket import ConnectionTicket
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.kinds import Draw, KindSource
from tierlb.simulate.leaf import SimulatedLeaf
from tierlb.simulate.node import Item, SimulatedHost, SimulatedNode, way_to

CLIENT_SETTLING_S = 0.2
"""The same as in dataplane.l7.client."""


@attrs.frozen
class Clients:
    """`zipf`: the n-th busiest client sends n^−zipf as much as the busiest. `life_s`: the mean life of a connection
    that no node closes earlier (exponential; None: unlimited). `close`: whether nodes act on guidance."""

    count: int
    zipf: float = 0.5
    life_s: float | None = None
    close: bool = True

    def rates(self, total: float) -> list[float]:
        """Items per second of each client; they add up to `total`."""
        parts = [rank**-self.zipf for rank in range(1, self.count + 1)]
        return [total * part / sum(parts) for part in parts]


class SimulatedConnection:
    """One connection of a client, which ends with the first answer from `ends_at` on. `way`: the hosts below that its
    items go to; empty: as the nodes choose. `asked`: items on it so far. `moves`: it is to close with the next answer.
    """

    __slots__ = ("_agenda", "_waited_s", "_waits_since", "asked", "began", "ends_at", "moves", "ticket", "way")

    def __init__(
        self,
        agenda: Agenda,
        ticket: ConnectionTicket[SimulatedHost],
        way: Sequence[SimulatedHost],
        life_s: float,
    ) -> None:
        self._agenda = agenda
        self.ticket = ticket
        self.way = way
        self.began = agenda.now
        self.ends_at = agenda.now + life_s
        self.asked = 0
        self.moves = False
        self._waits_since: float | None = None
        self._waited_s = 0.0

    @property
    def node(self) -> SimulatedNode:
        """The node that serves it."""
        below = self.ticket.host.below
        assert isinstance(below, SimulatedNode)
        return below

    @property
    def activity(self) -> float:
        """Items per second of the time in which it did not wait."""
        now = self._agenda.now
        waits_s = 0.0 if self._waits_since is None else now - self._waits_since
        return self.asked / (now - self.began - self._waited_s - waits_s + CLIENT_SETTLING_S)

    def ask(self) -> None:
        """An item is sent."""
        self.asked += 1
        self._waits_since = self._agenda.now
        self.node.moves.begin(self)

    def answered(self) -> None:
        """The item is answered."""
        assert self._waits_since is not None
        self._waited_s += self._agenda.now - self._waits_since
        self._waits_since = None
        self.node.moves.answered(self)

    def close(self) -> None:
        """The end."""
        now = self._agenda.now
        self.ticket.done(now)
        self.ticket.host.tally.close()
        self.node.moves.leave(self, now - self.began)


class SimulatedClient:
    """One client. `rate`: items per second; 0: one after the other. `work` draws the service time of short items, or is
    the source of another kind. `leaf`: the leaf of the first item, and of the others too if its kind stays; None: as
    the nodes choose."""

    __slots__ = (
        "_agenda",
        "_asked_at",
        "_clients",
        "_connection",
        "_due",
        "_latencies",
        "_leaf",
        "_rate",
        "_rng",
        "_top",
        "_under_way",
        "_work",
    )

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        top: Sequence[SimulatedNode],
        rate: float,
        clients: Clients,
        latencies: list[tuple[float, float]],
        work: Draw | KindSource,
        leaf: SimulatedLeaf | None = None,
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._top = top
        self._rate = rate
        self._clients = clients
        self._latencies = latencies
        self._work = work
        self._leaf = leaf
        self._connection: SimulatedConnection | None = None
        self._due: deque[float] = deque()
        self._under_way = False
        self._asked_at = 0.0

    def begin(self, after_s: float = 0.0) -> None:
        """Start: the first item falls due so much later, plus the first interval of its schedule."""
        wait_s = self._rng.expovariate(self._rate) if self._rate else 0.0
        self._agenda.at(self._agenda.now + after_s + wait_s, self._fall_due)

    def _fall_due(self, _: object) -> None:
        self._due.append(self._agenda.now)
        if self._rate:
            self.begin()
        if not self._under_way:
            self._send()

    def _send(self) -> None:
        connection = self._connection or self._connect()
        self._under_way = True
        work = self._work if isinstance(self._work, KindSource) else self._work()
        self._asked_at = self._due.popleft()
        connection.ask()
        tally = connection.ticket.host.tally
        connection.node.accept(Item(self._asked_at, tally, self._served, work, connection.way))

    def _connect(self) -> SimulatedConnection:
        """Connect through a random node of the first tier."""
        node = self._rng.choice(self._top)
        host, *way = [node.choose()] if self._leaf is None else way_to(node, self._leaf)
        ticket = host.begin_connection(self._agenda.now, host.tally)
        host.tally.open()
        life_s = self._clients.life_s
        lasts_s = math.inf if life_s is None else self._rng.expovariate(1 / life_s)
        self._connection = connection = SimulatedConnection(self._agenda, ticket, way, lasts_s)
        return connection

    def unserved(self) -> list[float]:
        """When its items without an answer fell due."""
        return [*((self._asked_at,) if self._under_way else ()), *self._due]

    def _served(self, item: Item) -> None:
        now, connection = self._agenda.now, self._connection
        assert connection is not None
        self._under_way = False
        self._latencies.append((item.began, now - item.began))
        connection.answered()
        if now >= connection.ends_at or (self._clients.close and connection.node.moves.is_to_close(connection, now)):
            self._connection = None
            connection.close()
        if isinstance(self._work, KindSource) and not self._work.kind.standing.stays:
            self._leaf, connection.way = None, ()
        if not self._rate:
            self._agenda.at(now, self._fall_due)
        elif self._due:
            self._send()
