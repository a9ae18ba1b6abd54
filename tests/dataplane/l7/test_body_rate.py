"""Windows of one body: what is counted, what is left out, and when the verdict falls."""

import pytest

from tierlb.dataplane.l7.body_rate import WINDOW_S, BodyRate

LEAST = 100


@pytest.mark.parametrize(("count", "slow"), [(0, True), (LEAST * WINDOW_S - 1, True), (LEAST * WINDOW_S, False)])
def test_a_window_is_judged_by_its_bytes(count: int, slow: bool) -> None:
    rate = BodyRate(LEAST)
    rate.go_on(5.0)
    rate.add(int(count))
    assert rate.left_s(5.0 + WINDOW_S) == 0
    assert rate.is_too_slow(5.0 + WINDOW_S) is slow


def test_each_window_is_judged_by_itself() -> None:
    rate = BodyRate(LEAST)
    rate.go_on(0.0)
    rate.add(1_000_000)
    assert not rate.is_too_slow(WINDOW_S)
    assert rate.left_s(WINDOW_S) == WINDOW_S
    assert rate.is_too_slow(2 * WINDOW_S)


def test_time_in_which_the_node_does_not_read_is_left_out() -> None:
    rate = BodyRate(LEAST)
    rate.go_on(0.0)
    rate.stop(4.0)
    rate.stop(5.0)
    assert rate.left_s(1000.0) == WINDOW_S - 4.0
    rate.go_on(1000.0)
    rate.go_on(1002.0)
    assert rate.left_s(1003.0) == WINDOW_S - 7.0
    rate.add(LEAST * 10)
    assert not rate.is_too_slow(1006.0)


def test_nothing_is_over_before_the_node_reads() -> None:
    assert BodyRate(LEAST).left_s(1e6) == WINDOW_S
