"""Counts of connections that something else forwards add up, however late they are known."""

import random

import pytest

from tierlb.balance.counted_connections import CountedConnections
from tierlb.balance.kinds import Kinds
from tierlb.balance.ticket import ItemCounts
from tierlb.telemetry.tally import Tally


@pytest.fixture
def host() -> ItemCounts:
    return ItemCounts(Kinds())


def counted(host: ItemCounts) -> tuple[CountedConnections, Tally]:
    tally = Tally()
    return CountedConnections(host, tally), tally


def test_what_a_walk_finds_is_open(host: ItemCounts) -> None:
    connections, tally = counted(host)
    connections.begin(1.0, 10)
    connections.walked(2.0, 4)
    assert (connections.open, host.in_flight, tally.in_flight, tally.connections) == (4, 4, 4, 4)
    connections.walked(3.0, 0)
    assert (host.in_flight, host.done, tally.arrivals, tally.done) == (0, 10, 10, 10)


def test_between_walks_as_many_end_as_before(host: ItemCounts) -> None:
    connections, _ = counted(host)
    connections.begin(1.0, 100)
    connections.walked(2.0, 50)
    connections.begin(3.0, 10)
    connections.begin(3.5, 10)
    assert host.in_flight == 60


def test_a_connection_that_a_walk_just_missed_is_no_new_one(host: ItemCounts) -> None:
    connections, tally = counted(host)
    connections.begin(1.0, 3)
    connections.walked(1.0, 0)
    connections.walked(2.0, 3)
    assert (connections.open, tally.arrivals) == (3, 3)


def test_connections_from_before_count_once_they_are_found(host: ItemCounts) -> None:
    connections, tally = counted(host)
    connections.walked(1.0, 5)
    connections.walked(2.0, 5)
    assert (host.in_flight, tally.arrivals) == (5, 5)


def test_counts_that_only_grow_never_fall_and_add_up_at_the_end(host: ItemCounts) -> None:
    rng, began, still_open = random.Random(3), 0, 0
    connections, tally = counted(host)
    for step in range(500):
        before = host.done, tally.done, tally.arrivals
        if rng.random() < 0.7:
            count = rng.randrange(5)
            began, still_open = began + count, still_open + count
            connections.begin(float(step), count)
        else:
            still_open -= rng.randint(0, still_open)
            connections.walked(float(step), still_open)
            assert host.in_flight == tally.in_flight == still_open
        assert all(now >= then for then, now in zip(before, (host.done, tally.done, tally.arrivals), strict=True))
    connections.walked(500.0, 0)
    assert (host.done, tally.done, tally.arrivals, host.in_flight) == (began, began, began, 0)


def test_the_integral_of_what_is_in_flight_is_kept(host: ItemCounts) -> None:
    connections, _ = counted(host)
    connections.begin(1.0, 2)
    connections.walked(1.0, 2)
    connections.walked(11.0, 0)
    assert host.moments == pytest.approx(20.0)
