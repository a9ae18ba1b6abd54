"""How slow a host is taken to be: tables of steady loads, a slow oracle, hangs, chance at rest, trials."""

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.capacity import ALIKE
from tierlb.balance.kinds import Answers
from tierlb.balance.slowness import BELIEF_MEMORY, HIGHEST, LOWEST, PRIOR, Slowness, window_s
from tierlb.balance.slowness_probe import BETTER, LONGEST_REST_S, PROBE_ITEMS, PROBED_FROM, SOON_S, Siblings

TICK_S = 0.05
USUAL_S = 0.01


def answers(count: int, ratio: float) -> Answers:
    return Answers(count, count * USUAL_S, count * ratio)


def tick(host: Slowness, count: int, ratio: float = 1.0, *, overdue: float = 0.0, busy: bool = True) -> None:
    host.advance(TICK_S, answers(count, ratio), usual_s=USUAL_S, overdue=overdue, busy=busy)


def steady(host: Slowness, seconds: float, rate_per_s: float, ratio: float, *, overdue: float = 0.0) -> Slowness:
    """Answers evenly in time, each `ratio` times the usual; items are there all the time."""
    done = 0
    for count in range(1, round(seconds / TICK_S) + 1):
        now_done = int(count * TICK_S * rate_per_s + 1e-9)
        tick(host, now_done - done, ratio, overdue=overdue)
        done = now_done
    return host


def idle(host: Slowness, seconds: float) -> Slowness:
    for _ in range(round(seconds / TICK_S)):
        tick(host, 0, busy=False)
    return host


def hanging(host: Slowness, seconds: float, items: int = 8) -> Slowness:
    """Nothing is answered any more; the items there become later and later."""
    for count in range(1, round(seconds / TICK_S) + 1):
        tick(host, 0, overdue=max(0.0, items * (count * TICK_S / USUAL_S - 2)))
    return host


STEADY = [
    # answers per second, ratio of their times to the usual ones -> slowness
    (200, 1, 1),
    (200, 2, 2),
    (40, 10, 10),
    (200, 0.25, 0.25),
    (800, 5, 5),  # also where they wait for each other
    (80, 50, 50),
    (1600, 2.5, 2.5),
]


@pytest.mark.parametrize(("rate", "ratio", "expected"), STEADY)
def test_slowness_is_the_time_in_usual_ones(rate: float, ratio: float, expected: float) -> None:
    assert steady(Slowness(), 20, rate, ratio).value == pytest.approx(expected, rel=0.1)


def test_nothing_is_known_before_the_first_answer() -> None:
    host = steady(Slowness(), 5, 0, 1)
    assert (host.value, host.seen) == (1.0, 0.0)
    tick(host, 1)
    assert host.seen == 1


def test_of_what_is_not_known_the_siblings_are_the_best_guess() -> None:
    host = Slowness(siblings=Siblings(7.0))
    tick(host, 0)
    assert host.value == pytest.approx(7)
    tick(host, 1, 7)
    assert host.value == pytest.approx(7)


def test_what_was_learnt_holds_while_idle() -> None:
    host = steady(Slowness(), 5, 200, 3)
    known = host.value
    host.siblings = Siblings(3.0)
    assert idle(host, 3600).value == known


def test_a_slowdown_is_seen_within_a_second() -> None:
    host = steady(Slowness(), 10, 300, 1)
    steady(host, 1.0, 40, 10, overdue=13)  # of 4 items that are 50 ms old in the mean
    assert host.value > 2.9
    steady(host, 2.0, 40, 10, overdue=13)
    assert host.value > 7


def test_a_recovery_of_one_that_is_used_is_seen_within_two_seconds() -> None:
    host = steady(Slowness(), 20, 40, 10)
    assert steady(host, 2.0, 300, 1).value < 2


def test_a_host_that_hangs_becomes_slower_as_long_as_it_lasts() -> None:
    seen = [hanging(steady(Slowness(), 10, 300, 1), seconds).value for seconds in (0.5, 1, 5, 20)]
    assert seen == sorted(seen)
    assert all(value > least for value, least in zip(seen, (2.5, 6, 100, 500), strict=True))


