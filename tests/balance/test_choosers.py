"""Every chooser against a slow, obvious second implementation, and replayed from its seed."""

import random
from collections import Counter
from operator import itemgetter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.choosers import LeastLoaded, RoundRobin, TwoChoices, make_chooser
from tierlb.model.topology import Policy

load = itemgetter(1)
LOADS = st.lists(st.integers(0, 5), min_size=1, max_size=12)


def members(loads: list[int]) -> list[tuple[int, int]]:
    return list(enumerate(loads))


@pytest.mark.parametrize("policy", Policy)
def test_the_same_seed_gives_the_same_choices(policy: Policy) -> None:
    candidates = members([3, 1, 4, 1, 5])
    runs = []
    for _ in range(2):
        chooser = make_chooser(policy, load, random.Random(7))
        runs.append([chooser(candidates) for _ in range(50)])
    assert runs[0] == runs[1]


@pytest.mark.parametrize("policy", Policy)
@given(loads=LOADS)
def test_a_choice_is_one_of_the_candidates(policy: Policy, loads: list[int]) -> None:
    candidates = members(loads)
    chooser = make_chooser(policy, load, random.Random(1))
    assert {chooser(candidates) for _ in range(20)} <= set(candidates)


@pytest.mark.parametrize("policy", Policy)
def test_equal_members_get_equal_shares(policy: Policy) -> None:
    chooser = make_chooser(policy, load, random.Random(3))
    counts = Counter(chooser(members([2] * 5)) for _ in range(5000))
    assert min(counts.values()) > 850
    assert len(counts) == 5


@given(loads=LOADS, seed=st.integers(0, 99))
def test_least_loaded_takes_a_minimum(loads: list[int], seed: int) -> None:
    chooser: LeastLoaded = LeastLoaded(load, random.Random(seed))
    for _ in range(len(loads)):
        assert chooser(members(loads))[1] == sorted(loads)[0]


def test_least_loaded_takes_equals_in_turn() -> None:
    chooser: LeastLoaded = LeastLoaded(load, random.Random(0))
    assert Counter(chooser(members([1, 0, 0, 0]))[0] for _ in range(400)).keys() == {1, 2, 3}


def test_round_robin_takes_each_in_turn() -> None:
    chooser = RoundRobin(random.Random(0))
    candidates = members([9, 0, 5])
    first = chooser(candidates)[0]
    assert [chooser(candidates)[0] for _ in range(6)] == [(first + step) % 3 for step in range(1, 7)]


@given(loads=st.lists(st.integers(0, 5), min_size=2, max_size=8, unique=True))
def test_two_choices_never_takes_the_most_loaded(loads: list[int]) -> None:
    chooser: TwoChoices = TwoChoices(load, random.Random(5))
    assert all(chooser(members(loads))[1] < max(loads) for _ in range(50))


def test_two_choices_meets_every_pair_equally_often() -> None:
    """Of n members with distinct loads, the k-th least loaded wins against n - k of n - 1 others."""
    chooser: TwoChoices = TwoChoices(load, random.Random(11))
    counts = Counter(chooser(members([0, 1, 2, 3]))[0] for _ in range(12_000))
    assert [round(counts[rank] / 12_000, 1) for rank in range(4)] == [0.5, 0.3, 0.2, 0.0]
