"""Capacity in work: what a node says of itself while the mix of its items changes and the speed of its leaves does not.

Eight leaves of four slots and 10 ms do 3,200 short items per second. The mix changes after two seconds, before which
there are short items only.
"""

import functools

import pytest

from tierlb.model.load import SubtreeLoad
from tierlb.simulate.mixes import mixed
from tierlb.simulate.run import SimulationRun

ALONE_S, LATER_S = 1.9, 13.9
KNEE = 3200.0
NEAR = 0.2


@functools.cache
def told(name: str, load: float) -> tuple[SubtreeLoad, SubtreeLoad]:
    """Before the mix changes and twelve seconds later."""
    run = SimulationRun(mixed(name, tiers=1, load=load, seed=1))
    loads = []
    for at_s in (ALONE_S, LATER_S):
        run.agenda.run(at_s)
        loads.append(run.tree.levels[0][0].subtree(run.agenda.now))
    return loads[0], loads[1]


@pytest.mark.parametrize("name", ["alike", "two-routes", "polls-40", "rare-slow", "llm", "uploads", "everything"])
def test_the_figure_stays_when_only_the_mix_changes(name: str) -> None:
    """At 60 % nothing shows how many slots there are, so that it is twice the truth before and after."""
    before, after = told(name, 0.6)
    assert after.capacity == pytest.approx(before.capacity, rel=NEAR)


@pytest.mark.parametrize("name", ["alike", "polls-40", "polls-200", "rare-slow", "llm", "uploads"])
def test_at_a_high_load_the_figure_is_the_knee_and_utilisation_is_the_work(name: str) -> None:
    _, load = told(name, 0.85)
    assert load.capacity == pytest.approx(KNEE, rel=NEAR)
    assert load.utilisation == pytest.approx(0.85, abs=0.1)


def test_slots_that_long_items_hold_are_not_there_for_others() -> None:
    """Twelve chats hold one of 32 slots each."""
    _, load = told("llm-slots", 0.85)
    assert load.capacity == pytest.approx(KNEE * 20 / 32, rel=NEAR)
