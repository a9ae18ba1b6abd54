"""Draws by weight, for any numbers that may be called weights."""

import collections
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.draws import EVEN_DRAW, Draws, alike, relative, usable

ANY = st.lists(st.one_of(st.floats(), st.sampled_from([0.0, 1.0, 5e-324, 1e308, math.inf, -1.0])), max_size=12)
UNIT = st.floats(0, 1, exclude_max=True)


@given(ANY)
def test_weights_become_numbers_that_can_be_divided_by(weights: list[float]) -> None:
    made = usable(weights)
    assert len(made) == len(weights)
    assert all(0 <= weight < math.inf for weight in made)
    if weights:
        assert 0 < sum(made) < math.inf
        assert max(relative(weights)) == 1
    if any(0 < weight < math.inf for weight in weights):
        assert not any(made[index] for index, weight in enumerate(weights) if not 0 < weight < math.inf)


@pytest.mark.parametrize("weights", [[3, 1, 0], [1e6, 1], [EVEN_DRAW[0]], [0.0, 2.5]])
def test_ordinary_weights_stay_as_they_are(weights: list[float]) -> None:
    assert usable(weights) == weights


@pytest.mark.parametrize(
    ("weights", "expected"),
    [([], []), ([0, 0], [1, 1]), ([math.nan, math.inf], [1, 1]), ([5e-324, 0], [1, 0]), ([1e308, 1e308], [1, 1])],
)
def test_odd_weights_are_made_ordinary(weights: list[float], expected: list[float]) -> None:
    assert usable(weights) == expected


@given(ANY.filter(bool), UNIT, UNIT)
def test_every_draw_falls_on_a_position(weights: list[float], draw: float, other: float) -> None:
    draws = Draws(weights)
    assert draws.one(draw) in range(len(weights))
    first, second = draws.two(draw, other)
    assert first in range(len(weights))
    assert second in range(len(weights))


@given(st.lists(st.sampled_from([0.0, 1.0, 3.0]), min_size=1, max_size=9).filter(any), st.integers())
def test_what_weighs_nothing_is_not_drawn(weights: list[float], seed: int) -> None:
    rng, draws = random.Random(seed), Draws(weights)
    for _ in range(20):
        pair = draws.two(rng.random(), rng.random())
        assert all(weights[position] for position in pair)
        assert weights[draws.one(rng.random())]
        assert pair[0] != pair[1] or sum(weight > 0 for weight in weights) == 1


def test_draws_are_by_weight() -> None:
    rng, draws = random.Random(1), Draws([1, 0, 3, 6])
    counts = collections.Counter(draws.one(rng.random()) for _ in range(10_000))
    assert [counts[position] / 10_000 for position in range(4)] == pytest.approx([0.1, 0, 0.3, 0.6], abs=0.02)


@pytest.mark.parametrize(
    ("weights", "expected"), [([], True), ([2.0], True), ([2.0, 2.0], True), ([2.0, 2.0, 1.0], False), ([0, 1], False)]
)
def test_weights_that_are_alike_need_no_work(weights: list[float], expected: bool) -> None:
    assert alike(weights) is expected
