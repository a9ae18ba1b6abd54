"""How many retries are affordable, as a table and against the definition."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.footprint import references
from tierlb.balance.retry_budget import FREE_RETRIES_PER_S, RETRY_SHARE, RETRY_WINDOW_S, RetryBudget

FREE = int(FREE_RETRIES_PER_S * RETRY_WINDOW_S)


def spent(budget: RetryBudget, now: float, items: int, wanted: int = 10_000) -> int:
    """How many of the retries wanted at once are allowed."""
    return sum(budget.spend(now, items) for _ in range(wanted))


@pytest.mark.parametrize(("items", "allowed"), [(0, FREE), (1, FREE + 1), (500, FREE + 100), (10_000, FREE + 2000)])
def test_a_fifth_of_the_recent_items_and_some_for_free(items: int, allowed: int) -> None:
    budget = RetryBudget()
    budget.spend(0.0, 0)
    assert 1 + spent(budget, 1.0, items) == allowed


def test_what_was_before_the_first_question_does_not_count() -> None:
    assert spent(RetryBudget(), 0.0, 1_000_000) == FREE


def test_the_budget_comes_back_when_the_window_has_passed() -> None:
    budget = RetryBudget()
    assert spent(budget, 0.0, 0) == FREE
    assert not budget.spend(RETRY_WINDOW_S - 0.01, 0)
    assert spent(budget, RETRY_WINDOW_S, 0) == FREE


def test_items_that_left_the_window_no_longer_pay() -> None:
    budget = RetryBudget()
    for second in range(31):
        budget.spend(float(second), min(second, 10) * 1000)
    assert spent(budget, 31.0, 10_000) == FREE - 9, "those of the last ten seconds"


def test_what_is_remembered_does_not_pile_up() -> None:
    budget, held = RetryBudget(), []
    for tenth in range(3000):
        budget.spend(tenth / 10, tenth)
        held.append(references(budget))
    assert max(held[300:]) <= max(held[:300])


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 200), st.integers(0, 80)), max_size=40))
def test_retries_in_a_window_never_exceed_the_budget(steps: list[tuple[float, int, int]]) -> None:
    """`steps` are (pause, items started meanwhile, retries wanted). A mark may be older than the window by the
    time between two questions, so the bound is on all items seen."""
    budget, now, items = RetryBudget(), 0.0, 0
    retries: list[float] = []
    for pause_s, more, wanted in steps:
        now += pause_s
        items += more
        retries += [now for _ in range(wanted) if budget.spend(now, items)]
        in_window = sum(1 for at in retries if at > now - RETRY_WINDOW_S)
        assert in_window <= FREE + RETRY_SHARE * items + 1
