"""`Machines` for a cluster whose processes an engine starts.

It starts and stops nothing. It counts how many nodes have to be there before a stage of a change is reached. It also
has nodes retired: they get no new traffic, and their kept connections end in good order. The engine stops them after
the change.
"""

from collections.abc import Collection, Iterable

import attrs
import trio

from tierlb.balance.drain import GRACE_S, SPREAD_S
from tierlb.controller.controller import Controller
from tierlb.model.topology import Tier, Topology

RETIRED_AFTER_S = SPREAD_S + GRACE_S + 0.5
"""Kept connections have ended by then. What is under way has the rest of the drain time, also once its node is asked to
end by what started it."""


@attrs.define
class Elsewhere:
    """The node counts of a change apply until its stage is reached; afterwards an engine may scale freely."""

    controller: Controller
    replaces: bool = False
    _needed: dict[str, int] = attrs.field(factory=dict, init=False)
    _retired: set[str] = attrs.field(factory=set, init=False)

    def grow(self, topology: Topology) -> tuple[str, ...]:
        """Wait for the nodes of tiers that are new or larger than before."""
        before = self.controller.topology.tiers
        for tier in topology.tiers.values():
            if tier.name not in before or before[tier.name].replicas < tier.replicas:
                self._needed[tier.name] = tier.replicas
        for name in list(self._needed):
            if name not in topology.tiers or topology.tiers[name].replicas < self._needed[name]:
                del self._needed[name]
        records = self.controller.registry.records
        self._retired = {name for name in self._retired if name in records and records[name].tier not in topology.tiers}
        return ()

    def needed(self, tier: Tier) -> int:
        """How many nodes of the tier have to be there."""
        return self._needed.get(tier.name, 1)

    def surplus(self, topology: Topology) -> tuple[str, ...]:
        """The nodes that are there, whose tiers the topology does not name, and which have not been retired yet. Which
        nodes of a tier that shrinks go is up to the engine."""
        records = [
            record
            for record in self.controller.registry.records.values()
            if not record.agent and record.tier not in topology.tiers
        ]
        return tuple(record.name for record in records if record.name not in self._retired)

    async def stop_nodes(self, names: Iterable[str]) -> None:
        """Retire them."""
        leaving = tuple(names)
        self._retired.update(leaving)
        self.controller.node_admin.retire(leaving)
        try:
            await trio.sleep(RETIRED_AFTER_S)
        finally:
            self.controller.node_admin.retire(())

    async def shrink(self, topology: Topology) -> None:
        """A stage is reached: nodes that came are needed no more for it."""
        for tier in topology.tiers.values():
            if len(self.controller.registry.expected(tier)) >= self._needed.get(tier.name, 0):
                self._needed.pop(tier.name, None)

    async def replace(self, topology: Topology, name: str) -> None:
        """Not possible from here."""
        raise NotImplementedError(f"{name} was not started from here")

    async def wait_replaced(self) -> None:
        """There is none to wait for."""

    def crashes(self, names: Collection[str]) -> int:
        """Not known here."""
        return 0

    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """Not known here."""
        return ()
