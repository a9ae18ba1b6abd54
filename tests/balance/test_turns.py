"""Choosers that look at no load, against arithmetic."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost
from tierlb.balance.turns import RandomTurns, RoundRobin


def named(names: str) -> list[FakeHost]:
    return [FakeHost(name) for name in names]


def round_robin(hosts: list[FakeHost], seed: int = 1) -> RoundRobin[FakeHost]:
    chooser: RoundRobin[FakeHost] = RoundRobin(random.Random(seed))
    chooser.rebuild(hosts)
    return chooser


@given(st.integers(1, 9), st.integers())
def test_round_robin_takes_turns(count: int, seed: int) -> None:
    hosts = named("abcdefghi"[:count])
    chooser = round_robin(hosts, seed)
    first = hosts.index(chooser.pick(0))
    turns = [chooser.pick(0) for _ in range(2 * count)]
    assert turns == [hosts[(first + 1 + step) % count] for step in range(2 * count)]


def test_round_robin_starts_anywhere() -> None:
    assert {round_robin(named("abcd"), seed).pick(0).name for seed in range(50)} == set("abcd")


def test_round_robin_goes_on_when_the_hosts_change() -> None:
    hosts = named("abc")
    chooser = round_robin(hosts)
    chosen: collections.Counter[str] = collections.Counter()
    for turn in range(600):
        chooser.rebuild(hosts if turn % 2 else hosts[:2])
        chosen[chooser.pick(0).name] += 1
    assert set(chosen) == set("abc")


def test_round_robin_takes_turns_among_those_left() -> None:
    hosts = named("abc")
    chooser = round_robin(hosts)
    chosen = [chooser.among(hosts[1:], 0).name for _ in range(4)]
    assert chosen in (list("bcbc"), list("cbcb"))


def test_random_chooses_all_alike() -> None:
    hosts = named("abcd")
    chooser: RandomTurns[FakeHost] = RandomTurns(random.Random(1))
    chooser.rebuild(hosts)
    for choose in (lambda: chooser.pick(0), lambda: chooser.among(hosts, 0)):
        counts = collections.Counter(choose().name for _ in range(4000))
        assert all(900 <= counts[name] <= 1100 for name in "abcd")


@pytest.mark.parametrize("policy", [RoundRobin, RandomTurns])
def test_weights_that_become_alike_again_are_forgotten(policy: type[RoundRobin[FakeHost]]) -> None:
    hosts = named("ab")
    chooser = policy(random.Random(1))
    hosts[0].weight = 9.0
    chooser.rebuild(hosts)
    heavy = collections.Counter(chooser.pick(0).name for _ in range(1000))
    assert 850 < heavy["a"] < 950
    hosts[0].weight = 1.0
    chooser.rebuild(hosts)
    even = collections.Counter(chooser.pick(0).name for _ in range(1000))
    assert 430 < even["a"] < 570
