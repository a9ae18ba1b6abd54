"""Kept connections of very different activity in virtual time, and how many of them are looked at."""

import functools
import math
import random
from collections.abc import Callable
from itertools import pairwise
from statistics import mean

import attrs
import pytest

from tests.dataplane.l4.kept import Connection, Pool, by_fair, is_busy, is_quiet
from tierlb.balance.load_aware import cost_of
from tierlb.dataplane.l4.watch import LOOKS_PER_TICK, USE_LOOK_S
from tierlb.model.topology import Policy

EACH_S = 1.0
"""Between two clients that connect for long."""
SEEDS = range(4)


@functools.cache
def filled(seed: int, balance: Policy = Policy.LOAD_AWARE) -> Pool:
    """200 clients that connect one after the other and stay; four fifths of them say nothing, the others ask from 1.2
    to 50 times a second (Zipf)."""
    pool = Pool(seed=seed, balance=balance)
    think_s = [None] * 160 + [0.02 * rank for rank in range(1, 41)]
    random.Random(seed).shuffle(think_s)
    for each in think_s:
        pool.connect(each)
        pool.run(EACH_S)
    return pool


def spread(counts: Callable[[Connection], bool], balance: Policy = Policy.LOAD_AWARE) -> tuple[float, float]:
    """The fewest and the most that a host has by what is fair, in the mean of some runs."""
    runs = [by_fair(filled(seed, balance).at_each(counts)) for seed in SEEDS]
    return mean(map(min, runs)), mean(map(max, runs))


def test_connections_in_use_are_spread_evenly_whatever_the_quiet_ones_do() -> None:
    fewest, most = spread(is_busy)
    assert fewest >= 0.8
    assert most <= 1.25


def test_what_connections_count_is_spread_evenly() -> None:
    for seed in SEEDS:
        loads = by_fair([each.in_flight - each.lightness for each in filled(seed).host_set.hosts])
        assert min(loads) >= 0.85
        assert max(loads) <= 1.15


def test_where_connections_are_counted_those_in_use_fall_as_chance_has_it() -> None:
    fewest, _ = spread(is_busy, Policy.LEAST_REQUESTS)
    assert fewest < 0.75


def test_quiet_connections_are_spread_among_themselves() -> None:
    fewest, most = spread(is_quiet)
    assert fewest >= 0.5
    assert most <= 1.5


def test_quiet_connections_are_parked_and_those_in_use_are_not() -> None:
    pool = filled(1)
    pool.run(5.0)
    quiet = pool.at_each(is_quiet)
    parked = [host.parked for host in pool.host_set.hosts]
    assert sum(quiet) == 160
    assert all(few <= count <= few + 3 for few, count in zip(quiet, parked, strict=True))  # some think for 2 s, too
    assert pool.tally.parked == sum(parked)


def test_a_host_that_comes_back_gets_its_part_of_what_is_in_use_and_no_more() -> None:
    pool = Pool()
    *others, fresh = pool.host_set.hosts
    for host in others * 50:
        pool.connect(to=host)
    pool.run(60.0)
    for _ in range(24):
        pool.connect(0.1)
        pool.run(0.5)
    at_fresh = sum(connection.host is fresh for connection in pool.connections)
    assert 6 <= at_fresh <= 12  # 24 by plain numbers; 50 quiet ones elsewhere are four in use


def test_what_comes_one_at_a_time_is_even_beside_connections_that_hardly_differ() -> None:
    pool = Pool()
    for number, host in enumerate(pool.host_set.hosts):
        for _ in range(number):
            pool.connect(1.0, to=host)
            pool.connect(to=host)
    for connection in [each for each in pool.connections if is_busy(each)]:
        connection.think_s = 30.0
    pool.run(60.0)
    assert len({host.lightness for host in pool.host_set.hosts}) == 4
    given = dict.fromkeys(pool.host_set.hosts, 0)
    for _ in range(400):
        connection = pool.connect()
        given[connection.host] += 1
        pool.disconnect(connection)
        pool.run(0.05)
    assert min(given.values()) > 80


def new_at(pool: Pool, name: str, count: int) -> int:
    """So many clients that ask twice a second connect in turn, of which so many go to this host."""
    connections = []
    for _ in range(count):
        connections.append(pool.connect(0.5))
        pool.run(0.25)
    return sum(connection.host.name == name for connection in connections)


@pytest.mark.parametrize("service_s", [pytest.param(0.0, id="stopped"), pytest.param(0.5, id="ten times slower")])
def test_a_host_whose_clients_wait_gets_fewer_new_connections(service_s: float) -> None:
    pool = Pool(answer_s=0.05)
    for host in pool.host_set.hosts * 10:
        pool.connect(0.2, to=host)
    pool.run(20.0)
    pool.service_s["h0"] = service_s
    pool.run(10.0)
    assert new_at(pool, "h0", 40) <= 5  # 10 is fair
    pool.service_s["h0"] = 0.05


def test_what_a_stopped_host_owes_is_not_parked_while_others_answer() -> None:
    pool = Pool()
    for host in pool.host_set.hosts * 4:
        pool.connect(0.2, to=host)
    pool.run(5.0)
    pool.service_s["h0"] = 0.0
    pool.run(60.0)
    assert [host.parked for host in pool.host_set.hosts] == [0, 0, 0, 0]