@pytest.mark.parametrize("ratio", [0.01, 0.3, 3.0])
def test_few_answers_at_rest_do_not_decide(ratio: float) -> None:
    """One in half a second, the time of each is chance."""
    host = Slowness()
    tick(host, 2, ratio)
    assert 1 / 1.5 < host.value < 1.5


def test_chance_does_not_part_equal_hosts() -> None:
    """Exponential times, from one answer a second to two hundred."""
    rng = random.Random(1)
    for rate in (1, 5, 20, 200):
        hosts = [Slowness() for _ in range(16)]
        for _ in range(round(20 / TICK_S)):
            for host in hosts:
                times = (
                    [rng.expovariate(1) for _ in range(max(1, int(rate * TICK_S)))] if rng.random() < rate / 20 else []
                )
                found = Answers(len(times), len(times) * USUAL_S, sum(times))
                host.advance(TICK_S, found, usual_s=USUAL_S, overdue=0.0, busy=bool(times))
        values = sorted(host.value for host in hosts)
        assert values[-1] < 1.9 * values[0], rate
        assert sum(host.probe.active for host in hosts) <= 2, rate


def test_slow_items_do_not_make_it_swing_between_answers() -> None:
    host, seen = Slowness(), []
    for count in range(1, 1200):
        found = Answers(1, 2.0, 1.0) if count % 20 == 0 else Answers()
        host.advance(TICK_S, found, usual_s=2.0, overdue=0.0, busy=True)
        seen.append(host.value)
    assert max(seen[600:]) < 1.2 * min(seen[600:])


def test_what_takes_long_is_remembered_for_longer() -> None:
    """At a host of slowness 20 an item of 0.1 s takes 2 s, so that the window is 6 s."""
    fast, slow = Slowness(1.0), Slowness(20.0)
    for host in (fast, slow):
        host.advance(TICK_S, answers(10, 1), usual_s=0.1, overdue=0.0, busy=True)
        host.value = 1.0 if host is fast else 20.0
        host.advance(3.0, Answers(), usual_s=0.1, overdue=0.0, busy=True)
    assert fast.recent == pytest.approx(10 * math.exp(-3))
    assert slow.recent == pytest.approx(10 * math.exp(-3 / 6))


def test_answers_that_come_within_one_tick_are_no_rest() -> None:
    """Nothing was in flight at its end, and by its integral next to nothing."""
    host = slow()
    for _ in range(200):
        tick(host, 1, 10, busy=False)
        assert not host.probe.active


@pytest.mark.parametrize(
    ("item_s", "expected"), [(0, 1), (0.01, 1), (1 / 3, 1), (0.5, 1.5), (2, 6), (4, 10), (1e9, 10)]
)
def test_the_window_holds_a_few_items(item_s: float, expected: float) -> None:
    assert window_s(item_s) == pytest.approx(expected)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.floats(0.01, 8), st.floats(0, 50)), min_size=1, max_size=30),
    st.floats(0.2, 5),
)
def test_the_value_is_that_of_the_definition(ticks: list[tuple[int, float, float]], siblings: float) -> None:
    """Ratios weighed by age, all summed anew at each tick, beside what was believed; the window is 1 s."""
    host, belief, told = Slowness(siblings=Siblings(siblings)), 1.0, 0.0
    for size in range(1, len(ticks) + 1):
        count, ratio, overdue = ticks[size - 1]
        tick(host, count, ratio, overdue=overdue)
        weights = [math.exp(-TICK_S * (size - 1 - index)) for index in range(size)]
        window = list(zip(weights, ticks, strict=False))
        ratios = sum(weight * each[0] * each[1] for weight, each in window)
        shy = PRIOR * (1 - told / BELIEF_MEMORY)
        prior = (told * belief + shy * siblings) / (told + shy)
        weight = sum(weight * each[0] for weight, each in window)
        assert host.value == pytest.approx((ratios + overdue + PRIOR * prior) / (weight + PRIOR))
        assert host.typical == pytest.approx((ratios + PRIOR * prior) / (weight + PRIOR))
        if count:
            belief += (ratio - belief) * count / (count + told)
            told = min(BELIEF_MEMORY, told + count)
        assert host.seen == told


TICKS = st.lists(
    st.tuples(
        st.floats(0, 10),
        st.integers(0, 500),
        st.floats(0, 1e9),
        st.floats(0, 1e12),
        st.booleans(),
    ),
    max_size=60,
)


