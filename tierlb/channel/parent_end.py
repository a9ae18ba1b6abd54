"""The parent's end of the control channel, the same for nodes and for the controller.

It accepts children by credential (net/websocket_server.py), drives the session of each (wire/control.py), and closes
with a reason what sends no hello in time, breaks the protocol, floods, falls silent or does not read. Such a child
loses its connection and nothing else, and so does one on which the program fails.

What is done with a child belongs to its handler (`ChildHandler`): a node reads reports and sends guidance
(node/children.py), the controller sends snapshots and parents (controller/reception.py). Which process of a name counts
is decided by takeover.py.

Left out: what reports and answers change.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.model.address import Address
from tierlb.model.load import REPORT_INTERVAL_S
from tierlb.net.keep_going import keep_going
from tierlb.net.page import Pages
from tierlb.net.tls import ContextNow
from tierlb.net.websocket_server import BATCH_GAP_S, MOST_CONNECTIONS, ServerConnection, WebsocketServer
from tierlb.net.websocket_upgrade import Admit, ProvenPeer
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildFrame, Close, Effect, ParentFrame, ParentSession, Transmit
from tierlb.wire.frames import Ack, Hello, Leaving, Refuse, Report

HELLO_TIMEOUT_S = 5.0
"""From the upgrade to the hello, which a child sends at once."""
CHILD_LOOK_EVERY_S = 5.0
"""How late a silent child is found at most, and how long news for a child that does not report may wait."""
STRANGER_LOOK_EVERY_S = 0.5
"""The same while a connection is open on which no hello has come."""
BARRIER = "control connection"


class ChildHandler(Protocol):
    """What a parent does with one child that has joined. An error in `welcomed` or `receive` costs that child its
    connection."""

    def welcomed(self, now: float) -> None:
        """From now on it can be sent frames."""

    def receive(self, frame: ChildFrame, now: float) -> None:
        """A frame came."""

    def look_after(self, now: float) -> None:
        """Called every CHILD_LOOK_EVERY_S at least."""

    def lost(self, reason: str) -> None:
        """The connection is over."""


@attrs.define(eq=False)
class ChildConnection:
    """One connection to this parent, with its session and, once the child has joined, its handler."""

    _end: "ParentEnd"
    _connection: ServerConnection
    _session: ParentSession = attrs.field(init=False)
    _handler: ChildHandler | None = attrs.field(default=None, init=False)
    _began_s: float = attrs.field(factory=trio.current_time, init=False)

    def __attrs_post_init__(self) -> None:
        self._session = ParentSession(self._end.report_interval_s, self._end.name)

    @property
    def caller(self) -> ProvenPeer:
        """The principal that its credential proves, and its address."""
        return self._connection.caller

    @property
    def has_joined(self) -> bool:
        """Whether its hello has come and was accepted."""
        return self._handler is not None

    def send(self, frame: ParentFrame) -> None:
        """Send a frame to a child that has joined. Only the controller sends snapshots and parents."""
        self._carry_out(self._session.send(frame))

    def close(self, reason: str) -> None:
        """End the connection and send the child the reason."""
        self._connection.close(reason)

    async def drained(self) -> None:
        """Return when the socket has taken everything that was sent."""
        await self._connection.drained()

    # What the server calls.

    def receive(self, data: bytes, now: float) -> None:
        """One message of the child."""
        for effect in self._session.receive(data, now):
            match effect:
                case Hello():
                    self._join(effect, now)
                case Ack() | Refuse() | Report() | Leaving() if self._handler is not None:
                    self._handler.receive(effect, now)
                case _:
                    self._carry_out([effect])

    def ended(self, reason: str) -> None:
        """The connection is over."""
        self._end.connections.discard(self)
        if self._handler is None:
            self._end.log.warning("child_turned_away", address=self.caller.host, reason=reason)
            return
        with self._end.errors.barrier(BARRIER):
            self._handler.lost(reason)

    def look_after(self, now: float) -> None:
        """Close it if its time is over, and have sent what is due."""
        if self._handler is not None:
            self._carry_out(self._session.tick(now))
            self._handler.look_after(now)
        elif now - self._began_s > HELLO_TIMEOUT_S:
            self.close("no hello came in time")

    def _join(self, hello: Hello, now: float) -> None:
        taken_in = self._end.take_in(self, hello)
        if isinstance(taken_in, str):
            self.close(taken_in)
            return
        self._handler = taken_in
        self._carry_out(self._session.accept())
        taken_in.welcomed(now)

    def _carry_out(self, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(data):
                    self._connection.send(data)
                case Close(reason):
                    self.close(reason)


@attrs.define(eq=False)
class ParentEnd:
    """`serve` accepts children; `take_in` makes the handler of one that sent its hello, or gives the reason why it may
    not join. `name` is sent to children that have only the name of its tier. While `unready` gives a reason, every
    connection is closed with it. `most` children may be connected at a time."""

    take_in: Callable[[ChildConnection, Hello], ChildHandler | str]
    log: Log
    errors: InternalErrors
    name: str = ""
    report_interval_s: float = REPORT_INTERVAL_S
    gather_s: float = BATCH_GAP_S
    most: int = MOST_CONNECTIONS
    unready: Callable[[], str] = str
    connections: set[ChildConnection] = attrs.field(factory=set, init=False)
    _came: trio.Event = attrs.field(factory=trio.Event, init=False)
    """Set while there are connections on which no hello has come."""

    async def serve(
        self,
        listen: Address,
        admit: Admit,
        tls: ContextNow | None = None,
        pages: Pages | None = None,
        *,
        task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Accept children that show a credential, until cancelled; `task_status` gets the address bound. `pages` answer
        plain requests."""
        crashed = partial(self.errors.note, BARRIER)
        server = WebsocketServer(self._accept, admit, crashed, tls, pages, self._note_drop, self.gather_s, self.most)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(server.serve, listen)
            nursery.start_soon(keep_going, self.errors, "control connections", self._look_after_all)
            task_status.started(address)

    def close_all(self, reason: str) -> None:
        """End all connections, and send the children the reason."""
        for connection in tuple(self.connections):
            connection.close(reason)

    def _accept(self, connection: ServerConnection) -> ChildConnection:
        child = ChildConnection(self, connection)
        if reason := self.unready():
            connection.close(reason)
        else:
            self.connections.add(child)
            self._came.set()
        return child

    async def _look_after_all(self) -> None:
        while True:
            with trio.move_on_after(CHILD_LOOK_EVERY_S if self.connections else math.inf) as pause:
                await self._came.wait()
            if not pause.cancelled_caught:
                await trio.sleep(STRANGER_LOOK_EVERY_S)
            if all(connection.has_joined for connection in self.connections):
                self._came = trio.Event()
            now = trio.current_time()
            for connection in tuple(self.connections):
                with self.errors.barrier(BARRIER):
                    connection.look_after(now)

    def _note_drop(self, host: str) -> None:
        self.log.warning("stranger_dropped", address=host, reason="too many connections that show no token")
