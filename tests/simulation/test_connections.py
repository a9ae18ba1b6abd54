"""Kept connections below one parent in virtual time: a node that is slow for a while, and one that has long polls.

As `./scripts/bench stacked`: three nodes of three leaves, 150 clients that never end a connection by themselves, 42 %
of capacity, the leaves of the first node ten times slower for a while.
"""

import pytest

from tierlb.simulate.clients import Clients
from tierlb.simulate.leaf import Service
from tierlb.simulate.mixes import kept_mix
from tierlb.simulate.run import LeafChange, Scenario, SimulationOutcome, SimulationRun
from tierlb.simulate.tree import Shape, SimulatedTier

SLOW_S, WELL_S, END_S = 6.0, 16.0, 26.0
NODES = 3
CLIENTS = 150
LATE_S = 2.0


def slowed(seed: int, delay_s: float = 0.05, parents: int = 1) -> Scenario:
    tiers = [SimulatedTier(parents, connections=True), SimulatedTier(NODES, parents)]
    shape = Shape(tiers, 3 * NODES, 1, 4, Service(0.01), report_delay_s=delay_s)
    changes = (LeafChange(SLOW_S, (0, 1, 2), 10.0), LeafChange(WELL_S, (0, 1, 2), 1.0))
    return Scenario(shape, 0.42, END_S, changes, seed, Clients(CLIENTS))


def p99_ms(outcome: SimulationOutcome, begin_s: float, end_s: float) -> float:
    return 1000 * outcome.quantile_s(0.99, begin_s, end_s)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_slow_node_is_left_by_who_loses_most_there_and_gets_its_part_back(seed: int) -> None:
    outcome = SimulationRun(slowed(seed)).outcome()
    assert p99_ms(outcome, SLOW_S, SLOW_S + 5) < 1200
    assert p99_ms(outcome, SLOW_S + 5, WELL_S) < 100
    assert p99_ms(outcome, WELL_S, END_S) < 100
    assert outcome.shares(WELL_S + 8, END_S, tier=1)[0] > 0.7 / NODES


def test_about_a_fifth_of_the_connections_at_most_moves_in_a_second() -> None:
    run = SimulationRun(slowed(4))
    moved, before = [], 0
    for second in range(1, round(END_S)):
        run.agenda.run(float(second))
        closed = sum(node.moves.closed for node in run.tree.levels[1])
        moved.append(closed - before)
        before = closed
    assert sum(moved[round(SLOW_S) : round(SLOW_S) + 3]) > CLIENTS / NODES * 0.8
    assert max(moved[2:]) <= 0.25 * CLIENTS
    assert sum(moved[2 : round(SLOW_S)]) < 0.1 * CLIENTS


def test_reports_two_seconds_late_and_several_parents_delay_the_way_back_only() -> None:
    outcome = SimulationRun(slowed(5, LATE_S, parents=4)).outcome()
    assert p99_ms(outcome, SLOW_S + 4, SLOW_S + 8) < 400
    assert outcome.shares(END_S - 2, END_S, tier=1)[0] > 0.7 / NODES


def test_two_long_polls_take_nothing_from_their_node() -> None:
    """Long polls of five seconds, both at a leaf of the first node."""
    run = SimulationRun(kept_mix("polls-2-on-1"))
    run.agenda.run(6.0)
    before = [host.capacity for host in run.tree.levels[0][0].hosts]
    outcome = run.outcome()
    after = [host.capacity for host in run.tree.levels[0][0].hosts]
    shares = outcome.shares(6.0, 20.0, tier=1)
    assert min(shares) > 0.8 / NODES
    assert all(0.8 < late / early < 1.25 for early, late in zip(before, after, strict=True))
