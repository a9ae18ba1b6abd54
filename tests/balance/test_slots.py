"""Numbers lead to hosts by their shares, each number to one."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.slots import DRAWS, HASHES, TURNS, Selector, Slots, drawn, hashed, in_turn


def owners(slots: Slots) -> list[int]:
    """The host of each number, with no number left out or given twice."""
    found = []
    for first, last, index in slots.runs:
        assert first == len(found)
        found += [index] * (last - first + 1)
    assert len(found) == slots.modulus
    return found


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=60).filter(lambda shares: sum(shares) > 0.01))
def test_a_draw_keeps_shares(shares: list[float]) -> None:
    slots = drawn(shares)
    counts = Counter(owners(slots))
    assert slots.selector is Selector.RANDOM
    for index, share in enumerate(shares):
        wanted = share / sum(shares) * DRAWS
        assert (counts[index] > 0) is (share > 0)
        assert abs(counts[index] - wanted) <= len(shares)


def test_more_hosts_than_numbers_of_a_draw_have_one_each() -> None:
    assert set(owners(drawn([1.0] * 7 + [1e-9] * 20_000))) == set(range(20_007))


@pytest.mark.parametrize(
    ("weights", "order"),
    [
        ([1.0], [0]),
        ([2.0, 2.0], [0, 1]),
        ([0.4, 0.4], [0, 1]),
        ([5.0, 1.0, 1.0], [0, 0, 1, 0, 2, 0, 0]),
        ([5 / 7, 1 / 7, 1 / 7], [0, 0, 1, 0, 2, 0, 0]),
        ([1.5, 0.5], [0, 0, 1, 0]),
    ],
)
def test_turns_are_spread_as_in_smooth_weighted_round_robin(weights: list[float], order: list[int]) -> None:
    slots = in_turn(weights)
    assert (slots.selector, owners(slots)) == (Selector.TURN, order)


@given(st.lists(st.floats(0.001, 1000.0), min_size=2, max_size=30))
def test_any_weights_have_a_round_of_turns(weights: list[float]) -> None:
    counts = Counter(owners(in_turn(weights)))
    for index, weight in enumerate(weights):
        total = sum(counts.values())
        assert total <= TURNS
        assert abs(counts[index] - weight / sum(weights) * total) <= len(weights)


def test_few_hashes_change_their_host_when_one_leaves() -> None:
    names = [f"app/10.0.0.{number}:80" for number in range(10)]
    before = hashed(dict.fromkeys(names, 1.0))
    after = hashed(dict.fromkeys(names[:-1], 1.0))
    assert (before.selector, before.modulus) == (Selector.SOURCE, HASHES)
    pairs = list(zip(owners(before), owners(after), strict=True))
    assert sum(one != other for one, other in pairs if one != 9) / HASHES < 0.05
    assert all(abs(count - HASHES / 10) < 2 for count in Counter(owners(before)).values())


def test_hashes_depend_on_names_and_not_on_their_order() -> None:
    names = ["a", "b", "c"]
    one, other = hashed(dict.fromkeys(names, 1.0)), hashed(dict.fromkeys(reversed(names), 1.0))
    assert [names[index] for index in owners(one)] == [names[::-1][index] for index in owners(other)]
