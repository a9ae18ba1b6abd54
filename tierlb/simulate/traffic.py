"""Traffic besides the short items: Poisson streams of longer ones, and clients that send the next one at once.

A standing client of a scenario with kept connections has one of its own; elsewhere each of its items comes through a
random node of the top tier.
"""

import random
from collections.abc import Sequence

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.clients import Clients, SimulatedClient
from tierlb.simulate.kinds import ItemKind, KindSource
from tierlb.simulate.leaf import SimulatedLeaf
from tierlb.simulate.node import Item, SimulatedHost, SimulatedNode, way_to
from tierlb.simulate.tree import Tree

Latencies = list[tuple[float, float]]


class Traffic:
    """Starts the kinds of a scenario."""

    def __init__(self, agenda: Agenda, rng: random.Random, tree: Tree, clients: Clients | None) -> None:
        self._agenda = agenda
        self._rng = rng
        self._tree = tree
        self._clients = clients

    def begin(self, kind: ItemKind, rate: float, latencies: Latencies) -> None:
        """Start a kind. `rate`: its further items per second. Served items are added to `latencies`."""
        agenda, rng, top = self._agenda, self._rng, self._tree.levels[0]
        source = KindSource(kind, rng)
        if rate:
            KindStream(agenda, rng, top, source, rate, latencies).begin(kind.begin_s)
        leaves = kind.standing.leaves
        for number in range(kind.standing.count):
            leaf = self._tree.leaves[leaves[number % len(leaves)]] if leaves else None
            begin_s = kind.begin_s + rng.uniform(0, kind.standing.over_s)
            if self._clients is None:
                StandingClient(agenda, rng, top, source, leaf, latencies).begin(begin_s)
            else:
                SimulatedClient(agenda, rng, top, 0.0, self._clients, latencies, source, leaf).begin(begin_s)


class KindStream:
    """Items of one kind, at random moments."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        top: Sequence[SimulatedNode],
        source: KindSource,
        rate: float,
        latencies: Latencies,
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._top = top
        self._source = source
        self._rate = rate
        self._latencies = latencies

    def begin(self, after_s: float) -> None:
        self._agenda.at(self._agenda.now + after_s, self._wait)

    def _wait(self, _: object) -> None:
        self._agenda.at(self._agenda.now + self._rng.expovariate(self._rate), self._arrive)

    def _arrive(self, _: object) -> None:
        node = self._rng.choice(self._top)
        node.accept(Item(self._agenda.now, node.tallies.outside, self._served, self._source))
        self._wait(None)

    def _served(self, item: Item) -> None:
        self._latencies.append((item.began, self._agenda.now - item.began))


class StandingClient:
    """A client that has one item in progress at all times. `leaf`: the leaf of the first one, and of the others too if
    the kind stays; None: as the nodes choose."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        top: Sequence[SimulatedNode],
        source: KindSource,
        leaf: SimulatedLeaf | None,
        latencies: Latencies,
    ) -> None:
        self._agenda = agenda
        self._rng = rng
        self._top = top
        self._source = source
        self._leaf = leaf
        self._latencies = latencies

    def begin(self, after_s: float) -> None:
        self._agenda.at(self._agenda.now + after_s, self._ask)

    def _ask(self, _: object) -> None:
        node, way = self._entry()
        node.accept(Item(self._agenda.now, node.tallies.outside, self._served, self._source, way))

    def _entry(self) -> tuple[SimulatedNode, Sequence[SimulatedHost]]:
        if self._leaf is None:
            return self._rng.choice(self._top), ()
        ways = [(node, way) for node in self._top if (way := way_to(node, self._leaf))]
        return self._rng.choice(ways)

    def _served(self, item: Item) -> None:
        now = self._agenda.now
        self._latencies.append((item.began, now - item.began))
        if not self._source.kind.standing.stays:
            self._leaf = None
        self._agenda.at(now, self._ask)
