"""A node's process: the data plane serves; beside it the node reports upward, guides downward and is configured.

The data plane reads the snapshot applied last and never waits for any of that. On SIGTERM the node tells the
controller and its parents, gives them a moment to send new traffic elsewhere, and drains: the data plane ends when
nothing is left, and cuts what is at the deadline of the tier. A second signal ends it at once.

A node that has a directory keeps there what it serves. If the controller cannot be reached when it starts, it serves
that again, at the ports that it had if they are free, and reports to the parents that it had; a controller that comes
back configures it as usual.

On which host ports are opened, and where others find them, is this machine's affair (`Placement`): a snapshot names the
ports that clients know, and that there is one for parents.
"""

import ipaddress
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

import attrs
import trio

from tierlb.channel.admission import by_ticket
from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.channel.pages import NodePages
from tierlb.channel.parent_end import ParentEnd
from tierlb.channel.report_schedule import Reporter
from tierlb.channel.uplink import NOTICE_S, Identity, Uplink
from tierlb.channel.watching import Rows, Watching
from tierlb.model.address import Address, parse_address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Listener, Send, Snapshot
from tierlb.model.topology import Admin, Tls
from tierlb.net.keep_going import keep_going
from tierlb.net.tls import client_context, server_context
from tierlb.node import snapshot_cache as snapshot_cache
from tierlb.node.children import Children, ReportSink
from tierlb.node.snapshot_cache import SnapshotCache
from tierlb.telemetry.exposition import Exposed
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.telemetry.log_quota import LogLosses
from tierlb.wire.frames import Ack, Parent, Refuse, Watch

ALONE_AFTER_S = 1.0
"""A controller that is there has answered by then."""
GATHER_S = 0.2
"""What changes at once, as when a cluster starts, is written once."""
TOKEN_VARIABLE = "TIERLB_TOKEN"  # noqa: S105 (the name of the environment variable that holds it)
LOOPBACK = "127.0.0.1"


@attrs.frozen
class Placement:
    """Where a node's ports are on its machine, and how others are told.

    `host`: open every port there ("": public ones as the topology says, all others on loopback). `control`: where
    children report, `data_port`: where parents send to, 0 for any that is free. `advertised`: the host that others are
    told ("": that from which this node speaks to the controller, where a port is open on all). `control_name`: a
    HOST:PORT that stands for all nodes of the tier, told to children instead of the address.
    """

    host: str = ""
    control: Address = Address(LOOPBACK, 0)
    data_port: int = 0
    advertised: str = ""
    control_name: str = ""

    def localised(self, snapshot: Snapshot) -> Snapshot:
        """With the addresses that are to be opened here. Where parents are on other machines, what they show in their
        PROXY header says who they are, not their addresses."""
        check = snapshot.agent_check
        if check is not None and self.host:
            check = attrs.evolve(check, host=self.host)
        return attrs.evolve(snapshot, listeners=tuple(map(self._localised, snapshot.listeners)), agent_check=check)

    def told(self, address: Address, here: str) -> Address:
        """The address as others know it; `here` is the host that the controller knows this node by."""
        if self.advertised or ipaddress.ip_address(address.host).is_unspecified:
            return attrs.evolve(address, host=self.advertised or here or address.host)
        return address

    def _localised(self, listener: Listener) -> Listener:
        if not listener.inner:
            return attrs.evolve(
                listener, address=attrs.evolve(listener.address, host=self.host or listener.address.host)
            )
        host = self.host or LOOPBACK
        strangers_known = ipaddress.ip_address(host).is_loopback
        return attrs.evolve(
            listener,
            address=Address(host, self.data_port),
            accept_from=listener.accept_from if strangers_known else (),
        )


class Plane(Reporter, ReportSink, Protocol):
    """What a node's process needs of its data plane, besides what it reports and hears."""

    def apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> tuple[Address, ...]:
        """Serve the snapshot; the addresses bound, parallel to its listeners, as are those that it `had` before.
        Raises, keeping the old one."""

    def load(self) -> NodeLoad:
        """Counters since the start."""

    def metrics(self) -> Exposed:
        """Everything for a page of metrics."""

    def explain(self, nonce: str, until_s: float) -> None:
        """Explain requests that carry this nonce, until then by `time.monotonic`."""

    def announce_drain(self) -> float:
        """Say that it will, and serve on; how many seconds those who ask, instead of being told, need to hear of it."""

    def drain(self) -> None:
        """Accept nothing new, finish what runs; `run` returns when nothing is left."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained."""


