"""What parents say, and how many connections a hot child closes: tables, and the budget against plain counting."""

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.guidance import (
    CLOSE_OVER_S,
    CLOSE_SLOW_OVER_S,
    FASTEST_CLOSE_PER_S,
    FEW_PER_S,
    MOST_SAID,
    Child,
    CloseBudget,
    closing_rate_per_s,
    combine,
    excess,
    guide,
    usual_response_s,
)
from tierlb.model.load import Guidance, SubtreeLoad

GUIDES = [
    ([], Guidance(1.0)),
    ([Child(0.5, 100)], Guidance(0.5)),
    ([Child(0.5, 300), Child(0.9, 100)], Guidance((0.5 * 300 + 0.9 * 200) / 500)),  # that knows of little yet
    ([Child(0.2, 0), Child(0.4, 0)], Guidance(0.3)),
    ([Child(0.2, 100), Child(0.6, 0)], Guidance(0.4)),
    ([Child(2.0, 100), Child(0.89, 100)], Guidance(1.445)),
    ([Child(1.9, 100)], Guidance(1.9, True)),
    ([Child(0.95, 100), Child(1.05, 100)], Guidance(1.0, True)),
    ([Child(0.95, 0)], Guidance(0.95, True)),
    ([Child(0.5, 300, 0.01), Child(0.9, 100, 0.05)], Guidance(0.66, response_s=0.02)),  # slower, not slow
    ([Child(0.5, 300, 0.01), Child(0.9, 100, 0.13)], Guidance(0.6, response_s=0.04)),  # slow: it can do little
    ([Child(0.5, 100, 0.01), Child(0.5, 100), Child(0.5, 0, 0.03)], Guidance(0.5, response_s=0.02)),
]


@pytest.mark.parametrize(("children", "expected"), GUIDES)
def test_what_a_parent_tells_its_children(children: list[Child], expected: Guidance) -> None:
    said = guide(children)
    assert (said.target, said.response_s) == pytest.approx((expected.target, expected.response_s))
    assert said.all_hot is expected.all_hot


MOST = FASTEST_CLOSE_PER_S * 1000
RATES = [
    # connections, utilisation, target, all hot -> closed per second
    (100, 0.5, 0.5, False, 0),
    (100, 0.55, 0.5, False, 0),
    (100, 0.6, 0.5, False, 100 * 0.05 / 0.6 / CLOSE_OVER_S),
    (100, 1.0, 0.5, False, 100 * 0.45 / CLOSE_OVER_S),
    (100, 1.0, 0.95, False, 0),
    (100, 0.9, 0.5, True, 0),
    (100, 1.0, 0.0, False, FEW_PER_S),
    (1000, 1.0, 0.5, False, MOST),
    (100, 0.0, 0.0, False, 0),
    (0, 1.0, 0.5, False, 0),
]


@pytest.mark.parametrize(("connections", "utilisation", "target", "all_hot", "expected"), RATES)
def test_a_child_hotter_than_its_siblings_closes_what_is_too_much(
    connections: int, utilisation: float, target: float, all_hot: bool, expected: float
) -> None:
    load = SubtreeLoad(utilisation=utilisation, response_s=0.01)
    for usual_s in (0.0, 0.01):
        rate = closing_rate_per_s(connections, load, Guidance(target, all_hot, usual_s))
        assert rate == pytest.approx(expected)


SLOW_RATES = [
    # connections, response, the siblings' response, utilisation, all hot -> closed per second
    (11, 0.3, 0.1, 0.5, False, 0),  # three times as long is no fault
    (11, 0.4, 0.1, 0.5, False, 10 * 0.25 / CLOSE_SLOW_OVER_S),
    (5, 3.0, 0.1, 0.5, False, 4 * 0.9 / CLOSE_SLOW_OVER_S),
    (11, 3.0, 0.1, 0.5, False, FEW_PER_S),
    (1, 3.0, 0.1, 0.5, False, 0),  # one stays, to find out when it is fast again
    (0, 3.0, 0.1, 0.5, False, 0),
    (11, 3.0, 0.0, 0.5, False, 0),  # nobody knows how long answers take elsewhere
    (11, 3.0, 0.1, 0.5, True, 0),  # there is no better place
    (1000, 3.0, 0.1, 0.5, False, MOST),
    (11, 0.4, 0.1, 1.0, False, max(11 * 0.45 / CLOSE_OVER_S, 10 * 0.25 / CLOSE_SLOW_OVER_S)),  # and hot as well
]


