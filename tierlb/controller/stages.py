"""What a stage of a change waits for, and when waiting will not help."""

import math
from collections.abc import Collection

import attrs

from tierlb.controller.controller import Controller
from tierlb.controller.machines import Machines
from tierlb.model.topology import Tier, Topology

CRASHES = 3
"""A new process that has ended so often will not serve."""
READY_PART = 0.5
"""Of each tier, before the last stage."""
MOST_REASONS = 3
"""In one text."""


class GaveUp(Exception):  # noqa: N818 (a verdict on the stage, and the text says why)
    """A stage was not reached."""


@attrs.frozen
class StageGate:
    """Asks the controller, and what starts the processes."""

    controller: Controller
    machines: Machines

    def lack(self, stage: Topology, target: Topology) -> str:
        """What this stage on the way to `target` still waits for; "" if it is reached.

        The last stage waits for everything. Those before it wait for half of each tier and for all local endpoints,
        because endpoints of an old command stop with the stage. A node that the target does not name is not waited
        for: it may go because it is broken.
        """
        part = 1.0 if stage is target else READY_PART
        controller, needed = self.controller, self.machines.needed
        for tier in target.tiers.values():
            there, enough = len(controller.registry.expected(tier)), math.ceil(part * needed(tier))
            if tier.name in stage.tiers and there < enough:
                return f"of {tier.name} only {there} of {enough} nodes have joined"
        if stage is target:
            return "; ".join(controller.readiness.missing(drained=False)[:MOST_REASONS])
        if not controller.readiness.settled(self._nodes(*target.tiers.values())):
            return "not all nodes serve their latest configuration yet"
        if unready := controller.endpoints.unready(target.pools):
            return unready[0]
        for tier in target.tiers.values():
            names = self._nodes(tier)
            out = len(controller.registry.expected(tier)) - len(names)
            ready, wanted = controller.readiness.ready(names), max(needed(tier) - out, min(1, len(names)))
            if ready < math.ceil(READY_PART * wanted):
                return f"of {tier.name} only {ready} of {wanted} nodes are ready"
        return ""

    def demand_hope(self, target: Topology, fresh: Collection[str]) -> None:
        """Raises GaveUp where waiting will not help. `fresh` are the nodes that the change started."""
        if self.machines.crashes(fresh) >= CRASHES:
            raise GaveUp("; ".join(self.machines.problems(fresh)[:MOST_REASONS]) or "new processes keep ending")
        if refused := self.controller.readiness.refused(self._nodes(*target.tiers.values())):
            raise GaveUp(refused)

    def _nodes(self, *tiers: Tier) -> frozenset[str]:
        """Those that a stage waits for: without those that operators have taken out, which may be broken."""
        names = (name for tier in tiers for name in self.controller.registry.expected(tier))
        return frozenset(names) - self.controller.node_admin.states.keys()


def lacking(controller: Controller) -> str:
    """What does not serve, for the reason why a change has run out of time."""
    return "; ".join(controller.readiness.missing()[:MOST_REASONS]) or "nothing is missing"


def moves_traffic(before: Topology, after: Topology) -> bool:
    """Whether some tier sends to a target that it did not send to before."""
    return any(
        not set(after.tiers[name].targets) <= set(tier.targets)
        for name, tier in before.tiers.items()
        if name in after.tiers
    )
