"""The timer wheel against a slow, obvious one: a list that is searched at every tick."""

import math
from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from tierlb.net.wheel import NEVER, WHEEL_TICK_S, Timed, Wheel


class Owner(Timed):
    """Remembers when its deadline fired, and may do more then."""

    def __init__(self, wheel: Wheel, clock: list[float]) -> None:
        self.wheel = wheel
        self.clock = clock
        self.deadline = self.filed = NEVER
        self.fired: list[float] = []
        self.then: Callable[[], object] = lambda: None

    def on_deadline(self) -> None:
        self.fired.append(self.clock[0])
        self.then()

    def arm(self, at: float) -> None:
        """As streams do it: filed only if it is earlier than where it is filed."""
        self.deadline = at
        if at < self.filed:
            self.wheel.file(self)


class Bench:
    def __init__(self, now: float = 1000.0) -> None:
        self.clock = [now]
        self.crashes: list[tuple[Timed, Exception]] = []
        self.wheel = Wheel(now, lambda owner, error: self.crashes.append((owner, error)))

    def owner(self, after_s: float = NEVER) -> Owner:
        owner = Owner(self.wheel, self.clock)
        if after_s != NEVER:
            owner.arm(self.clock[0] + after_s)
        return owner

    def pass_time(self, seconds: float) -> None:
        self.clock[0] += seconds
        self.wheel.advance(self.clock[0])


@pytest.mark.parametrize("after_s", [0.01, WHEEL_TICK_S, 0.3, 1.0, 59.9, 3600.0])
def test_a_deadline_fires_up_to_a_tick_late_and_never_early(after_s: float) -> None:
    bench = Bench()
    owner = bench.owner(after_s)
    while not owner.fired:
        bench.pass_time(0.01)
    assert after_s <= owner.fired[0] - 1000.0 <= after_s + WHEEL_TICK_S + 0.011


def test_a_deadline_fires_once() -> None:
    bench = Bench()
    owner = bench.owner(1.0)
    for _ in range(100):
        bench.pass_time(0.1)
    assert len(owner.fired) == 1
    assert owner.deadline == NEVER
    assert len(bench.wheel) == 0


def test_a_deadline_moved_later_fires_later() -> None:
    bench = Bench()
    owner = bench.owner(1.0)
    owner.arm(bench.clock[0] + 5.0)
    bench.pass_time(4.9)
    assert owner.fired == []
    bench.pass_time(0.5)
    assert len(owner.fired) == 1


def test_a_deadline_moved_earlier_fires_earlier() -> None:
    bench = Bench()
    owner = bench.owner(50.0)
    owner.arm(bench.clock[0] + 1.0)
    bench.pass_time(1.3)
    assert len(owner.fired) == 1


def test_a_deadline_taken_back_does_not_fire() -> None:
    bench = Bench()
    owner = bench.owner(1.0)
    owner.deadline = NEVER
    bench.pass_time(10)
    assert owner.fired == []
    assert len(bench.wheel) == 0


def test_an_owner_that_went_away_is_not_kept() -> None:
    bench = Bench()
    owner = bench.owner(1.0)
    bench.wheel.forget(owner)
    assert len(bench.wheel) == 0
    bench.pass_time(10)
    assert owner.fired == []


def test_an_owner_that_goes_away_in_the_tick_that_fires_is_not_called() -> None:
    bench = Bench()
    one, other = bench.owner(1.0), bench.owner(1.0)
    one.then = lambda: bench.wheel.forget(other)
    other.then = lambda: bench.wheel.forget(one)
    bench.pass_time(2)
    assert sorted(len(owner.fired) for owner in (one, other)) == [0, 1]


def test_an_owner_may_arm_itself_again_when_it_fires() -> None:
    bench = Bench()
    owner = bench.owner(1.0)
    owner.then = lambda: owner.arm(bench.clock[0] + 1.0)
    for _ in range(40):
        bench.pass_time(0.25)
    assert 8 <= len(owner.fired) <= 10


def test_an_owner_that_fails_keeps_no_other_from_its_deadline() -> None:
    bench = Bench()
    good = [bench.owner(1.0) for _ in range(5)]
    bad = bench.owner(1.0)
    bad.then = lambda: 1 / 0
    bench.pass_time(2)
    assert all(owner.fired for owner in good)
    ((owner, error),) = bench.crashes
    assert owner is bad
    assert isinstance(error, ZeroDivisionError)


def test_a_long_sleep_fires_everything_that_came_due() -> None:
    bench = Bench()
    owners = [bench.owner(float(after)) for after in range(1, 100)]
    bench.pass_time(10_000)
    assert all(len(owner.fired) == 1 for owner in owners)


class WheelMachine(RuleBasedStateMachine):
    """Any mix of arming, disarming, forgetting and time; the oracle is the list of armed deadlines."""

    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench()
        self.owners = [self.bench.owner() for _ in range(5)]
        self.expected: dict[int, float] = {}
        self.fired: dict[int, int] = dict.fromkeys(range(5), 0)

    @rule(index=st.integers(0, 4), after_s=st.floats(0, 20))
    def arm(self, index: int, after_s: float) -> None:
        at = self.bench.clock[0] + after_s
        self.owners[index].arm(at)
        self.expected[index] = at

    @rule(index=st.integers(0, 4))
    def disarm(self, index: int) -> None:
        self.owners[index].deadline = NEVER
        self.expected.pop(index, None)

    @rule(index=st.integers(0, 4))
    def forget(self, index: int) -> None:
        self.bench.wheel.forget(self.owners[index])
        self.expected.pop(index, None)

    @rule(seconds=st.floats(0, 10))
    def pass_time(self, seconds: float) -> None:
        self.bench.pass_time(seconds)
        now = self.bench.clock[0]
        for index, owner in enumerate(self.owners):
            new = len(owner.fired) - self.fired[index]
            self.fired[index] = len(owner.fired)
            at = self.expected.get(index, math.inf)
            if new:
                assert new == 1
                assert at <= now, "fired early or for nothing"
                del self.expected[index]
            else:
                assert at > now - WHEEL_TICK_S - 1e-6, "overdue by more than a tick"

    @invariant()
    def everybody_armed_is_filed_in_time(self) -> None:
        for index, at in self.expected.items():
            assert self.owners[index].filed <= max(at, self.bench.clock[0]) + WHEEL_TICK_S + 1e-6


TestWheelMachine = WheelMachine.TestCase


def test_an_owner_that_takes_those_of_a_later_tick_with_it_harms_no_one() -> None:
    """Both ticks are due at once: the machine had stalled."""
    bench = Bench()
    first, second, third = bench.owner(0.1), bench.owner(0.1 + WHEEL_TICK_S), bench.owner(0.1 + 2 * WHEEL_TICK_S)
    first.then = lambda: bench.wheel.forget(second)
    bench.pass_time(10.0)
    assert (len(first.fired), len(second.fired), len(third.fired)) == (1, 0, 1)
    assert bench.crashes == []
