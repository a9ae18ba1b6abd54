"""Smooth weighted round robin against nginx's own example and against arithmetic."""

import collections
import random

from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost
from tierlb.balance.weighted import SmoothWeighted


class NoRandom(random.Random):
    def random(self) -> float:
        return 0.0


def weighing(*weights: float) -> list[FakeHost]:
    return [FakeHost(name, weight=weight) for name, weight in zip("abcdefgh", weights, strict=False)]


def built(hosts: list[FakeHost], rng: random.Random) -> SmoothWeighted[FakeHost]:
    chooser: SmoothWeighted[FakeHost] = SmoothWeighted(rng)
    chooser.rebuild(hosts)
    return chooser


def test_five_one_one_is_spread_as_in_nginx() -> None:
    chooser = built(weighing(5, 1, 1), NoRandom())
    assert "".join(chooser.pick(0).name for _ in range(14)) == "aabacaaaabacaa"


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers())
def test_every_round_of_the_sum_of_weights_is_exact(weights: list[int], seed: int) -> None:
    chooser = built(weighing(*weights), NoRandom())
    for _ in range(2):
        counts = collections.Counter(chooser.pick(0).name for _ in range(sum(weights)))
        assert counts == dict(zip("abcdefgh", weights, strict=False))
    assert built(weighing(*weights), random.Random(seed)).pick(0).name in "abcdefgh"


def test_many_nodes_do_not_start_with_the_same() -> None:
    firsts = {built(weighing(1, 1, 1), random.Random(seed)).pick(0).name for seed in range(40)}
    assert firsts == set("abc")


def test_who_was_just_chosen_waits_although_another_left() -> None:
    hosts = weighing(1, 1, 1)
    chooser = built(hosts, NoRandom())
    assert chooser.pick(0).name == "a"
    chooser.rebuild(hosts[:2])
    assert chooser.pick(0).name == "b"


def test_those_left_are_drawn_by_weight() -> None:
    chooser = built(weighing(1, 1, 8), random.Random(1))
    left = weighing(1, 9)
    counts = collections.Counter(chooser.among(left, 0).name for _ in range(2000))
    assert 1700 < counts["b"] < 1900


def test_what_was_gained_by_great_weights_is_no_debt_when_they_become_small() -> None:
    hosts = weighing(1000, 1, 500)
    chooser = built(hosts, NoRandom())
    for _ in range(8):
        chooser.pick(0)
    for host in hosts:
        host.weight = 1.0
    chooser.rebuild(hosts)
    counts = collections.Counter(chooser.pick(0).name for _ in range(30))
    assert all(8 <= counts[name] <= 12 for name in "abc")


def test_what_a_host_had_gained_gives_it_no_turn_once_it_weighs_nothing() -> None:
    hosts = weighing(1, 1, 1, 1, 1, 1, 8)
    chooser = built(hosts, NoRandom())
    assert [chooser.pick(0).name for _ in range(4)] == ["g", "a", "g", "b"], "so that g has gained"
    hosts[6].weight = 0.0
    chooser.rebuild(hosts)
    assert {chooser.pick(0).name for _ in range(40)} == set("abcdef")
