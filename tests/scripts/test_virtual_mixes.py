"""The bench's part that plays mixes: which cells there are, and what it calls a miss."""

import click
import pytest

from scripts.benchmarks.table import SUBJECT, Sample
from scripts.benchmarks.virtual_mixes import (
    AFTER,
    EVERY,
    FIRST,
    LEAST,
    MOST,
    PEERS,
    SLOW,
    STEADY,
    Cell,
    cells,
    samples,
    worse,
)
from tierlb.model.topology import Policy
from tierlb.simulate.kinds import SHORT_ROUTE


def test_cells_are_all_combinations_by_name() -> None:
    chosen = cells("polls-6,kept-sse", (1, 3), (0.05, 2.0), (0.85,))
    assert [str(cell) for cell in chosen] == [
        "polls-6, 1 tier, 0.05 s, 85 %",
        "polls-6, 1 tier, 2 s, 85 %",
        "polls-6, 3 tiers, 0.05 s, 85 %",
        "polls-6, 3 tiers, 2 s, 85 %",
        "kept-sse, 1 above, 0.05 s, 85 %",
        "kept-sse, 1 above, 2 s, 85 %",
        "kept-sse, 3 above, 0.05 s, 85 %",
        "kept-sse, 3 above, 2 s, 85 %",
    ]
    assert [cell.mix for cell in cells("all", (1,), (0.05,), (0.6,))] == list(EVERY)


@pytest.mark.parametrize(("names", "tiers"), [("polls-7", (1,)), ("polls-6,kept-polls-6", (1,)), ("sse", (4,))])
def test_what_there_is_not_is_refused(names: str, tiers: tuple[int, ...]) -> None:
    with pytest.raises(click.BadParameter, match="there are"):
        cells(names, tiers, (0.05,), (0.6,))


@pytest.mark.parametrize("mix", ["llm", "kept-llm"])
def test_a_cell_is_a_scenario_under_every_rule(mix: str) -> None:
    cell = Cell(mix, 2, 1.5, 0.3)
    scenario = cell.scenario(Policy.TWO_CHOICES, 7)
    shape = scenario.shape
    assert (shape.rule, shape.report_delay_s, scenario.load, scenario.seed) == (Policy.TWO_CHOICES, 1.5, 0.3, 7)
    assert (scenario.clients is None) is (mix == "llm")


def test_with_one_route_all_requests_look_alike_where_each_is_placed_by_itself() -> None:
    one, kept = cells("polls-6,kept-sse", (1,), (0.05,), (0.6,), one_route=True)
    assert str(one) == "polls-6, one route, 1 tier, 0.05 s, 60 %"
    assert [kind.route for kind in one.scenario(Policy.LOAD_AWARE, 1).kinds] == [SHORT_ROUTE]
    assert not kept.one_route


def test_there_is_a_sample_for_each_rule_and_seed() -> None:
    measured = list(samples(Cell("polls-6", 1, 0.05, 0.02), 2))
    assert [each.peer for each in measured] == [*PEERS] * 2
    assert list(measured[0].values) == [STEADY, FIRST, AFTER, LEAST, MOST, SLOW]
    assert measured[0].values != measured[len(PEERS)].values
    assert list(next(samples(Cell("kept-llm", 1, 0.05, 0.01), 1)).values) == [STEADY, LEAST, MOST]


@pytest.mark.parametrize(
    ("metric", "ours", "missed"),
    [
        (STEADY, 46.3, False),
        (STEADY, 46.4, True),
        (AFTER, 40.4, False),
        (AFTER, 40.6, True),
        (FIRST, 1000.0, False),
        (SLOW, 9.0, False),
        (LEAST, 0.81, False),
        (LEAST, 0.79, True),
        (MOST, 1.24, False),
        (MOST, 1.26, True),
    ],
)
def test_a_miss_is_what_is_above_the_best_other_rule_or_uneven(metric: str, ours: float, missed: bool) -> None:
    measured = [
        Sample("cell", SUBJECT, {metric: ours}),
        Sample("cell", "least-requests", {metric: 45.0}),
        Sample("cell", "round-robin", {metric: 99.0}),
    ]
    assert bool(worse(measured)) is missed
    if missed and metric == STEADY:
        assert worse(measured) == ["missed  cell, p99 ms: 46.4, least-requests 45.0"]


def test_without_another_rule_there_is_nothing_to_miss() -> None:
    assert worse([Sample("cell", SUBJECT, {STEADY: 1.0})]) == []
