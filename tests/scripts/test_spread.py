"""Every node of a small copy gets one snapshot and serves it."""

import json

import pytest
from click.testing import CliRunner

from scripts.benchmarks import spread
from scripts.benchmarks.results import DIRECTORY
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
    await cluster.settle()
    assert cluster.controller.readiness.missing() == ()
    assert all(pair.frames >= 1 and pair.sent_bytes > 0 for pair in cluster.pairs.values())


def test_a_change_reaches_each_node_of_every_level(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(spread.main, ["--scale", "0.02"])
    assert result.exit_code == 0, result.output
    (file,) = DIRECTORY.glob("spread-*.json")
    found = json.loads(file.read_text())
    figures = {sample["measure"]: sample["values"] for sample in found["samples"]}
    assert found["run"].startswith(f"{sum(figures[level]['nodes'] for level in LEVELS):g} nodes")
    assert all(figures[level]["KiB a node"] > 0 for level in LEVELS)
