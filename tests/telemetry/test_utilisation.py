"""How busy the loop was, and what follows for the node's capacity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.telemetry.utilisation import LEAST_BUSY, TELLING_BUSY, USABLE, LoopUse, OwnCapacity, own_capacity


@pytest.mark.parametrize(
    ("waited_s", "busy"),
    [(1.0, 0.0), (0.25, 0.75), (0.0, 1.0), (1.5, 0.0), (-0.5, 1.0)],
    ids=["idle", "busy", "never waits", "more waited than passed", "a clock that went back"],
)
def test_busy_is_the_share_that_was_not_waited(waited_s: float, busy: float) -> None:
    use = LoopUse()
    assert use.sample(100.0, 50.0) == 0.0
    assert use.sample(100.5, 50.0 + waited_s / 2) == 0.0
    assert use.sample(101.0, 50.0 + waited_s) == pytest.approx(busy)
    assert use.busy == pytest.approx(busy)


def test_a_short_peak_is_spread_over_the_window() -> None:
    use = LoopUse()
    for step in range(11):
        use.sample(step / 10, step / 10)
    use.sample(1.1, 1.0)
    assert use.busy == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("rate", "busy", "capacity"), [(300, 0.6, 450), (300, 0.9, 300), (300, 1.0, 270), (20, 0.1, 180)]
)
def test_own_capacity_is_nine_tenths_of_what_full_use_would_serve(rate: float, busy: float, capacity: float) -> None:
    assert own_capacity(rate, busy) == pytest.approx(capacity)


def test_what_was_never_tried_may_be_promised() -> None:
    """Otherwise a node that is little used would count less than a sibling of its kind that once was used more."""
    own = OwnCapacity()
    own.sample(0.0, 0.0, 0)
    assert own.sample(1.0, 0.87, 130) == pytest.approx(900)


def test_own_capacity_is_learnt_and_held_while_the_node_is_too_idle_to_tell() -> None:
    own = OwnCapacity()
    assert own.sample(0.0, 0.0, 0) == 0.0
    assert own.sample(1.0, 0.25, 600) == pytest.approx(0.9 * 600 / 0.75)
    assert own.sample(2.0, 1.2, 610) == pytest.approx(720)
    assert own.sample(3.0, 1.4, 910) == pytest.approx(0.9 * 300 / 0.8)


@pytest.mark.parametrize(
    ("busy", "served", "capacity"),
    [(0.6, 150, 225), (TELLING_BUSY, 200, 360), (0.49, 200, 720), (0.2, 50, 720), (0.2, 200, 900), (0.05, 500, 720)],
    ids=["lower", "lower at half use", "too idle", "idle and dear", "idle and cheap", "idle"],
)
def test_a_loop_under_half_use_shows_only_what_it_can_do_at_least(busy: float, served: int, capacity: float) -> None:
    own = OwnCapacity()
    own.sample(0.0, 0.0, 0)
    assert own.sample(1.0, 0.25, 600) == pytest.approx(720)
    assert own.sample(2.0, 1.25 - busy, 600 + served) == pytest.approx(capacity)


def test_a_loop_that_is_busy_and_serves_nothing_says_nothing_of_its_capacity() -> None:
    own = OwnCapacity()
    own.sample(0.0, 0.0, 0)
    assert own.sample(1.0, 0.0, 0) == 0.0


@given(st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(0, 1), st.integers(0, 5000)), max_size=40))
def test_own_capacity_is_never_beyond_what_the_least_busy_time_allows(steps: list[tuple[float, float, int]]) -> None:
    own, now, waited, done, best = OwnCapacity(), 0.0, 0.0, 0, 0.0
    own.sample(now, waited, done)
    for pause_s, idle, served in steps:
        now, waited, done = now + pause_s, waited + idle * pause_s, done + served
        capacity = own.sample(now, waited, done)
        best = max(best, served / pause_s)
        assert 0 <= capacity <= USABLE * best / LEAST_BUSY * (1 + 1e-9)
