"""Clients that keep a connection: the first tier chooses once per connection, not per item.

Each client has a schedule of its own (a Poisson stream) and one item in progress at a time. Items that fall due
meanwhile wait, and their time counts from when they were due. A client with items of another kind sends the next one as
soon as it has its answer. A node whose parents' guidance makes it close connections does so as a response ends, those
with most requests first if it is slow; the client then reconnects through the first tier with its next item.
"""

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


class SimulatedClient:
    """One client. `rate`: items per second; 0: one after the other. `work` draws the service time of short items, or is
    the source of another kind. `leaf`: the leaf of the first item, and of the others too if its kind stays; None: as
    the nodes choose. `asked`: items on this connection. `moves`: it is to close with the next answer."""

    __slots__ = (
        "_agenda",
        "_asked_at",
        "_clients",
        "_connected_at",
        "_due",
        "_ends_at",
        "_latencies",
        "_leaf",
        "_rate",
        "_rng",
        "_sent_at",
        "_ticket",
        "_top",
        "_under_way",
        "_waited_s",
        "_way",
        "_work",
        "asked",
        "moves",
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
        self._way: Sequence[SimulatedHost] = ()
        self._ticket: ConnectionTicket[SimulatedHost] | None = None
        self._asked_at = self._connected_at = self._ends_at = 0.0
        self._due: deque[float] = deque()
        self._under_way = False
        self.asked = 0
        self._sent_at = self._waited_s = 0.0
        self.moves = False

    @property
    def activity(self) -> float:
        """Items per second of the time in which this connection did not wait."""
        now = self._agenda.now
        waits_s = now - self._sent_at if self._under_way else 0.0
        return self.asked / (now - self._connected_at - self._waited_s - waits_s + CLIENT_SETTLING_S)

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
        host = (self._ticket or self._connect()).host
        node = host.below
        assert isinstance(node, SimulatedNode)
        self._under_way = True
        work = self._work if isinstance(self._work, KindSource) else self._work()
        self._asked_at = self._due.popleft()
        self.asked += 1
        self._sent_at = self._agenda.now
        node.moves.begin(self)
        node.accept(Item(self._asked_at, host.tally, self._served, work, self._way))

    def _connect(self) -> ConnectionTicket[SimulatedHost]:
        """Connect through a random node of the first tier."""
        life_s, now = self._clients.life_s, self._agenda.now
        node = self._rng.choice(self._top)
        if self._leaf is None:
            host = node.choose()
        else:
            host, *self._way = way_to(node, self._leaf)
        self._ticket = ticket = host.begin_connection(now, host.tally)
        host.tally.open()
        self._connected_at = now
        self.asked, self.moves, self._waited_s = 0, False, 0.0
        self._ends_at = float("inf") if life_s is None else now + self._rng.expovariate(1 / life_s)
        return ticket

    def unserved(self) -> list[float]:
        """When its items without an answer fell due."""
        return [*((self._asked_at,) if self._under_way else ()), *self._due]

    def _served(self, item: Item) -> None:
        now, ticket = self._agenda.now, self._ticket
        assert ticket is not None
        self._under_way = False
        self._waited_s += now - self._sent_at
        self._latencies.append((item.began, now - item.began))
        node = ticket.host.below
        assert isinstance(node, SimulatedNode)
        node.moves.answered(self)
        if now >= self._ends_at or (self._clients.close and node.moves.is_to_close(self, now)):
            self._leave(ticket, node)
        if isinstance(self._work, KindSource) and not self._work.kind.stays:
            self._leaf, self._way = None, ()
        if not self._rate:
            self._agenda.at(now, self._fall_due)
        elif self._due:
            self._send()

    def _leave(self, ticket: ConnectionTicket[SimulatedHost], node: SimulatedNode) -> None:
        now = self._agenda.now
        self._ticket = None
        ticket.done(now)
        ticket.host.tally.close()
        node.moves.leave(self, now - self._connected_at)
