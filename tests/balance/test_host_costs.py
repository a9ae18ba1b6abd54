"""The costs of siblings: by weight and capacity, and what counts as queue."""

import pytest

from tierlb.balance.cost import NEXT_ITEM, ParentShare
from tierlb.balance.counted_host import CountedHost
from tierlb.balance.host_costs import assign_costs, refresh_costs
from tierlb.balance.interference import Interference
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import HostTraits, LoadEstimate
from tierlb.balance.pool_slots import GUESSED_SLOTS
from tierlb.balance.received_reports import ReceivedReports

START = 1000.0


def fresh(*, equal: bool = False) -> CountedHost:
    traits = HostTraits(reports=False, equal=equal)
    return CountedHost(LoadEstimate(traits, ReceivedReports(ParentShare(1)), START - 600), Kinds())


def score(host: CountedHost) -> float:
    return host.in_flight * host.slope + host.offset


@pytest.mark.parametrize("weights", [(3.0, 1.0), (3e12, 1e12)])
def test_the_queue_of_a_host_counts_by_its_weight(weights: tuple[float, float]) -> None:
    hosts = [fresh(), fresh()]
    refresh_costs(hosts, START, weights)
    assert hosts[0].capacity == hosts[1].capacity
    assert hosts[1].slope == pytest.approx(3 * hosts[0].slope)
    assert hosts[0].offset == hosts[1].offset


def test_connections_whose_use_is_watched_count_as_much_as_they_are_used() -> None:
    hosts = [fresh(equal=True), fresh(equal=True)]
    for host, lightness in zip(hosts, (0.0, 3.0), strict=True):
        host.in_flight, host.lightness = 4, lightness
    refresh_costs(hosts, START, [1.0, 1.0])
    assert (hosts[0].left_out, hosts[1].left_out) == (0.0, 3.0)
    assert score(hosts[0]) > score(hosts[1])


@pytest.mark.parametrize(("weight", "left_out"), [(0.0, 4), (0.5, 2), (1.0, 0), (1.4, -1.6)])
def test_parked_items_count_as_far_as_they_hold_up_others(weight: float, left_out: float) -> None:
    host = fresh()
    host.in_flight, host.parked = 6, 4
    host.estimate.speed.work.interference = Interference(weight)
    assign_costs([host], START, [100.0], [1.0])
    assert host.left_out == pytest.approx(left_out)
    assert 6 * host.slope + host.offset == pytest.approx(6 - left_out + GUESSED_SLOTS)


def test_on_trial_parked_items_count_for_nothing() -> None:
    host = fresh()
    host.in_flight, host.parked, host.unqueued = 5, 2, 3
    host.estimate.speed.work.interference = Interference(1.0)
    assign_costs([host], START, [100.0], [1.0])
    assert host.in_flight * host.slope + host.offset == NEXT_ITEM[1]


@pytest.mark.parametrize("probe", ["of an endpoint", "of a child"])
def test_a_host_with_parked_items_that_is_probed_gets_the_next_item_and_no_other(probe: str) -> None:
    host = fresh()
    host.in_flight = host.parked = 40
    host.estimate.speed.work.interference = Interference(0.2)
    host.estimate.speed.slowness.probe.active = probe == "of an endpoint"
    host.estimate.probe.due = probe == "of a child"
    assign_costs([host], START, [100.0], [1.0])
    assert host.in_flight * host.slope + host.offset == NEXT_ITEM[1]
    assert (host.in_flight + 1) * host.slope + host.offset == NEXT_ITEM[0]
