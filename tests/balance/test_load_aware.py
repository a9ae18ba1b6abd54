"""The lowest line, in a scan of all and of two drawn by capacity, against the definition."""

import collections
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.balance.fake_hosts import FakeHost, fake_hosts
from tierlb.balance.load_aware import SCAN_AT_MOST, LoadAware, cost_of, scans

LINES = st.lists(
    st.builds(
        FakeHost,
        in_flight=st.integers(0, 20),
        slope=st.sampled_from([0.1, 0.5, 1.0, 3.0, 1e9]),
        offset=st.sampled_from([0.0, 0.1, 1.0, 7.0]),
        share=st.just(0.5),
    ),
    min_size=1,
    max_size=SCAN_AT_MOST,
)


def built(hosts: list[FakeHost], seed: int = 1) -> LoadAware[FakeHost]:
    chooser: LoadAware[FakeHost] = LoadAware(random.Random(seed))
    chooser.rebuild(hosts)
    return chooser


@given(LINES, st.integers())
def test_a_scan_finds_the_lowest_score(hosts: list[FakeHost], seed: int) -> None:
    chooser = built(hosts, seed)
    lowest = min(cost_of(host) for host in hosts)
    assert all(cost_of(chooser.pick(0)) == lowest for _ in range(5))
    assert cost_of(chooser.among(hosts, 0)) == lowest


def test_in_flight_counts_at_the_time_of_the_pick() -> None:
    hosts = fake_hosts(2)
    chooser = built(hosts)
    hosts[0].in_flight = 5
    assert [chooser.pick(0).name for _ in range(4)] == ["m1"] * 4
    hosts[1].in_flight = 6
    assert [chooser.pick(0).name for _ in range(4)] == ["m0"] * 4


def test_lines_count_from_the_next_rebuild_on() -> None:
    hosts = fake_hosts(2)
    chooser = built(hosts)
    hosts[0].offset = 5.0
    chooser.rebuild(hosts)
    assert {chooser.pick(0).name for _ in range(4)} == {"m1"}


def test_equals_take_turns() -> None:
    chooser = built(fake_hosts(5))
    counts = collections.Counter(chooser.pick(0).name for _ in range(500))
    assert set(counts.values()) == {100}


def test_equals_among_worse_ones_are_used_evenly_over_many_rebuilds() -> None:
    hosts = fake_hosts(8)
    for slow in hosts[6:]:
        slow.offset = 9.0
    chooser = built(hosts)
    counts: collections.Counter[str] = collections.Counter()
    for _ in range(1000):
        chooser.rebuild(hosts)
        counts.update(chooser.pick(0).name for _ in range(8))
    assert set(counts) == {f"m{index}" for index in range(6)}
    assert max(counts.values()) < 1.15 * min(counts.values())


@pytest.mark.parametrize(
    ("count", "share", "expected"),
    [(1, 1.0, True), (32, 0.2, True), (33, 1.0, False), (8, 0.19, False), (2, 0.25, True)],
)
def test_a_parent_looks_at_all_where_it_sends_a_fair_part(count: int, share: float, expected: bool) -> None:
    hosts = fake_hosts(count)
    for host in hosts:
        host.share = share
    assert scans(hosts) is expected


def drawing(*capacities: float) -> list[FakeHost]:
    """Hosts of which a parent with a small share sees two."""
    return [FakeHost(f"m{index}", share=0.1, capacity=capacity) for index, capacity in enumerate(capacities)]


def test_one_of_many_parents_draws_two_by_capacity() -> None:
    """The chance of each pair, by the definition: draw one, put it aside, draw another."""
    capacities = [1.0, 2.0, 5.0]
    expected: dict[int, float] = collections.defaultdict(float)
    for one, first in enumerate(capacities):
        for other, second in enumerate(capacities):
            if one != other:
                expected[min(one, other)] += first / 8 * second / (8 - first)
    hosts = drawing(*capacities)
    for index, host in enumerate(hosts):
        host.offset = float(index)
    chooser = built(hosts)
    counts = collections.Counter(chooser.pick(0).name for _ in range(20_000))
    assert {f"m{index}": round(20_000 * part / 400) for index, part in expected.items()} == pytest.approx(
        {name: count / 400 for name, count in counts.items()}, abs=1.5
    )


def test_two_drawn_are_two_different_ones() -> None:
    hosts = drawing(1000.0, 1.0)
    hosts[0].in_flight = 1
    assert {built(hosts, seed).pick(0).name for seed in range(200)} == {"m1"}


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40), st.integers())
def test_drawing_never_falls_off_the_end(capacities: list[float], seed: int) -> None:
    hosts = drawing(*capacities)
    chooser = built(hosts, seed)
    assert all(chooser.pick(0) in hosts for _ in range(20))


# Items that will be parked.


def test_parked_items_count_among_themselves() -> None:
    """The lines leave them out, so that short items come to all alike; long ones come where the fewest are."""
    hosts = fake_hosts(3)
    for host, parked in zip(hosts, (5, 2, 9), strict=True):
        host.in_flight = host.left_out = host.parked = parked
        host.offset = 1.0 - parked
    chooser = built(hosts)
    assert collections.Counter(chooser.pick(0).name for _ in range(30)) == {"m0": 10, "m1": 10, "m2": 10}
    assert {named(chooser.for_long(hosts)) for _ in range(30)} == {"m1"}


def test_errors_count_for_long_items_too_and_the_queue_of_short_ones_among_equals() -> None:
    hosts = fake_hosts(2)
    hosts[0].in_flight = 3
    assert named(built(hosts).for_long(hosts)) == "m1"
    hosts[1].offset += 0.1
    assert named(built(hosts).for_long(hosts)) == "m0"


def test_a_parked_item_counts_at_a_slow_host_for_as_much_as_another_there() -> None:
    hosts = fake_hosts(2)
    for host, slope, parked in zip(hosts, (4.0, 1.0), (2, 5), strict=True):
        host.slope, host.offset = slope, -slope * parked
        host.in_flight = host.left_out = host.parked = parked
    assert named(built(hosts).for_long(hosts)) == "m1"


def test_long_items_are_spread_over_equals() -> None:
    hosts = fake_hosts(4)
    chooser = built(hosts)
    counts = collections.Counter(named(chooser.for_long(hosts)) for _ in range(400))
    assert len(counts) == 4
    assert min(counts.values()) > 60


def test_long_items_stay_even_as_they_are_placed() -> None:
    hosts = fake_hosts(4)
    chooser = built(hosts)
    for _ in range(40):
        chosen = chooser.for_long(iter(hosts))
        assert chosen is not None
        chosen.in_flight += 1
        chosen.left_out += 1.0
        chosen.parked += 1
        chosen.offset -= chosen.slope
    assert [host.in_flight for host in hosts] == [10] * 4


def test_where_none_is_left_there_is_none_for_a_long_item() -> None:
    assert built(fake_hosts(2)).for_long([]) is None


def named(host: FakeHost | None) -> str | None:
    return None if host is None else host.name
