"""Every node of a small copy gets one snapshot and serves it."""

import pytest
import trio

from scripts.benchmarks import spread
from scripts.benchmarks.spread import FRONTS, LEVELS, WEBS, Cluster, topology
from tierlb.cli.log import LazyLog
from tierlb.controller.controller import Controller
from tierlb.topology.allot import node_names


@pytest.fixture
async def cluster(nursery):
    cluster = Cluster(Controller(topology(2, 3, 2, 2, 3), LazyLog()))
    nursery.start_soon(cluster.controller.run)
    cluster.join_all()
    return cluster


def test_the_shape_has_ten_thousand_nodes_in_four_levels() -> None:
    tiers = topology(spread.EDGES, spread.SPREADS, spread.GROUPS, FRONTS, WEBS).tiers
    assert sum(len(node_names(tier)) for tier in tiers.values()) == 10_000
    assert {name.partition("-")[0] for name in tiers} == set(LEVELS)


async def test_the_cluster_settles_with_everybody_serving(cluster, autojump_clock) -> None:
    await spread._settle(cluster)
    assert cluster.controller.readiness.missing() == ()
    assert all(pair.frames >= 1 and pair.sent_bytes > 0 for pair in cluster.pairs.values())


async def test_a_change_reaches_each_node_once(autojump_clock) -> None:
    with trio.fail_after(60):
        samples, note = await spread._measure(0.02)
    nodes = sum(sample.values.get("nodes", 0) for sample in samples)
    assert note.startswith(f"{nodes:g} nodes")
    assert all(sample.problem is None for sample in samples)
