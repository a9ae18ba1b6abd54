"""One scenario from its seed to its figures: open-loop Poisson arrivals, changes at set times.

The service time of each short item is drawn as it arrives, so that it is the same whatever rule chooses. With `kinds`
items differ, and the load is a part of the slots that short ones could use.
"""

import random
from collections.abc import Sequence
from itertools import chain

import attrs

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.clients import Clients, SimulatedClient
from tierlb.simulate.kinds import ItemKind, short_rate
from tierlb.simulate.measure import quantile
from tierlb.simulate.node import Item
from tierlb.simulate.traffic import Traffic
from tierlb.simulate.tree import Shape, Tree

SAMPLE_S = 0.1
"""The interval at which arrivals are noted."""


@attrs.frozen
class LeafChange:
    """From `at_s` on the leaves at these positions take `slow` times as long per item."""

    at_s: float
    leaves: Sequence[int]
    slow: float


@attrs.frozen
class Scenario:
    """`load` is the part of the capacity that is offered, evenly over the nodes of the top tier. With `clients` it
    comes from them, over connections that they keep. `kinds`: the items besides the short ones; with `clients` these
    have no `per_short`."""

    shape: Shape
    load: float
    duration_s: float
    changes: Sequence[LeafChange] = ()
    seed: int = 1
    clients: Clients | None = None
    kinds: Sequence[ItemKind] = ()

    @property
    def rate(self) -> float:
        """Short items per second. Raises ValueError where standing clients hold every slot."""
        shape = self.shape
        return short_rate(self.load, shape.leaves * shape.slots, shape.service.mean_s, self.kinds)


@attrs.define
class SimulationOutcome:
    """`latencies` are (time of arrival, time taken) of served short items, `unserved` (time of arrival, time so far) of
    those that were not served at the end, `others` the same as `latencies` by kind of the other items.
    `arrivals` holds one list of cumulative counts of short items per moment (every `SAMPLE_S`) for each tier, and one
    for the leaves, which come last."""

    latencies: list[tuple[float, float]] = attrs.field(factory=list)
    arrivals: list[list[list[int]]] = attrs.field(factory=list)
    reports: int = 0
    offered: int = 0
    others: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)
    unserved: list[tuple[float, float]] = attrs.field(factory=list)

    def quantile_s(self, q: float, begin_s: float, end_s: float) -> float:
        """The quantile of the items that arrived in this time. One that was not served counts with the time so far."""
        return quantile([took for at, took in chain(self.latencies, self.unserved) if begin_s <= at < end_s], q)

    def shares(self, begin_s: float, end_s: float, tier: int = -1) -> list[float]:
        """The parts of the short items that each node of the tier (-1: each leaf) got in this time."""
        rows = self.arrivals[tier]
        grown = [new - old for old, new in zip(rows[_row(begin_s)], rows[_row(end_s)], strict=True)]
        return [each / max(1, sum(grown)) for each in grown]


def _row(at_s: float) -> int:
    return round(at_s / SAMPLE_S)


def run(scenario: Scenario) -> SimulationOutcome:
    """The same scenario always gives the same outcome."""
    return SimulationRun(scenario).outcome()


class SimulationRun:
    """A run in parts, to look inside while it lasts."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self._rng = random.Random(scenario.seed)
        self.tree = Tree(scenario.shape, self.agenda, random.Random(self._rng.random()))
        self._rate = scenario.rate
        self._seen = SimulationOutcome()
        self._clients: list[SimulatedClient] = []
        self._under_way: dict[int, float] = {}
        """The arrival times of short items that are not served yet. Each is kept alive by its future event."""
        self._seen.arrivals = [[] for _ in range(len(self.tree.levels) + 1)]
        for change in scenario.changes:
            self.agenda.at(change.at_s, self._change, change)
        self._demand = scenario.shape.service.drawn_by(self._rng)
        if scenario.clients is None:
            self.agenda.at(0.0, self._arrive)
        else:
            self._begin_clients(scenario.clients)
        self._begin_kinds()
        self.agenda.at(0.0, self._look, 0)

    def outcome(self) -> SimulationOutcome:
        self.agenda.run(self.scenario.duration_s)
        now = self.agenda.now
        began = chain(self._under_way.values(), *(client.unserved() for client in self._clients))
        self._seen.unserved = [(at, now - at) for at in began]
        self._seen.reports = sum(node.reports for level in self.tree.levels for node in level)
        return self._seen

    def _arrive(self, _: object) -> None:
        now, rng, top = self.agenda.now, self._rng, self.tree.levels[0]
        node = top[int(rng.random() * len(top))]
        self._seen.offered += 1
        item = Item(now, node.tallies.outside, self._served, self._demand())
        self._under_way[id(item)] = now
        node.accept(item)
        self.agenda.at(now + rng.expovariate(self._rate), self._arrive)

    def _begin_clients(self, clients: Clients) -> None:
        for rate in clients.rates(self._rate):
            client = SimulatedClient(
                self.agenda, self._rng, self.tree.levels[0], rate, clients, self._seen.latencies, self._demand
            )
            client.begin()
            self._clients.append(client)

    def _begin_kinds(self) -> None:
        if self.scenario.kinds:
            rng = random.Random(self._rng.random())
            traffic = Traffic(self.agenda, rng, self.tree, self.scenario.clients)
            for kind in self.scenario.kinds:
                latencies = self._seen.others[kind.name] = []
                traffic.begin(kind, kind.per_short * self._rate, latencies)

    def _served(self, item: Item) -> None:
        del self._under_way[id(item)]
        self._seen.latencies.append((item.began, self.agenda.now - item.began))

    def _change(self, change: LeafChange) -> None:
        for position in change.leaves:
            self.tree.leaves[position].slow = change.slow

    def _look(self, number: int) -> None:
        *tiers, leaves = self._seen.arrivals
        for series, level in zip(tiers, self.tree.levels, strict=True):
            series.append([node.tallies.total().arrivals - node.long_ones for node in level])
        leaves.append([leaf.arrivals for leaf in self.tree.leaves])
        self.agenda.at((number + 1) * SAMPLE_S, self._look, number + 1)