@attrs.define
class Node:
    """One node. `refused` is the exception by which a plane declines a snapshot; in the directory `state` it keeps what
    it serves. `errors` and `losses` are the process's, for the page of metrics."""

    identity: Identity
    plane: Plane
    refused: type[Exception]
    log: Log
    rng: random.Random
    tls: Tls | None = None
    placement: Placement = Placement()
    on_served: Callable[[], None] = lambda: None
    state: Path | None = None
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    losses: LogLosses = attrs.field(factory=LogLosses)
    children: Children = attrs.field(init=False)
    uplink: Uplink = attrs.field(init=False)
    _applied: Snapshot | None = attrs.field(default=None, init=False)
    _bound: tuple[Address, ...] = attrs.field(default=(), init=False)
    _parents: tuple[Parent, ...] = attrs.field(default=(), init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)
    _leaving: bool = attrs.field(default=False, init=False)
    _here: Callable[[], str] = attrs.field(default=lambda: "", init=False)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen for children, then join and report, until cancelled."""
        pages = NodePages(self._exposed, self.unready).find
        children = Children(self.plane, self.log, self.errors, Watching(), Rows())
        end = ParentEnd(children.take_in, self.log, self.errors, self.identity.name)
        admit, tls = by_ticket(self.identity.receptions), None
        if self.tls is not None:
            tls = server_context(self.tls)
            self.identity = attrs.evolve(self.identity, tls=client_context(self.tls))
        async with trio.open_nursery() as nursery:
            address = await nursery.start(end.serve, self.placement.control, admit, tls, pages)
            self.uplink = self._join(children, address)
            self.children = children
            children.on_new_row = self.uplink.reports.soon
            if self.state is not None:
                nursery.start_soon(keep_going, self.errors, "last good", partial(self._keep, self.state))
                nursery.start_soon(keep_going, self.errors, "last good", partial(self._resume_alone, self.state))
            task_status.started()
            await self.uplink.run()

    async def leave(self) -> None:
        """Say that this node drains, and where others send to it, wait until they can know."""
        self._leaving = True
        notice_s = self.plane.announce_drain()
        await self.uplink.leave()
        if self._applied is not None and any(listener.inner for listener in self._applied.listeners):
            notice_s = max(notice_s, NOTICE_S)
        await trio.sleep(notice_s)

    def place(self) -> str:
        """Where its parents reach it, or its clients where there are none; "" while it serves nothing."""
        listeners = self._applied.listeners if self._applied is not None else ()
        bound = sorted(zip(listeners, self._told(), strict=True), key=lambda pair: not pair[0].inner)
        return str(bound[0][1]) if bound else ""

    def control_place(self, bound: str) -> str:
        """Where its children find it: by a name if it was given one."""
        return self.placement.control_name or str(self.placement.told(parse_address(bound), self._here()))

    def unready(self) -> str:
        """Why new traffic would find nothing here; "" if it is welcome."""
        if self._leaving:
            return "it drains"
        if self._applied is None:
            return "it has no configuration yet"
        if self._applied.admin is not Admin.READY:
            return f"it is wanted in {self._applied.admin.value}"
        load, sends = (
            self.plane.subtree(),
            [rule.action for rule in self._applied.rules if isinstance(rule.action, Send)],
        )
        if sends and not load.leaves and not any(each.hosts for send in sends for each in send.destinations):
            return "there is nobody below it yet"
        return "no endpoint below it is ready" if load.leaves and not load.ready_leaves else ""

    def serve(self, snapshot: Snapshot) -> Ack | Refuse:
        """Apply it unless it is served already."""
        with self.errors.barrier("snapshot", revision=snapshot.revision):
            if snapshot == self._applied:
                return Ack(snapshot.revision, self._told())
            return self._apply(snapshot)
        return Refuse(snapshot.revision, "an internal error of the node: see internal_error in its log")

    def _apply(self, snapshot: Snapshot, had: tuple[Address, ...] = ()) -> Ack | Refuse:
        try:
            self._bound = self.plane.apply(self.placement.localised(snapshot), had)
        except self.refused as problem:
            self.log.error("snapshot refused", revision=snapshot.accepted, reason=str(problem))
            return Refuse(snapshot.revision, str(problem))
        if self._applied is None:
            self.on_served()
        self._applied = snapshot
        self._changed.set()
        return Ack(snapshot.revision, self._told())

    def _exposed(self) -> Exposed:
        return attrs.evolve(self.plane.metrics(), internal_errors=self.errors.counts, log_losses=self.losses)

    def _told(self) -> tuple[Address, ...]:
        return tuple(self.placement.told(address, self._here()) for address in self._bound)

    def _note_parents(self, parents: tuple[Parent, ...]) -> None:
        self._parents = parents
        self._changed.set()

    async def _keep(self, directory: Path) -> None:
        """Save what is served whenever that changed. A disk that takes nothing is told of once; serving goes on."""
        told = False
        while True:
            await self._changed.wait()
            await trio.sleep(GATHER_S)
            self._changed = trio.Event()
            if self._applied is None:
                continue
            good = SnapshotCache(self.identity.name, self._applied, self._bound, self._parents)
            try:
                await trio.to_thread.run_sync(snapshot_cache.save, directory, good)
            except StoreError as problem:
                if not told:
                    self.log.warning("what is served cannot be kept", reason=str(problem))
                told = True
            except Exception:
                self._changed.set()
                raise

    async def _resume_alone(self, directory: Path) -> None:
        """Serve what was served last, if the controller cannot be reached by now."""
        await trio.sleep(ALONE_AFTER_S)
        if self._applied is not None or self.uplink.welcomed:
            return
        good, problem = await trio.to_thread.run_sync(
            snapshot_cache.load, directory, self.identity.name, self.identity.tier
        )
        if problem:
            self.log.warning("what was served last is of no use", reason=problem)
        if good is None or self._applied is not None:
            return
        self.log.warning("no controller: serving what was served last", revision=good.snapshot.accepted)
        if isinstance(self._apply(good.snapshot, good.addresses), Ack):
            self._note_parents(good.parents)
            self.uplink.report_to(good.parents)

    def _join(self, children: Children, address: Address) -> Uplink:
        identity = attrs.evolve(self.identity, control=str(address))
        shared = (children.watching, children.rows)
        uplink = Uplink(identity, self.plane, self.log, self.rng, self, self._pass_on, *shared)
        uplink.on_placed = self._note_parents
        uplink.errors = uplink.parents.errors = self.errors
        self._here = lambda: uplink.here
        return uplink

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
