import math

import pytest

from scripts.benchmarks.openloop import CUT, UNANSWERED
from scripts.benchmarks.windows import Seen, Window, settled_after, shares, summed

SEEN = Seen(
    at_s=[0.5, 1.0, 1.2, 1.4, 1.9, 2.0],
    latency_s=[9.0, 0.010, 0.030, 0.001, 5.0, 0.020],
    status=[200, 200, 200, 500, UNANSWERED, 200],
)
SECOND = Window(1, 2)


def test_a_window_holds_what_was_to_leave_in_it_and_errors_are_no_latencies() -> None:
    assert SEEN.latencies_ms(SECOND) == [10.0, 30.0, 5000.0]


def test_the_unanswered_count_as_slow_and_as_errors() -> None:
    assert SEEN.percentile_ms(SECOND, 99) == 5000.0
    assert SEEN.errors_percent(SECOND) == 50.0


def test_a_cut_connection_is_an_error_only() -> None:
    seen = Seen([0.1, 0.2], [0.5, 0.1], [CUT, 200])
    assert (seen.percentile_ms(Window(0, 1), 99), seen.errors_percent(Window(0, 1))) == (100.0, 50.0)


def test_an_empty_window_has_no_figure() -> None:
    assert math.isnan(SEEN.percentile_ms(Window(5, 6), 99))
    assert math.isnan(SEEN.errors_percent(Window(5, 6)))


def test_by_second_each_request_belongs_to_the_second_it_was_to_leave_in() -> None:
    assert SEEN.by_second_ms(3, 50) == [9000.0, 30.0, 20.0]


def test_a_share_is_counted_over_stretches_that_slide_bin_by_bin() -> None:
    assert shares([1, 0, 3, 0], [2, 2, 4, 0], 2) == [0.25, 0.5, 0.75]


def test_where_nothing_came_the_share_is_none_and_not_an_error() -> None:
    assert shares([0, 0], [0, 0], 1) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ([0.3, 0.2, 0.1, 0.1, 0.1, 0.1], 2),
        ([0.1, 0.3, 0.3, 0.3, 0.1, 0.1], 4),  # it was there once, but did not stay
        ([0.3, 0.1, 0.1, 0.13, 0.1, 0.1], 1),  # one outlier of five is chance
        ([0.3, 0.079, 0.121], None),
        ([], None),
    ],
)
def test_a_share_has_settled_where_it_is_near_the_ideal_and_stays(values: list[float], place: int | None) -> None:
    assert settled_after(values, least=0.1 * 0.8, most=0.1 * 1.2) == place


def test_rows_that_end_early_count_as_nothing_more() -> None:
    assert summed([[1, 2, 3], [1]], 4) == [2, 2, 3, 0]
