"""Choosers that look at no load, against arithmetic."""

import collections
import random

from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.turns import RandomTurns, RoundRobin


def round_robin(candidates: str, seed: int = 1) -> RoundRobin[str]:
    chooser: RoundRobin[str] = RoundRobin(random.Random(seed))
    chooser.rebuild(candidates)
    return chooser


@given(st.integers(1, 9), st.integers())
def test_round_robin_takes_turns(count: int, seed: int) -> None:
    candidates = "abcdefghi"[:count]
    chooser = round_robin(candidates, seed)
    first = candidates.index(chooser.pick(0))
    turns = [chooser.pick(0) for _ in range(2 * count)]
    assert turns == [candidates[(first + 1 + step) % count] for step in range(2 * count)]


def test_round_robin_starts_anywhere() -> None:
    assert {round_robin("abcd", seed).pick(0) for seed in range(50)} == set("abcd")


def test_round_robin_goes_on_when_the_candidates_change() -> None:
    chooser = round_robin("abc")
    chosen: collections.Counter[str] = collections.Counter()
    for turn in range(600):
        chooser.rebuild("abc" if turn % 2 else "ab")
        chosen[chooser.pick(0)] += 1
    assert set(chosen) == set("abc")


def test_round_robin_takes_turns_among_those_left() -> None:
    chooser = round_robin("abc")
    chosen = [chooser.among("bc", 0) for _ in range(4)]
    assert chosen in (list("bcbc"), list("cbcb"))


def test_random_chooses_all_alike() -> None:
    chooser: RandomTurns[int] = RandomTurns(random.Random(1))
    chooser.rebuild(range(4))
    for choose in (lambda: chooser.pick(0), lambda: chooser.among(range(4), 0)):
        counts = collections.Counter(choose() for _ in range(4000))
        assert all(900 <= counts[index] <= 1100 for index in range(4))
