"""How far the cluster is on the way to what is desired: what changes, supervisors and starts wait for.

Every answer is worked out from what is known at that moment. `Signals.wait_progress` returns at the next sign of
progress.
"""

from collections.abc import Container, Iterable

import attrs

from tierlb.controller.desired import DesiredMaker
from tierlb.controller.published_endpoints import PublishedEndpoints
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.status import State
from tierlb.controller.waiting import pools_awaited, tiers_awaited
from tierlb.model.topology import Admin


@attrs.frozen
class Readiness:
    """Answers for the whole cluster or for named nodes; texts are phrases for a person."""

    registry: NodeRegistry
    endpoints: PublishedEndpoints
    desired: DesiredMaker

    def ready(self, nodes: Iterable[str]) -> int:
        """How many of these nodes serve and report that what they need below is ready."""
        records = [self.registry.records[name] for name in nodes]
        return sum(record.state is State.SERVING and record.reports.finds_ready() for record in records)

    def settled(self, names: Container[str] | None = None) -> bool:
        """Whether every node (of these) that is connected serves what is wanted of it now."""
        desired = self.desired.make()
        return all(
            record.assignment.serves(desired.of(record))
            for record in self.registry.nodes()
            if record.link is not None and not record.draining and (names is None or record.name in names)
        )

    def is_retired(self, names: Iterable[str]) -> bool:
        """Whether all nodes that are connected, those that are retired included, serve without the retired ones."""
        records = [record for name in names if (record := self.registry.records.get(name)) is not None]
        return self.settled() and all(
            (wanted := record.assignment.wanted) is not None
            and wanted.admin is not Admin.READY
            and record.assignment.is_served
            for record in records
            if record.link is not None and not record.draining
        )

    def is_served_by(self, node: str, pid: int | None) -> bool:
        """Whether this process is the node now and serves what is wanted of it."""
        record = self.registry.records.get(node)
        if pid is None or record is None or record.hello is None or record.hello.pid != pid:
            return False
        return record.assignment.is_served and record.assignment.serves(self.desired.make().of(record))

    def refused(self, names: Container[str] | None = None) -> str:
        """Which node (of these) refused what is wanted of it now, and why; "" for none."""
        refusing = (each for each in self.registry.nodes() if each.assignment.refusal)
        named = [each for each in refusing if names is None or each.name in names]
        desired = self.desired.make()
        return next(
            (each.lack(content) for each in named if each.assignment.is_same(content := desired.of(each))),
            "",
        )

    def missing(self, *, drained: bool = True) -> tuple[str, ...]:
        """What does not serve yet; nothing once the whole tree serves. With `drained` false, nodes that operators have
        taken out are left out, because they may be broken."""
        lacks, out = self._lacks(), self.desired.node_admin.states
        empty = (tier for tier in self.registry.topology.tiers.values() if not self.registry.expected(tier))
        return (
            *(f"no node of {tier.name} has joined" for tier in empty),
            *(lack for name, lack in lacks.items() if lack and (drained or name not in out)),
            *self.endpoints.unready(),
        )

    def waiting(self) -> tuple[str, ...]:
        """The same by tier and pool: how many of how many serve, and what the others lack."""
        lacks, tiers = self._lacks(), dict[str, list[str]]()
        tiers.update({name: [] for name in self.registry.topology.tiers})
        for record in self.registry.nodes():
            tiers[record.tier].append(lacks[record.name])
        return (*tiers_awaited(tiers), *pools_awaited(self.endpoints.accepting()))

    def _lacks(self) -> dict[str, str]:
        desired = self.desired.make()
        return {record.name: record.lack(desired.of(record)) for record in self.registry.nodes()}
