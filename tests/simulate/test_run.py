"""A run is a function of its scenario."""

import attrs
import pytest

from tierlb.model.topology import Policy
from tierlb.simulate.clients import Clients
from tierlb.simulate.leaf import Service
from tierlb.simulate.measure import shares
from tierlb.simulate.run import LeafChange, Scenario, SimulationOutcome, run
from tierlb.simulate.tree import Shape, SimulatedTier

SMALL = Scenario(
    Shape([SimulatedTier(2), SimulatedTier(4, parents=2)], leaves=8, slots=2, service=Service(0.02)), 0.5, 4.0
)


def test_the_same_seed_gives_the_same_run_and_another_seed_another() -> None:
    first, again, other = run(SMALL), run(SMALL), run(attrs.evolve(SMALL, seed=2))
    assert first == again
    assert first != other


def test_the_load_is_a_part_of_the_capacity() -> None:
    outcome = run(attrs.evolve(SMALL, duration_s=20.0))
    assert SMALL.shape.capacity == 800
    assert outcome.offered / 20 == pytest.approx(400, rel=0.05)
    assert outcome.offered - len(outcome.latencies) < 40


def test_arrivals_are_noted_for_each_tier_and_the_leaves() -> None:
    outcome = run(SMALL)
    assert [len(level[-1]) for level in outcome.arrivals] == [2, 4, 8]
    assert [len(level) for level in outcome.arrivals] == [41, 41, 41]
    assert len({sum(level[-1]) for level in outcome.arrivals}) == 1


def test_a_change_slows_the_leaves_it_names_down() -> None:
    scenario = attrs.evolve(
        SMALL,
        shape=attrs.evolve(SMALL.shape, rule=Policy.ROUND_ROBIN),
        load=0.05,
        changes=[LeafChange(2.0, range(8), 10.0), LeafChange(3.0, range(8), 1.0)],
    )
    outcome = run(scenario)
    medians = [outcome.quantile_s(0.5, begin, begin + 0.9) for begin in (1, 2, 3)]
    assert medians[1] > 4 * max(medians[0], medians[2])


def test_round_robin_gives_every_leaf_the_same() -> None:
    outcome = run(attrs.evolve(SMALL, shape=attrs.evolve(SMALL.shape, rule=Policy.ROUND_ROBIN), duration_s=10.0))
    for series in shares(outcome.arrivals[-1][::100]):
        assert series == pytest.approx([1 / 8], abs=0.01)


def test_quantiles_are_of_the_items_that_arrived_within() -> None:
    outcome = SimulationOutcome(latencies=[(0.5, 1.0), (1.5, 2.0), (1.9, 3.0), (2.0, 9.0)])
    assert outcome.quantile_s(1.0, 1.0, 2.0) == 3.0


def test_what_was_not_served_counts_with_the_time_so_far() -> None:
    scenario = attrs.evolve(SMALL, changes=[LeafChange(2.0, range(8), 1e6)])
    outcome = run(scenario)
    assert len(outcome.latencies) + len(outcome.unserved) == outcome.offered
    assert outcome.quantile_s(1.0, 2.5, 3.0) == pytest.approx(1.5, abs=0.05)
    clients = attrs.evolve(
        scenario,
        shape=attrs.evolve(SMALL.shape, tiers=[SimulatedTier(1, connections=True), SimulatedTier(4)]),
        clients=Clients(50),
    )
    assert run(clients).quantile_s(1.0, 2.5, 3.0) == pytest.approx(1.5, abs=0.05)
