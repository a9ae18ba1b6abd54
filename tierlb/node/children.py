"""A node's children: their reports go to the data plane, guidance follows from it, and watches are passed on to them.

Each child shows the ticket that the controller gave it for this node, and is what that names (admission.py). Which of
several processes of one name counts is decided by takeover.py. Names of no host are fine: the data plane ignores them.

Left out: connections and sessions (channel/parent_end.py), and what a report changes, which is the data plane's
business (`ReportSink`).
"""

from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from tierlb.balance.guidance import SentGuidance
from tierlb.channel.admission import agent_rows, mismatch
from tierlb.channel.log import Log
from tierlb.channel.parent_end import ChildConnection
from tierlb.channel.takeover import REPLACED, takeover_problem
from tierlb.channel.watching import WatchRelay
from tierlb.model.load import Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildFrame
from tierlb.wire.credentials import Role
from tierlb.wire.frames import Hello, Report, Watch

REPLACED_STAYS_OUT_S = 15.0
"""By then a process that a newer one replaced has ended; one that connects again later is the one that counts."""


class ReportSink(Protocol):
    """What is done with reports, and what guidance follows from them."""

    def note_report(self, child: str, load: SubtreeLoad, echo: Echo, next_s: float) -> None:
        """The child reports the load of its subtree, and how much of it came from here. The next report is due after
        `next_s`, and at once if anything changes."""

    def note_lost(self, child: str) -> None:
        """The child's control connection is gone; its data path may work."""

    def guide(self, child: str) -> Guidance | None:
        """The child's guidance about its siblings, if any."""


@attrs.define
class Children:
    """The children that have joined, by name. `on_new_row` is called when a row in their reports is the first of its
    node."""

    sink: ReportSink
    log: Log
    errors: InternalErrors
    relay: WatchRelay
    on_new_row: Callable[[], None] = lambda: None
    _joined: dict[str, "ReportingChild"] = attrs.field(factory=dict, init=False)
    _replaced: dict[str, tuple[str, float]] = attrs.field(factory=dict, init=False)
    """By name, the boot id of the process that a newer one replaced, and until when it stays out."""

    def names(self) -> tuple[str, ...]:
        """The children that are connected."""
        return tuple(self._joined)

    def watch(self, watch: Watch) -> None:
        """Pass a watch on to every child."""
        for child in tuple(self._joined.values()):
            with self.errors.barrier("watch"):
                child.watch(watch)

    def take_in(self, connection: ChildConnection, hello: Hello) -> "ReportingChild | str":
        """The child that said hello on the connection, or why it may not join."""
        live, now = self._joined.get(hello.node), trio.current_time()
        replaced_boot_id, until_s = self._replaced.get(hello.node, ("", 0.0))
        problem = mismatch(connection.caller.principal, hello, connection.caller.principal.role) or takeover_problem(
            hello.node,
            hello.boot_id,
            connection.caller.host,
            live_host=live.connection.caller.host if live is not None else None,
            replaced_boot_id=replaced_boot_id if live is not None or now < until_s else "",
        )
        if problem:
            return problem
        child = self._joined[hello.node] = ReportingChild(self, hello, connection)
        if live is not None:
            self._replace(live, hello, now)
        return child

    def note_rows(self, rows: tuple[NodeRow, ...], now: float) -> None:
        """Keep them for the parents, which get those of a new node soon."""
        if self.relay.note_rows(rows, now):
            self.on_new_row()

    def lost(self, child: "ReportingChild", reason: str) -> None:
        """A connection is over. The data plane loses nothing where a newer one has replaced it."""
        if self._joined.get(child.name) is child:
            del self._joined[child.name]
            self.log.warning("child_disconnected", child=child.name, reason=reason)
            self.sink.note_lost(child.name)

    def _replace(self, live: "ReportingChild", hello: Hello, now: float) -> None:
        self._replaced = {name: each for name, each in self._replaced.items() if now < each[1] or name in self._joined}
        if live.hello.boot_id != hello.boot_id:
            self._replaced[live.name] = live.hello.boot_id, now + REPLACED_STAYS_OUT_S
        live.connection.close(REPLACED)


@attrs.define(eq=False)
class ReportingChild:
    """One child that has joined (a `channel.parent_end.ChildHandler`)."""

    _children: Children
    hello: Hello
    connection: ChildConnection
    _sent: SentGuidance = attrs.field(factory=SentGuidance, init=False)

    @property
    def name(self) -> str:
        """It is a host of that name to the data plane."""
        return self.hello.node

    @property
    def is_agent(self) -> bool:
        """It reports for one endpoint alone."""
        return self.connection.caller.principal.role is Role.AGENT

    def watch(self, watch: Watch) -> None:
        """Pass a watch on; an agent explains no requests and gets no nonce."""
        self.connection.send(attrs.evolve(watch, explain="") if self.is_agent else watch)

    def welcomed(self, now: float) -> None:
        """Watches that began before it came hold for it too."""
        for watch in self._children.relay.watching.current(now):
            self.watch(watch)

    def receive(self, frame: ChildFrame, now: float) -> None:
        """Hand a report on. A child that drains also reports that it does, so its drain frame adds nothing."""
        if not isinstance(frame, Report):
            return
        self._children.sink.note_report(self.name, frame.subtree, frame.echo, frame.next_s)
        self.look_after(now)
        rows = agent_rows(frame.rows, self.name) if self.is_agent else frame.rows
        if rows:
            self._children.note_rows(rows, now)

    def look_after(self, now: float) -> None:
        """Send it guidance about its siblings, if that is due."""
        guidance = self._children.sink.guide(self.name)
        if guidance is not None and self._sent.is_due(now, guidance):
            self.connection.send(guidance)

    def lost(self, reason: str) -> None:
        """Its connection is over."""
        self._children.lost(self, reason)
