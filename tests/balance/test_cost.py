"""The cost as a table, against the definition in BALANCING.md §2, and the share that a parent reads from echoes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.cost import (
    LEAST_PARENT_SHARE,
    NEW_ITEMS,
    NEXT_ITEM,
    ParentShare,
    comparable,
    connection_tau_s,
    freshness,
    predicted_cost,
    tau_s,
)


@pytest.mark.parametrize(
    ("response_s", "expected"), [(0, 0.05), (0.005, 0.05), (0.02, 0.1), (0.1, 0.5), (0.2, 1), (30, 1)]
)
def test_a_report_is_worth_five_response_times(response_s: float, expected: float) -> None:
    assert tau_s(response_s) == pytest.approx(expected)


@pytest.mark.parametrize(("connection_s", "expected"), [(0, 1), (4, 1), (20, 5), (60, 15), (300, 15)])
def test_for_connections_it_is_worth_a_quarter_of_their_life(connection_s: float, expected: float) -> None:
    assert connection_tau_s(connection_s) == expected


@pytest.mark.parametrize(("age_s", "expected"), [(0, 1), (-1, 1), (0.1, math.exp(-0.2)), (math.inf, 0)])
def test_what_was_reported_fades(age_s: float, expected: float) -> None:
    assert freshness(age_s, 0.5) == pytest.approx(expected)


LINES = [
    # fresh, others, share, phantom, capacity, per_item, ahead, part, counted -> slope, offset
    ((0, 0, 1, 0, 100), (0.01, 0.01)),
    ((0, 0, 0.25, 0, 100), (0.04, 0.01)),
    ((1, 40, 0.25, 0, 100), (0.01, 0.41)),
    ((1, -5, 0.25, 0, 100), (0.01, 0.01)),
    ((0.5, 40, 0.25, 0, 100), (0.025, 0.21)),
    ((0, 0, 1, 9, 100), (0.01, 0.1)),
    ((1, 0, 1, 0, 100, 0.1), (0.002, 0.01)),
    ((1, 0, 1, 0, 100, 0.1, 1, 1, 10), (0.002, 0.0)),
    ((1, 5, 1, 0, 100, 0.1, 1, 1, 10), (0.002, 0.05)),
    ((0, 0, 1, 0, 100, 0.1, 1, 1, 10), (0.001, 0.01)),
    ((0.5, 0, 0.5, 0, 100, 0.1, 1, 1, 10), (0.002, 0.005)),
    ((1, 0, 1, 0, 100, 3, 1, 1, 10), (0.03, 0.01)),
    ((0, 0, 1, 0, 100, 1, 8), (0.01, 0.08)),
    ((1, 4, 1, 0, 100, 1, 8, 0.1), (0.1, 0.48)),
]


@pytest.mark.parametrize(("given_", "expected"), LINES)
def test_the_line_as_a_table(given_: tuple[float, ...], expected: tuple[float, float]) -> None:
    assert predicted_cost(*given_) == pytest.approx(expected)


@given(
    own=st.integers(0, 1000),
    fresh=st.floats(0, 1),
    others=st.integers(-50, 1000),
    share=st.floats(LEAST_PARENT_SHARE, 1),
    penalty=st.floats(0, 800),
    capacity=st.floats(0.1, 1e6),
)
def test_the_line_is_predicted_queue_over_capacity(
    own: int, fresh: float, others: int, share: float, penalty: float, capacity: float
) -> None:
    queue = fresh * (own + max(0, others)) + (1 - fresh) * own / share
    slope, offset = predicted_cost(fresh, others, share, penalty, capacity)
    assert own * slope + offset == pytest.approx((queue + penalty + 1) / capacity)


@given(counted=st.integers(0, 100), since=st.integers(0, 100), per_item=st.floats(0.01, 5))
def test_a_connection_that_the_child_has_not_counted_yet_brings_a_part_of_an_item_at_least(
    counted: int, since: int, per_item: float
) -> None:
    slope, offset = predicted_cost(1, 0, 1, 0, 100, per_item, counted=counted)
    queue = counted * per_item + since * max(NEW_ITEMS, per_item)
    assert (counted + since) * slope + offset == pytest.approx((queue + 1) / 100)


COMPARABLE = [
    # lines -> in units of the flattest, offsets on the grid
    ([], []),
    ([(0.01, 0.08)], [(1, 8)]),
    ([(0.01, 0.08), (0.04, 0.08)], [(1, 8), (4, 8)]),
    ([(0.01, 0.08), (0.01, 0.08 - 3 * 0.01)], [(1, 8), (1, 5)]),
    ([(0.01, 1e12)], [(1, 1e14)]),  # too large for the grid
    ([(0.01, 0.08), NEXT_ITEM], [(1, 8), NEXT_ITEM]),
    ([(0.01, 0.08), (NEXT_ITEM[0], -3 * NEXT_ITEM[0])], [(1, 8), (NEXT_ITEM[0], -3 * NEXT_ITEM[0])]),
    ([NEXT_ITEM, NEXT_ITEM], [NEXT_ITEM, NEXT_ITEM]),
]


@pytest.mark.parametrize(("costs", "expected"), COMPARABLE)
def test_lines_in_units_of_the_flattest_as_a_table(
    costs: list[tuple[float, float]], expected: list[tuple[float, float]]
) -> None:
    found = comparable(costs)
    assert [each for pair in found for each in pair] == pytest.approx([each for pair in expected for each in pair])


@given(
    capacity=st.floats(1e-3, 1e7),
    ahead=st.floats(0, 1000),
    parked=st.lists(st.integers(0, 5000), min_size=2, max_size=6),
    queue=st.integers(0, 5000),
)
def test_hosts_with_the_same_queue_have_the_same_score_however_many_parked_items(
    capacity: float, ahead: float, parked: list[int], queue: int
) -> None:
    slope, offset = predicted_cost(0.0, 0, 1.0, 0.0, capacity, 1.0, ahead)
    costs = comparable([(slope, offset - each * slope) for each in parked])
    assert len({(queue + each) * slope + offset for each, (slope, offset) in zip(parked, costs, strict=True)}) == 1


@pytest.mark.parametrize("odd", [math.inf, -math.inf, math.nan])
def test_an_offset_that_is_no_number_does_no_harm_to_the_others(odd: float) -> None:
    assert comparable([(0.5, odd), (0.5, 1.0), (0.0, 1.0)])[1] == (1, 2)


@given(capacity=st.floats(1e-3, 1e12), stuck=st.integers(1, 5000))
def test_one_that_is_to_get_the_next_item_is_below_the_others_whatever_its_queue(capacity: float, stuck: int) -> None:
    usual = predicted_cost(0.0, 0, 1.0, 0.0, capacity, 1.0, 1.0)
    (slope, offset), (trial_slope, trial_offset) = comparable([usual, (NEXT_ITEM[0], -stuck * NEXT_ITEM[0])])
    assert stuck * trial_slope + trial_offset == 0 < offset
    assert (stuck + 1) * trial_slope + trial_offset > 10_000 * slope + offset


@given(
    st.lists(st.tuples(st.floats(1e-6, 1e3), st.floats(-1e3, 1e3), st.integers(0, 500)), min_size=2, max_size=8),
)
def test_what_is_clearly_lower_stays_lower(rows: list[tuple[float, float, int]]) -> None:
    costs = [(slope, offset * slope) for slope, offset, _ in rows]
    unit = min(slope for slope, _ in costs)
    before = [count * slope + offset for (slope, offset), (_, _, count) in zip(costs, rows, strict=True)]
    after = [count * slope + offset for (slope, offset), (_, _, count) in zip(comparable(costs), rows, strict=True)]
    assert after == pytest.approx([score / unit for score in before], rel=1e-9, abs=1e-6)


def test_before_the_first_report_parents_are_alike() -> None:
    assert [ParentShare(parents).value for parents in (0, 1, 4, 1000)] == [1, 1, 0.25, LEAST_PARENT_SHARE]


def test_the_share_follows_what_arrives() -> None:
    share = ParentShare(4)
    for report in range(40):
        share.update(arrivals=100 * report, own=60 * report)
    assert share.value == pytest.approx(0.6, abs=0.01)


def test_parents_that_come_and_go_change_what_is_expected_but_not_what_was_learnt() -> None:
    share = ParentShare(2)
    share.expect(4)
    assert (share.parents, share.value) == (4, 0.25)
    for report in range(3):
        share.update(arrivals=100 * report, own=90 * report)
    learnt = share.value
    share.expect(1)
    assert (share.parents, share.value) == (1, learnt)


@pytest.mark.parametrize(("parents", "expected"), [(0, 1), (1, 1), (4, 0.25), (1000, LEAST_PARENT_SHARE)])
def test_before_any_report_all_parents_are_alike(parents: int, expected: float) -> None:
    assert ParentShare(parents).value == expected


def test_few_arrivals_say_little() -> None:
    few, many = ParentShare(2), ParentShare(2)
    for report in range(3):
        few.update(arrivals=report, own=0)
        many.update(arrivals=1000 * report, own=0)
    assert many.value < 0.35 < 0.48 < few.value


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((100, 50), (10, 0)),  # the child restarted
        ((100, 50), (200, 10)),  # a restart between two reports that caught up
        ((100, 50), (100, 50)),  # nothing arrived
        ((100, 50), (100, 60)),  # nonsense
    ],
)
def test_counters_that_tell_nothing_change_nothing(before: tuple[int, int], after: tuple[int, int]) -> None:
    share = ParentShare(4)
    share.update(*before)
    share.update(*after)
    assert share.value == 0.25


def test_after_a_restart_the_new_counters_are_the_base() -> None:
    share = ParentShare(4)
    for arrivals, own in ((1000, 250), (10, 1), (110, 101)):
        share.update(arrivals, own)
    assert share.value == pytest.approx(0.25 * 0.8 + 0.2)


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 10**6)), max_size=30))
def test_the_share_stays_within_its_bounds_whatever_is_reported(reports: list[tuple[int, int]]) -> None:
    share = ParentShare(3)
    for arrivals, own in reports:
        share.update(arrivals, own)
        assert LEAST_PARENT_SHARE <= share.value <= 1
