"""Which hosts share what is known of their work, as snapshots change."""

import pytest

from tests.dataplane.registries import Harness, child, destination, host_spec
from tierlb.model.snapshot import Destination
from tierlb.model.topology import Kind


@pytest.fixture
def harness() -> Harness:
    return Harness()


def test_nodes_that_are_no_longer_given_the_same_connections_do_not_share_what_is_known_of_their_work(
    harness: Harness,
) -> None:
    a, b = child("a", "web"), child("b", "api")
    (host_set,) = harness.host_sets(Destination(1, ("web", "api"), (a, b)), kind=Kind.L4)
    common = host_set.hosts[0].estimate.speed.work
    assert host_set.hosts[1].estimate.speed.work is common
    first, second = harness.host_sets(Destination(1, ("api",), (b,)), Destination(1, ("web",), (a,)), kind=Kind.L4)
    assert first.hosts[0].estimate.speed.work is common
    assert second.hosts[0].estimate.speed.work is not common
    harness.host_sets(Destination(1, ("web",), (a,)), Destination(1, ("api",), (b,)), kind=Kind.L4)
    assert first.hosts[0].estimate.speed.work is common


def test_endpoints_of_a_pool_share_it_and_pools_do_not(harness: Harness) -> None:
    app, api = harness.host_sets(destination("a", "b"), destination(host_spec("x", "api")))
    works = [host.estimate.speed.work for host in (*app.hosts, *api.hosts)]
    assert works[0] is works[1] is not works[2]
    assert [[host.name for host in group] for group in harness.registry.work.siblings] == [["a", "b"], ["x"]]


def test_work_of_a_host_that_left_stays_part_of_its_targets_sum(harness: Harness) -> None:
    for index, host in enumerate(harness.host_set("a", "b").hosts):
        host.estimate.speed.work_done_s = 1.0 + index
    assert harness.registry.work.done_s() == {"app": 3.0}
    harness.host_set("b", "c")
    assert harness.registry.work.done_s() == {"app": 3.0}
    harness.host_set(host_spec("x", "api"))
    assert harness.registry.work.done_s() == {"api": 0.0}