@given(TICKS, st.floats(0, 1e6), st.floats(LOWEST, HIGHEST))
def test_whatever_comes_it_is_a_finite_number_above_zero(
    ticks: list[tuple[float, int, float, float, bool]], usual_s: float, siblings: float
) -> None:
    host = Slowness(siblings=Siblings(siblings))
    for dt_s, count, ratio, overdue, busy in ticks:
        host.advance(dt_s, answers(count, ratio), usual_s=usual_s, overdue=overdue, busy=busy)
        assert LOWEST <= host.value <= HIGHEST
        assert 0 <= host.seen <= BELIEF_MEMORY


# Trials.


def slow(ratio: float = 10.0) -> Slowness:
    """A host that is slower than its siblings, as long as it is known."""
    return steady(Slowness(), 5, 40, ratio)


def test_a_starved_host_comes_on_trial() -> None:
    host = slow()
    assert not host.probe.active
    idle(host, 1.9)
    assert not host.probe.active
    idle(host, 0.2)
    assert host.probe.active


@pytest.mark.parametrize(("value", "rest_s"), [(1.2, None), (1.3, 0.5), (2.9, 0.5), (3.1, 2.0), (10.0, 2.0)])
def test_one_that_may_be_an_equal_of_its_siblings_is_tried_sooner(value: float, rest_s: float | None) -> None:
    host = Slowness()
    host.believe(value, 20.0)
    tried = next((count for count in range(1, 200) if idle(host, TICK_S).probe.active), None)
    assert tried == (None if rest_s is None else pytest.approx(rest_s / TICK_S, abs=1))


def test_one_that_is_slower_by_many_answers_is_not_tried_sooner() -> None:
    host = steady(Slowness(), 5, 100, 2.0)
    assert not idle(host, 1.0).probe.active


@pytest.mark.parametrize(("value", "trial"), [(2.0, True), (5.9, True), (6.1, False)])
def test_where_times_vary_one_that_is_slower_by_many_answers_is_tried_sooner(value: float, trial: bool) -> None:
    """It may only have held long items for a while."""
    host = steady(Slowness(), 5, 300, value)
    host.siblings = Siblings(alike=2 * ALIKE)
    assert idle(host, 1.0).probe.active is trial


@pytest.mark.parametrize(("siblings", "trial"), [(1.0, True), (6.0, True), (10.0, False), (20.0, False)])
def test_one_that_is_as_fast_as_its_siblings_is_not_starved(siblings: float, trial: bool) -> None:
    host = slow()
    host.siblings = Siblings(siblings)
    assert idle(host, 600).probe.active is trial
    assert PROBED_FROM < BETTER


def test_a_host_that_still_has_items_is_not_starved() -> None:
    host = slow()
    host.value = 10.0
    for _ in range(200):
        tick(host, 0)
        assert not host.probe.active


def tried(host: Slowness, ratio: float, most: int = 50) -> int:
    """The trial as the data plane carries it out: one item at a time. Returns how many it took."""
    for items in range(most):
        if not host.probe.active:
            return items
        for _ in range(round(ratio * USUAL_S / TICK_S) - 1):
            tick(host, 0)
        tick(host, 1, ratio)
    return most


def test_a_trial_costs_one_item_if_nothing_has_changed() -> None:
    host = idle(slow(), 2.1)
    assert tried(host, 10) == 1
    assert host.value == pytest.approx(10, rel=0.2)


def test_a_trial_finds_that_a_host_has_recovered() -> None:
    host = idle(slow(), 2.1)
    assert tried(host, 1.0) == PROBE_ITEMS
    assert host.value < 3


def test_after_a_recovery_that_was_found_the_belief_is_the_new_one() -> None:
    host = idle(slow(), 2.1)
    tried(host, 1.0)
    steady(host, 0.5, 100, 1.0)
    assert host.value < 2


def test_an_item_that_hangs_on_trial_is_the_only_one() -> None:
    host = idle(slow(), 2.1)
    hanging(host, 60, 1)
    assert host.probe.active
    assert host.value > 100


def test_each_trial_may_take_as_many_items_as_the_first() -> None:
    host = idle(slow(100.0), 2.1)
    assert tried(host, 1.0) == PROBE_ITEMS
    steady(host, 5, 40, 100)
    assert tried(idle(host, 2.1), 1.0) == PROBE_ITEMS


