"""A node's process: the data plane serves; beside it the node is configured, reports upward and guides its children.

On SIGTERM the node announces to the controller and its parents that it drains, gives them a moment to send new traffic
elsewhere, and drains: the data plane ends when nothing is left, and cuts what is at the deadline of the tier. A second
signal ends it at once.
"""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
import trio

from tierlb.channel.admission import by_ticket
from tierlb.channel.controller_link import LEAVE_NOTICE_S, Identity
from tierlb.channel.log import Log
from tierlb.channel.pages import NodePages
from tierlb.channel.parent_end import ParentEnd
from tierlb.channel.report_schedule import Reporter
from tierlb.channel.uplink import Uplink
from tierlb.channel.watching import WatchRelay
from tierlb.model.load import NodeLoad
from tierlb.net.cluster_tls import ClusterTls
from tierlb.net.keep_going import keep_going
from tierlb.net.tls import ContextNow
from tierlb.node.children import Children, ReportSink
from tierlb.node.configuration import Configurable, Configuration
from tierlb.node.snapshot_keeper import SnapshotKeeper
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.log_quota import LogLosses
from tierlb.wire.frames import Watch

TOKEN_VARIABLE = "TIERLB_TOKEN"  # noqa: S105 (the name of the environment variable that holds it)


class NodePlane(Reporter, ReportSink, Configurable, Protocol):
    """What a node's process needs of its data plane, besides reports, guidance and snapshots."""

    def regularly(self, work: Callable[[], float]) -> Callable[[], None]:
        """Do this with the regular work. It returns in how many seconds to do it again at the latest if nothing happens
        until then. What is returned here has it done soon."""

    def load(self) -> NodeLoad:
        """Counters since the start."""

    def metrics(self) -> Exposed:
        """Everything for a page of metrics."""

    def explain(self, nonce: str, until_s: float) -> None:
        """Explain requests that carry this nonce, until then by `time.monotonic`."""

    def announce_drain(self) -> float:
        """Answer from now on that it drains, and serve on; for how many seconds those that poll it need that."""

    def drain(self) -> None:
        """Accept nothing new, finish what runs; `run` returns when nothing is left."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained."""


@attrs.define
class Node:
    """One node. In the directory `state` it keeps what it serves. `tls` is looked at by the
    data plane, if its files change. `losses` of the process's log are for its metrics."""

    identity: Identity
    plane: NodePlane
    configuration: Configuration
    log: Log
    rng: random.Random
    tls: ClusterTls | None = None
    state: Path | None = None
    losses: LogLosses = attrs.field(factory=LogLosses)
    children: Children = attrs.field(init=False)
    uplink: Uplink = attrs.field(init=False)

    @property
    def errors(self) -> InternalErrors:
        """Those of the process."""
        return self.configuration.errors

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen for children, then join and report, until cancelled."""
        relay = WatchRelay(self._pass_on)
        self.children = Children(self.plane, self.log, self.errors, relay)
        end = ParentEnd(self.children.take_in, self.log, self.errors, self.identity.name)
        admit, pages = by_ticket(self.identity.receptions), NodePages(self._exposed, self.configuration.unready)
        identity = self.identity
        tls: ContextNow | None = None
        if self.tls is not None:
            identity, tls = attrs.evolve(identity, tls=self.tls.control_client), self.tls.control_server
        async with trio.open_nursery() as nursery:
            control = self.configuration.placement.control
            address = await nursery.start(end.serve, control, admit, tls, pages.find)
            identity = attrs.evolve(identity, control=str(address))
            self.uplink = Uplink(
                identity, self.plane, self.log, self.rng, self.configuration, relay, errors=self.errors
            )
            self.uplink.reports.follow(self.plane.regularly)
            self.children.on_new_row = self.uplink.reports.soon
            if self.state is not None:
                keeper = SnapshotKeeper(self.state, self.configuration, self.uplink, self.log)
                self.configuration.on_changed, self.uplink.on_placed = keeper.note_change, keeper.note_parents
                for part in (keeper.keep, keeper.resume):
                    nursery.start_soon(keep_going, self.errors, "last good", part)
            task_status.started()
            await self.uplink.run()

    async def leave(self) -> None:
        """Announce that this node drains, and wait until parents and pollers have noticed."""
        self.configuration.draining = True
        notice_s = self.plane.announce_drain()
        await self.uplink.leave()
        if self.configuration.has_parents():
            notice_s = max(notice_s, LEAVE_NOTICE_S)
        await trio.sleep(notice_s)

    def _exposed(self) -> Exposed:
        return attrs.evolve(self.plane.metrics(), internal_errors=self.errors.counts, log_losses=self.losses)

    def _pass_on(self, watch: Watch) -> None:
        if watch.explain:
            self.plane.explain(watch.explain, time.monotonic() + watch.ttl_s)
        self.children.watch(watch)


async def run_node(node: Node) -> None:
    """Serve until SIGTERM (or SIGINT), then drain and return; another signal cuts what is left."""

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await node.plane.run(task_status=task_status)
        nursery.cancel_scope.cancel()

    async def leave() -> None:
        with node.errors.barrier("drain"):
            await node.leave()
        node.plane.drain()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            await nursery.start(node.run)
            await anext(aiter(signals))
            nursery.start_soon(leave)
            await anext(aiter(signals))
            nursery.cancel_scope.cancel()