def test_an_ask_that_others_overtake_is_parked() -> None:
    pool = Pool()
    for host in pool.host_set.hosts * 4:
        pool.connect(0.2, to=host)
    poll = pool.connect(1.0, costs=1e6)
    pool.run(5.0)
    assert [host.parked for host in pool.host_set.hosts] == [int(host is poll.host) for host in pool.host_set.hosts]


@pytest.mark.parametrize("seed", range(5))
def test_gauges_return_to_zero_whenever_connections_end(seed: int) -> None:
    rng = random.Random(seed)
    pool = Pool(seed=seed)
    for _ in range(300):
        if pool.connections and rng.random() < 0.4:
            pool.disconnect(rng.choice(pool.connections))
        else:
            pool.connect(rng.choice([None, 0.01, 0.3, 3.0]), costs=rng.choice([1.0, 1e6]))
        pool.run(rng.choice([0.0, 0.05, 1.0]))
        for host in pool.host_set.hosts:
            here = [each for each in pool.connections if each.host is host]
            assert host.in_flight == len(here)
            assert 0 <= host.parked <= len(here)
    assert pool.tally.parked == sum(host.parked for host in pool.host_set.hosts) > 0
    for connection in list(pool.connections):
        pool.disconnect(connection)
    for host in pool.host_set.hosts:
        assert (host.in_flight, host.parked, host.lightness) == (0, 0, 0.0)
    assert (len(pool.watch), pool.tally.parked) == (0, 0)


def test_a_connection_that_ends_takes_its_part_of_the_line_at_once() -> None:
    pool = Pool()
    host = pool.host_set.hosts[0]
    for _ in range(30):
        pool.connect(to=host)
    pool.run(30.0)
    for connection in list(pool.connections):
        pool.disconnect(connection)
        pool.harness.pass_time(0.01)
    assert {pool.connect().host for _ in range(4)} == set(pool.host_set.hosts)


def test_a_parked_one_is_counted_out_whatever_it_counted() -> None:
    pool = Pool()
    connection = pool.connect()
    pool.run(10.0)
    (watched,) = pool.watch.watched.values()
    watched.ticket.weigh(1, 0.0)  # as it may be while it fades
    pool.disconnect(connection)
    assert (connection.host.parked, connection.host.lightness, pool.tally.parked) == (0, 0.0, 0)


def test_of_a_host_that_is_out_nobody_takes_an_example() -> None:
    pool = Pool()
    out, *others = pool.host_set.hosts
    out.checked(False)
    for host, lightness in zip(others, (1.01, 1.0, 0.99), strict=True):
        host.in_flight, host.lightness = 2, lightness
    pool.host_set.settle(pool.now)
    assert len({cost_of(host) for host in others}) == 1


def test_times_between_looks_differ() -> None:
    pool = Pool()
    pool.connect()
    pool.run(1.0)
    (watched,) = pool.watch.watched.values()
    looks = set()
    pool.run(20.0, lambda: looks.add(watched.looked_at))
    times = sorted(looks)
    assert len({round(later - at, 2) for at, later in pairwise(times)}) >= 3


def test_a_tick_looks_at_a_bounded_number_each_in_turn() -> None:
    pool = Pool()
    for _ in range(10 * LOOKS_PER_TICK):
        pool.connect()
    pool.run(5.0)
    pool.harness.pass_time(1.0)
    looks = []
    for _ in range(10):
        pool.harness.tick()
        looks.append(sum(watched.looked_at == pool.now for watched in pool.watch.watched.values()))
    assert looks == [LOOKS_PER_TICK] * 10
    assert len({watched.looked_at for watched in pool.watch.watched.values()}) == 10


def test_new_connections_leave_looks_for_old_ones() -> None:
    pool = Pool()
    for _ in range(LOOKS_PER_TICK):
        pool.connect()
    pool.run(5.0)
    for _ in range(10 * LOOKS_PER_TICK):
        pool.connect()
    pool.harness.pass_time(1.0)
    pool.harness.tick()
    assert len(pool.watch) == 11 * LOOKS_PER_TICK
    assert len(pool.watch.watched) == LOOKS_PER_TICK + LOOKS_PER_TICK // 2
    looked_at = [watched.looked_at for watched in pool.watch.watched.values()]
    assert looked_at.count(pool.now) == LOOKS_PER_TICK


def test_a_connection_that_ends_before_the_first_look_leaves_nothing() -> None:
    pool = Pool()
    connection = pool.connect()
    assert len(pool.watch) == 1
    pool.disconnect(connection)
    assert (len(pool.watch), connection.host.lightness) == (0, 0.0)


def test_connections_to_who_reports_are_not_watched() -> None:
    pool = Pool()
    host = pool.host_set.hosts[0]
    host.estimate.traits = attrs.evolve(host.estimate.traits, reports=True)
    pool.connect(to=host)
    assert len(pool.watch) == 0


def test_connections_that_are_quiet_for_long_need_no_looks_until_a_byte_moves() -> None:
    pool = Pool()
    connections = [pool.connect() for _ in range(5)]
    assert pool.watch.tick(pool.now) < pool.now + USE_LOOK_S
    pool.run(30.0)
    assert pool.watch.tick(pool.now) == math.inf
    connections[0].client.moved = pool.now
    pool.run(1.0)
    assert pool.watch.tick(pool.now) < math.inf
    for connection in connections:
        pool.disconnect(connection)
    assert pool.watch.tick(pool.now) == math.inf
