"""Figures of the standard scenarios, from series that are known, and the scenarios' shapes."""

import math
import random
from collections.abc import Callable, Sequence

import pytest

from tierlb.model.topology import Policy
from tierlb.simulate.leaf import Service
from tierlb.simulate.rules import ComparedRule
from tierlb.simulate.run import SAMPLE_S, LeafChange, Scenario, SimulationOutcome, run
from tierlb.simulate.standard import (
    SECOND,
    SUBTREE_SLOWDOWN,
    Slowdown,
    clients,
    even_tier,
    evenness,
    right_from,
    settling,
    slow_subtree,
    slowed_scenario,
)
from tierlb.simulate.tree import Shape, SimulatedTier

SHAPE = Shape([SimulatedTier(2), SimulatedTier(4, parents=2)], leaves=8, slots=2, service=Service(0.01))
SLOWDOWN = Slowdown(Scenario(SHAPE, 0.5, 6.0), child=0, at_s=2.0, until_s=4.0)
FAIR, FLOODED = 1 / 4, 1 / (1 + 3 * SUBTREE_SLOWDOWN)
"""A child's share of its tier's capacity when all are alike, and when it is slow."""


def outcome(
    series: list[list[float]], latencies: Sequence[tuple[float, float]] = (), per_s: int = 10_000
) -> SimulationOutcome:
    """One in which the last tier's shares were these, a list per moment."""
    counts = [[0] * len(series[0])]
    for shares in series:
        each = [round(share * per_s * SAMPLE_S) for share in shares]
        counts.append([before + more for before, more in zip(counts[-1], each, strict=True)])
    return SimulationOutcome(list(latencies), [[[0]], counts, [[0]]])


def of_first(share: Callable[[float], float]) -> list[list[float]]:
    """The first of four has this share at each time, the others the rest."""
    firsts = [share(sample * SAMPLE_S + 0.01) for sample in range(60)]
    return [[first, *[(1 - first) / 3] * 3] for first in firsts]


SETTLINGS = [
    ("at once", lambda s: FLOODED if 2 <= s < 4 else FAIR, 0.0, 0.0),
    ("one and a half seconds late", lambda s: FLOODED if 3 <= s < 4 else FAIR, 1.0, 0.0),
    (
        "half a second late in recovery",
        lambda s: FLOODED if 2 <= s < 4.5 else FAIR,
        0.0,
        0.3,
    ),  # in the mean over the next second
    ("never slowed", lambda s: FAIR, None, 0.0),
    ("never recovered", lambda s: FLOODED if s >= 2 else FAIR, 0.0, None),
    ("less than its ideal while slow is no fault", lambda s: 0.0 if 2 <= s < 4 else FAIR, 0.0, 0.0),
    ("more than its ideal after it is none either", lambda s: FLOODED if 2 <= s < 4 else 2 * FAIR, 0.0, 0.0),
    ("a fifth above is right", lambda s: 1.19 * FLOODED if 2 <= s < 4 else 0.81 * FAIR, 0.0, 0.0),
    ("more is not", lambda s: 1.25 * FLOODED if 2 <= s < 4 else 0.79 * FAIR, None, None),
    ("right for a moment only", lambda s: FLOODED if 2 <= s < 3.2 else FAIR, None, 0.0),
]


@pytest.mark.parametrize(
    ("share", "slowed_s", "recovered_s"), [row[1:] for row in SETTLINGS], ids=[row[0] for row in SETTLINGS]
)
def test_a_share_has_settled_when_it_is_right_and_stays_so(
    share: Callable[[float], float], slowed_s: float | None, recovered_s: float | None
) -> None:
    told = settling(SLOWDOWN, outcome(of_first(share), per_s=1_000_000))
    assert told.slowed_s == (slowed_s if slowed_s is None else pytest.approx(slowed_s))
    assert told.recovered_s == (recovered_s if recovered_s is None else pytest.approx(recovered_s))


def test_the_tail_is_told_before_in_the_first_second_in_the_rest_and_after() -> None:
    latencies = [(0.5, 9.0), (1.0, 0.001), (1.9, 0.002), (2.5, 0.03), (3.0, 0.4), (4.0, 0.005), (5.9, 0.006)]
    told = settling(SLOWDOWN, outcome(of_first(lambda s: FAIR), latencies))
    assert told.p99_ms == pytest.approx((1, 30, 400, 5)), "of two values the 99th percentile is the lower"


