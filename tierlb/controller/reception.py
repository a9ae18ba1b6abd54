"""The control port of a controller: where nodes and agents join it.

It is open also while another controller is the active one. Every connection is then closed with a reason that names
it, and the child tries the next address. When this controller is no longer active, all its connections end, because
what it sends no longer counts.

Each connection has one task that sends whatever has changed that is wanted of the node: the newest snapshot, its
parents, a watch. It sends only once the socket has taken what was sent before. So a slow node skips the snapshots that
are outdated by then.

Left out: which controller is active (election.py), and what follows from frames (controller.py).
"""

from collections.abc import Callable

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.channel.parent_end import BARRIER, ChildConnection, ParentEnd
from tierlb.channel.takeover import REPLACED
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.parents import with_tickets
from tierlb.controller.registry import Unwelcome
from tierlb.model.address import Address
from tierlb.net.page import Pages
from tierlb.net.tls import ContextNow
from tierlb.net.websocket_server import DOES_NOT_READ, INTERNAL_ERROR
from tierlb.net.websocket_upgrade import Admit
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildFrame
from tierlb.wire.frames import Configure, Hello, ParentAddress, ReportTo

STARTING = "this controller is starting"
NODE_SEND_TIMEOUT_S = 10.0
"""A node that takes nothing for so long is stuck: a healthy one reads a snapshot in milliseconds."""
MOST_NODES = 65_536
"""Nodes and agents at a time. File descriptors set a lower limit on most machines."""
CONTROL_BATCH_GAP_S = 0.005
"""Nodes report to the controller rarely, and a rollout waits for their answers."""


@attrs.define(eq=False)
class Reception:
    """`serve` accepts nodes and agents; `open` and `close` decide whether they may join."""

    log: Log
    errors: InternalErrors
    controller: Controller | None = attrs.field(default=None, init=False)
    _reason: Callable[[], str] = attrs.field(default=lambda: STARTING, init=False)
    _end: ParentEnd = attrs.field(init=False)
    _senders: trio.Nursery = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._end = ParentEnd(
            self._take_in,
            self.log,
            self.errors,
            gather_s=CONTROL_BATCH_GAP_S,
            unready=self.unready,
            most=MOST_NODES,
        )

    async def serve(
        self,
        listen: Address,
        admit: Admit,
        tls: ContextNow | None = None,
        pages: Pages | None = None,
        *,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept connections until cancelled; `task_status` gets the address bound. `pages` answer plain requests."""
        async with trio.open_nursery() as self._senders:
            task_status.started(await self._senders.start(self._end.serve, listen, admit, tls, pages))

    def open(self, controller: Controller) -> None:
        """Nodes join this controller from now on."""
        self.controller = controller
        self._end.report_interval_s = controller.report_interval_s

    def close(self, reason: Callable[[], str]) -> None:
        """No node may join, and the connections of those that have joined end."""
        self.controller, self._reason = None, reason
        self._end.close_all(reason())

    def unready(self) -> str:
        """Why nodes cannot join now; "" if they can."""
        return "" if self.controller is not None else self._reason()

    def start_sending(self, node: "NodeConnection") -> None:
        """Run the task that sends to a node."""
        self._senders.start_soon(node.send_news)

    def _take_in(self, connection: ChildConnection, hello: Hello) -> "NodeConnection | str":
        assert self.controller is not None
        link = Link(caller=connection.caller)
        try:
            self.controller.registry.check(hello, connection.caller.principal)
            record = self.controller.join(hello, link)
        except Unwelcome as problem:
            return str(problem)
        return NodeConnection(self, self.controller, record, link, connection)


@attrs.define(eq=False)
class NodeConnection:
    """The connection of one node that has joined (a `channel.parent_end.ChildHandler`)."""

    _reception: Reception
    _controller: Controller
    _record: NodeRecord
    _link: Link
    _connection: ChildConnection
    _sending: trio.CancelScope = attrs.field(factory=trio.CancelScope, init=False)
    _configured: int = attrs.field(default=0, init=False)
    _parents: tuple[ParentAddress, ...] | None = attrs.field(default=None, init=False)

    def welcomed(self, now: float) -> None:
        """Send what is wanted of it from now on."""
        self._reception.start_sending(self)

    def receive(self, frame: ChildFrame, now: float) -> None:
        """Frames of a connection that was replaced no longer count."""
        if not self._link.replaced:
            self._controller.receive(self._record, frame)

    def look_after(self, now: float) -> None:
        """News are sent as they come."""

    def lost(self, reason: str) -> None:
        """The connection is over; that of a node that leaves, or that has another one, ends as it should."""
        self._sending.cancel()
        is_active = self._reception.controller is self._controller
        if is_active and not self._record.draining and not self._link.replaced:
            self._controller.log.warning("node_disconnected", node=self._record.name, reason=reason)
        self._controller.registry.lost(self._record, self._link)

    async def send_news(self) -> None:
        """Send what is wanted of the node whenever that changes, until the connection is over."""
        reason = INTERNAL_ERROR
        with self._sending:
            with self._controller.errors.barrier(BARRIER):
                reason = await self._send_until_over()
            self._connection.close(reason)

    async def _send_until_over(self) -> str:
        while not self._link.replaced:
            self._link.wake = trio.Event()
            self._send_differences()
            with trio.move_on_after(NODE_SEND_TIMEOUT_S) as scope:
                await self._connection.drained()
            if scope.cancelled_caught:
                return DOES_NOT_READ
            await self._link.wake.wait()
        return REPLACED

    def _send_differences(self) -> None:
        """What is wanted of the node and was not sent on this connection yet."""
        wanted, parents = self._record.assignment.wanted, self._record.assignment.parents
        if wanted is not None and wanted.revision != self._configured:
            self._configured = wanted.revision
            self._connection.send(Configure(wanted))
        if parents is not None and parents != self._parents:
            self._parents = parents
            controller = self._controller
            self._connection.send(ReportTo(with_tickets(controller.registry, controller.admission, self._record)))
        while self._link.watches:
            self._connection.send(self._link.watches.popleft())
