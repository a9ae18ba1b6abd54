"""A simulated event loop: a queue with one server."""

import pytest

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.event_loop import SimulatedLoop


def served_at(agenda: Agenda, cost_s: float, arrivals: list[float]) -> tuple[SimulatedLoop, list[float]]:
    loop, served = SimulatedLoop(agenda, cost_s), list[float]()
    for at in arrivals:
        agenda.at(at, lambda _: loop.serve(lambda _: served.append(agenda.now), None))
    agenda.run(10.0)
    return loop, served


def test_items_that_cost_nothing_are_handled_as_they_come() -> None:
    loop, served = served_at(Agenda(), 0.0, [0.0, 0.0, 3.0])
    assert served == [0.0, 0.0, 3.0]
    assert loop.waited_s() == 10.0


def test_items_that_cost_something_queue() -> None:
    agenda = Agenda()
    loop, served = served_at(agenda, 1.0, [0.0, 0.5, 5.0])
    assert served == [1.0, 2.0, 6.0]
    assert loop.waited_s() == 7.0
    agenda.at(10.0, lambda _: loop.serve(lambda _: None, None))
    agenda.run(10.25)
    assert loop.waited_s() == pytest.approx(7.0), "it has been at work since"