@pytest.mark.parametrize(
    ("series", "expected"),
    [
        ([1.0] * SECOND, 0),
        ([0.0] * 5 + [1.0] * SECOND, 5),
        ([1.0] * SECOND + [0.0] * 2 * SECOND, None),
        ([1.0] * (SECOND - 1), None),
        ([], None),
    ],
)
def test_right_is_what_lasts_a_second_and_to_the_end(series: list[float], expected: int | None) -> None:
    assert right_from(series, lambda mean: mean > 0.99) == expected


def test_what_is_slow_for_a_while_is_all_below_the_first_node_of_the_last_tier() -> None:
    plain = Scenario(SHAPE, 0.5, 6.0, seed=7)
    slowdown = slowed_scenario(plain, 2.0, 4.0)
    assert slowdown.scenario.changes == [LeafChange(2.0, range(2), SUBTREE_SLOWDOWN), LeafChange(4.0, range(2), 1.0)]
    assert (slowdown.child, slowdown.at_s, slowdown.until_s, slowdown.scenario.seed) == (0, 2.0, 4.0, 7)


def test_the_slow_subtree_is_four_tiers_with_as_many_parents_as_asked() -> None:
    slowdown = slow_subtree(3, 0.1, rule=Policy.LEAST_REQUESTS, seed=5, begin_s=1.0, end_s=2.0, after_s=3.0)
    shape = slowdown.scenario.shape
    assert [(tier.nodes, tier.parents) for tier in shape.tiers] == [(8, 1), (32, 3), (64, 3)]
    assert (shape.leaves, shape.rule, shape.report_delay_s) == (256, Policy.LEAST_REQUESTS, 0.1)
    assert [list(change.leaves) for change in slowdown.scenario.changes] == [[0, 1, 2, 3]] * 2
    assert (slowdown.at_s, slowdown.until_s, slowdown.scenario.duration_s) == (1.0, 2.0, 5.0)


def test_clients_are_placed_by_a_first_tier_that_sees_connections() -> None:
    slowdown = clients(4, 0.2, close=False, life_s=9.0)
    shape, given = slowdown.scenario.shape, slowdown.scenario.clients
    assert given is not None
    assert (given.count, given.life_s, given.close) == (1200, 9.0, False)
    assert [(tier.nodes, tier.parents, tier.connections) for tier in shape.tiers] == [(4, 1, True), (8, 4, False)]


def test_the_even_tier_is_loaded_to_four_fifths() -> None:
    scenario = even_tier(8, 0.25, rule=ComparedRule.PERFECT, duration_s=30.0)
    assert (scenario.load, scenario.duration_s, scenario.changes) == (0.8, 30.0, ())
    assert (scenario.shape.tiers[-1].parents, scenario.shape.rule) == (8, ComparedRule.PERFECT)


EVEN = Scenario(Shape([SimulatedTier(2), SimulatedTier(16)], 32, service=Service(0.01)), 0.8, 60.0)


def test_shares_that_never_vary_have_no_spread_and_no_swing() -> None:
    told = evenness(EVEN, outcome([[1 / 16] * 16] * 600, [(1.0, 9.0), (30.0, 0.04)], per_s=160_000))
    assert (told.spread, told.swing) == (0, 0)
    assert told.p99_items == pytest.approx(4), "of what arrived after the beginning"


def test_shares_at_random_spread_as_chance_has_it_and_do_not_swing() -> None:
    rng = random.Random(1)
    series = [[0] * 16 for _ in range(600)]
    for shares in series:
        for _ in range(200):
            shares[rng.randrange(16)] += 1
    told = evenness(EVEN, outcome([[share / 200 for share in shares] for shares in series], per_s=2000))
    assert told.spread == pytest.approx(math.sqrt(15 / 16), rel=0.1)
    assert told.swing < 0.4


def test_a_share_that_oscillates_swings_and_spreads_beyond_chance() -> None:
    waves = [math.sin(sample * SAMPLE_S / 5 * math.tau) / 2 for sample in range(600)]
    told = evenness(EVEN, outcome([[(1 + wave) / 16, (1 - wave) / 16] * 8 for wave in waves]))
    assert told.swing > 0.85
    assert told.spread > 1


def test_a_real_run_leaves_the_slow_child_and_comes_back_to_it() -> None:
    slowdown = slowed_scenario(Scenario(SHAPE, 0.5, 14.0), 4.0, 7.0)
    told = settling(slowdown, run(slowdown.scenario))
    assert told.slowed_s is not None
    assert told.slowed_s < 2.5
    assert told.recovered_s is not None
    assert told.recovered_s < 5
    before, first, _, after = told.p99_ms
    assert first > 1.5 * max(before, after)
