"""A node's side towards its children: hears their reports, guides them, and passes on who watches.

Every child has a connection of its own in one `net.websocket_server.WebsocketServer`; what it says is handled at once,
without a task for each. A child that breaks the protocol, floods, falls silent or does not read loses its connection
and nothing else. Each shows the ticket that the controller gave it for this node, and is what that says
(admission.py). A second
connection under the same name replaces the first, because a child that restarted may be here before its old socket is
known to be dead; from another address it has to wait until it is. A process from which another one of its name took
over stays out: it is to drain, and would say so in the name of both. Names that no host bears are fine: the data
plane ignores them.

Whoever asks the same port for a page by plain HTTP is given it, if there is one, without a token.

Left out: what a report changes, which is the data plane's business (`Hearer`).
"""

import ssl
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from tierlb.balance.guidance import SentGuidance
from tierlb.channel.admission import agent_rows, mismatch
from tierlb.channel.log import Log
from tierlb.channel.takeover import takeover_problem
from tierlb.channel.watching import Rows, Watching
from tierlb.model.address import Address
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.net.keep_going import keep_going
from tierlb.net.page import Pages
from tierlb.net.websocket import Admit
from tierlb.net.websocket_server import ServerConnection, WebsocketServer
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import Close, Effect, ParentSession, Transmit
from tierlb.wire.credentials import Principal, Role
from tierlb.wire.frames import Hello, Leaving, Report, Watch

HELLO_TIMEOUT_S = 5.0
FORMER_S = 15.0
"""After that a process that was asked to end has done so; one that is still there is no former one."""
LOOK_EVERY_S = 0.5
"""How soon a silent child is found, and one that does not report hears what changed."""


class Hearer(Protocol):
    """What is done with reports, and what guidance follows from them."""

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo) -> None:
        """The child says how its subtree fares, and how much of that came from here."""

    def note_lost(self, child: str) -> None:
        """The child's control connection is gone; its data path may work."""

    def guide(self, child: str) -> Guidance | None:
        """What the child should know of its siblings, if anything."""


@attrs.define
class Children:
    """`serve` accepts children, to whom this node is `name`; `watch` and new rows pass through `watching` and `rows`,
    shared with the other side."""

    hearer: Hearer
    admit: Admit
    log: Log
    name: str = ""
    watching: Watching = attrs.field(factory=Watching)
    rows: Rows = attrs.field(factory=Rows)
    tls: ssl.SSLContext | None = None
    pages: Pages | None = None
    report_interval_s: float = REPORT_INTERVAL_S
    on_new_row: Callable[[], None] = lambda: None
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    _present: dict[str, "Child"] = attrs.field(factory=dict, init=False)
    _nameless: list["Child"] = attrs.field(factory=list, init=False)
    _former: dict[str, tuple[str, float]] = attrs.field(factory=dict, init=False)
    """By name, the boot id of the process from which another one took over, and until when it stays out."""

    async def serve(self, listen: Address, *, task_status: trio.TaskStatus[Address] = trio.TASK_STATUS_IGNORED) -> None:
        """Accept children until cancelled; tells the address bound."""
        server = WebsocketServer(self._greet, self.admit, self._crashed, self.tls, self.pages, self._dropped)
        async with trio.open_nursery() as nursery:
            address = await nursery.start(server.serve, listen)
            nursery.start_soon(keep_going, self.errors, "children", self._look_after_all)
            task_status.started(address)

    def watch(self, watch: Watch) -> None:
        """Pass a watch on to every child."""
        for child in tuple(self._present.values()):
            with self.errors.barrier("watch"):
                child.watch(watch)

    def note_rows(self, rows: tuple[NodeRow, ...], now: float) -> None:
        """Keep them for the parents; those that are heard of for the first time are passed on soon."""
        if self.watching.active(now) and self.rows.note(rows, now):
            self.on_new_row()

    def names(self) -> tuple[str, ...]:
        """Who is connected."""
        return tuple(self._present)

    def place(self, child: "Child", hello: Hello) -> None:
        """The child said who it is."""
        self._nameless.remove(child)
        if problem := mismatch(child.principal, hello, child.principal.role):
            child.line.close(problem)
            return
        former, now = self._present.get(hello.node), trio.current_time()
        former_boot, until = self._former.get(hello.node, ("", 0.0))
        problem = takeover_problem(
            hello.node,
            hello.boot_id,
            child.line.caller.host,
            live_host=former.line.caller.host if former is not None else None,
            replaced_boot_id=former_boot if former is not None or now < until else "",
        )
        if problem:
            child.line.close(problem)
            return
        self._present[hello.node] = child
        if former is not None and former.session.hello is not None:
            if former.session.hello.boot_id != hello.boot_id:
                self._former[hello.node] = former.session.hello.boot_id, now + FORMER_S
            former.line.close("another connection of this node took over")
        child.carry_out(child.session.accept())
        for watch in self.watching.current(now):
            child.watch(watch)

    def unplace(self, child: "Child", reason: str) -> None:
        """The child's connection is over; no loss where another one has replaced it."""
        hello = child.session.hello
        if hello is None:
            self._nameless.remove(child)
            self.log.warning("child turned away", reason=reason)
        elif self._present.get(hello.node) is child:
            del self._present[hello.node]
            self.log.warning("child disconnected", child=hello.node, reason=reason)
            self.hearer.note_lost(hello.node)

    def _greet(self, line: ServerConnection) -> "Child":
        child = Child(self, line, trio.current_time())
        self._nameless.append(child)
        return child

    async def _look_after_all(self) -> None:
        while True:
            await trio.sleep(LOOK_EVERY_S)
            now = trio.current_time()
            for name, child in tuple(self._present.items()):
                with self.errors.barrier("child", child=name):
                    child.look_after(self.hearer.guide(name), now)
            for name in [name for name, (_, until) in self._former.items() if now >= until]:
                if name not in self._present:
                    del self._former[name]
            for child in [child for child in self._nameless if now - child.came_s > HELLO_TIMEOUT_S]:
                child.line.close("no hello came in time")

    def _crashed(self, error: Exception) -> None:
        self.errors.note("child", error)

    def _dropped(self, host: str) -> None:
        self.log.warning("stranger_dropped", address=host, reason="too many connections that show no token")


