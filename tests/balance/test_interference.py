"""What parked items weigh, as seen by others' times: none that wait, all that keep a slot; against chance."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.interference import (
    FADES_S,
    INTERFERENCE_WINDOW_S,
    LEAST_INTERFERENCE,
    MOST_INTERFERENCE,
    Interference,
    Seen,
)

TICK_S = 0.05
Ratio = Callable[[float, float], float]


def run(
    found: Interference,
    seconds: float,
    parked: list[float],
    ratio: Ratio,
    *,
    count: int = 5,
    rng: random.Random | None = None,
) -> Interference:
    """Hosts with so many parked, whose mean ratio is `ratio` of that and of the weight; with `rng` the times are
    exponential."""
    for _ in range(round(seconds / TICK_S)):
        hosts = []
        for each in parked:
            mean = ratio(each, found.weight)
            taken = mean if rng is None else mean * sum(rng.expovariate(1) for _ in range(count)) / count
            hosts.append(Seen(each, count, taken))
        found.observe(TICK_S, hosts)
    return found


def waits(parked: float, weight: float) -> float:
    """Parked items cost nothing. With a weight, too little is sent there, so that its answers are faster."""
    return max(0.2, 1.0 - 0.2 * weight * parked)


def blocks(parked: float, weight: float) -> float:
    """Each keeps one of four slots, until it has the weight that evens it out."""
    return 1 + 0.25 * parked * (1 - weight)


HOSTS = [0.0, 0.0, 1.0, 2.0]


def test_at_first_a_parked_item_weighs_nothing() -> None:
    assert Interference().weight == 0


def test_items_that_wait_weigh_nothing() -> None:
    assert run(Interference(), 30, HOSTS, waits).weight == 0


def test_items_that_keep_a_slot_weigh_as_much_as_one_in_the_queue() -> None:
    found = run(Interference(), 3, HOSTS, blocks)
    assert found.weight == pytest.approx(1, abs=0.3)
    assert run(found, 30, HOSTS, blocks).weight == pytest.approx(1, abs=0.1)


def test_it_is_found_within_two_seconds() -> None:
    assert run(Interference(), 2, HOSTS, blocks).weight > 0.5


def test_a_parked_item_weighs_no_more_than_the_most() -> None:
    assert run(Interference(), 20, HOSTS, lambda parked, weight: 1 + parked).weight == MOST_INTERFERENCE


def test_hosts_that_were_faster_with_parked_items_are_no_credit() -> None:
    found = run(Interference(), 60, HOSTS, lambda parked, weight: 1 - 0.2 * parked)
    run(found, 5 * INTERFERENCE_WINDOW_S, HOSTS, lambda parked, weight: 1.0)
    assert run(found, 3, HOSTS, blocks).weight == pytest.approx(1, abs=0.3)


def test_what_blocks_no_longer_is_forgotten_within_seconds() -> None:
    found = run(Interference(), 10, HOSTS, blocks)
    assert run(found, 8, HOSTS, waits).weight == 0


def test_where_there_is_nothing_to_tell_the_weight_fades() -> None:
    found = run(Interference(), 10, HOSTS, blocks)
    before = found.weight
    run(found, FADES_S, HOSTS, lambda parked, weight: 1.0)
    assert 0.2 * before < found.weight < 0.6 * before
    assert run(found, 4 * FADES_S, HOSTS, lambda parked, weight: 1.0).weight == 0


@pytest.mark.parametrize(("unheard", "weight"), [(0.0, math.exp(-2 / FADES_S)), (0.5, math.exp(-1.1)), (1.0, 0.12)])
def test_it_is_given_up_sooner_the_more_parked_items_are_where_nothing_is_answered(
    unheard: float, weight: float
) -> None:
    found = Interference(1.0)
    for _ in range(40):
        found.observe(TICK_S, [], unheard)
    assert found.weight == pytest.approx(weight, rel=0.1)


def test_a_small_weight_is_none_so_that_it_does_not_decide_between_equal_hosts() -> None:
    found = Interference(0.99 * LEAST_INTERFERENCE)
    assert found.weight == 0
    assert Interference(LEAST_INTERFERENCE).weight == LEAST_INTERFERENCE


NOTHING_TO_TELL = [
    ("no host", []),
    ("one host", [Seen(5, 10, 3.0)]),
    ("as many at each", [Seen(2, 10, 1.0), Seen(2, 10, 9.0)]),
    ("no answers", [Seen(0, 0, 1.0), Seen(5, 0, 9.0)]),
    ("answers of one only", [Seen(0, 0, 1.0), Seen(5, 9, 9.0)]),
    ("equal times", [Seen(0, 9, 1.0), Seen(5, 9, 1.0), Seen(2, 9, 1.0)]),
]


@pytest.mark.parametrize("hosts", [row[1] for row in NOTHING_TO_TELL], ids=[row[0] for row in NOTHING_TO_TELL])
def test_nothing_is_made_of_nothing(hosts: list[Seen]) -> None:
    found = Interference()
    for _ in range(100):
        found.observe(TICK_S, hosts)
    assert found.weight == 0


@pytest.mark.parametrize(("count", "most"), [(1, 0.15), (5, 0.01), (50, 0.01)])
def test_chance_hardly_ever_gives_a_weight(count: int, most: float) -> None:
    """Exponential times at 16 hosts, one of which has many parked items."""
    weighed = []
    for seed in range(4):
        rng, found = random.Random(seed), Interference()
        for _ in range(300):
            run(found, TICK_S, [6.0, *[0.0] * 15], lambda parked, weight: 1.0, count=count, rng=rng)
            weighed.append(found.weight > 0)
    assert sum(weighed) <= most * len(weighed)


@pytest.mark.parametrize("count", [5, 50])
def test_what_blocks_is_found_among_exponential_times(count: int) -> None:
    found = run(Interference(), 4, [0.0, 0.0, 0.0, 2.0, 3.0, 3.0], blocks, count=count, rng=random.Random(3))
    assert found.weight > 0.5


def test_slower_hosts_with_as_many_parked_do_not_count() -> None:
    """What one of them does more slowly than the others is not the parked items' doing."""
    found = Interference()
    for _ in range(200):
        found.observe(TICK_S, [Seen(1, 10, 1.0), Seen(2, 10, 1.4), Seen(3, 10, 1.0), Seen(2, 10, 0.6)])
    assert found.weight == 0


@given(st.floats(0.01, 100))
def test_where_all_are_slower_alike_the_weight_is_the_same(factor: float) -> None:
    """As long as it is not what the weight evens out."""
    usual = run(Interference(), 1, HOSTS, lambda parked, weight: 1 + 0.05 * parked)
    slower = run(Interference(), 1, HOSTS, lambda parked, weight: factor * (1 + 0.05 * parked))
    assert slower.weight == pytest.approx(usual.weight)
    assert 0 < usual.weight < MOST_INTERFERENCE


ROWS = st.lists(
    st.builds(Seen, parked=st.floats(0, 1e5), count=st.integers(0, 10_000), ratio=st.floats(0, 1e6)), max_size=6
)


@given(st.lists(st.tuples(st.floats(0, 10), ROWS), max_size=40))
def test_whatever_comes_the_weight_is_between_none_and_the_most(looks: list[tuple[float, list[Seen]]]) -> None:
    found = Interference()
    for dt_s, hosts in looks:
        found.observe(dt_s, hosts)
        assert math.isfinite(found.weight)
        assert found.weight == 0 or LEAST_INTERFERENCE <= found.weight <= MOST_INTERFERENCE
