"""How a run to saturation is judged: what was answered, and what was said of it meanwhile."""

import attrs
import pytest

from scripts.benchmarks.arrivals import Request
from scripts.benchmarks.knee import HOSTS, SLOTS, SLOWER, STAGES, Said, course, figures, looked_at, verdicts
from scripts.benchmarks.mixes import MIXES
from scripts.benchmarks.openloop import Result
from scripts.benchmarks.play import Load, Played
from scripts.benchmarks.simulated import Tally
from scripts.benchmarks.table import SUBJECT, Sample
from scripts.benchmarks.windows import Seen

LOAD = Load(0.5, 0.2, 0.2, 0.5)


def played(per_second: int, late_s: float) -> Played:
    """So many answers per second, each so late after it was due."""
    at_s = [number / per_second for number in range(40 * per_second)]
    seen = Seen(at_s, [late_s] * len(at_s), [200] * len(at_s))
    return Played(seen, Result([], [], 0.0, 0, 0, 0, 0.0), Tally([], [], 0.0, 0.0), LOAD)


def test_the_knee_counts_answers_by_when_they_came_and_figures_are_medians_of_each_stage() -> None:
    said = [Said(at_s, 50.0 if at_s < 14 else 110.0, 0.6) for at_s in range(40)]
    planned = attrs.evolve(
        course("none", 1), requests=tuple(Request(number / 100, 0, 1.0 + number % 2) for number in range(4000))
    )
    values = figures(planned, played(100, 3.0), said)
    assert values["knee per second"] == pytest.approx(100, rel=0.01)
    assert values["by the knee at 60 %"] == pytest.approx(0.5, rel=0.01)
    assert values["by the knee at saturated"] == pytest.approx(1.1, rel=0.01)
    assert values["utilisation at 60 % again"] == 0.6


def test_a_figure_is_right_within_a_fifth_of_the_knee() -> None:
    sample = Sample("a mix", SUBJECT, {"by the knee at 60 %": 1.19, "by the knee at saturated": 0.79, "other": 9.0})
    assert [line.split()[0] for line in verdicts([sample])] == ["met", "missed"]


@pytest.mark.parametrize("name", ["none", "two-routes", "polls-40"])
def test_the_endpoints_are_asked_for_the_part_of_their_slots_that_a_stage_says(name: str) -> None:
    planned = course(name, 1)
    for number, (_, _, load) in enumerate(STAGES):
        begin_s, end_s = looked_at(number)
        demand = sum(each.demand for each in planned.requests if begin_s <= each.at_s < end_s)
        used = demand * SLOWER * MIXES[name].mean_s / (end_s - begin_s) / (HOSTS * SLOTS)
        assert used == pytest.approx(load, rel=0.15)