@pytest.mark.parametrize(("connections", "response_s", "usual_s", "utilisation", "all_hot", "expected"), SLOW_RATES)
def test_a_child_much_slower_than_its_siblings_closes_all_but_one(
    connections: int, response_s: float, usual_s: float, utilisation: float, all_hot: bool, expected: float
) -> None:
    load = SubtreeLoad(utilisation=utilisation, response_s=response_s)
    assert closing_rate_per_s(connections, load, Guidance(0.5, all_hot, usual_s)) == pytest.approx(expected)


def test_one_that_is_slow_where_all_are_busy_still_closes() -> None:
    load = SubtreeLoad(utilisation=0.95, response_s=1.0)
    assert closing_rate_per_s(11, load, Guidance(0.95)) == 0
    assert closing_rate_per_s(11, load, Guidance(0.95, response_s=0.1)) > 5


@given(
    connections=st.integers(0, 10**5),
    utilisation=st.floats(0, 10),
    response_s=st.floats(0, 100),
    guidance=st.builds(Guidance, st.floats(0, 10), st.booleans(), st.floats(0, 100)),
)
def test_whatever_is_said_the_rate_is_bounded_and_never_negative(
    connections: int, utilisation: float, response_s: float, guidance: Guidance
) -> None:
    load = SubtreeLoad(utilisation=utilisation, response_s=response_s)
    rate = closing_rate_per_s(connections, load, guidance)
    assert 0 <= rate <= max(FEW_PER_S, FASTEST_CLOSE_PER_S * connections)
    assert rate <= connections / min(CLOSE_OVER_S, CLOSE_SLOW_OVER_S)


@pytest.mark.parametrize(("figure", "most", "expected"), [(1, 1, 0), (1, 2, 0), (2, 1, 0.5), (5, 0, 1), (0, 0, 0)])
def test_the_excess_is_a_part_of_the_figure(figure: float, most: float, expected: float) -> None:
    assert excess(figure, most) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], Guidance(1.0)),
        ([Guidance(0.4, True)], Guidance(0.4, True)),
        ([Guidance(0.4, True), Guidance(0.6)], Guidance(0.5, False)),
        ([Guidance(0.9, True), Guidance(1.1, True)], Guidance(1.0, True)),
        ([Guidance(0.5, response_s=0.2), Guidance(0.5), Guidance(0.5, response_s=0.4)], Guidance(0.5, False, 0.3)),
    ],
)
def test_several_parents_are_heard_as_one(said: list[Guidance], expected: Guidance) -> None:
    heard = combine(said)
    assert (heard.target, heard.response_s) == pytest.approx((expected.target, expected.response_s))
    assert heard.all_hot is expected.all_hot


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


@attrs.frozen
class Connection:
    activity: float


def test_at_a_slow_child_those_are_closed_that_ask_most_and_others_keep_theirs() -> None:
    budget, waiting = CloseBudget(), [Connection(each) for each in (3.0, 50.0, 1.0, 9.0, 7.0)]
    budget.set_rate(0.0, 3.0, slow=True)
    assert not budget.take(1.0), "it is chosen who closes"
    assert budget.choose(1.0, waiting, most=4) == [Connection(50.0), Connection(9.0), Connection(7.0)]
    assert budget.choose(1.0, waiting, most=4) == []
    assert len(budget.choose(2.0, waiting, most=1)) == 1, "some are to stay"
    assert len(budget.choose(2.0, waiting[:1], most=4)) == 1
    assert budget.choose(2.1, waiting, most=0) == []


def test_at_a_child_that_is_only_hot_chance_decides() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 3.0)
    assert budget.choose(1.0, [Connection(5.0)], most=4) == []
    assert budget.take(1.0)


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


@pytest.mark.parametrize(
    ("times_s", "usual_s"),
    [([], 0.0), ([0.0], 0.0), ([0.1], 0.1), ([1.0, 0.1], 0.1), ([0.01, 0.01, 1.0], 0.01), ([0.0, 0.3, 0.2, 0.1], 0.2)],
)
def test_the_usual_time_is_that_of_most_whoever_is_slow(times_s: list[float], usual_s: float) -> None:
    assert usual_response_s([Child(0.1, 100.0, time_s) for time_s in times_s]) == usual_s


def test_no_figure_of_children_makes_one_that_no_frame_holds() -> None:
    said = guide([Child(1e12, 1e12, 1e12), Child(1e12, 5e-324, 1e12), Child(0.0, 0.0)])
    assert (said.target, said.response_s) == (MOST_SAID, MOST_SAID)
    assert guide([Child(0.0, 5e-324, 5e-324)]).target >= 0
