"""What a simulated node reports of its counts."""

import pytest

from tierlb.simulate.node_figures import NodeFigures
from tierlb.telemetry.aggregate import HostFigures, NodeCounters, TargetFigures

TICK_S = 0.05


def sampled(busy: float) -> NodeFigures:
    """Two seconds with 100 items per second of 10 ms each, while the event loop is busy for this part."""
    figures = NodeFigures()
    for tick in range(41):
        now, done = tick * TICK_S, tick * 5
        figures.sample(now, NodeCounters(0, done, done, timed=done, timed_s=done * 0.01), done * 0.01, now * (1 - busy))
    return figures


def test_rates_are_those_of_the_last_second() -> None:
    figures = sampled(0.25)
    target = TargetFigures(1.0, [HostFigures(500.0, ready=True)], figures.items_per_s(0.01))
    load = figures.subtree(2.0, NodeCounters(3, 203, 200), target, ())
    assert (load.in_flight, load.done) == (3, 200)
    assert load.response_s == pytest.approx(0.01)
    assert load.utilisation >= 0.2


def test_work_is_measured_in_standard_items() -> None:
    figures = sampled(0.0)
    assert figures.items_per_s(0.01) == pytest.approx(100.0, rel=0.1)
    assert figures.items_per_s(0.02) == pytest.approx(50.0, rel=0.1)
    assert figures.items_per_s(0.0) is None
    assert NodeFigures().items_per_s(0.01) is None
