"""Tiers of nodes over leaves, connected as a topology would connect them, with one random source for everything.

Child i of n below m parents belongs to parent ⌊i·m/n⌋ and, with several parents each, to those that follow it: with one
parent each the leaves form subtrees, and with many the tiers are meshed.
"""

import random
from collections.abc import Sequence

import attrs

from tierlb.model.topology import Policy
from tierlb.simulate.agenda import Agenda
from tierlb.simulate.leaf import Service, SimulatedLeaf
from tierlb.simulate.node import SimulatedNode
from tierlb.simulate.rules import ComparedRule


@attrs.frozen
class SimulatedTier:
    """`parents`: how many nodes of the tier above send to each node of this one. `cost_s`: an item's cost at a node.
    `connections`: the tier hands out connections (the top tier only)."""

    nodes: int
    parents: int = 1
    cost_s: float = 0.0
    connections: bool = False


@attrs.frozen
class Shape:
    """A tree: tiers of nodes from the top, and the leaves below the last. `slots` is a leaf's concurrency."""

    tiers: Sequence[SimulatedTier]
    leaves: int
    leaf_parents: int = 1
    slots: int = 4
    service: Service = Service()
    rule: Policy | ComparedRule = Policy.LOAD_AWARE
    report_delay_s: float = 0.0

    @property
    def capacity(self) -> float:
        """Items per second that all leaves together can serve."""
        return self.leaves * self.slots / self.service.mean_s


class Tree:
    """`levels[0]` is the top tier."""

    def __init__(self, shape: Shape, agenda: Agenda, rng: random.Random) -> None:
        self.leaves = [SimulatedLeaf(f"leaf-{number}", agenda, shape.slots) for number in range(shape.leaves)]
        self.levels = [
            [
                SimulatedNode(
                    f"{depth}-{number}",
                    agenda,
                    rng,
                    shape.rule,
                    tier.cost_s,
                    shape.report_delay_s,
                    connections=tier.connections,
                )
                for number in range(tier.nodes)
            ]
            for depth, tier in enumerate(shape.tiers)
        ]
        self._start(shape)

    def _start(self, shape: Shape) -> None:
        above: Sequence[SimulatedNode] = ()
        parents_of: list[list[int]] = [[] for _ in self.levels[0]]
        widths = [*((tier.nodes, tier.parents) for tier in shape.tiers[1:]), (shape.leaves, shape.leaf_parents)]
        for depth, level in enumerate(self.levels):
            hosts: Sequence[SimulatedNode | SimulatedLeaf] = (
                self.levels[depth + 1] if depth + 1 < len(self.levels) else self.leaves
            )
            wires = wiring(len(level), *widths[depth])
            for number, node in enumerate(level):
                children = [(hosts[i], len(ups)) for i, ups in enumerate(wires) if number in ups]
                node.start([above[up] for up in parents_of[number]], children)
            above, parents_of = level, wires


def wiring(parents: int, children: int, each: int) -> list[list[int]]:
    """The parents of each child."""
    count = min(each, parents)
    return [[(child * parents // children + step) % parents for step in range(count)] for child in range(children)]
