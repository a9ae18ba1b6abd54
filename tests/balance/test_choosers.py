"""Choosers against slow, obvious second implementations."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.choosers import LeastLoaded, RoundRobin, TwoChoices, make_chooser
from tierlb.model.topology import Policy

LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def positions(loads: list[int]) -> range:
    """Candidates are positions, the metric looks their load up."""
    return range(len(loads))


@pytest.mark.parametrize("policy", Policy)
def test_the_same_seed_gives_the_same_choices(policy: Policy) -> None:
    def choices() -> list[str]:
        chooser = make_chooser(policy, len, random.Random(7))
        return [chooser(["aaa", "b", "cc", "d"]) for _ in range(50)]

    assert choices() == choices()


@pytest.mark.parametrize("policy", Policy)
@given(loads=LOADS, seed=st.integers())
def test_the_choice_is_a_candidate(policy: Policy, loads: list[int], seed: int) -> None:
    chooser = make_chooser(policy, loads.__getitem__, random.Random(seed))
    assert all(chooser(positions(loads)) in positions(loads) for _ in range(5))


def test_random_chooses_all_alike() -> None:
    chooser = make_chooser(Policy.RANDOM, float, random.Random(1))
    counts = collections.Counter(chooser(range(4)) for _ in range(4000))
    assert all(900 <= counts[index] <= 1100 for index in range(4))


@given(st.integers(1, 9), st.integers())
def test_round_robin_takes_turns(count: int, seed: int) -> None:
    chooser: RoundRobin[int] = RoundRobin(random.Random(seed))
    first = chooser(range(count))
    turns = [first] + [chooser(range(count)) for _ in range(2 * count - 1)]
    assert turns == [(first + step) % count for step in range(2 * count)]


def test_round_robin_starts_anywhere() -> None:
    starts = {RoundRobin[int](random.Random(seed))(range(4)) for seed in range(50)}
    assert starts == {0, 1, 2, 3}


def test_round_robin_goes_on_when_the_candidates_change() -> None:
    chooser: RoundRobin[str] = RoundRobin(random.Random(1))
    chosen = collections.Counter(chooser("abc" if turn % 2 else "ab") for turn in range(600))
    assert set(chosen) == set("abc")


@given(LOADS, st.integers())
def test_least_loaded_is_a_minimum(loads: list[int], seed: int) -> None:
    chooser = LeastLoaded(loads.__getitem__, random.Random(seed))
    assert all(loads[chooser(positions(loads))] == min(loads) for _ in range(5))


@given(LOADS, st.integers())
def test_least_loaded_uses_every_minimum(loads: list[int], seed: int) -> None:
    chooser = LeastLoaded(loads.__getitem__, random.Random(seed))
    minima = {index for index, load in enumerate(loads) if load == min(loads)}
    assert {chooser(positions(loads)) for _ in range(len(loads))} == minima


def test_least_loaded_is_even_on_an_idle_tier() -> None:
    chooser = LeastLoaded[int](lambda _: 0, random.Random(1))
    counts = collections.Counter(chooser(range(5)) for _ in range(500))
    assert set(counts.values()) == {100}


class ScriptedRandom(random.Random):
    """Draws what it was told to."""

    def __init__(self, *draws: float) -> None:
        super().__init__(0)
        self.draws = list(draws)

    def random(self) -> float:
        return self.draws.pop(0)


def pairs(count: int) -> list[tuple[int, int]]:
    """Every ordered pair of different candidates."""
    return [(one, other) for one in range(count) for other in range(count) if one != other]


def looked_at(count: int, draw: float) -> tuple[int, ...]:
    """The candidates whose load a draw looks at, in order."""
    looked: list[int] = []
    TwoChoices(lambda index: looked.append(index) or 0.0, ScriptedRandom(draw))(range(count))
    return tuple(looked)


@pytest.mark.parametrize("count", [2, 3, 5])
def test_two_choices_draws_every_pair_with_the_same_chance(count: int) -> None:
    everything = len(pairs(count))
    seen = [looked_at(count, (draw + 0.5) / everything) for draw in range(everything)]
    assert sorted(seen) == sorted(pairs(count))


@given(st.lists(st.integers(0, 5), min_size=2, max_size=6), st.floats(0, 1, exclude_max=True))
def test_two_choices_takes_the_less_loaded_of_its_pair(loads: list[int], draw: float) -> None:
    looked: list[int] = []

    def metric(index: int) -> float:
        looked.append(index)
        return loads[index]

    chosen = TwoChoices(metric, ScriptedRandom(draw))(positions(loads))
    assert len(set(looked)) == 2
    assert chosen == min(looked, key=loads.__getitem__)


def test_two_choices_has_no_choice_with_one_candidate() -> None:
    assert TwoChoices[str](len, random.Random(1))(["only"]) == "only"


def test_two_choices_never_takes_the_single_most_loaded() -> None:
    chooser = TwoChoices[int](float, random.Random(1))
    assert 4 not in {chooser(range(5)) for _ in range(500)}
