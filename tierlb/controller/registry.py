"""The nodes and agents that exist, by name: which may join, which process counts, and when one has left.

A node whose control connection is gone stays a host of its parents, because its traffic does not depend on that
connection. It leaves when it announces that it drains, or when the supervisor saw its process exit. An agent, which no
supervisor watches, leaves when it drains or after ten seconds without a connection.

Where an engine starts the processes (compose, Kubernetes, systemd on several machines), membership is open: any node of
a tier that the topology names joins under its own name. It leaves when its connection has been gone for a while, unless
more than half of its tier is gone. Then this controller is more likely cut off itself, and the nodes that
it cannot see serve as before. When they are back, those that are still missing get the whole time anew.

Left out: what nodes should serve (desired.py), sockets (reception.py) and processes (local/).
"""

from collections import Counter
from collections.abc import Iterable

import attrs
import trio

from tierlb.channel.admission import Admission
from tierlb.channel.log import Log
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.join_rules import name_problem, place_problem, proof_problem, takes_agents
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.node_reports import NodeReports
from tierlb.controller.returning import ReturnWindow
from tierlb.controller.signals import Signals
from tierlb.model.address import parse_address
from tierlb.model.topology import Tier, Topology
from tierlb.topology.allot import node_names, reports_to
from tierlb.wire.credentials import Principal
from tierlb.wire.frames import Hello

AGENT_GONE_S = 10.0
"""An agent without a connection for this long has left: longer than its back-off after a restart of the controller."""
NODE_GONE_S = 30.0
"""The same for a node where membership is open. Parents pass over a node that does not answer long before."""
LEAST_PRESENT = 0.5
ALL_TIERS = ""
"""No tier has this name."""
MAX_RECORDS = 32768


class Unwelcome(Exception):  # noqa: N818 (the text is the reason that the node is sent)
    """The node cannot join; the text says why."""


