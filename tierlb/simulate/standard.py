"""The scenarios behind the figures in virtual time (BENCHMARKS.md), and their figures.

*A slow subtree* (BALANCING.md §1): four tiers, 8 → 32 → 64 nodes → 256 leaves; the leaves of one node of the third tier
become ten times slower for a while. *An even tier* (§2): many parents over equal nodes, where nothing should oscillate.
*Clients* (§6): connections are kept, and the first tier only places them.

*Ideal* is a child's share of the capacity. A parent that sees queues gives a slow child less than that while others
have room. So the figures are how soon its share is no more than a fifth above the ideal, and how soon it is no less
than a fifth below after it recovered.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from statistics import fmean, pstdev

import attrs

from tierlb.model.topology import Policy
from tierlb.simulate.clients import Clients
from tierlb.simulate.leaf import Service
from tierlb.simulate.measure import shares, swings
from tierlb.simulate.rules import ComparedRule
from tierlb.simulate.run import SAMPLE_S, LeafChange, Scenario, SimulationOutcome
from tierlb.simulate.tree import Shape, SimulatedTier

SUBTREE_SLOWDOWN = 10.0
WITHIN = 0.2
SECOND, HALF_SECOND = round(1 / SAMPLE_S), round(0.5 / SAMPLE_S)
LONGEST_LAG_S = 20.0


@attrs.frozen
class Slowdown:
    """A scenario in which everything below `child` (a node of the last tier) is slow from `at_s` to `until_s`."""

    scenario: Scenario
    child: int
    at_s: float
    until_s: float


@attrs.frozen
class Settling:
    """Seconds until the child's share is right; None if it was not before the next change. p99 in ms by phase: before,
    the first second of the slowdown, the rest of it, after it."""

    slowed_s: float | None
    recovered_s: float | None
    p99_ms: tuple[float, ...]


def slow_subtree(
    parents: int,
    delay_s: float,
    *,
    rule: Policy | ComparedRule = Policy.LOAD_AWARE,
    seed: int = 1,
    begin_s: float = 6.0,
    end_s: float = 9.0,
    after_s: float = 11.0,
) -> Slowdown:
    """Requests through four tiers, every node with so many parents."""
    tiers = [SimulatedTier(8), SimulatedTier(32, parents), SimulatedTier(64, parents)]
    shape = Shape(tiers, 256, 1, 2, Service(0.04), rule, delay_s)
    return slowed_scenario(Scenario(shape, 0.6, end_s + after_s, seed=seed), begin_s, end_s)


def clients(
    parents: int, delay_s: float, *, close: bool = True, life_s: float | None = None, seed: int = 1
) -> Slowdown:
    """Kept connections: 150 clients for each of eight nodes, below so many parents; three leaves of four slots each."""
    tiers = [SimulatedTier(parents, connections=True), SimulatedTier(8, parents)]
    shape = Shape(tiers, 24, 1, 4, Service(0.01), report_delay_s=delay_s)
    scenario = Scenario(shape, 0.42, 45.0, seed=seed, clients=Clients(1200, 0.5, life_s, close))
    return slowed_scenario(scenario, 10.0, 25.0)


def slowed_scenario(scenario: Scenario, begin_s: float, end_s: float) -> Slowdown:
    """The scenario with the leaves below the first node of the last tier slow in between."""
    leaves = range(scenario.shape.leaves // scenario.shape.tiers[-1].nodes)
    changes = [LeafChange(begin_s, leaves, SUBTREE_SLOWDOWN), LeafChange(end_s, leaves, 1.0)]
    return Slowdown(attrs.evolve(scenario, changes=changes), 0, begin_s, end_s)


def settling(slowdown: Slowdown, outcome: SimulationOutcome, *, at_most: float = 1 + WITHIN) -> Settling:
    """When the slow child's share was right, and the tail meanwhile. `at_most`: so many times its part of the capacity
    is right for a slow child."""
    series = shares(outcome.arrivals[-2])[slowdown.child]
    begin, end = round(slowdown.at_s / SAMPLE_S), round(slowdown.until_s / SAMPLE_S)
    others = slowdown.scenario.shape.tiers[-1].nodes - 1
    most, least = at_most / (1 + SUBTREE_SLOWDOWN * others), (1 - WITHIN) / (1 + others)
    phases = (begin * SAMPLE_S / 2, slowdown.at_s, slowdown.at_s + 1, slowdown.until_s, slowdown.scenario.duration_s)
    return Settling(
        seconds(right_from(series[begin:end], lambda share: share <= most)),
        seconds(right_from(series[end:], lambda share: share >= least)),
        tuple(1000 * outcome.quantile_s(0.99, *phase) for phase in itertools.pairwise(phases)),
    )


def right_from(series: Sequence[float], right: Callable[[float], bool]) -> int | None:
    """The first position from which on the mean is right, over the next second and over all that follows."""
    for at in range(len(series) - SECOND + 1):
        if right(fmean(series[at : at + SECOND])) and right(fmean(series[at:])):
            return at
    return None


def seconds(position: int | None) -> float | None:
    return None if position is None else position * SAMPLE_S


@attrs.frozen
class Evenness:
    """How a tier of equal nodes shares: `spread` is the standard deviation of a share (over half a second) by what
    chance alone would give, `swing` the largest autocorrelation of any node's share at lags of 0.5 to 20 s."""

    spread: float
    swing: float
    p99_items: float
    """p99 by the mean service time."""


def even_tier(
    parents: int,
    delay_s: float,
    *,
    rule: Policy | ComparedRule = Policy.LOAD_AWARE,
    seed: int = 1,
    duration_s: float = 60.0,
) -> Scenario:
    """Eight nodes over sixteen, each of these with so many parents and two leaves of two slots; 80 % load."""
    shape = Shape([SimulatedTier(8), SimulatedTier(16, parents)], 32, 1, 2, Service(0.01), rule, delay_s)
    return Scenario(shape, 0.8, duration_s, seed=seed)


def evenness(scenario: Scenario, outcome: SimulationOutcome, *, begin_s: float = 5.0) -> Evenness:
    """The figures from `begin_s` on."""
    rows = outcome.arrivals[-2][round(begin_s / SAMPLE_S) :: HALF_SECOND]
    by_node = shares(rows)
    lags = range(1, round(LONGEST_LAG_S / (HALF_SECOND * SAMPLE_S)) + 1)
    items = (sum(rows[-1]) - sum(rows[0])) / (len(rows) - 1) / len(by_node)
    spread = fmean(pstdev(series) / fmean(series) for series in by_node)
    return Evenness(
        spread * math.sqrt(items),
        max(swings(series, lags) for series in by_node),
        outcome.quantile_s(0.99, begin_s, scenario.duration_s) / scenario.shape.service.mean_s,
    )
