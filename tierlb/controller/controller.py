"""Owns the topology, knows every node, and gives each the snapshot it should serve.

Changes (a node joined, bound its ports, left; an endpoint came or went) only mark the controller as changed;
`run` gathers what comes within a few milliseconds into new snapshots under one number and hands them to those nodes
whose own configuration differs. Each node has one place for the newest snapshot wanted from it, not a queue, so a slow
node costs nothing and skips what is already outdated.

A node whose control socket is gone stays a host of its parents' destinations, for its traffic does not
depend on that socket. It leaves when it says that it drains or when the supervisor saw its process exit. An agent,
which nobody supervises, is a host of its pool from its hello until it drains or has been away for ten seconds.

After a restart nothing is known but the topology. Nodes that serve go on as they are, and are told nothing new until
those above and below are back too, or have had the time: with what is known by then, an edge that is the first to come
back would be told that nobody is below it.

Where somebody else starts the processes (`Engine`: compose, Kubernetes, systemd on several machines), nobody knows who
will come. Membership is then open: any node of a tier that the topology names is taken in under its name. One whose
socket has been gone for a while leaves, unless more than half of its tier is gone: then it is rather this controller
that is cut off, and nodes that it cannot see serve as well as before. When they are back, those that are still missing
are given that time anew. And whoever serves is not told that nobody is below it because nobody of them has come back.

Reports do not come here, but for those of the top tiers and a sign of life of the others: each node is told where its
parents are. `watch` asks the top tiers for detail, which they gather from the whole tree (`cluster_view`).

Left out: sockets (reception.py) and processes (local/).
"""

import secrets
from collections import Counter
from collections.abc import Container, Iterable

import attrs
import trio

from tierlb.channel.admission import Admission, address_problem, agent_rows, bound, mismatch
from tierlb.channel.log import Log
from tierlb.channel.parents import is_named
from tierlb.channel.takeover import takeover_problem
from tierlb.channel.watching import Watching
from tierlb.controller.admin_states import AdminStates
from tierlb.controller.cluster_view import ClusterView, Sight
from tierlb.controller.engine import Engine
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.status import (
    ClusterStatus,
    EndpointStatus,
    NodeStatus,
    PoolStatus,
    State,
    TierStatus,
    observed,
)
from tierlb.controller.top_health import stalled
from tierlb.controller.waiting import pools_awaited, tiers_awaited
from tierlb.model.address import Address, parse_address
from tierlb.model.load import REPORT_INTERVAL_S, HostLoad
from tierlb.model.snapshot import Snapshot, process_name
from tierlb.model.topology import Admin, Tier, Topology
from tierlb.net.keep_going import keep_going
from tierlb.telemetry.aggregate import pools_down
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.topology.allot import Announced, node_names, reports_to, snapshot_for, ways_to
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import MAX_WATCH_S, Ack, Drain, Hello, Parent, Refuse, Report, Watch

GATHER_S = 0.01
"""Nodes of a starting tier announce themselves within some milliseconds; one revision then serves for all."""
AGENT_GONE_S = 10.0
"""An agent whose socket has been gone for this long has left: longer than its back-off after a restart of ours."""
NODE_GONE_S = 30.0
"""Where membership is open. Parents pass over a node that does not answer long before."""
LEAST_PRESENT = 0.5
ALL_TIERS = ""
"""No tier is called that."""
REAP_EVERY_S = 1.0
ASK_REFUSERS_S = 10.0
"""A node that refuses for good costs a line of the log each time."""
BACK_S = 5.0
"""After a restart, who is still there has come back within it: the longest back-off is 2 s (controller_link.py)."""
MORE_S = 3.0
"""Where somebody came back, others may yet: each has found out at a time of its own that a machine was gone."""
BACK_AT_MOST_S = 20.0
MAX_RECORDS = 32768
NONCE_BYTES = 12
OBSERVE_S = 5.0
"""How long a single look keeps the rows coming, so that the next one need not wait for them."""
OBSERVE_WITHIN_S = 1.5


class Unwelcome(Exception):  # noqa: N818 (the text is the reason the node is sent)
    """The node cannot join; the text says why."""


