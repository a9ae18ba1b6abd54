"""Clients that keep a connection, in a small tree looked at from inside."""

import itertools
import math
import random

import attrs
import pytest

from tierlb.balance.guidance import Reason
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.clients import Clients, SimulatedClient
from tierlb.simulate.leaf import Service
from tierlb.simulate.node import SimulatedHost
from tierlb.simulate.run import Scenario, SimulationRun
from tierlb.simulate.tree import Shape, SimulatedTier, Tree

SERVICE_S = 0.02
SHAPE = Shape(
    [SimulatedTier(2, connections=True), SimulatedTier(4, parents=2)], 8, slots=4, service=Service(SERVICE_S, 0)
)


@pytest.mark.parametrize("zipf", [0.0, 0.5, 1.0])
def test_the_rates_add_up_and_the_busiest_come_first(zipf: float) -> None:
    rates = Clients(10, zipf).rates(200.0)
    assert math.fsum(rates) == pytest.approx(200)
    assert rates == sorted(rates, reverse=True)
    assert rates[0] / rates[3] == pytest.approx(4**zipf)


@attrs.define
class Bench:
    """One client of a tree."""

    clients: Clients
    rate: float = 20.0
    service_s: float = SERVICE_S
    agenda: Agenda = attrs.field(factory=Agenda)
    latencies: list[tuple[float, float]] = attrs.field(factory=list)
    tree: Tree = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        rng = random.Random(1)
        shape = attrs.evolve(SHAPE, service=Service(self.service_s, 0))
        self.tree = Tree(shape, self.agenda, rng)
        demand = shape.service.drawn_by(rng)
        SimulatedClient(self.agenda, rng, self.tree.levels[0], self.rate, self.clients, self.latencies, demand).begin()

    def connected(self) -> list[SimulatedHost]:
        """Where it has its connection, as the node that placed it counts."""
        return [each for node in self.tree.levels[0] for each in node.hosts if each.in_flight]

    def closed(self) -> int:
        return sum(node.moves.closed for node in self.tree.levels[1])

    def in_flight(self) -> int:
        return sum(leaf.in_flight for leaf in self.tree.leaves)


def test_a_client_comes_at_its_rate_and_has_one_connection_until_somebody_closes_it() -> None:
    bench = Bench(Clients(1, close=False))
    bench.agenda.run(1.0)
    (first,) = bench.connected()
    bench.agenda.run(100.0)
    assert bench.connected() == [first]
    assert (first.in_flight, first.done, first.tally.connections) == (1, 0, 1)
    assert len(bench.latencies) == pytest.approx(2000, rel=0.1)
    assert bench.closed() == 0


def test_before_its_first_item_it_has_no_connection() -> None:
    bench = Bench(Clients(1), rate=1e-9)
    bench.agenda.run(10.0)
    assert bench.connected() == []


def test_it_has_one_item_under_way_and_the_time_of_another_counts_from_when_it_was_due() -> None:
    """Two a second fall due, one is served: each waits longer than the one before."""
    bench = Bench(Clients(1, close=False), rate=2.0, service_s=1.0)
    for tenth in range(1, 500):
        bench.agenda.run(tenth / 10)
        assert bench.in_flight() <= 1
    ends = [began + took for began, took in bench.latencies]
    gaps = [later - earlier for earlier, later in itertools.pairwise(ends[5:])]
    assert gaps == pytest.approx([1.0] * len(gaps)), "the next begins as one ends"
    assert [began for began, _ in bench.latencies] == sorted(began for began, _ in bench.latencies)
    assert bench.latencies[-1][1] == pytest.approx(50 - len(bench.latencies) / 2, abs=8)


def test_a_connection_whose_life_is_over_ends_with_a_response_and_the_next_item_makes_another() -> None:
    bench = Bench(Clients(1, life_s=2.0, close=False))
    seen = set()
    for second in range(1, 201):
        bench.agenda.run(float(second))
        assert len(bench.connected()) <= 1
        seen |= {(each.parent.name, each.name) for each in bench.connected()}
    assert bench.closed() == pytest.approx(100, rel=0.3)
    assert len(seen) == 8, "each of the four nodes by each of the two above"
    lived_s = sum(node.moves.connected_s for node in bench.tree.levels[1])
    assert lived_s / bench.closed() == pytest.approx(2.0, rel=0.3)
    for node in bench.tree.levels[0]:
        for each in node.hosts:
            assert each.tally.connections == each.in_flight
    assert sum(each.done for node in bench.tree.levels[0] for each in node.hosts) == bench.closed()


@pytest.mark.parametrize("heeds", [True, False])
def test_a_node_that_is_to_close_connections_closes_one_as_a_response_ends(heeds: bool) -> None:
    bench = Bench(Clients(1, close=heeds))
    bench.agenda.run(1.0)
    (before,) = bench.connected()
    node = before.below
    served, budget = len(bench.latencies), Once()
    node.moves.budget = budget  # type: ignore[union-attr, assignment]
    while len(bench.latencies) == served:
        assert bench.connected() == [before]
        bench.agenda.run(bench.agenda.now + 0.001)
    assert (before.in_flight, before.done, bench.closed()) == ((0, 1, 1) if heeds else (1, 0, 0))
    assert budget.asked == heeds
    bench.agenda.run(bench.agenda.now + 1.0)
    assert len(bench.connected()) == 1


class Once:
    """A budget for one connection."""

    asked = 0

    def set_rate(self, now: float, rate_per_s: float, reason: Reason) -> None:
        pass

    def choose(self, now: float, waiting: object, others: int, response_s: float) -> list[object]:
        return []

    def take(self, now: float) -> bool:
        self.asked += 1
        return self.asked == 1


def test_many_clients_offer_the_load_together_and_every_item_is_counted_below() -> None:
    scenario = Scenario(SHAPE, 0.3, 20.0, clients=Clients(100, life_s=5.0))
    run = SimulationRun(scenario)
    outcome = run.outcome()
    assert len(outcome.latencies) == pytest.approx(0.3 * SHAPE.capacity * 20, rel=0.1)
    top, web = run.tree.levels
    placed = [each for node in top for each in node.hosts]
    assert 90 <= sum(each.in_flight for each in placed) <= 100
    assert sum(each.tally.done for each in placed) == len(outcome.latencies)
    for node in web:
        total = node.tallies.total()
        assert total.connections == sum(each.in_flight for each in placed if each.below is node)
        assert total.arrivals == total.done + total.in_flight
