"""The processes of a cluster that somebody else starts, as changes see them.

`Elsewhere` stands where the process manager would (local/process_manager.py). It starts and stops nothing, but knows
how many nodes have to be there before a stage of a change is reached, and has nodes retired: nobody sends to them any
more, and what is kept open there is ended politely. Whoever started them stops them after the change.
"""

from collections.abc import Collection, Iterable

import attrs
import trio

from tierlb.balance.drain import GRACE_S, SPREAD_S
from tierlb.controller.controller import Controller
from tierlb.model.topology import Tier, Topology

RETIRED_AFTER_S = SPREAD_S + GRACE_S + 0.5
"""Kept connections have ended by then; what is under way has the rest of the drain time, also once its node is asked to
end by what started it."""


@attrs.define
class Elsewhere:
    """What a change asks for counts until its stage is reached; afterwards an engine may scale as it likes."""

    controller: Controller
    replaces: bool = False
    _asked_for: dict[str, int] = attrs.field(factory=dict, init=False)
    _retired: set[str] = attrs.field(factory=set, init=False)

    def grow(self, topology: Topology) -> tuple[str, ...]:
        """Wait for the nodes of tiers that are new or larger than before."""
        before = self.controller.topology.tiers
        for tier in topology.tiers.values():
            if tier.name not in before or before[tier.name].replicas < tier.replicas:
                self._asked_for[tier.name] = tier.replicas
        for name in list(self._asked_for):
            if name not in topology.tiers or topology.tiers[name].replicas < self._asked_for[name]:
                del self._asked_for[name]
        records = self.controller.registry.records
        self._retired = {name for name in self._retired if name in records and records[name].tier not in topology.tiers}
        return ()

    def needed(self, tier: Tier) -> int:
        """How many nodes of the tier have to be there."""
        return self._asked_for.get(tier.name, 1)

    def surplus(self, topology: Topology) -> tuple[str, ...]:
        """The nodes that are there, whose tiers the topology does not name, and which have not been retired yet. Which
        nodes of a tier that shrinks go is up to whoever stops them."""
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
        """A stage is reached: what came counts no more."""
        for tier in topology.tiers.values():
            if len(self.controller.registry.expected(tier)) >= self._asked_for.get(tier.name, 0):
                self._asked_for.pop(tier.name, None)

    async def replace(self, topology: Topology, name: str) -> None:
        """Not possible from here, as `replaces` says."""
        raise NotImplementedError(f"{name} was not started from here")

    async def wait_replaced(self) -> None:
        """There is none."""

    def crashes(self, names: Collection[str]) -> int:
        """Nobody says."""
        return 0

    def problems(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """Nobody says."""
        return ()