@attrs.define
class Controller:
    """The desired topology and the nodes and local endpoints that exist. `errors` is the process's."""

    topology: Topology
    log: Log
    report_interval_s: float = REPORT_INTERVAL_S
    revision: int = 0
    """The active one of the history, which others write here; only shown."""
    starting: bool = False
    """Set by those who start the processes, until everything serves."""
    admin_states: AdminStates = ()
    """What operators want of nodes and agents, where it is not ready; `want` sets it."""
    engine: Engine | None = None
    admission: Admission = attrs.field(factory=Admission)
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    _published: int = attrs.field(default=0, init=False)
    """The number of the latest snapshot."""
    _retiring: frozenset[str] = attrs.field(default=frozenset(), init=False)
    _departed: set[str] = attrs.field(factory=set, init=False)
    """Nodes that the topology named once: a process that is started again before it is stopped gets nothing either."""
    records: dict[str, NodeRecord] = attrs.field(factory=dict, init=False)
    cluster_view: ClusterView = attrs.field(factory=ClusterView, init=False)
    _began_s: float = attrs.field(default=0.0, init=False)
    _all_back_s: float = attrs.field(default=0.0, init=False)
    _more: trio.Event = attrs.field(factory=trio.Event, init=False)
    _watching: Watching = attrs.field(factory=Watching, init=False)
    _seen: trio.Event = attrs.field(factory=trio.Event, init=False)
    _endpoints: dict[str, dict[Address, EndpointStatus]] = attrs.field(factory=dict, init=False)
    _dirty: trio.Event = attrs.field(factory=trio.Event, init=False)
    _progress: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._make_records()

    async def run(self) -> None:
        """Publish new snapshots after changes, for ever."""
        self._began_s = trio.current_time()
        self._all_back_s = self._began_s + BACK_S
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, self.errors, "reaper", self._reap)
            nursery.start_soon(keep_going, self.errors, "return of nodes", self._wait_for_no_longer)
            await keep_going(self.errors, "publishing", self._publish_changes)

    async def _publish_changes(self) -> None:
        while True:
            await self._dirty.wait()
            await trio.sleep(GATHER_S)
            self._dirty = trio.Event()
            try:
                self._publish()
            except Exception:
                self._dirty.set()
                raise

    async def wait_progress(self) -> None:
        """Return when anything that `missing` reports may have changed."""
        await self._progress.wait()

    def adopt(self, topology: Topology) -> None:
        """This is the desired topology from now on. Nodes that it does not name get nothing new and wait to be stopped;
        nodes that it names anew are expected."""
        self.topology = topology
        self._make_records()
        self._changed()

    def expected(self, tier: Tier) -> tuple[str, ...]:
        """The nodes of a tier: those that there should be, or where membership is open those that there are."""
        if self.engine is None:
            return node_names(tier)
        return tuple(record.name for record in self.records.values() if record.tier == tier.name and not record.agent)

    def ready(self, nodes: Iterable[str]) -> int:
        """How many of them serve and have, as far as they have said, what they need below."""
        records = [self.records[name] for name in nodes]
        return sum(record.state is State.SERVING and self._has_leaves(record.name) for record in records)

    @property
    def admin(self) -> dict[str, Admin]:
        """The same by name. A node of the name that an agent had, or one of another tier, is not meant."""
        records = self.records
        return {
            each.name: each.state
            for each in self.admin_states
            if each.name not in records or records[each.name].tier == each.group
        }

    def want(self, admin_states: AdminStates) -> None:
        """What operators want of nodes and agents from now on; of all others that they are ready."""
        if admin_states != self.admin_states:
            self.admin_states = admin_states
            self._changed()

    def retire(self, nodes: Iterable[str]) -> None:
        """These nodes are about to be stopped: nobody sends to them any more, and whatever connections they placed or
        hold are ended politely. Replaces those named before."""
        self._retiring = frozenset(nodes)
        self._changed()

    def is_retired(self, names: Iterable[str]) -> bool:
        """Whether these, which are retired, and all others serve it, as far as they are connected."""
        records = [
            record for name in names if (record := self.records.get(name)) is not None and record.link is not None
        ]
        return self.settled() and all(
            record.wanted is not None
            and record.wanted.admin is not Admin.READY
            and record.served == record.wanted.revision
            for record in records
            if not record.draining
        )

    def settled(self, names: Container[str] | None = None) -> bool:
        """Whether every node (or each of these) that is connected serves what is wanted of it now."""
        contents = self._contents()
        return all(
            record.wanted is not None
            and record.served == record.wanted.revision
            and _same(record.wanted, self._content_for(record, contents))
            for record in self._nodes()
            if record.link is not None and not record.draining and (names is None or record.name in names)
        )

    def join(self, hello: Hello, link: Link) -> NodeRecord:
        """Take in a node that said hello; a second connection of the same node replaces the first, and so does another
        process that is to take over from one that still runs, whose addresses stay until the new one has its own.
        Raises Unwelcome."""
        record = self._record_for(hello, link)
        if record.hello is None or record.hello.boot_id != hello.boot_id:
            former, record = record, self._vacate(record)
            record.addresses, record.inner = former.addresses, former.inner
            record.former, former.former = former if self._may_still_run(former) else None, None
            self._take_back(record, hello)
            self.log.info("node joined", node=hello.node, pid=hello.pid)
        elif record.link is not None:
            record.link.replace()
        record.hello, record.link = hello, link
        if record.agent:
            record.addresses = (parse_address(hello.data),)
        self.cluster_view.add(record.name)
        if self._is_top(record):
            link.watch(*(self._watch_for(record, watch) for watch in self._watching.current(trio.current_time())))
        self._changed()
        return record

    def check(self, hello: Hello, principal: Principal) -> None:
        """Whether what the connection has proved lets it join as that. Raises Unwelcome if not."""
        pool = self.topology.pools.get(hello.tier)
        role = Role.AGENT if pool is not None and pool.agents else Role.NODE
        if problem := mismatch(principal, hello, role):
            raise Unwelcome(problem)

    def with_tickets(self, record: NodeRecord) -> tuple[Parent, ...]:
        """The parents of a node or agent, each with what it is to show there."""
        if record.link is None or record.link.caller is None or record.hello is None:
            return record.parents or ()
        child = bound(record.link.caller.principal, record.hello)
        return tuple(attrs.evolve(each, ticket=self._ticket(each, child)) for each in record.parents or ())

    def receive(self, record: NodeRecord, frame: Ack | Refuse | Report | Drain) -> None:
        """Take note of what the node said."""
        match frame:
            case Ack():
                self._on_ack(record, frame)
            case Refuse():
                if record.wanted is not None and record.wanted.revision == frame.revision:
                    record.refusal, record.refused_s = frame.reason, trio.current_time()
                self.log.error("node refused", node=record.name, revision=self.revision, reason=frame.reason)
                self._moved()
            case Report(subtree, _, rows):
                now = trio.current_time()
                self.cluster_view.note_report(record.name, subtree, now)
                if rows := agent_rows(rows, record.name) if record.agent else rows:
                    self.cluster_view.note_rows(rows, now)
                    self._seen.set()
                    self._seen = trio.Event()
            case Drain():
                record.draining = True
                self.log.info("node drains", node=record.name)
                self._changed()

    def lost(self, record: NodeRecord, link: Link) -> None:
        """The node's control socket is gone; its traffic goes on."""
        if record.link is link:
            record.link, record.lost_s = None, trio.current_time()
            if (record.agent or self.engine is not None) and (record.draining or record.leaving):
                self._remove(record)
            self._moved()

    def exited(self, node: str, pid: int) -> None:
        """The node's process is gone: nobody is to send to it any more, unless it is one that another has taken over
        from, or that had not taken over yet."""
        record = self.records.get(node)
        if record is None or record.hello is None:
            return
        former = record.former
        if former is not None and former.hello is not None and former.hello.pid == pid:
            record.former = None
            return
        if record.hello.pid != pid:
            return
        record = self._vacate(record)
        if former is not None:
            former.leaving = record.leaving
            self.records[node] = former
        elif record.leaving:
            self._remove(record)
        self._changed()

    def watch(self, ttl_s: float, explain: str = "") -> None:
        """Have rows sent up the tree for so long; with a nonce, requests that carry it are explained meanwhile."""
        watch = Watch(min(ttl_s, MAX_WATCH_S), explain)
        if self._watching.take(watch, trio.current_time()):
            for record in self.records.values():
                if record.link is not None and self._is_top(record):
                    record.link.watch(self._watch_for(record, watch))

    def explain(self, ttl_s: float) -> str:
        """A nonce: requests with it are explained for so long. All who ask meanwhile share it; nodes know only one."""
        nonce = self._watching.nonce(trio.current_time()) or secrets.token_hex(NONCE_BYTES)
        self.watch(ttl_s, nonce)
        return nonce

    async def observe(self, within_s: float = OBSERVE_WITHIN_S) -> ClusterStatus:
        """The status with figures of just now: asks for them and waits a moment, but for nobody who is not there."""
        self.watch(OBSERVE_S)
        with trio.move_on_after(within_s):
            while not self._all_live():
                await self._seen.wait()
        return self.status()

    def note_endpoint(self, pool: str, endpoint: EndpointStatus) -> None:
        """A locally run endpoint starts, serves or is gone; only serving ones are hosts."""
        self._endpoints.setdefault(pool, {})[endpoint.address] = endpoint
        self._changed()

    def forget_endpoint(self, pool: str, address: Address) -> None:
        """A locally run endpoint is to be no host any more."""
        if self._endpoints.get(pool, {}).pop(address, None) is not None:
            self._changed()

    def is_served_by(self, node: str, pid: int | None) -> bool:
        """Whether this process is the node now and serves what is wanted of it."""
        record = self.records.get(node)
        if pid is None or record is None or record.hello is None or record.hello.pid != pid or record.wanted is None:
            return False
        return record.served == record.wanted.revision and _same(
            record.wanted, self._content_for(record, self._contents())
        )

    def refused(self, names: Container[str] | None = None) -> str:
        """Which node (or which of these) refused what is wanted of it now, and why; "" if none did."""
        contents = self._contents()
        refusing = (record for record in self._nodes() if record.refusal and (names is None or record.name in names))
        return next((_lack_of(s, c) for s in refusing if _same(s.wanted, c := self._content_for(s, contents))), "")

    def unready_endpoints(self, pools: Container[str] | None = None) -> tuple[str, ...]:
        """Endpoints run here (of these pools) that do not accept connections, each a phrase for a person."""
        return tuple(
            f"pool {name}: {endpoint.address} does not accept connections yet"
            for name, pool in self._endpoints.items()
            for endpoint in pool.values()
            if endpoint.state is not State.SERVING and (pools is None or name in pools)
        )

    def missing(self, *, drained: bool = True) -> tuple[str, ...]:
        """What is not up yet, each a phrase for a person; empty when the whole tree serves. With `drained` false
        nothing of nodes that operators have taken out, perhaps because they do not work."""
        lacks, out = self._lacks(self._contents()), self.admin
        return self._missing({name: lack for name, lack in lacks.items() if drained or name not in out})

    def waiting(self) -> tuple[str, ...]:
        """The same by tier and pool: how many of how many are up, and what the others lack."""
        return self._waiting(self._lacks(self._contents()))

    def _missing(self, lacks: dict[str, str]) -> tuple[str, ...]:
        return (
            *(f"no node of {tier.name} has joined" for tier in self.topology.tiers.values() if not self.expected(tier)),
            *(lack for lack in lacks.values() if lack),
            *self.unready_endpoints(),
        )

    def _waiting(self, lacks: dict[str, str]) -> tuple[str, ...]:
        tiers: dict[str, list[str]] = {name: [] for name in self.topology.tiers}
        for record in self._nodes():
            tiers[record.tier].append(lacks[record.name])
        pools = {name: [e.state is State.SERVING for e in pool.values()] for name, pool in self._endpoints.items()}
        return (*tiers_awaited(tiers), *pools_awaited(pools))

    def status(self) -> ClusterStatus:
        """Everything that is known now."""
        now, contents = trio.current_time(), self._contents()
        lacks = self._lacks(contents)
        tiers = {
            tier.name: TierStatus(tier.kind.value, tier.listen, tier.targets, self._statuses(tier.name, now, contents))
            for tier in self.topology.tiers.values()
        }
        seen = self.cluster_view.seen_by(now)
        pools = {
            name: PoolStatus(self._endpoints_of(name, seen), self._statuses(name, now, contents))
            for name in self.topology.pools
        }
        down = self._down()
        stalled = () if self.starting or down else (*self._all_out(), *self._stalled(now))
        awaited = (pools[name] for name, pool in self._deployed().pools.items() if not (pool.agents or pool.dns))
        serving = all(any(node.state is State.SERVING for node in tier.nodes) for tier in tiers.values()) and all(
            any(e.state is State.SERVING for e in pool.endpoints) for pool in awaited
        )
        return ClusterStatus(
            cluster=self.topology.cluster,
            revision=self.revision,
            serving=serving and not self.starting and not down and not stalled,
            missing=(*self._missing(lacks), *(f"pool {name}: no endpoint is available" for name in down), *stalled),
            down=down,
            tiers=tiers,
            pools=pools,
            starting=self.starting,
            waiting=(*self._waiting(lacks), *stalled),
            internal_errors=self.errors.counts.total(),
        )

    def _statuses(self, tier: str, now: float, contents: dict[str, Snapshot]) -> tuple[NodeStatus, ...]:
        return tuple(
            self._node_status(record, now, contents) for record in self.records.values() if record.tier == tier
        )

    def _node_status(self, record: NodeRecord, now: float, contents: dict[str, Snapshot]) -> NodeStatus:
        sight = self.cluster_view.of(record.name)
        return NodeStatus(
            name=record.name,
            state=record.state,
            connected=record.link is not None,
            pid=record.hello.pid if record.hello else None,
            revision=self._revision_of(record, contents),
            addresses=record.addresses,
            load=sight.row.own if sight.row else None,
            items_per_s=sight.items_per_s(),
            report_age_s=sight.age_s(now),
            problem=record.refusal,
            subtree=sight.subtree(),
            latency=sight.row.latency if sight.row else b"",
            parents=tuple(parent.name for parent in record.parents or ()),
            control=record.hello.control if record.hello else "",
            admin=self.admin.get(record.name, Admin.READY),
        )

    def _revision_of(self, record: NodeRecord, contents: dict[str, Snapshot]) -> int:
        """The one that it serves: the active one, too, where that means the same for this node as what it serves."""
        serves_wanted = record.wanted is not None and record.served == record.wanted.revision
        is_named = record.tier in contents and not record.leaving
        is_current = serves_wanted and is_named and _same(record.wanted, self._content_for(record, contents))
        return self.revision if is_current else record.accepted

    def _lacks(self, contents: dict[str, Snapshot]) -> dict[str, str]:
        return {record.name: _lack_of(record, self._content_for(record, contents)) for record in self._nodes()}

    def _endpoints_of(self, pool_name: str, seen: dict[str, dict[str, HostLoad]]) -> tuple[EndpointStatus, ...]:
        pool = self._deployed().pools[pool_name]
        if pool.dns:
            endpoints = _found(pool_name, seen)
        elif pool.run is not None:
            endpoints = list(self._endpoints.get(pool_name, {}).values())
        elif pool.agents:
            endpoints = [
                EndpointStatus(address, record.state, record.hello.pid if record.hello else None, record.name)
                for record in self._agents_of(pool_name)
                for address in record.addresses
            ]
        else:
            endpoints = [EndpointStatus(address, State.SERVING) for address in pool.endpoints]
        seen_of = [(e, seen.get(e.name or f"{pool_name}/{e.address}", {})) for e in endpoints]
        return tuple(attrs.evolve(e, seen_by=hosts, observed=observed(hosts)) for e, hosts in seen_of)

    def _down(self) -> tuple[str, ...]:
        """Pools of which no node of some top tier has an available endpoint, as the nodes observe it."""
        reports: dict[str, list[tuple[str, ...]]] = {}
        for record in self._nodes():
            report = self.cluster_view.of(record.name).subtree()
            if (
                self._is_top(record)
                and record.link is not None
                and record.state is State.SERVING
                and report is not None
            ):
                reports.setdefault(record.tier, []).append(report.down)
        return tuple(name for name in pools_down({}, reports) if name in self.topology.pools)

    def _all_out(self) -> tuple[str, ...]:
        """Tiers of which no node takes anything, because operators have taken out all that serve."""
        out, tiers = self.admin, dict[str, list[str]]()
        for record in self._nodes():
            if record.state is State.SERVING:
                tiers.setdefault(record.tier, []).append(record.name)
        return tuple(
            f"{tier}: no node that serves takes anything: `tierlb ready {names[0]}`"
            for tier, names in tiers.items()
            if out.keys() >= set(names)
        )

    def _stalled(self, now: float) -> tuple[str, ...]:
        """Where others start the nodes, one without a connection may serve: this controller may be cut off."""
        tiers: dict[str, list[Sight]] = {}
        for record in self._nodes():
            is_known = record.link is not None or self.engine is None
            if self._is_top(record) and is_known and record.state is State.SERVING:
                tiers.setdefault(record.tier, []).append(self.cluster_view.of(record.name))
        return stalled(tiers, now)

    def _has_leaves(self, node: str) -> bool:
        report = self.cluster_view.of(node).subtree()
        return report is not None and (not report.leaves or report.ready_leaves > 0)

    def _nodes(self) -> list[NodeRecord]:
        """Those that the topology names."""
        return [record for record in self.records.values() if not record.agent and not record.leaving]

    def _agents_of(self, pool: str) -> list[NodeRecord]:
        return [record for record in self.records.values() if record.agent and record.tier == pool]

    def _is_top(self, record: NodeRecord) -> bool:
        return not record.parents

    def _all_live(self) -> bool:
        now = trio.current_time()
        present = (
            record for record in self.records.values() if record.link is not None and record.state is State.SERVING
        )
        return all(self.cluster_view.of(record.name).is_live(now) for record in present)

    @staticmethod
    def _watch_for(record: NodeRecord, watch: Watch) -> Watch:
        """Who runs an agent need not see how requests are explained."""
        return attrs.evolve(watch, explain="") if record.agent else watch

    def _ticket(self, parent: Parent, child: Principal) -> str:
        if is_named(parent.url):
            return self.admission.ticket(parent.name, "", child)
        above = self.records.get(parent.name)
        return self.admission.ticket(above.tier, above.name, child) if above is not None else ""

    def _record_for(self, hello: Hello, link: Link) -> NodeRecord:
        record = self.records.get(hello.node)
        pool = self.topology.pools.get(hello.tier)
        if pool is not None and pool.agents:
            record = record or NodeRecord(hello.node, hello.tier, agent=True)
            if not hello.data:
                raise Unwelcome(f"{hello.node} joins pool {hello.tier} without an address: give --address")
            if link.host and (problem := address_problem(hello.data, link.host, pool.networks, pool.name)):
                raise Unwelcome(problem)
        elif record is not None and record.agent and hello.tier in self.topology.tiers:
            self._evict(record)  # an agent may call itself what it likes, and keeps no node out by it
            record = None
        record = record or NodeRecord(hello.node, hello.tier, leaving=hello.node in self._departed)
        if (hello.tier not in self.topology.tiers and not record.agent) or record.tier != hello.tier:
            raise Unwelcome(f"{hello.node} is not a node of tier {hello.tier}: check --name and --tier")
        former = record.former.hello if record.former is not None and record.link is not None else None
        problem = takeover_problem(
            hello.node,
            hello.boot_id,
            link.host,
            live_host=record.link.host if record.link is not None else None,
            replaced_boot_id=former.boot_id if former is not None else "",
            vouched=self.admission.only_started and not record.agent,
        )
        if problem:
            raise Unwelcome(problem)
        if hello.node not in self.records and len(self.records) >= MAX_RECORDS:
            raise Unwelcome(f"there are {MAX_RECORDS} nodes and agents already")
        self.records[hello.node] = record
        return record

    def _on_ack(self, record: NodeRecord, ack: Ack) -> None:
        record.served, record.refusal = ack.revision, ""
        if record.wanted is not None and record.wanted.revision == ack.revision:
            record.accepted = record.wanted.accepted
            inner = next(
                (a for each, a in zip(record.wanted.listeners, ack.addresses, strict=True) if each.inner), None
            )
            if (record.addresses, record.inner) != (ack.addresses, inner):
                record.addresses, record.inner = ack.addresses, inner
                self._changed()
        self._moved()

    def _publish(self) -> None:
        number = self._published + 1
        contents, there = self._contents(), self._announced()
        parents = {name: self._parents_of(name) for name in (*self.topology.tiers, *self.topology.pools)}
        for record in self.records.values():
            if record.hello is None or (not record.leaving and self._waits(record, there)):
                continue
            if record.leaving:
                moved, content = False, self._farewell(record)
            else:
                moved = record.parents != parents[record.tier]
                record.parents = parents[record.tier]
                content = None if record.agent else self._content_for(record, contents)
            if content is not None and (record.ask_again or not _same(record.wanted, content)):
                record.refusal = record.refusal if record.ask_again and _same(record.wanted, content) else ""
                record.wanted, record.ask_again = attrs.evolve(content, revision=number, accepted=self.revision), False
                self._published, moved = number, True
            if moved and record.link is not None:
                record.link.wake.set()
        self._moved()

    def _farewell(self, record: NodeRecord) -> Snapshot | None:
        """A node that is about to be stopped ends its kept connections; nothing else is wanted of it any more."""
        if record.wanted is None or record.name not in self._retiring:
            return None
        return attrs.evolve(record.wanted, revision=0, accepted=0, admin=Admin.DRAIN)

    def _may_still_run(self, former: NodeRecord) -> bool:
        """Where nobody says that a process has ended, one without a connection has."""
        return former.hello is not None and (self.engine is None or former.link is not None)

    def _take_back(self, record: NodeRecord, hello: Hello) -> None:
        """A node that served before it came here has been configured by a controller before this one."""
        record.back = bool(hello.data) and not record.agent
        if record.back and record.inner is None and reports_to(self.topology, record.tier):
            record.inner = parse_address(hello.data)
        if record.back and self.engine is not None:
            more_s = min(trio.current_time() + MORE_S, self._began_s + BACK_AT_MOST_S)
            self._all_back_s = max(self._all_back_s, more_s)
            self._more.set()

    def _waits(self, record: NodeRecord, there: Container[str]) -> bool:
        """Whether it is back before all those next to it; `there`: the tiers of which somebody is. How many there were
        nobody knows where membership is open; but a node that serves on is better than one that is told to wait."""
        if not record.back or record.parents is not None:
            return False
        above, below = reports_to(self.topology, record.tier), self.topology.tiers[record.tier].targets
        if trio.current_time() >= self._all_back_s:
            return self.engine is not None and any(name in self.topology.tiers and name not in there for name in below)
        if self.engine is not None or any(name in self.topology.pools and self._takes_agents(name) for name in below):
            return True
        return any(
            other.hello is None or (other.tier in below and other.inner is None)
            for other in self._nodes()
            if other.tier in above or other.tier in below
        )

    async def _wait_for_no_longer(self) -> None:
        while True:
            await trio.sleep_until(self._all_back_s)
            if trio.current_time() >= self._all_back_s:  # it moves on while others come back
                self._changed()
                self._more = trio.Event()
                await self._more.wait()

    def _parents_of(self, name: str) -> tuple[Parent, ...]:
        """The nodes of the tiers that send to this tier or pool, as far as they are there. Those that are found by one
        name are one."""
        scheme = "ws" if self.topology.tls is None else "wss"
        tiers = reports_to(self.topology, name)
        records = [
            record for record in self.records.values() if record.tier in tiers and record.hello and record.hello.control
        ]
        by_url = {f"{scheme}://{record.hello.control}": record for record in records if record.hello is not None}
        return tuple(Parent(record.tier if is_named(url) else record.name, url) for url, record in by_url.items())

    async def _reap(self) -> None:
        while True:
            await trio.sleep(REAP_EVERY_S)
            now, unseen = trio.current_time(), self._unseen()
            self._ask_refusers(now)
            for record in [
                record for record in self.records.values() if record.link is None and record.hello is not None
            ]:
                away_s = now - record.lost_s
                if (ALL_TIERS if record.agent else record.tier) in unseen:
                    record.lost_s = now  # when the others are back, it is given the time to come back too
                elif record.agent and away_s >= AGENT_GONE_S:
                    self.log.warning("agent left", node=record.name, away_s=AGENT_GONE_S)
                    self._remove(record)
                elif self.engine is not None and away_s >= NODE_GONE_S:
                    self.log.warning("node left", node=record.name, away_s=NODE_GONE_S)
                    self._remove(record)

    def _ask_refusers(self, now: float) -> None:
        """What a node lacked for its snapshot, such as descriptors or a port, it may have by now."""
        for record in self._nodes():
            if record.refusal and record.link is not None and now - record.refused_s >= ASK_REFUSERS_S:
                record.ask_again, record.refused_s = True, now
                self._changed()

    def _unseen(self) -> set[str]:
        """The tiers of which so few nodes are connected that it is rather this controller that is cut off."""
        nodes, connected = Counter[str](), Counter[str]()
        for record in self.records.values():
            if record.hello is not None and not record.agent:
                nodes.update((record.tier, ALL_TIERS))
                connected.update((record.tier, ALL_TIERS) if record.link is not None else ())
        return {tier for tier, count in nodes.items() if connected[tier] < LEAST_PRESENT * count}

    def _takes_agents(self, pool: str) -> bool:
        return self.topology.pools[pool].agents

    def _remove(self, record: NodeRecord) -> None:
        if self.records.get(record.name) is record:
            del self.records[record.name]
            self.cluster_view.keep(self.records)
            self._changed()

    def _evict(self, agent: NodeRecord) -> None:
        if agent.link is not None:
            agent.link.replace()
        self._remove(agent)

    def _make_records(self) -> None:
        """One for each node that is to be; those of others stay for as long as somebody sits there."""
        tiers = self.topology.tiers.values()
        wanted = {name: tier.name for tier in tiers for name in self.expected(tier)}
        for name, record in list(self.records.items()):
            if record.agent and name in wanted:
                self._evict(record)
                continue
            gone = record.tier not in self.topology.pools if record.agent else wanted.get(name) != record.tier
            record.leaving = gone
            if gone and not record.agent and self.engine is None:
                self._departed.add(name)
            if gone and record.hello is None:
                del self.records[name]
        self._departed -= wanted.keys()
        for name, tier in wanted.items():
            self.records.setdefault(name, NodeRecord(name, tier))
        self.cluster_view.keep(self.records)

    def _vacate(self, record: NodeRecord) -> NodeRecord:
        """A new record for the node, which is gone or another process now; its old connection closes."""
        if record.link is not None:
            record.link.replace()
        empty = NodeRecord(record.name, record.tier, agent=record.agent, leaving=record.leaving)
        self.records[record.name] = empty
        self.cluster_view.forget(record.name)
        return empty

    def _contents(self) -> dict[str, Snapshot]:
        """What the nodes of each tier should serve now, as revision 0."""
        announced, endpoints = self._announced(), self._run_endpoints()
        agents = {name: self._agent_addresses(name) for name in self.topology.pools}
        deployed = self._deployed()
        contents = {
            name: snapshot_for(deployed, name, 0, announced, endpoints, agents, self._wishes())
            for name in self.topology.tiers
        }
        key = self.admission.data_key
        return {
            name: attrs.evolve(content, parents=self._processes_above(name), data_key=key)
            for name, content in contents.items()
        }

    def _deployed(self) -> Topology:
        """The topology as it exists: where membership is open, a tier has as many nodes as came."""
        if self.engine is None:
            return self.topology
        deployed = self.engine.deployed(self.topology)
        tiers = {
            name: attrs.evolve(tier, replicas=max(1, len(self.expected(tier)))) for name, tier in deployed.tiers.items()
        }
        return attrs.evolve(deployed, tiers=tiers)

    def _processes_above(self, tier: str) -> tuple[str, ...]:
        """Those through which connections may come to this tier."""
        tiers, out = ways_to(self.topology, tier), self._wishes().keys()
        return tuple(
            process_name(record.name, record.hello.boot_id)
            for record in self._nodes()
            if record.tier in tiers and record.hello is not None and record.name not in out and not record.draining
        )

    def _content_for(self, record: NodeRecord, contents: dict[str, Snapshot]) -> Snapshot:
        content = contents[record.tier]
        wish = self._wishes().get(record.name, Admin.READY)
        return content if wish is Admin.READY else attrs.evolve(content, admin=wish)

    def _wishes(self) -> dict[str, Admin]:
        """What is wanted of whom, where it is not ready."""
        return {**self.admin, **dict.fromkeys(self._retiring, Admin.DRAIN)}

    def _agent_addresses(self, pool: str) -> dict[str, Address]:
        return {
            record.name: record.addresses[0]
            for record in self._agents_of(pool)
            if record.addresses and not record.draining
        }

    def _announced(self) -> Announced:
        announced: dict[str, dict[str, Address]] = {}
        for record in self._nodes():
            if record.inner is not None and not record.draining:
                announced.setdefault(record.tier, {})[record.name] = record.inner
        return announced

    def _run_endpoints(self) -> dict[str, tuple[Address, ...]]:
        return {
            name: tuple(e.address for e in pool.values() if e.state is State.SERVING)
            for name, pool in self._endpoints.items()
        }

    def _changed(self) -> None:
        self._dirty.set()
        self._moved()

    def _moved(self) -> None:
        self._progress.set()
        self._progress = trio.Event()


def _found(pool: str, seen: dict[str, dict[str, HostLoad]]) -> list[EndpointStatus]:
    """Endpoints of a pool that the nodes find by name, as far as their rows tell."""
    addresses = [name.removeprefix(f"{pool}/") for name in seen if name.startswith(f"{pool}/")]
    return [EndpointStatus(parse_address(address), State.SERVING) for address in sorted(addresses)]


def _same(wanted: Snapshot | None, content: Snapshot) -> bool:
    return wanted is not None and attrs.evolve(wanted, revision=0, accepted=0) == content


def _lack_of(record: NodeRecord, content: Snapshot) -> str:
    if record.hello is None:
        return f"{record.name} has not joined"
    if record.refusal:
        return f"{record.name} refused its configuration: {record.refusal}"
    if record.wanted is None or record.served != record.wanted.revision or not _same(record.wanted, content):
        return f"{record.name} does not serve its latest configuration yet"
    return ""
