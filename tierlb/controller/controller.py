"""The controller of a cluster: its parts, and what the control connections of nodes do with them.

It owns the desired topology and gives each node the snapshot that it should serve. Traffic never depends on it. After a
restart it has only the topology, and learns the rest from the nodes that connect (returning.py).

Nodes report to their parents. The controller gets reports of the top tiers, and of others a sign of life.

Left out: sockets (reception.py), changes of the topology (changes.py) and processes (local/).
"""

import trio

from tierlb.channel.admission import Admission, agent_rows
from tierlb.channel.log import Log
from tierlb.controller.desired import DesiredMaker
from tierlb.controller.engine import ProcessEngine
from tierlb.controller.node_admin import NodeAdmin
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.observer import Observer
from tierlb.controller.overview import Overview
from tierlb.controller.published_endpoints import PublishedEndpoints
from tierlb.controller.publisher import Publisher
from tierlb.controller.readiness import Readiness
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.signals import Signals
from tierlb.model.load import REPORT_INTERVAL_S
from tierlb.model.topology import Topology
from tierlb.net.keep_going import keep_going
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.frames import Ack, Hello, Leaving, Refuse, Report

LOOK_AFTER_EVERY_S = 1.0
LOOK_SELDOM_S = 5.0
"""While no node is away and none has refused its snapshot."""


class Controller:
    """The parts, each described in its module. `errors` is the process's."""

    def __init__(
        self,
        topology: Topology,
        log: Log,
        *,
        report_interval_s: float = REPORT_INTERVAL_S,
        engine: ProcessEngine | None = None,
        admission: Admission | None = None,
        errors: InternalErrors | None = None,
    ) -> None:
        self.log = log
        self.report_interval_s = report_interval_s
        self.admission = admission or Admission()
        self.errors = errors or InternalErrors(log)
        self.signals = Signals()
        self.registry = NodeRegistry(topology, engine, self.admission, log, self.signals)
        self.node_admin = NodeAdmin(self.registry, self.signals)
        self.endpoints = PublishedEndpoints(self.signals)
        desired = DesiredMaker(self.registry, self.endpoints, self.node_admin, self.admission)
        self.publisher = Publisher(self.registry, desired, self.signals)
        self.readiness = Readiness(self.registry, self.endpoints, desired)
        self.overview = Overview(self.registry, desired, self.endpoints, self.publisher, self.readiness, self.errors)
        self.observer = Observer(self.registry, self.overview.status)

    @property
    def topology(self) -> Topology:
        """The desired one; `registry.adopt` replaces it."""
        return self.registry.topology

    async def run(self) -> None:
        """Publish new snapshots after changes, for ever."""
        self.registry.window.begin(trio.current_time())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, self.errors, "reaper", self._look_after_nodes)
            nursery.start_soon(keep_going, self.errors, "return of nodes", self._await_return)
            await keep_going(self.errors, "publishing", self.publisher.run)

    async def wait_settled(self) -> None:
        """Return when every connected node serves what is wanted of it."""
        while not self.readiness.settled():
            await self.signals.wait_progress()

    def join(self, hello: Hello, link: Link) -> NodeRecord:
        """Take in a node or agent. Raises registry.Unwelcome."""
        record = self.registry.join(hello, link)
        self.observer.greet(record)
        self.signals.changed()
        return record

    def receive(self, record: NodeRecord, frame: Ack | Refuse | Report | Leaving) -> None:
        """Act upon what the node sent."""
        match frame:
            case Ack():
                self.publisher.note_ack(record, frame)
            case Refuse():
                record.assignment.note_refusal(frame.revision, frame.reason, trio.current_time())
                revision = self.publisher.revision
                self.log.error("snapshot_refused", node=record.name, revision=revision, reason=frame.reason)
                self.signals.moved()
            case Report(subtree, _, rows):
                record.reports.note_report(subtree, trio.current_time())
                if rows := agent_rows(rows, record.name) if record.agent else rows:
                    self.observer.note_rows(rows)
            case Leaving():
                record.draining = True
                self.log.info("node_drain_announced", node=record.name)
                self.signals.changed()

    async def _await_return(self) -> None:
        await self.registry.window.run(self.signals.changed)

    async def _look_after_nodes(self) -> None:
        while True:
            await trio.sleep(LOOK_AFTER_EVERY_S if self.registry.needs_looking_after else LOOK_SELDOM_S)
            now = trio.current_time()
            self.publisher.ask_refusers(now)
            self.registry.remove_absent(now)