@attrs.define(eq=False)
class Child:
    """One child's connection: the handler of a connection, driving its session."""

    _children: Children
    line: ServerConnection
    came_s: float
    session: ParentSession = attrs.field(init=False)
    _told: SentGuidance = attrs.field(factory=SentGuidance, init=False)

    def __attrs_post_init__(self) -> None:
        self.session = ParentSession(self._children.report_interval_s, self._children.name)

    @property
    def principal(self) -> Principal:
        """What its ticket says that it is."""
        return self.line.caller.principal

    @property
    def is_agent(self) -> bool:
        """It speaks for one endpoint alone."""
        return self.principal.role is Role.AGENT

    def watch(self, watch: Watch) -> None:
        """Who runs an agent need not see how requests are explained."""
        self.carry_out(self.session.watch(watch.ttl_s, "" if self.is_agent else watch.explain))

    def receive(self, data: bytes, now: float) -> None:
        """One message of the child."""
        for effect in self.session.receive(data, now):
            match effect:
                case Report(subtree, echo, rows):
                    assert self.session.hello is not None
                    self._children.hearer.note_report(self.session.hello.node, subtree, echo)
                    self.guide(self._children.hearer.guide(self.session.hello.node), now)
                    if self.is_agent:
                        rows = agent_rows(rows, self.session.hello.node)
                    if rows:
                        self._children.note_rows(rows, now)
                case Hello():
                    self._children.place(self, effect)
                case Leaving():
                    pass  # its report says so too, and to the one who decides
                case _:
                    self.carry_out([effect])

    def ended(self, reason: str) -> None:
        """The line is over."""
        with self._children.errors.barrier("end of a child"):
            self._children.unplace(self, reason)

    def look_after(self, guidance: Guidance | None, now: float) -> None:
        """Close it if it is silent, guide it if it is time or something changed that cannot wait."""
        self.carry_out(self.session.tick(now))
        self.guide(guidance, now)

    def guide(self, guidance: Guidance | None, now: float) -> None:
        """Tell it what it should know of its siblings, if it is time."""
        if guidance is not None and self._told.is_due(now, guidance):
            self.carry_out(self.session.guide(guidance))

    def carry_out(self, effects: list[Effect]) -> None:
        """Send or close, as the session says."""
        for effect in effects:
            match effect:
                case Transmit(data):
                    self.line.send(data)
                case Close(reason):
                    self.line.close(reason)