@attrs.define
class NodeRegistry:
    """One record for each node that the topology names, each node that joined, and each agent."""

    topology: Topology
    """The desired one; `adopt` replaces it."""
    engine: ProcessEngine | None
    """What starts the processes; None: a supervisor on this machine."""
    _admission: Admission
    _log: Log
    _signals: Signals
    window: ReturnWindow = attrs.field(factory=ReturnWindow, init=False)
    records: dict[str, NodeRecord] = attrs.field(factory=dict, init=False)
    _replaced: dict[str, NodeRecord] = attrs.field(factory=dict, init=False)
    """By name, a process that may still run and that a newer one replaced. It counts again if the newer one ends
    first."""
    _departed: set[str] = attrs.field(factory=set, init=False)
    """Nodes that earlier topologies named: a process that is started again before it is stopped gets nothing new."""

    def __attrs_post_init__(self) -> None:
        self._make_records()

    # Which nodes there are.

    def nodes(self) -> list[NodeRecord]:
        """Those that the topology names."""
        return [record for record in self.records.values() if not record.agent and not record.leaving]

    def agents_of(self, pool: str) -> list[NodeRecord]:
        return [record for record in self.records.values() if record.agent and record.tier == pool]

    def tier_of(self, node: str) -> str:
        """The name of the tier or pool; for a node that is gone, from its name."""
        record = self.records.get(node)
        return node.rpartition("-")[0] if record is None else record.tier

    def expected(self, tier: Tier) -> tuple[str, ...]:
        """The nodes that the tier should have; where membership is open, those that it has."""
        if self.engine is None:
            return node_names(tier)
        return tuple(record.name for record in self.records.values() if record.tier == tier.name and not record.agent)

    def adopt(self, topology: Topology) -> None:
        """Make this the desired topology. Nodes that it does not name get nothing new and wait to be stopped; nodes
        that only it names are expected."""
        self.topology = topology
        self._make_records()
        self._signals.changed()

    # Connections and processes.

    def check(self, hello: Hello, principal: Principal) -> None:
        """Raises Unwelcome where what the connection proved does not let it join as that."""
        if problem := proof_problem(self.topology, hello, principal):
            raise Unwelcome(problem)

    def join(self, hello: Hello, link: Link) -> NodeRecord:
        """Take in a node that said hello. A second connection of its process replaces the first one. A newer process
        replaces an older one, whose addresses stay until the newer one has its own. Raises Unwelcome."""
        record = self._record_for(hello, link)
        if record.hello is None or record.hello.boot_id != hello.boot_id:
            record = self._begin_process(record, hello)
        elif record.link is not None:
            record.link.replace()
        record.hello, record.link = hello, link
        if record.agent:
            record.addresses = (parse_address(hello.data),)
        return record

    def lost(self, record: NodeRecord, link: Link) -> None:
        """A control connection is gone; the node's traffic goes on."""
        if record.link is link:
            record.link, record.lost_s = None, trio.current_time()
            if (record.agent or self.engine is not None) and (record.draining or record.leaving):
                self._remove(record)
            self._signals.moved()

    def exited(self, node: str, pid: int) -> None:
        """A process of the node has ended. The node gets no traffic any more, unless another process of it runs."""
        record, replaced = self.records.get(node), self._replaced.get(node)
        if record is None or record.hello is None:
            return
        if replaced is not None and replaced.hello is not None and replaced.hello.pid == pid:
            del self._replaced[node]
            return
        if record.hello.pid != pid:
            return
        record = self._vacate(record)
        if replaced is not None:
            replaced.leaving, replaced.reports = record.leaving, NodeReports()
            self.records[node] = replaced
        elif record.leaving:
            self._remove(record)
        self._signals.changed()

    @property
    def needs_looking_after(self) -> bool:
        """Whether a node or agent is away, or has refused its snapshot."""
        return any(
            each.assignment.refusal or (each.link is None and each.hello is not None) for each in self.records.values()
        )

    def remove_absent(self, now: float) -> None:
        """To be called about every second while any is away: those that have been away for too long have left."""
        unseen = tiers_out_of_sight(self.records.values())
        for record in [each for each in self.records.values() if each.link is None and each.hello is not None]:
            away_s = now - record.lost_s
            if (ALL_TIERS if record.agent else record.tier) in unseen:
                record.lost_s = now  # when the others are back, it gets the time to come back too
            elif record.agent and away_s >= AGENT_GONE_S:
                self._log.warning("agent_left", node=record.name, away_s=AGENT_GONE_S)
                self._remove(record)
            elif self.engine is not None and away_s >= NODE_GONE_S:
                self._log.warning("node_left", node=record.name, away_s=NODE_GONE_S)
                self._remove(record)

    def _record_for(self, hello: Hello, link: Link) -> NodeRecord:
        record, is_agent = self.records.get(hello.node), takes_agents(self.topology, hello.tier)
        if record is not None and record.agent and not is_agent and hello.tier in self.topology.tiers:
            self._remove(record)  # an agent may choose any name, and keeps no node out by it
            record = None
        record = record or NodeRecord(hello.node, hello.tier, is_agent, not is_agent and hello.node in self._departed)
        vouched = self._admission.only_started and not record.agent
        problem = place_problem(self.topology, record, hello, link) or name_problem(
            record, self._replaced.get(record.name), hello, link, vouched=vouched
        )
        if problem:
            raise Unwelcome(problem)
        if hello.node not in self.records and len(self.records) >= MAX_RECORDS:
            raise Unwelcome(f"there are {MAX_RECORDS} nodes and agents already")
        self.records[hello.node] = record
        return record

    def _begin_process(self, former: NodeRecord, hello: Hello) -> NodeRecord:
        record = self._vacate(former)
        record.addresses, record.inner, record.hello = former.addresses, former.inner, hello
        # Where processes are supervised, each one runs until `exited`; elsewhere for as long as it is connected.
        if former.hello is not None and (self.engine is None or former.link is not None):
            self._replaced[record.name] = former
        if record.served_before:
            if record.inner is None and reports_to(self.topology, record.tier):
                record.inner = parse_address(hello.data)
            if self.engine is not None:
                self.window.extend(trio.current_time())
        self._log.info("node_joined", node=hello.node, pid=hello.pid)
        return record

    def _vacate(self, record: NodeRecord) -> NodeRecord:
        """An empty record for the node, whose process is gone or another one now; the old connection closes."""
        if record.link is not None:
            record.link.replace()
        empty = NodeRecord(record.name, record.tier, record.agent, record.leaving)
        self.records[record.name] = empty
        self._replaced.pop(record.name, None)
        return empty

    def _remove(self, record: NodeRecord) -> None:
        """There is no such node or agent any more; its connection, if it has one, closes."""
        if record.link is not None:
            record.link.replace()
        if self.records.get(record.name) is record:
            del self.records[record.name]
            self._replaced.pop(record.name, None)
            self._signals.changed()

    def _make_records(self) -> None:
        """One for each node that the topology names; records of other nodes stay until their processes end."""
        wanted = {name: tier.name for tier in self.topology.tiers.values() for name in self.expected(tier)}
        for name, record in list(self.records.items()):
            if record.agent and name in wanted:
                self._remove(record)
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


def tiers_out_of_sight(records: Iterable[NodeRecord]) -> set[str]:
    """The tiers of which so few nodes are connected that this controller is more likely cut off than they are gone;
    `ALL_TIERS` for all nodes together."""
    nodes, connected = Counter[str](), Counter[str]()
    for record in records:
        if record.hello is not None and not record.agent:
            nodes.update((record.tier, ALL_TIERS))
            connected.update((record.tier, ALL_TIERS) if record.link is not None else ())
    return {tier for tier, count in nodes.items() if connected[tier] < LEAST_PRESENT * count}
