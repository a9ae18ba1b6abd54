"""One scenario from its seed to its figures: open-loop Poisson arrivals, changes at set times."""

import random
from collections.abc import Sequence

import attrs

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.clients import Client, Clients
from tierlb.simulate.measure import quantile
from tierlb.simulate.node import Item
from tierlb.simulate.tree import Shape, Tree

SAMPLE_S = 0.1
"""How often arrivals are noted."""


@attrs.frozen
class Change:
    """From `at_s` on the leaves at these positions take `slow` times as long per item."""

    at_s: float
    leaves: Sequence[int]
    slow: float


@attrs.frozen
class Scenario:
    """`load` is the part of the capacity that is offered, evenly over the nodes of the top tier. With `clients` it
    comes from them, over connections that they keep."""

    shape: Shape
    load: float
    duration_s: float
    changes: Sequence[Change] = ()
    seed: int = 1
    clients: Clients | None = None


@attrs.define
class Outcome:
    """`latencies` are (time of arrival, time taken) of served items. `arrivals` holds one list of cumulative counts per
    moment (every `SAMPLE_S`) for each tier, and one for the leaves, which come last."""

    latencies: list[tuple[float, float]] = attrs.field(factory=list)
    arrivals: list[list[list[int]]] = attrs.field(factory=list)
    reports: int = 0
    offered: int = 0

    def quantile_s(self, q: float, begin_s: float, end_s: float) -> float:
        """Of the items that arrived within."""
        return quantile([took for at, took in self.latencies if begin_s <= at < end_s], q)


def run(scenario: Scenario) -> Outcome:
    """The same scenario always gives the same outcome."""
    return Run(scenario).outcome()


class Run:
    """The parts of a run, for those who want to look inside while it lasts."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.agenda = Agenda()
        self._rng = random.Random(scenario.seed)
        self.tree = Tree(scenario.shape, self.agenda, random.Random(self._rng.random()))
        self._rate = scenario.load * scenario.shape.capacity
        self._seen = Outcome()
        self._seen.arrivals = [[] for _ in range(len(self.tree.levels) + 1)]
        for change in scenario.changes:
            self.agenda.at(change.at_s, self._change, change)
        if scenario.clients is None:
            self.agenda.at(0.0, self._arrive)
        else:
            self._begin_clients(scenario.clients)
        self.agenda.at(0.0, self._look, 0)

    def outcome(self) -> Outcome:
        self.agenda.run(self.scenario.duration_s)
        self._seen.reports = sum(node.reports for level in self.tree.levels for node in level)
        return self._seen

    def _arrive(self, _: object) -> None:
        now, rng, top = self.agenda.now, self._rng, self.tree.levels[0]
        node = top[int(rng.random() * len(top))]
        self._seen.offered += 1
        node.accept(Item(now, node.tallies.outside, self._served))
        self.agenda.at(now + rng.expovariate(self._rate), self._arrive)

    def _begin_clients(self, clients: Clients) -> None:
        for rate in clients.rates(self._rate):
            Client(self.agenda, self._rng, self.tree.levels[0], rate, clients, self._seen.latencies).begin()

    def _served(self, item: Item) -> None:
        self._seen.latencies.append((item.began, self.agenda.now - item.began))

    def _change(self, change: Change) -> None:
        for position in change.leaves:
            self.tree.leaves[position].slow = change.slow

    def _look(self, number: int) -> None:
        *tiers, leaves = self._seen.arrivals
        for series, level in zip(tiers, self.tree.levels, strict=True):
            series.append([node.tallies.total().arrivals for node in level])
        leaves.append([leaf.arrivals for leaf in self.tree.leaves])
        self.agenda.at((number + 1) * SAMPLE_S, self._look, number + 1)
