"""Who sends to whom."""

import collections
import random

import pytest

from tierlb.simulate.agenda import Agenda
from tierlb.simulate.leaf import Service
from tierlb.simulate.node import SimulatedHost
from tierlb.simulate.tree import Shape, SimulatedTier, Tree, wiring


def reports_and_parents(host: SimulatedHost) -> tuple[bool, int]:
    return host.estimate.traits.reports, host.estimate.received.share.parents


@pytest.mark.parametrize(
    ("parents", "children", "each", "expected"),
    [
        (1, 3, 1, [[0], [0], [0]]),
        (2, 4, 1, [[0], [0], [1], [1]]),
        (2, 2, 2, [[0, 1], [1, 0]]),
        (4, 4, 2, [[0, 1], [1, 2], [2, 3], [3, 0]]),
        (2, 3, 8, [[0, 1], [0, 1], [1, 0]]),
    ],
)
def test_children_belong_to_neighbouring_parents(
    parents: int, children: int, each: int, expected: list[list[int]]
) -> None:
    assert wiring(parents, children, each) == expected


@pytest.mark.parametrize("each", [1, 2, 3, 8])
def test_every_parent_has_as_many_children_as_the_others(each: int) -> None:
    wires = wiring(8, 32, each)
    assert all(len(set(parents)) == each for parents in wires)
    counts = collections.Counter(parent for parents in wires for parent in parents)
    assert set(counts.values()) == {4 * each}


def test_a_tree_has_its_hosts_at_each_level_and_knows_their_parents() -> None:
    shape = Shape(
        [SimulatedTier(2), SimulatedTier(4, parents=2)], leaves=8, leaf_parents=1, slots=2, service=Service(0.1)
    )
    tree = Tree(shape, Agenda(), random.Random(1))
    top, web = tree.levels
    assert shape.capacity == 160
    assert [[c.name for c in node.hosts] for node in top] == [["1-0", "1-1", "1-2", "1-3"]] * 2
    assert [[c.name for c in node.hosts] for node in web] == [
        [f"leaf-{2 * number}", f"leaf-{2 * number + 1}"] for number in range(4)
    ]
    assert {reports_and_parents(host) for node in top for host in node.hosts} == {(True, 2)}
    assert {reports_and_parents(host) for node in web for host in node.hosts} == {(False, 1)}
