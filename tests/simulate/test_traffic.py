"""Kinds in a small tree: who asks, where its items go, and what is counted."""

import attrs
import pytest

from tierlb.model.topology import Policy
from tierlb.simulate.clients import Clients
from tierlb.simulate.kinds import ItemKind, Slot, Standing
from tierlb.simulate.leaf import Service
from tierlb.simulate.run import Scenario, SimulationRun
from tierlb.simulate.tree import Shape, SimulatedTier

SHAPE = Shape(
    [SimulatedTier(2), SimulatedTier(4, parents=2)], 8, slots=2, service=Service(0.02), rule=Policy.LEAST_REQUESTS
)
KEPT = attrs.evolve(SHAPE, tiers=[SimulatedTier(2, connections=True), SimulatedTier(4, parents=2)])
POLL = ItemKind("poll", Service(1.0, 0))


def ended(scenario: Scenario) -> SimulationRun:
    run = SimulationRun(scenario)
    run.outcome()
    return run


def placed(run: SimulationRun) -> list[int]:
    """Items in flight at each leaf, as the node above counts them."""
    counts = {host.below: host.in_flight for node in run.tree.levels[-1] for host in node.hosts}
    return [counts[leaf] for leaf in run.tree.leaves]


@pytest.mark.parametrize("clients", [None, Clients(4)])
def test_standing_clients_have_one_item_each_at_all_times(clients: Clients | None) -> None:
    kind = attrs.evolve(POLL, standing=Standing(10, over_s=0.0), begin_s=0.5)
    shape = SHAPE if clients is None else KEPT
    run = ended(Scenario(shape, 1e-9, 5.25, clients=clients, kinds=[kind]))
    assert sum(placed(run)) == 10
    assert len(run.outcome().others["poll"]) == 40
    assert all(sum(level[-1]) <= 1 for level in run.outcome().arrivals), "of short items, and one arrives at once"


@pytest.mark.parametrize("clients", [None, Clients(4)])
@pytest.mark.parametrize("stays", [True, False])
def test_the_first_items_go_to_the_leaves_that_were_named(clients: Clients | None, stays: bool) -> None:
    kind = attrs.evolve(POLL, standing=Standing(4, 0.0, (5, 2), stays))
    shape = SHAPE if clients is None else KEPT
    scenario = Scenario(shape, 1e-9, 0.5, clients=clients, kinds=[kind])
    assert placed(ended(scenario)) == [0, 0, 2, 0, 0, 2, 0, 0]
    later = placed(ended(attrs.evolve(scenario, duration_s=8.5)))
    assert sum(later) == 4
    assert (later == [0, 0, 2, 0, 0, 2, 0, 0]) is stays


def test_every_node_on_the_way_counts_what_was_placed() -> None:
    kind = attrs.evolve(POLL, standing=Standing(6, 0.0, (7,), stays=True))
    run = ended(Scenario(SHAPE, 0.3, 3.5, kinds=[kind]))
    top, web = run.tree.levels
    above = [host for node in top for host in node.hosts if host.below is web[3]]
    assert sum(host.in_flight for host in above) == web[3].tallies.total().in_flight >= 6
    for node in (*top, *web):
        total = node.tallies.total()
        assert total.in_flight == sum(host.in_flight for host in node.hosts)
        assert total.arrivals == total.in_flight + total.done


def test_streams_come_beside_the_short_items_as_often_as_asked_and_the_load_holds() -> None:
    kind = ItemKind("route", Service(0.2), slot=Slot.THROUGHOUT, per_short=0.1)
    scenario = Scenario(SHAPE, 0.5, 60.0, kinds=[kind])
    run = ended(scenario)
    outcome = run.outcome()
    assert scenario.rate == pytest.approx(200)
    assert outcome.offered / 60 == pytest.approx(200, rel=0.05)
    assert len(outcome.others["route"]) / 60 == pytest.approx(20, rel=0.1)
    assert all(took > 0 for _, took in outcome.others["route"])


def test_with_kinds_the_same_seed_gives_the_same_run() -> None:
    scenario = Scenario(SHAPE, 0.5, 3.0, kinds=[attrs.evolve(POLL, standing=Standing(5))])
    assert ended(scenario).outcome() == ended(scenario).outcome()
