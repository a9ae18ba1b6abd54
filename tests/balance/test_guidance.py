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
    LEAVING_MARGIN,
    MOST_GUIDED,
    CloseBudget,
    GuidedChild,
    Reason,
    SentGuidance,
    closing_rate_per_s,
    combine,
    excess_part,
    guide,
    why_close,
)
from tierlb.balance.returning import SLOW_MARGIN
from tierlb.model.load import Guidance, SubtreeLoad

SLOW = SLOW_MARGIN + 0.1
GUIDES = [
    ([GuidedChild(0.5, 100)], 0.5, False),
    ([GuidedChild(0.5, 300), GuidedChild(0.9, 100)], (0.5 * 300 + 0.9 * 200) / 500, False),  # that knows of little yet
    ([GuidedChild(0.2, 0), GuidedChild(0.4, 0)], 0.3, False),
    ([GuidedChild(0.2, 100), GuidedChild(0.6, 0)], 0.4, False),
    ([GuidedChild(2.0, 100), GuidedChild(0.89, 100)], 1.445, False),
    ([GuidedChild(1.9, 100)], 1.9, True),
    ([GuidedChild(0.95, 100), GuidedChild(1.05, 100)], 1.0, True),
    ([GuidedChild(0.95, 0)], 0.95, True),
    ([GuidedChild(0.5, 300, 1.0), GuidedChild(0.9, 100, 2.0)], 0.66, False),  # slower, not slow
    ([GuidedChild(0.5, 300, 1.0), GuidedChild(0.9, 100, SLOW)], 0.6, False),  # slow: it can do little
    ([GuidedChild(0.6, 100), GuidedChild(0.2, 100, part=0.5)], (0.6 + 0.1) / 1.5, False),  # it is in slow start
]


@pytest.mark.parametrize(("children", "target", "all_hot"), GUIDES)
def test_what_a_parent_tells_its_children(children: list[GuidedChild], target: float, all_hot: bool) -> None:
    said = guide(children)
    assert len(said) == len(children)
    for each in said:
        assert (each.target, each.all_hot) == (pytest.approx(target), all_hot)


def test_capacities_next_to_nothing_are_not_known_and_make_no_target_of_nothing() -> None:
    for capacity in (0.0, 5e-324, 1e-300):
        said = guide([GuidedChild(0.4, capacity, part=0.1), GuidedChild(0.6, capacity, part=0.1)])
        assert [each.target for each in said] == [pytest.approx(0.5)] * 2


def test_nobody_is_told_anything_where_nobody_is() -> None:
    assert guide([]) == []


def test_each_is_told_what_requests_as_it_has_them_take_elsewhere() -> None:
    said = guide([GuidedChild(0.5, 100, 1.0, 0.01), GuidedChild(0.5, 100, 1.0, 0.2), GuidedChild(0.5, 100)])
    assert [each.response_s for each in said] == [0.01, 0.2, 0.0]


def test_a_child_that_takes_its_use_for_more_is_told_the_same_target_as_it_counts() -> None:
    said = guide([GuidedChild(0.6, 100), GuidedChild(0.2, 100, own_scale=2.0)])
    assert [each.target for each in said] == pytest.approx([0.4, 0.8])


def test_a_child_that_is_probed_does_not_act_on_being_slow_and_its_siblings_give_it_some() -> None:
    said = guide(
        [
            GuidedChild(0.5, 100, 1.0, 0.01, connections=90),
            GuidedChild(0.5, 100, 1.0, 0.01, connections=60),
            GuidedChild(0.0, 10, 10.0, 0.01, connections=0, probing=True),
        ]
    )
    assert [each.response_s for each in said] == [0.01, 0.01, 0.0]
    assert all(each.probe for each in said)
    assert [each.give_per_s for each in said] == pytest.approx([3.6, 2.4, 0.0]), "2 % of all in half a second"


def test_a_child_that_returns_is_given_what_slow_start_allows_at_a_bounded_rate() -> None:
    first = GuidedChild(0.5, 100, 1.0, 0.01, connections=100)
    for own, part, expected in ((0, 0.1, 0.8 * 0.1 * 50 / 0.5), (20, 0.1, 0.0), (0, 1.0, 0.15 * 100)):
        climbing = GuidedChild(0.1, 100, 1.0, 0.01, part=part, connections=own, climbing=True)
        said = guide([first, climbing])
        assert said[0].give_per_s == pytest.approx(expected, rel=0.25)
        assert said[1].give_per_s == 0
        assert not said[0].probe


def test_a_slow_child_gives_nothing_away_and_others_move_little_while_it_is_left() -> None:
    slow, well = GuidedChild(0.5, 100, SLOW, 0.01, connections=50), GuidedChild(0.5, 100, 1.0, 0.01, connections=50)
    probed = GuidedChild(0.0, 10, SLOW, 0.01, connections=0, probing=True)
    said = guide([slow, well, probed])
    assert [each.give_per_s > 0 for each in said] == [False, True, False]
    assert said[0].margin == LEAVING_MARGIN
    assert guide([attrs.evolve(slow, connections=1), well])[0].margin < LEAVING_MARGIN


