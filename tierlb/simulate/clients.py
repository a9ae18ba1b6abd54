"""Clients that keep a connection: the first tier chooses once per connection, not per item.

Each client has a schedule of its own (a Poisson stream) and one item under way at a time; what falls due meanwhile
waits, and its time counts from when it was due. A node that its parents' guidance makes close connections does so as
a response ends; the client then comes back through the first tier with its next item.
"""

import random
from collections import deque
from collections.abc import Sequence

import attrs

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.node import Candidate, Item, Node


@attrs.frozen
class Clients:
    """`zipf`: the n-th busiest client sends n^−zipf as much as the busiest. `life_s`: how long a connection lasts in
    the mean if nobody closes it earlier (exponential; None: for ever). `close`: whether nodes heed guidance."""

    count: int
    zipf: float = 0.5
    life_s: float | None = None
    close: bool = True

    def rates(self, total: float) -> list[float]:
        """Items per second of each, which add up to `total`."""
        parts = [rank**-self.zipf for rank in range(1, self.count + 1)]
        return [total * part / sum(parts) for part in parts]


class Client:
    """One of them."""

    __slots__ = (
        "_agenda",
        "_candidate",
        "_clients",
        "_connected_at",
        "_due",
        "_ends_at",
        "_latencies",
        "_rate",
        "_rng",
        "_top",
        "_under_way",
    )

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        top: Sequence[Node],
        rate: float,
        clients: Clients,
        latencies: list[tuple[float, float]],
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._top = top
        self._rate = rate
        self._clients = clients
        self._latencies = latencies
        self._candidate: Candidate | None = None
        self._connected_at = self._ends_at = 0.0
        self._due: deque[float] = deque()
        self._under_way = False

    def begin(self) -> None:
        self._agenda.at(self._agenda.now + self._rng.expovariate(self._rate), self._fall_due)

    def _fall_due(self, _: object) -> None:
        self._due.append(self._agenda.now)
        self.begin()
        if not self._under_way:
            self._send()

    def _send(self) -> None:
        candidate = self._candidate or self._connect()
        node = candidate.below
        assert isinstance(node, Node)
        self._under_way = True
        node.accept(Item(self._due.popleft(), candidate.tally, self._served))

    def _connect(self) -> Candidate:
        """Through any node of the first tier."""
        life_s, now = self._clients.life_s, self._agenda.now
        candidate = self._candidate = self._rng.choice(self._top).choose()
        candidate.tally.connections += 1
        self._connected_at = now
        self._ends_at = float("inf") if life_s is None else now + self._rng.expovariate(1 / life_s)
        return candidate

    def _served(self, item: Item) -> None:
        now, candidate = self._agenda.now, self._candidate
        assert candidate is not None
        self._under_way = False
        self._latencies.append((item.began, now - item.began))
        node = candidate.below
        assert isinstance(node, Node)
        if now >= self._ends_at or (self._clients.close and node.closing.take(now)):
            self._leave(candidate, node)
        if self._due:
            self._send()

    def _leave(self, candidate: Candidate, node: Node) -> None:
        now = self._agenda.now
        self._candidate = None
        candidate.in_flight -= 1
        candidate.done += 1
        candidate.moments += now
        candidate.tally.connections -= 1
        node.closed += 1
        node.connected_s += now - self._connected_at
