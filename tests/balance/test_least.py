"""Fewest in flight, of all and of two, against slow, obvious second implementations."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost, fake_hosts, loaded
from tierlb.balance.least import LeastLoaded, TwoChoices, two_of

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def least(hosts: list[FakeHost], seed: int = 1) -> LeastLoaded[FakeHost]:
    chooser: LeastLoaded[FakeHost] = LeastLoaded(random.Random(seed))
    chooser.rebuild(hosts)
    return chooser


def two_choices(hosts: list[FakeHost], rng: random.Random) -> TwoChoices[FakeHost]:
    chooser: TwoChoices[FakeHost] = TwoChoices(rng)
    chooser.rebuild(hosts)
    return chooser


@given(LOADS, st.integers())
def test_least_loaded_uses_every_minimum_and_nothing_else(loads: list[int], seed: int) -> None:
    chooser = least(loaded(loads), seed)
    minima = {f"m{index}" for index, load in enumerate(loads) if load == min(loads)}
    assert {chooser.pick(0).name for _ in range(len(loads))} == minima


def test_least_loaded_is_even_on_an_idle_tier() -> None:
    chooser = least(fake_hosts(5))
    counts = collections.Counter(chooser.pick(0).name for _ in range(500))
    assert set(counts.values()) == {100}


@pytest.mark.parametrize("count", [2, 3, 5])
def test_every_ordered_pair_is_drawn_with_the_same_chance(count: int) -> None:
    pairs = [(one, other) for one in range(count) for other in range(count) if one != other]
    drawn = [two_of(count, (draw + 0.5) / len(pairs)) for draw in range(len(pairs))]
    assert sorted(drawn) == sorted(pairs)


class ScriptedRandom(random.Random):
    """Draws what it was told to."""

    def __init__(self, *draws: float) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.floats(0, 1, exclude_max=True))
def test_two_choices_takes_the_less_loaded_of_its_pair(loads: list[int], draw: float) -> None:
    hosts = loaded(loads)
    pair = [hosts[position] for position in two_of(len(loads), draw)]
    chosen = two_choices(hosts, ScriptedRandom(draw)).pick(0)
    assert chosen is min(pair, key=lambda host: host.in_flight)


def test_two_choices_has_no_choice_with_one_host() -> None:
    assert two_choices(fake_hosts(1), random.Random(1)).pick(0).name == "m0"


def test_two_choices_never_takes_the_single_most_loaded() -> None:
    chooser = two_choices(loaded(range(5)), random.Random(1))
    assert "m4" not in {chooser.pick(0).name for _ in range(500)}