def test_what_began_or_ended_is_told_at_once_and_what_changed_a_little_once_a_second() -> None:
    told, said = SentGuidance(), Guidance(0.5, response_s=0.01)
    assert told.is_due(0.0, said)
    assert not told.is_due(0.9, said)
    assert not told.is_due(0.9, attrs.evolve(said, target=0.6))
    assert told.is_due(1.0, attrs.evolve(said, target=0.6))
    for step, change in enumerate(({"give_per_s": 3.0}, {"response_s": 0.0}, {"probe": True}, {"all_hot": True})):
        assert told.is_due(1.0 + 0.1 * (2 * step + 1), attrs.evolve(said, target=0.6, **change))
        assert told.is_due(1.0 + 0.1 * (2 * step + 2), attrs.evolve(said, target=0.6))
    assert not told.is_due(5.7, attrs.evolve(said, target=0.6))
    assert told.is_due(5.9, attrs.evolve(said, target=0.6)), "now and then all is said again"


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
    (11, 0.4, 0.1, 0.5, False, 11 * 0.25 / CLOSE_SLOW_OVER_S),
    (5, 3.0, 0.1, 0.5, False, 5 * 0.9 / CLOSE_SLOW_OVER_S),
    (11, 3.0, 0.1, 0.5, False, FEW_PER_S),
    (1, 3.0, 0.1, 0.5, False, 0.9 / CLOSE_SLOW_OVER_S),
    (0, 3.0, 0.1, 0.5, False, 0),
    (11, 3.0, 0.0, 0.5, False, 0),  # nobody knows how long answers take elsewhere
    (11, 3.0, 0.1, 0.5, True, 0),  # there is no better place
    (1000, 3.0, 0.1, 0.5, False, MOST),
    (11, 0.4, 0.1, 1.0, False, max(11 * 0.45 / CLOSE_OVER_S, 11 * 0.25 / CLOSE_SLOW_OVER_S)),  # and hot as well
]


@pytest.mark.parametrize(("connections", "response_s", "usual_s", "utilisation", "all_hot", "expected"), SLOW_RATES)
def test_a_child_much_slower_than_its_siblings_closes_connections(
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
    assert excess_part(figure, most) == expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], Guidance(1.0)),
        ([Guidance(0.4, True)], Guidance(0.4, True)),
        ([Guidance(0.4, True), Guidance(0.6)], Guidance(0.5, False)),
        ([Guidance(0.9, True), Guidance(1.1, True)], Guidance(1.0, True)),
        ([Guidance(0.5, response_s=0.2), Guidance(0.5), Guidance(0.5, response_s=0.4)], Guidance(0.5, False, 0.3)),
        ([Guidance(0.5, give_per_s=2.0), Guidance(0.5, give_per_s=3.0)], Guidance(0.5, give_per_s=5.0)),
    ],
)
def test_several_parents_are_heard_as_one(said: list[Guidance], expected: Guidance) -> None:
    heard = combine(said)
    for field in ("target", "response_s", "give_per_s"):
        assert getattr(heard, field) == pytest.approx(getattr(expected, field))
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


WAITING = [Connection(each) for each in (3.0, 50.0, 1.0, 9.0, 7.0)]


def test_at_a_slow_child_those_are_closed_that_ask_most() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 3.0, Reason.SLOW)
    assert not budget.take(1.0), "it is chosen who closes"
    assert [each.activity for each in budget.choose(1.0, WAITING, 1, 0.1)] == [50.0, 9.0, 7.0]
    assert budget.choose(1.0, WAITING, 1, 0.1) == []


def test_one_stays_at_a_slow_child_unless_its_client_is_held_up() -> None:
    for response_s, expected in ((0.1, 4), (1.0, 5)):
        budget = CloseBudget()
        budget.set_rate(0.0, 9.0, Reason.SLOW)
        assert len(budget.choose(1.0, WAITING, 0, response_s)) == expected
        assert len(budget.choose(1.0, WAITING[:1], 2, response_s)) == 1, "others stay"


def test_those_that_ask_least_are_given_to_one_that_may_be_slow() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 2.0, Reason.GIFT)
    assert [each.activity for each in budget.choose(1.0, WAITING, 1, 0.1)] == [1.0, 3.0]


def test_at_a_child_that_is_only_hot_chance_decides() -> None:
    budget = CloseBudget()
    budget.set_rate(0.0, 3.0)
    assert budget.choose(1.0, WAITING, 1, 0.1) == []
    assert budget.take(1.0)


@pytest.mark.parametrize(
    ("response_s", "guidance", "reason"),
    [
        (0.01, Guidance(0.5, response_s=0.01), Reason.USE),
        (0.1, Guidance(0.5, response_s=0.01, give_per_s=1.0, probe=True), Reason.SLOW),
        (0.01, Guidance(0.5, response_s=0.01, give_per_s=1.0, probe=True), Reason.GIFT),
        (0.01, Guidance(0.5, response_s=0.01, give_per_s=1.0), Reason.USE),
    ],
)
def test_why_connections_are_closed(response_s: float, guidance: Guidance, reason: Reason) -> None:
    assert why_close(SubtreeLoad(response_s=response_s), guidance) is reason


def test_what_a_sibling_is_to_have_is_given_by_who_is_well_itself() -> None:
    load = SubtreeLoad(utilisation=0.2, response_s=0.01)
    assert closing_rate_per_s(100, load, Guidance(0.5, response_s=0.01, give_per_s=7.0)) == 7.0
    assert closing_rate_per_s(100, load, Guidance(0.5, True, give_per_s=7.0)) == 0.0, "there is no better place"


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


def test_no_figure_of_children_makes_one_that_no_frame_holds() -> None:
    said = guide([GuidedChild(1e12, 1e12, 1e12, 1e12), GuidedChild(1e12, 5e-324, 0.0, 1e12), GuidedChild(0.0, 0.0)])
    assert {each.target for each in said} == {MOST_GUIDED}
    assert max(each.response_s for each in said) == MOST_GUIDED
    assert guide([GuidedChild(0.0, 5e-324, 5e-324)])[0].target >= 0
