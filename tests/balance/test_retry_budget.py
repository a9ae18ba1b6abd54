"""How many retries an outage may cause."""

from tierlb.balance.retry_budget import FREE_RETRIES_PER_S, RETRY_SHARE, WINDOW_S, RetryBudget

FREE = int(FREE_RETRIES_PER_S * WINDOW_S)


def spend_all(budget: RetryBudget, now: float, items: int) -> int:
    return sum(budget.spend(now, items) for _ in range(10_000))


def test_an_idle_node_has_its_free_retries() -> None:
    assert spend_all(RetryBudget(), 0.0, 0) == FREE


def test_traffic_earns_its_share() -> None:
    budget = RetryBudget()
    assert budget.spend(0.0, 0)
    assert spend_all(budget, 5.0, 10_000) == FREE - 1 + int(RETRY_SHARE * 10_000)


def test_spent_retries_come_back_after_the_window() -> None:
    budget = RetryBudget()
    assert spend_all(budget, 0.0, 0) == FREE
    assert spend_all(budget, WINDOW_S - 1, 0) == 0
    assert spend_all(budget, WINDOW_S, 0) == FREE


def test_old_traffic_earns_nothing() -> None:
    budget = RetryBudget()
    budget.spend(0.0, 0)
    budget.spend(1.0, 100_000)
    assert spend_all(budget, 30.0, 100_000) == FREE


def test_under_load_retries_stay_under_their_share() -> None:
    """The window slides in steps of a second, so it covers up to a tenth more than itself."""
    budget = RetryBudget()
    spent = sum(budget.spend(ms / 1000, ms) for ms in range(60_000))
    assert spent <= 1.1 * RETRY_SHARE * 60_000 + FREE_RETRIES_PER_S * 60 + FREE
