"""Gives each node the snapshot that it should serve, and keeps the answers.

A node that joined, bound its ports or left, or an endpoint that came or went, only signals a change. `run` gathers the
changes of a few milliseconds into new snapshots under one number, and hands them to those nodes whose own content
differs. Each node has one place for the newest snapshot wanted from it, not a queue. A slow node costs nothing and
skips what is outdated already.
"""

from collections.abc import Sequence

import attrs
import trio

from tierlb.controller.desired import Desired, DesiredMaker
from tierlb.controller.node_record import NodeRecord
from tierlb.controller.parents import parents_of
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.returning import waits_for_neighbours
from tierlb.controller.signals import Signals
from tierlb.model.snapshot import Snapshot
from tierlb.model.topology import Admin
from tierlb.wire.frames import Ack

GATHER_CHANGES_S = 0.01
"""Nodes of a starting tier announce themselves within some milliseconds; one snapshot then serves for all."""
ASK_REFUSERS_S = 10.0
"""A node that refuses for good costs a line of the log each time."""


@attrs.define
class Publisher:
    """Publishes for as long as `run` runs."""

    _registry: NodeRegistry
    _desired: DesiredMaker
    _signals: Signals
    revision: int = 0
    """The active one of the history, which `Changes` sets; snapshots carry it."""
    _number: int = attrs.field(default=0, init=False)
    """Of the latest snapshot."""

    async def run(self) -> None:
        """Publish after each change, for ever. What could not be published is tried again by the next `run`."""
        while True:
            await self._signals.wait_changed()
            await trio.sleep(GATHER_CHANGES_S)
            self.publish()
            self._signals.take_changes()

    def publish(self) -> None:
        """Want of each node what it should serve now, and wake the connections on which that is to be sent."""
        number, desired = self._number + 1, self._desired.make()
        topology, nodes = self._registry.topology, self._registry.nodes()
        parents = {name: parents_of(self._registry, name) for name in (*topology.tiers, *topology.pools)}
        for record in self._registry.records.values():
            if record.hello is None or (not record.leaving and self._waits(record, nodes, desired)):
                continue
            if record.leaving:
                is_news, content = False, self._farewell(record)
            else:
                is_news = record.assignment.parents != parents[record.tier]
                record.assignment.parents = parents[record.tier]
                content = None if record.agent else desired.of(record)
            if content is not None and record.assignment.is_outdated(content):
                record.assignment.assign(content, number, self.revision)
                self._number, is_news = number, True
            if is_news and record.link is not None:
                record.link.wake.set()
        self._signals.moved()

    def note_ack(self, record: NodeRecord, ack: Ack) -> None:
        """The node serves a snapshot, at these addresses."""
        assignment, wanted = record.assignment, record.assignment.wanted
        assignment.served, assignment.refusal = ack.revision, ""
        if wanted is not None and assignment.is_served:
            assignment.accepted = wanted.accepted
            pairs = zip(wanted.listeners, ack.addresses, strict=True)
            inner = next((a for each, a in pairs if each.inner and not a.is_unix), None)
            if (record.addresses, record.inner) != (ack.addresses, inner):
                record.addresses, record.inner = ack.addresses, inner
                self._signals.changed()
        self._signals.moved()

    def ask_refusers(self, now: float) -> None:
        """To be called about every second while any has refused: a node that lacked something for its snapshot, such as
        descriptors or a port, may have it by now."""
        for record in self._registry.nodes():
            assignment = record.assignment
            if assignment.refusal and record.link is not None and now - assignment.refused_s >= ASK_REFUSERS_S:
                assignment.ask_again, assignment.refused_s = True, now
                self._signals.changed()

    def _farewell(self, record: NodeRecord) -> Snapshot | None:
        """A node that is about to be stopped ends its kept connections; nothing else is wanted of it any more."""
        wanted = record.assignment.wanted
        if wanted is None or record.name not in self._desired.node_admin.retiring:
            return None
        return attrs.evolve(wanted, revision=0, accepted=0, admin=Admin.DRAIN)

    def _waits(self, record: NodeRecord, nodes: Sequence[NodeRecord], desired: Desired) -> bool:
        return waits_for_neighbours(
            record,
            self._registry.topology,
            nodes,
            desired.announced.keys(),
            is_open=self._registry.engine is not None,
            is_over=self._registry.window.is_over(trio.current_time()),
        )
