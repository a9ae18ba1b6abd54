"""Choosers that look at no load, against arithmetic."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.members import Member
from tierlb.balance.turns import RandomTurns, RoundRobin


def named(names: str) -> list[Member]:
    return [Member(name) for name in names]


def round_robin(candidates: list[Member], seed: int = 1) -> RoundRobin[Member]:
    chooser: RoundRobin[Member] = RoundRobin(random.Random(seed))
    chooser.rebuild(candidates)
    return chooser


@given(st.integers(1, 9), st.integers())
def test_round_robin_takes_turns(count: int, seed: int) -> None:
    candidates = named("abcdefghi"[:count])
    chooser = round_robin(candidates, seed)
    first = candidates.index(chooser.pick(0))
    turns = [chooser.pick(0) for _ in range(2 * count)]
    assert turns == [candidates[(first + 1 + step) % count] for step in range(2 * count)]


def test_round_robin_starts_anywhere() -> None:
    assert {round_robin(named("abcd"), seed).pick(0).name for seed in range(50)} == set("abcd")


def test_round_robin_goes_on_when_the_candidates_change() -> None:
    candidates = named("abc")
    chooser = round_robin(candidates)
    chosen: collections.Counter[str] = collections.Counter()
    for turn in range(600):
        chooser.rebuild(candidates if turn % 2 else candidates[:2])
        chosen[chooser.pick(0).name] += 1
    assert set(chosen) == set("abc")


def test_round_robin_takes_turns_among_those_left() -> None:
    candidates = named("abc")
    chooser = round_robin(candidates)
    chosen = [chooser.among(candidates[1:], 0).name for _ in range(4)]
    assert chosen in (list("bcbc"), list("cbcb"))


def test_random_chooses_all_alike() -> None:
    candidates = named("abcd")
    chooser: RandomTurns[Member] = RandomTurns(random.Random(1))
    chooser.rebuild(candidates)
    for choose in (lambda: chooser.pick(0), lambda: chooser.among(candidates, 0)):
        counts = collections.Counter(choose().name for _ in range(4000))
        assert all(900 <= counts[name] <= 1100 for name in "abcd")


@pytest.mark.parametrize("policy", [RoundRobin, RandomTurns])
def test_weights_that_become_alike_again_are_forgotten(policy: type[RoundRobin[Member]]) -> None:
    candidates = named("ab")
    chooser = policy(random.Random(1))
    candidates[0].weight = 9.0
    chooser.rebuild(candidates)
    heavy = collections.Counter(chooser.pick(0).name for _ in range(1000))
    assert 850 < heavy["a"] < 950
    candidates[0].weight = 1.0
    chooser.rebuild(candidates)
    even = collections.Counter(chooser.pick(0).name for _ in range(1000))
    assert 430 < even["a"] < 570
