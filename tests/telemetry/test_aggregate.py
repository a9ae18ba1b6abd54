"""What a subtree says of itself, by table and against a slow second way."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.load import SubtreeLoad
from tierlb.telemetry.aggregate import (
    MOST_DOWN,
    MOST_UTILISATION,
    RecentRate,
    RecentRates,
    TrafficMix,
    WorkRates,
    aggregate,
    pools_down,
    subtree_capacity,
    subtree_slots,
    target_capacity,
    target_slots,
)
from tierlb.telemetry.aggregate import (
    HostFigures as Child,
)
from tierlb.telemetry.aggregate import (
    NodeCounters as Counters,
)
from tierlb.telemetry.aggregate import (
    TargetFigures as Target,
)


def children(*capacities: float | None) -> list[Child]:
    return [Child(capacity) for capacity in capacities]


@pytest.mark.parametrize(
    ("capacities", "expected"),
    [
        ([], 0),
        ([None, 0], 0),
        ([10, 20], 30),
        ([10, None, 20], 45),
        ([10, 0.0, 20, None], 60),
    ],
)
def test_a_child_that_is_not_known_counts_like_its_siblings(capacities: list[float | None], expected: float) -> None:
    assert target_capacity(children(*capacities)) == expected


@pytest.mark.parametrize(
    ("own", "ages", "expected"),
    [(None, [], 0.0), (None, [None, None], 0.0), (None, [9.0, 3.0, None], 3.0), (2.0, [9.0], 2.0), (20.0, [9.0], 9.0)],
)
def test_a_capacity_is_as_old_as_the_newest_of_what_it_was_learnt_from(
    own: float | None, ages: list[float | None], expected: float
) -> None:
    below = [Child(10.0, capacity_age_s=age) for age in ages] + [Child(10.0, ready=False, capacity_age_s=0.1)]
    load = aggregate(Counters(), RecentRate(), 0.1, 50.0, [Target(1.0, below)], own_age_s=own)
    assert load.capacity_age_s == expected
    assert aggregate(Counters(), RecentRate(), 0.1, 0.0, [], own_age_s=own).capacity_age_s == 0.0, "nothing is known"


def test_only_ready_children_have_capacity() -> None:
    assert target_capacity([Child(10), Child(90, ready=False), Child(None)]) == 20


CAPACITIES = [
    ("nothing is known", 0, [], 0),
    ("only the node itself is known", 50, [Target(1.0, children(None))], 50),
    ("only what is below is known", 0, [Target(1.0, children(30, 30))], 60),
    ("the node is the limit", 50, [Target(1.0, children(30, 30))], 50),
    ("the children are the limit", 70, [Target(1.0, children(30, 30))], 60),
    (
        "the pool with too much traffic is the limit",
        0,
        [Target(0.9, children(90)), Target(0.1, children(20))],
        100,
    ),
    (
        "a pool that gets nothing is no limit",
        0,
        [Target(1.0, children(90)), Target(0.0, children(1))],
        90,
    ),
    (
        "a pool that is not known is no limit",
        0,
        [Target(0.5, children(90)), Target(0.5, children(None))],
        180,
    ),
    (
        "a pool without ready members is no limit",
        0,
        [Target(0.5, children(9)), Target(0.5, [Child(5, False)])],
        18,
    ),
]


@pytest.mark.parametrize(("own", "targets", "expected"), [c[1:] for c in CAPACITIES], ids=[c[0] for c in CAPACITIES])
def test_capacity_is_the_smallest_known_limit(own: float, targets: list[Target], expected: float) -> None:
    assert subtree_capacity(own, targets) == pytest.approx(expected)


def test_counts_are_the_nodes_own_and_leaves_are_sums() -> None:
    below = [
        Child(100, hottest=0.7, age_s=0.3, ready_leaves=3, leaves=4),
        Child(100, hottest=0.95, age_s=9.0, ready_leaves=2, leaves=2, ready=False),
        Child(None, age_s=0.1),
    ]
    load = aggregate(
        Counters(in_flight=7, arrivals=50, done=43, errors=2, rejected=1, connections=5),
        RecentRate(done_per_s=60, response_s=0.01, connection_s=4.0),
        0.2,
        1000,
        [Target(1.0, below)],
        draining=True,
    )
    assert load == SubtreeLoad(
        capacity=200,
        own_capacity=1000,
        utilisation=0.3,
        hottest=0.7,
        in_flight=7,
        arrivals=50,
        done=43,
        errors=2,
        rejected=1,
        connections=5,
        response_s=0.01,
        connection_s=4.0,
        age_s=0.3,
        ready_leaves=4,
        leaves=7,
        draining=True,
    )


@pytest.mark.parametrize(
    ("busy", "done_per_s", "below", "utilisation", "hottest"),
    [
        (0.5, 10, 0.1, 0.5, 0.5),
        (0.1, 80, 0.1, 0.8, 0.8),
        (0.1, 10, 0.9, 0.1, 0.9),
        (0.1, 150, 0.9, 1.5, 1.5),
    ],
)
def test_the_hottest_below_is_carried_apart_from_utilisation(
    busy: float, done_per_s: float, below: float, utilisation: float, hottest: float
) -> None:
    load = aggregate(Counters(), RecentRate(done_per_s), busy, 0, [Target(1.0, [Child(100, hottest=below)])])
    assert (load.utilisation, load.hottest) == (utilisation, hottest)


def test_a_node_of_which_nothing_is_known_says_zero_and_its_loop() -> None:
    assert aggregate(Counters(), RecentRate(done_per_s=10), 0.25, 0, []) == SubtreeLoad(utilisation=0.25, hottest=0.25)


CHILD = st.builds(
    Child,
    capacity=st.one_of(st.none(), st.just(0.0), st.floats(0.1, 1e5)),
    ready=st.booleans(),
    hottest=st.floats(0, 2),
    age_s=st.floats(0, 10),
    ready_leaves=st.integers(0, 9),
    leaves=st.integers(9, 20),
)
TARGETS = st.lists(st.builds(Target, st.floats(0, 1), st.lists(CHILD, max_size=5)), max_size=4)


def slow_capacity(own: float, targets: list[Target]) -> float:
    """The largest rate that no known part forbids, found by trying rates."""

    def allowed(rate: float) -> bool:
        if own and rate > own:
            return False
        for target in targets:
            known = [c.capacity for c in target.children if c.ready and c.capacity]
            if known:
                mean = math.fsum(known) / len(known)
                there = math.fsum(c.capacity or mean for c in target.children if c.ready)
                if rate * target.share > there:
                    return False
        return True

    low, high = 0.0, 1e300
    if allowed(high):
        return 0.0
    for _ in range(1100):
        middle = (low * high) ** 0.5 if low else high / 2**40
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low


@given(st.one_of(st.just(0.0), st.floats(1, 1e6)), TARGETS)
def test_capacity_agrees_with_trying_rates(own: float, targets: list[Target]) -> None:
    targets = [target for target in targets if target.share > 1e-3 or target.share == 0]
    expected = slow_capacity(own, targets)
    assert subtree_capacity(own, targets) == pytest.approx(expected, rel=1e-6)


@given(st.floats(0, 1), st.floats(0, 1e6), TARGETS)
def test_whatever_is_below_the_figures_are_finite_and_not_negative(
    busy: float, rate: float, targets: list[Target]
) -> None:
    load = aggregate(Counters(), RecentRate(rate), busy, 0, targets)
    assert all(
        math.isfinite(value) and value >= 0 for value in (load.capacity, load.utilisation, load.hottest, load.age_s)
    )
    assert load.hottest >= load.utilisation >= busy
    assert load.ready_leaves <= load.leaves


def test_rates_and_means_come_from_one_window_and_hold_while_nothing_ends() -> None:
    rates = RecentRates()
    assert rates.sample(0.0, Counters()) == RecentRate()
    assert rates.sample(0.5, Counters(done=5, timed=5, timed_s=1.0)) == RecentRate()
    rates.sample(1.0, Counters(done=20, timed=20, timed_s=2.0, closed=2, connected_s=10))
    assert rates.value == RecentRate(20, 0.1, 5.0, rising_s=0.1)
    rates.sample(2.0, Counters(done=20, timed=20, timed_s=9.0, closed=2, connected_s=12))
    assert rates.value == RecentRate(0, 0.1, 5.0, rising_s=0.1)


@pytest.mark.parametrize(
    ("each", "slow"), [(10, 0.5), (1, 0.5), (10, 0.01)], ids=["slower", "too few to tell", "faster"]
)
def test_a_slowdown_shows_within_a_quarter_second_and_a_recovery_within_one(each: int, slow: float) -> None:
    """Answers of 0.1 s for a second, then of another time; every 0.05 s so many."""
    rates, count, seconds = RecentRates(), 0, 0.0
    for tick in range(26):
        if tick:
            count, seconds = count + each, seconds + each * (0.1 if tick <= 20 else slow)
        judged = {"judged": count, "usual_s": 0.1 * count, "ratios": seconds / 0.1}
        rates.sample(tick * 0.05, Counters(done=count, timed=count, timed_s=seconds, **judged))
    response_s = (15 * 0.1 + 5 * slow) / 20
    assert rates.value.response_s == pytest.approx(response_s)
    assert rates.value.rising_s == pytest.approx(slow if each == 10 and slow > 0.1 else response_s)


def test_a_few_long_requests_among_short_ones_are_no_slowdown() -> None:
    """In the last quarter second all are of the long kind, as usual."""
    rates = RecentRates()
    count, seconds = 0, 0.0
    for tick in range(26):
        each_s = 0.002 if tick <= 20 else 0.2
        count, seconds = count + 2, seconds + 2 * each_s
        rates.sample(tick * 0.05, Counters(timed=count, timed_s=seconds, judged=count, usual_s=seconds, ratios=count))
    assert rates.value.rising_s == pytest.approx(rates.value.response_s)


def test_the_rate_of_errors_is_of_the_last_second_and_falls_to_zero_with_them() -> None:
    rates = RecentRates()
    seen = [
        rates.sample(now, Counters(done=done, errors=errors)).errors_per_s
        for now, done, errors in [(0.0, 0, 0), (0.5, 9, 9), (1.0, 20, 20), (2.0, 40, 25), (4.0, 80, 31), (5.0, 99, 31)]
    ]
    assert seen == [0, 0, 20, 5, 3, 0]


def test_errors_are_a_rate_while_nothing_is_done() -> None:
    rates = RecentRates()
    for second in range(3):
        recent = rates.sample(float(second), Counters(errors=7 * second))
    assert recent == RecentRate(errors_per_s=7)


@given(st.lists(st.tuples(st.integers(7, 19), st.integers(0, 40), st.floats(0, 5)), min_size=1, max_size=60))
def test_rates_agree_with_a_list_of_everything(steps: list[tuple[int, int, float]]) -> None:
    rates, history = RecentRates(), [(0.0, 0, 0.0)]
    rates.sample(0.0, Counters())
    response_s = 0.0
    for pause, completions, area in steps:
        last = history[-1]
        history.append((last[0] + pause / 128, last[1] + completions, last[2] + area))
        now, done, in_flight_s = history[-1]
        value = rates.sample(now, Counters(done=done, timed=done, timed_s=in_flight_s))
        then = [entry for entry in history if now - entry[0] >= 1.0]
        if not then:
            assert value == RecentRate()
            continue
        begin, done_then, area_then = then[-1]
        assert value.done_per_s == pytest.approx((done - done_then) / (now - begin))
        if done > done_then:
            response_s = (in_flight_s - area_then) / (done - done_then)
        assert value.response_s == pytest.approx(response_s)


def test_the_mix_follows_the_traffic_and_holds_while_there_is_none() -> None:
    mix = TrafficMix()
    assert mix.sample(0.0, {"app": 0, "api": 0}) == {"app": 0.5, "api": 0.5}
    for second in range(1, 60):
        shares = mix.sample(float(second), {"app": 90 * second, "api": 10 * second})
    assert shares == pytest.approx({"app": 0.9, "api": 0.1}, abs=0.002)
    assert mix.sample(1000.0, {"app": 90 * 59, "api": 10 * 59}) == pytest.approx(shares)
    for second in range(1, 30):
        shares = mix.sample(1000.0 + second, {"app": 90 * 59, "api": 590 + 100 * second})
    assert shares["api"] > 0.99


def test_targets_come_and_go_in_the_mix() -> None:
    mix = TrafficMix()
    mix.sample(0.0, {"app": 0})
    assert mix.sample(1.0, {"app": 99, "new": 0})["new"] < 0.02
    assert mix.sample(2.0, {"new": 50}) == {"new": 1.0}


@given(st.lists(st.tuples(st.floats(0, 20), st.integers(-5, 100), st.integers(0, 100)), min_size=1, max_size=40))
def test_shares_always_add_up_to_one(steps: list[tuple[float, int, int]]) -> None:
    mix, now, one, other = TrafficMix(), 0.0, 10, 0
    for pause_s, growth, more in steps:
        now, one, other = now + pause_s, one + growth, other + more
        shares = mix.sample(now, {"one": one, "other": other})
        assert math.isclose(sum(shares.values()), 1.0)
        assert all(0 <= share <= 1 for share in shares.values())


def test_a_capacity_next_to_nothing_gives_a_use_that_is_a_number() -> None:
    load = aggregate(Counters(), RecentRate(done_per_s=1e4), 0.1, 0.0, [Target(1.0, children(5e-324))])
    assert load.utilisation == load.hottest == MOST_UTILISATION


@pytest.mark.parametrize(
    ("own", "below", "down"),
    [
        ({}, {}, ()),
        ({"app": True, "api": False}, {}, ("api",)),
        ({}, {"web": [("app",), ("app", "api")]}, ("app",)),
        ({}, {"web": [("app",), ()]}, ()),
        ({}, {"web": []}, ()),
        ({"db": False}, {"web": [("app",)], "mid": [("api",), ("api",)]}, ("api", "app", "db")),
        ({f"pool-{number:02}": False for number in range(50)}, {}, tuple(f"pool-{n:02}" for n in range(MOST_DOWN))),
    ],
)
def test_a_pool_is_down_where_no_way_leads_to_an_available_endpoint(
    own: dict[str, bool], below: dict[str, list[tuple[str, ...]]], down: tuple[str, ...]
) -> None:
    assert pools_down(own, below) == down


USES = [
    # standard items per second at the target (None: only the node's own count is known) -> utilisation
    (None, 0.5),
    (30.0, 0.3),
    (0.0, 0.1),  # long polls that end are no work
]


@pytest.mark.parametrize(("items_per_s", "expected"), USES)
def test_use_is_the_work_done_by_what_can_be_done_of_it(items_per_s: float | None, expected: float) -> None:
    target = Target(1.0, children(100), items_per_s)
    assert aggregate(Counters(), RecentRate(done_per_s=50), 0.1, 0, [target]).utilisation == pytest.approx(expected)


def test_work_is_a_rate_of_the_last_second_by_target() -> None:
    rates = WorkRates()
    assert rates.rate("a") is None
    for tick in range(41):
        rates.sample(tick * 0.05, {"a": 3.0 * tick * 0.05, "b": 0.0})
    assert rates.rate("a") == pytest.approx(3.0)
    assert rates.rate("b") == 0
    rates.sample(2.05, {"a": 0.0})
    assert rates.rate("a") == 0, "it is never below zero"
    assert rates.rate("b") is None


@pytest.mark.parametrize(
    ("children", "slots"),
    [
        ([], 0.0),
        ([Child(1.0)], 0.0),
        ([Child(1.0, slots=4.0), Child(1.0, slots=4.0)], 8.0),
        ([Child(1.0, slots=4.0), Child(1.0, ready=False, slots=4.0)], 4.0),
        ([Child(1.0, slots=4.0), Child(1.0)], 8.0),
        ([Child(1.0, slots=12.0, ready_leaves=3), Child(1.0, ready_leaves=2)], 20.0),
        (
            [
                Child(1.0, slots=4.0, slowness=10.0, answers=5),
                Child(1.0, slots=4.0, slowness=10.0, answers=9),
            ],
            8.0,
        ),
        (
            [
                Child(1.0, slots=4.0, slowness=10.0, answers=0),
                Child(1.0, slots=4.0, slowness=1.0, answers=9),
            ],
            4.4,
        ),
        (
            [
                Child(1.0, slots=4.0, slowness=10.0, answers=10),
                Child(1.0, slots=4.0, slowness=1.0, answers=100),
            ],
            8.0,
        ),
    ],
    ids=[
        "none",
        "unknown",
        "alike",
        "not ready",
        "one unknown",
        "leaves unknown",
        "slow alike",
        "slow and avoided",
        "slow and used by its part",
    ],
)
def test_slots_of_a_slow_child_count_as_far_as_traffic_goes_there(children: list[Child], slots: float) -> None:
    assert target_slots(children) == pytest.approx(slots)


def test_slots_of_a_pool_count_by_its_part_of_the_traffic() -> None:
    targets = [Target(0.8, [Child(1.0, slots=8.0)]), Target(0.2, [Child(1.0, slots=8.0)])]
    assert subtree_slots(targets) == pytest.approx(10.0)
    assert subtree_slots([Target(1.0, [Child(1.0)])]) == 0.0
