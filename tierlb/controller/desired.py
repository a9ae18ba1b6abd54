"""What each node should serve now: from the topology, the nodes and endpoints that exist, and their admin states."""

from collections.abc import Collection

import attrs

from tierlb.channel.admission import Admission
from tierlb.controller.node_admin import NodeAdmin
from tierlb.controller.node_record import NodeRecord
from tierlb.controller.published_endpoints import PublishedEndpoints
from tierlb.controller.registry import NodeRegistry
from tierlb.model.address import Address
from tierlb.model.snapshot import Snapshot, process_name
from tierlb.model.topology import Admin, Forwarding, Topology
from tierlb.topology.allot import Announced, snapshot_for, ways_to


@attrs.frozen
class Desired:
    """The contents of snapshots, as revision 0. `announced`: what the nodes of each tier opened for their parents."""

    by_tier: dict[str, Snapshot]
    admin: dict[str, Admin]
    announced: Announced

    def of(self, record: NodeRecord) -> Snapshot:
        """For a node that the topology names."""
        content = self.by_tier[record.tier]
        admin = self.admin.get(record.name, Admin.READY)
        return content if admin is Admin.READY else attrs.evolve(content, admin=admin)


@attrs.define
class DesiredMaker:
    """`make` works it out from what is known at that moment."""

    registry: NodeRegistry
    endpoints: PublishedEndpoints
    node_admin: NodeAdmin
    admission: Admission
    _latest: dict[str, Snapshot] = attrs.field(factory=dict, init=False)

    def make(self) -> Desired:
        """As everything is now."""
        topology, admin, announced = self.registry.topology, self.node_admin.all_states(), self._announced()
        deployed, endpoints = self.deployed(), self.endpoints.serving()
        agents = {name: self._agent_addresses(name) for name in topology.pools}
        contents = {
            name: attrs.evolve(
                snapshot_for(deployed, name, 0, announced, endpoints, agents, admin),
                parents=self._processes_of(ways_to(topology, name), admin),
                kernel_parents=self._processes_of(_forward_in_the_kernel(topology, name), admin),
                data_key=self.admission.data_key,
            )
            for name in topology.tiers
        }
        # Contents that have not changed stay the same objects, which compare at once with what nodes serve already.
        latest = self._latest
        self._latest = {name: latest[name] if latest.get(name) == each else each for name, each in contents.items()}
        return Desired(self._latest, admin, announced)

    def deployed(self) -> Topology:
        """The topology as it exists: where membership is open, a tier has as many nodes as joined."""
        topology, engine = self.registry.topology, self.registry.engine
        if engine is None:
            return topology
        deployed = engine.deployed(topology)
        tiers = {
            name: attrs.evolve(tier, replicas=max(1, len(self.registry.expected(tier))))
            for name, tier in deployed.tiers.items()
        }
        return attrs.evolve(deployed, tiers=tiers)

    def _announced(self) -> Announced:
        announced: dict[str, dict[str, Address]] = {}
        for record in self.registry.nodes():
            if record.inner is not None and not record.draining:
                announced.setdefault(record.tier, {})[record.name] = record.inner
        return announced

    def _agent_addresses(self, pool: str) -> dict[str, Address]:
        return {
            record.name: record.addresses[0]
            for record in self.registry.agents_of(pool)
            if record.addresses and not record.draining
        }

    def _processes_of(self, tiers: Collection[str], admin: dict[str, Admin]) -> tuple[str, ...]:
        """Those of these tiers through which connections may come."""
        return tuple(
            process_name(record.name, record.hello.boot_id)
            for record in self.registry.nodes()
            if record.tier in tiers and record.hello is not None and record.name not in admin and not record.draining
        )


def _forward_in_the_kernel(topology: Topology, name: str) -> frozenset[str]:
    """The tiers that send to this one in that way."""
    return frozenset(parent.name for parent in topology.parents(name) if parent.forward is Forwarding.NFTABLES)
