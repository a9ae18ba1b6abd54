"""How busy the loop was, and what follows for the node's capacity."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.telemetry.utilisation import (
    BYTES_PER_EFFORT,
    ITEM_MIX_S,
    LEAST_LOOP_BUSY,
    PLAIN_EFFORT,
    SURE_BUSY,
    USABLE,
    LoopUse,
    OwnCapacity,
    effort,
    own_capacity,
)


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
    own.sample(0.0, 0.0, 0, 0)
    assert own.sample(1.0, 0.87, 130, 130) == pytest.approx(900)


def test_own_capacity_is_learnt_and_held_while_the_node_is_too_idle_to_tell() -> None:
    own = OwnCapacity()
    assert own.sample(0.0, 0.0, 0, 0) == 0.0
    assert own.sample(1.0, 0.25, 600, 600) == pytest.approx(0.9 * 600 / 0.75)
    assert own.sample(2.0, 1.2, 610, 610) == pytest.approx(720)
    assert own.sample(3.0, 1.4, 910, 910) == pytest.approx(0.9 * 300 / 0.8)


@pytest.mark.parametrize(
    ("busy", "served", "capacity"),
    [(0.6, 150, 225), (SURE_BUSY, 200, 360), (0.49, 200, 720), (0.2, 50, 720), (0.2, 200, 900), (0.05, 500, 720)],
    ids=["lower", "lower at half use", "too idle", "idle and dear", "idle and cheap", "idle"],
)
def test_a_loop_under_half_use_shows_only_what_it_can_do_at_least(busy: float, served: int, capacity: float) -> None:
    own = OwnCapacity()
    own.sample(0.0, 0.0, 0, 0)
    assert own.sample(1.0, 0.25, 600, 600) == pytest.approx(720)
    assert own.sample(2.0, 1.25 - busy, 600 + served, 600 + served) == pytest.approx(capacity)


def test_a_loop_that_is_busy_and_serves_nothing_says_nothing_of_its_capacity() -> None:
    own = OwnCapacity()
    own.sample(0.0, 0.0, 0, 0)
    assert own.sample(1.0, 0.0, 0, 0) == 0.0


@given(st.lists(st.tuples(st.floats(0.05, 2.0), st.floats(0, 1), st.integers(0, 5000)), max_size=40))
def test_own_capacity_is_never_beyond_what_the_least_busy_time_allows(steps: list[tuple[float, float, int]]) -> None:
    own, now, waited, done, best = OwnCapacity(), 0.0, 0.0, 0, 0.0
    own.sample(now, waited, done, done)
    for pause_s, idle, served in steps:
        now, waited, done = now + pause_s, waited + idle * pause_s, done + served
        capacity = own.sample(now, waited, done, done)
        best = max(best, served / pause_s)
        assert 0 <= capacity <= USABLE * best / LEAST_LOOP_BUSY * (1 + 1e-9)


class Loop:
    """An event loop of which the test says what it does. An effort takes `EFFORT_S`, so that it is known what items of
    two efforts each could be served at full use."""

    EFFORT_S = 0.0001
    KNEE = 0.9 / (2 * EFFORT_S)

    def __init__(self) -> None:
        self.own = OwnCapacity()
        self.now = self.waited_s = self.effort = 0.0
        self.done = 0

    def works(self, seconds: float, items_per_s: int, beside: float = 0.0, *, each: float = 2.0, parked: bool) -> float:
        """`beside`: the share of its time that goes to what is parked."""
        for _ in range(round(seconds * 20)):
            spent = items_per_s * each / 20 + beside / 20 / self.EFFORT_S
            self.now += 0.05
            self.done += items_per_s // 20
            self.effort += spent
            self.waited_s += 0.05 - spent * self.EFFORT_S
            self.own.sample(self.now, self.waited_s, self.done, self.effort, parked=parked)
        return self.own.capacity


@pytest.mark.parametrize("beside", [0.1, 0.3, 0.6, 0.8])
def test_what_is_parked_takes_time_but_no_capacity(beside: float) -> None:
    """Tunnels, streams and slow downloads: few items are over, and the loop is busy."""
    loop = Loop()
    assert loop.works(3.0, 3000, parked=False) == pytest.approx(loop.KNEE, rel=0.01)
    assert loop.works(20.0, 200, beside, parked=True) == pytest.approx(loop.KNEE, rel=0.01)
    assert loop.works(20.0, 0, beside, parked=True) == pytest.approx(loop.KNEE, rel=0.01)
    assert loop.works(20.0, 3000, parked=False) == pytest.approx(loop.KNEE, rel=0.01)


def test_a_node_that_never_was_without_parked_items_does_not_know_what_it_could_do() -> None:
    loop = Loop()
    assert loop.works(5.0, 200, 0.5, parked=True) == 0.0
    assert loop.works(5.0, 0, 0.5, parked=True) == 0.0


def test_what_was_learnt_grows_old_at_rest() -> None:
    loop = Loop()
    assert loop.own.age_s(loop.now) is None
    loop.works(3.0, 3000, parked=False)
    assert loop.own.age_s(loop.now) == 0.0
    loop.works(60.0, 20, parked=False)
    assert loop.own.age_s(loop.now) == pytest.approx(60.0, abs=1.0)


def test_but_where_they_ask_next_to_nothing_it_knows() -> None:
    loop = Loop()
    known = loop.works(5.0, 2000, 0.2, parked=True)
    assert 0.6 * loop.KNEE < known <= loop.KNEE, "an upper bound of what an item takes, so a lower one of this"
    assert loop.works(5.0, 4000, 0.01, parked=True) == pytest.approx(loop.KNEE, rel=0.02)


def test_a_little_while_with_large_items_changes_little_and_a_mix_that_stays_is_learnt() -> None:
    loop = Loop()
    loop.works(20.0, 2000, parked=False)
    assert loop.works(1.0, 100, each=60.0, parked=False) > 0.65 * loop.KNEE
    settled = loop.works(6 * ITEM_MIX_S, 100, each=60.0, parked=False)
    assert settled == pytest.approx(loop.KNEE * 2 / 60, rel=0.05)


def test_a_few_items_do_not_decide_what_items_take() -> None:
    loop = Loop()
    loop.works(20.0, 2000, parked=False)
    assert loop.works(2.0, 20, each=200.0, parked=False) > 0.3 * loop.KNEE


def test_bytes_are_effort_as_well() -> None:
    assert effort(3, 2 * BYTES_PER_EFFORT) == 5
    assert effort(5, 16 * 1024) < PLAIN_EFFORT
