"""What parents say, and how many connections a hot child closes: tables, and the budget against plain counting."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.guidance import Child, CloseBudget, closing_rate_per_s, combine, guide
from tierlb.model.load import Guidance

GUIDES = [
    ([], Guidance(1.0)),
    ([Child(0.5, 100)], Guidance(0.5)),
    ([Child(0.5, 300), Child(0.9, 100)], Guidance(0.6)),
    ([Child(0.2, 0), Child(0.4, 0)], Guidance(0.3)),
    ([Child(0.2, 100), Child(0.6, 0)], Guidance(0.4)),
    ([Child(2.0, 100), Child(0.89, 100)], Guidance(1.445)),
    ([Child(1.9, 100)], Guidance(1.9, True)),
    ([Child(0.95, 100), Child(1.05, 100)], Guidance(1.0, True)),
    ([Child(0.95, 0)], Guidance(0.95, True)),
]


@pytest.mark.parametrize(("children", "expected"), GUIDES)
def test_what_a_parent_tells_its_children(children: list[Child], expected: Guidance) -> None:
    said = guide(children)
    assert said.target == pytest.approx(expected.target)
    assert said.all_hot is expected.all_hot


RATES = [
    # connections, utilisation, target, all hot -> closed per second
    (100, 0.5, 0.5, False, 0),
    (100, 0.55, 0.5, False, 0),
    (100, 0.6, 0.5, False, 100 * 0.05 / 0.6 / 2),
    (100, 1.0, 0.5, False, 20),
    (100, 1.0, 0.95, False, 0),
    (100, 0.9, 0.5, True, 0),
    (100, 1.0, 0.0, False, 20),
    (100, 0.0, 0.0, False, 0),
    (0, 1.0, 0.5, False, 0),
]


@pytest.mark.parametrize(("connections", "utilisation", "target", "all_hot", "expected"), RATES)
def test_a_child_hotter_than_its_siblings_closes_what_is_too_much(
    connections: int, utilisation: float, target: float, all_hot: bool, expected: float
) -> None:
    assert closing_rate_per_s(connections, utilisation, Guidance(target, all_hot)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], Guidance(1.0)),
        ([Guidance(0.4, True)], Guidance(0.4, True)),
        ([Guidance(0.4, True), Guidance(0.6)], Guidance(0.5, False)),
        ([Guidance(0.9, True), Guidance(1.1, True)], Guidance(1.0, True)),
    ],
)
def test_several_parents_are_heard_as_one(said: list[Guidance], expected: Guidance) -> None:
    assert combine(said) == expected


def closed(budget: CloseBudget, every_s: float, seconds: float, start: float = 0.0) -> int:
    """How many of the responses that end `every_s` close their connection."""
    return sum(budget.take(start + (step + 1) * every_s) for step in range(round(seconds / every_s)))


@pytest.mark.parametrize(("rate", "every_s", "expected"), [(5, 0.01, 50), (0.5, 0.01, 5), (0, 0.01, 0), (20, 0.1, 100)])
def test_a_budget_closes_at_its_rate_as_long_as_responses_end(rate: float, every_s: float, expected: int) -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, rate)
    assert closed(budget, every_s, 10) == pytest.approx(expected, abs=1)


def test_what_could_not_be_closed_is_not_made_up_for_at_once() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 3)
    assert sum(budget.take(1000.0) for _ in range(50)) == 3


def test_nothing_is_owed_once_the_rate_is_zero() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 10)
    budget.set_rate(5.0, 0)
    assert not budget.take(5.0)
    budget.set_rate(6.0, 10)
    assert not budget.take(6.0)


@given(
    st.lists(st.tuples(st.floats(0, 2), st.floats(0, 50), st.booleans()), max_size=60),
)
def test_a_budget_never_closes_more_than_accrued(steps: list[tuple[float, float, bool]]) -> None:
    """`steps` are (pause, rate from then on, whether the rate is set)."""
    budget, now, accrued, taken = CloseBudget(), 0.0, 0.0, 0
    for pause_s, rate, sets in steps:
        now += pause_s
        accrued += budget.rate_per_s * pause_s
        if sets:
            budget.set_rate(now, rate)
        taken += sum(budget.take(now) for _ in range(5))
        assert taken <= accrued + 1e-6