def test_a_trial_for_which_there_are_no_items_goes_on_and_forgets_nothing() -> None:
    host = idle(slow(), 2.1)
    tick(host, 1, 1.0)
    idle(host, 0.1)
    assert host.recent > 0.5
    assert idle(host, 600).probe.active
    assert 1 + tried(host, 1.0) == PROBE_ITEMS


def test_a_hanging_trial_is_over_when_it_is_answered() -> None:
    host = idle(slow(), 2.1)
    hanging(host, 5, 1)
    tick(host, 1, 500)
    assert not host.probe.active
    assert host.value > 10


def rests(host: Slowness, ratio: float, trials: int) -> list[float]:
    """How long it rests before each trial that changes nothing."""
    pauses = []
    for _ in range(trials):
        for count in itertools.count(1):
            tick(host, 0, busy=False)
            if host.probe.active:
                pauses.append(round(count * TICK_S, 1))
                break
            assert count < 2000
        tried(host, ratio)
    return pauses


def test_trials_of_one_that_was_better_go_on_so_that_a_recovery_is_seen_within_ten_seconds() -> None:
    host = steady(steady(Slowness(), 5, 300, 1), 3, 40, 10)
    assert rests(host, 10, 6) == pytest.approx([2, 4, 8, 8, 8, 8], abs=0.11)
    assert LONGEST_REST_S < 10


@pytest.mark.parametrize("first", [1, 40])
def test_trials_of_one_that_always_was_slow_become_rare(first: int) -> None:
    host = Slowness()
    tick(host, first, 10)
    steady(host, 5, 40, 10)
    assert rests(host, 10, 7) == pytest.approx([2, 4, 8, 16, 32, 60, 60], abs=0.11)


def test_one_whose_first_items_were_fast_by_chance_was_not_better_once() -> None:
    host = Slowness()
    for ratio in (0.2, 0.5, 3.0, *(30.0, 10.0) * 3):
        tick(host, 1, ratio)
    steady(host, 5, 40, 10)
    assert rests(host, 10, 7)[-1] == pytest.approx(60, abs=0.11)


def test_a_trial_that_was_a_success_starts_the_rests_anew() -> None:
    host = slow()
    rests(host, 10, 3)
    idle(host, 60)
    tried(host, 3)
    host.siblings = Siblings(0.1)
    assert rests(host, 3, 1) == pytest.approx([2], abs=0.11)


def test_when_all_were_slow_and_one_has_recovered_the_others_are_tried_too() -> None:
    """The middle is one of those that were not asked since."""
    host = Slowness(siblings=Siblings(10.0))
    host.believe(10.0, 64.0)
    for fastest, tried in ((10.0, False), (1.0, True)):
        host.siblings = Siblings(10.0, fastest)
        for _ in range(60):
            host.advance(0.05, Answers(), usual_s=0.01, overdue=0.0, busy=False)
        assert host.probe.active is tried


@pytest.mark.parametrize(("together", "trial"), [(True, True), (False, False)], ids=["slow together", "slow alone"])
def test_one_that_was_slow_together_with_one_that_has_recovered_is_tried_at_once(together: bool, trial: bool) -> None:
    """Its own trials have become rare meanwhile."""
    host = slow()
    rests(host, 10, 3)
    host.siblings = Siblings(*[10.0 if together else 1.0] * 2)
    tick(host, 1, 10.0)
    host.siblings = Siblings(*[1.0] * 2)
    idle(host, SOON_S + 0.1)
    assert host.probe.active is trial


def test_what_is_not_seen_for_a_while_is_taken_for_what_the_siblings_are() -> None:
    host = Slowness(siblings=Siblings(1.0))
    host.believe(2.5, 64.0)
    for _ in range(200):
        host.advance(0.05, Answers(), usual_s=0.01, overdue=0.0, busy=True)
    assert host.value == pytest.approx(2.5), "where it is not to be forgotten it holds"
    for _ in range(200):
        host.forget(0.05)
        host.advance(0.05, Answers(), usual_s=0.01, overdue=0.0, busy=True)
    assert host.value == pytest.approx(1.0, abs=0.2)
