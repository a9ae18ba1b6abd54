"""The status of the whole cluster, put together from the parts of the controller."""

import time
from collections.abc import Callable, Iterable, Mapping

import attrs
import trio

from tierlb.controller.desired import Desired, DesiredMaker
from tierlb.controller.node_record import NodeRecord
from tierlb.controller.node_reports import NodeReports, loads_by_host
from tierlb.controller.published_endpoints import PublishedEndpoints
from tierlb.controller.publisher import Publisher
from tierlb.controller.readiness import Readiness
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.status import (
    CertificateStatus,
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
    certificates_of,
    observed,
)
from tierlb.controller.top_health import stalled
from tierlb.model.address import parse_address
from tierlb.model.load import CertificateExpiry, HostLoad
from tierlb.model.places import secured_listeners
from tierlb.model.topology import Admin, Pool
from tierlb.telemetry.aggregate import pools_down
from tierlb.telemetry.internal_errors import InternalErrors

ShownNow = Callable[[], tuple[CertificateExpiry, ...]]
LoadsByHost = Mapping[str, Mapping[str, HostLoad]]


@attrs.define
class Overview:
    """`starting` is set by what starts the processes, until everything serves. `shown`: the certificates that this
    process shows, as they are in use."""

    _registry: NodeRegistry
    _desired: DesiredMaker
    _endpoints: PublishedEndpoints
    _publisher: Publisher
    _readiness: Readiness
    _errors: InternalErrors
    starting: bool = False
    shown: list[ShownNow] = attrs.field(factory=list)
    _epoch: Callable[[], float] = time.time

    def status(self) -> ClusterStatus:
        """Everything that is known now."""
        now, desired, topology = trio.current_time(), self._desired.make(), self._registry.topology
        missing, pools = self._readiness.missing(), self._pools(now, desired)
        tiers = {
            tier.name: TierStatus(
                tier.kind.value,
                tuple(each.address for each in tier.listen),
                tier.targets,
                self._nodes_of(tier.name, now, desired),
                tier.protocol.value,
                tuple(each.address for each in secured_listeners(topology, tier)),
            )
            for tier in topology.tiers.values()
        }
        down = self._down()
        without_service = () if self.starting or down else (*self._all_out(), *self._stalled(now))
        serving = all(any(node.state is State.SERVING for node in tier.nodes) for tier in tiers.values()) and all(
            any(endpoint.state is State.SERVING for endpoint in pools[name].endpoints)
            for name, pool in self._desired.deployed().pools.items()
            if not (pool.agents or pool.dns)
        )
        return ClusterStatus(
            cluster=topology.cluster,
            revision=self._publisher.revision,
            serving=serving and not self.starting and not down and not without_service,
            missing=(*missing, *(f"pool {name}: no endpoint is available" for name in down), *without_service),
            down=down,
            tiers=tiers,
            pools=pools,
            starting=self.starting,
            waiting=(*self._readiness.waiting(), *without_service),
            internal_errors=self._errors.counts.total(),
            certificates=self._certificates(tiers),
        )

    def _certificates(self, tiers: Mapping[str, TierStatus]) -> tuple[CertificateStatus, ...]:
        """Of nodes as they were reported, and of this process."""
        shown = [(node.name, node.load.certificates) for tier in tiers.values() for node in tier.nodes if node.load]
        return certificates_of([*shown, *(("controller", now()) for now in self.shown)], self._epoch())

    def _nodes_of(self, name: str, now: float, desired: Desired) -> tuple[NodeStatus, ...]:
        """The nodes of a tier, or the agents of a pool."""
        admin = self._desired.node_admin.states
        return tuple(
            self._node_status(record, now, desired, admin.get(record.name, Admin.READY))
            for record in self._registry.records.values()
            if record.tier == name
        )

    def _node_status(self, record: NodeRecord, now: float, desired: Desired, admin: Admin) -> NodeStatus:
        reports = record.reports
        return NodeStatus(
            name=record.name,
            state=record.state,
            connected=record.link is not None,
            pid=record.hello.pid if record.hello else None,
            revision=self._revision_of(record, desired),
            addresses=record.addresses,
            load=reports.row.own if reports.row else None,
            items_per_s=reports.items_per_s(),
            report_age_s=reports.age_s(now),
            problem=record.assignment.refusal,
            subtree=reports.subtree(),
            latency=reports.row.latency if reports.row else b"",
            parents=tuple(parent.name for parent in record.assignment.parents or ()),
            control=record.hello.control if record.hello else "",
            admin=admin,
            build=record.hello.build if record.hello else "",
        )

    def _revision_of(self, record: NodeRecord, desired: Desired) -> int:
        """The revision that the node serves. That is the active one too where it means for this node what it serves."""
        is_named = record.tier in desired.by_tier and not record.leaving
        is_current = is_named and record.assignment.serves(desired.of(record))
        return self._publisher.revision if is_current else record.assignment.accepted

    def _pools(self, now: float, desired: Desired) -> dict[str, PoolStatus]:
        reports = {name: record.reports for name, record in self._registry.records.items()}
        loads = loads_by_host(reports, now)
        return {
            name: PoolStatus(self._with_loads(pool, loads), self._nodes_of(name, now, desired))
            for name, pool in self._desired.deployed().pools.items()
        }

    def _with_loads(self, pool: Pool, loads: LoadsByHost) -> tuple[EndpointStatus, ...]:
        of_each = ((each, loads.get(each.name or f"{pool.name}/{each.address}", {})) for each in self._of(pool, loads))
        return tuple(attrs.evolve(each, seen_by=dict(seen), observed=observed(seen)) for each, seen in of_each)

    def _of(self, pool: Pool, loads: LoadsByHost) -> Iterable[EndpointStatus]:
        if pool.dns:  # found by the nodes, so their rows name them
            addresses = (name.removeprefix(f"{pool.name}/") for name in loads if name.startswith(f"{pool.name}/"))
            return [EndpointStatus(parse_address(address), State.SERVING) for address in sorted(addresses)]
        if pool.run is not None:
            return self._endpoints.of(pool.name)
        if pool.agents:
            return [
                EndpointStatus(address, record.state, record.hello.pid if record.hello else None, record.name)
                for record in self._registry.agents_of(pool.name)
                for address in record.addresses
            ]
        return [EndpointStatus(address, State.SERVING) for address in pool.endpoints]

    def _down(self) -> tuple[str, ...]:
        """Pools of which no node of some top tier has an available endpoint, as the nodes report."""
        down: dict[str, list[tuple[str, ...]]] = {}
        for record in self._registry.nodes():
            report = record.reports.subtree()
            serves = record.link is not None and record.state is State.SERVING
            if record.is_top and serves and report is not None:
                down.setdefault(record.tier, []).append(report.down)
        return tuple(name for name in pools_down({}, down) if name in self._registry.topology.pools)

    def _all_out(self) -> tuple[str, ...]:
        """Tiers of which no node gets traffic, because operators have taken out all that serve."""
        out, tiers = self._desired.node_admin.states, dict[str, list[str]]()
        for record in self._registry.nodes():
            if record.state is State.SERVING:
                tiers.setdefault(record.tier, []).append(record.name)
        return tuple(
            f"{tier}: no node that serves takes anything: `tierlb ready {names[0]}`"
            for tier, names in tiers.items()
            if out.keys() >= set(names)
        )

    def _stalled(self, now: float) -> tuple[str, ...]:
        """Where an engine starts the nodes, one without a connection may serve: this controller may be cut off."""
        tiers: dict[str, list[NodeReports]] = {}
        for record in self._registry.nodes():
            is_known = record.link is not None or self._registry.engine is None
            if record.is_top and is_known and record.state is State.SERVING:
                tiers.setdefault(record.tier, []).append(record.reports)
        return stalled(tiers, now)
