"""When a node or an agent reports to each parent, and what is in the report.

There is one `Outlet` for each open connection to a parent. A pulse looks at the subtree's load every 50 ms, once for
all of them, and wakes those outlets whose report is due. A parent that weighs this child gets reports at their pace.
The controller gets them too while it is the only parent, and otherwise a sign of life every ten seconds. A slow parent
delays only its own reports.

Left out: the connections (conversation.py), and where the figures come from (`Reporter`).
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import attrs
import trio

from tierlb.channel.watching import WatchRelay
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.telemetry.pace import LEAST_GAP_S, Pace
from tierlb.wire.frame_fields import MAX_ROWS
from tierlb.wire.frames import Report

SIGN_OF_LIFE_S = 10.0
CONTROLLER_AS_PARENT = ""
"""The controller's name as a parent: no node has it, and no traffic comes from it."""


class Reporter(Protocol):
    """Where the figures come from: a node's data plane, or an agent beside an application."""

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""

    def echo(self, parent: str) -> Echo:
        """What of its counts came from this parent."""

    def row(self) -> NodeRow:
        """The detail, for a watch."""

    def note_guidance(self, parent: str, guidance: Guidance) -> None:
        """Guidance of a parent came."""


@attrs.define(eq=False)
class Outlet:
    """One parent's connection, as far as reports are concerned."""

    parent: str
    pace: Pace
    due: trio.Event = attrs.field(factory=trio.Event, init=False)
    sent_s: float | None = attrs.field(default=None, init=False)
    mark: int = attrs.field(default=0, init=False)
    soon: bool = attrs.field(default=False, init=False)


@attrs.define
class ReportSchedule:
    """Wakes each outlet when its next report is due."""

    reporter: Reporter
    rng: random.Random
    relay: WatchRelay
    interval_s: float = REPORT_INTERVAL_S
    leaving: bool = False
    """Reported as draining before the data plane begins to, so that by then no parent sends anything new."""
    has_parents: bool | None = None
    """Whether there are parents besides the controller. None: it has not named them yet, and gets no reports."""
    _outlets: list[Outlet] = attrs.field(factory=list, init=False)
    _load: SubtreeLoad = attrs.field(factory=SubtreeLoad, init=False)

    async def run(self) -> None:
        """The pulse, for ever."""
        while True:
            if self._outlets:
                self._look(trio.current_time())
            await trio.sleep(min(LEAST_GAP_S, self.interval_s))

    @contextmanager
    def outlet(self, parent: str) -> Iterator[Outlet]:
        """An outlet for as long as the connection is open; its first report is due with the next pulse."""
        outlet = Outlet(parent, Pace(self.rng, self.interval_s))
        self._outlets.append(outlet)
        try:
            yield outlet
        finally:
            self._outlets.remove(outlet)

    def hurry(self) -> None:
        """Report to all parents at once."""
        self._load = self._subtree()
        for outlet in self._outlets:
            if not self._is_held(outlet):
                outlet.due.set()

    def soon(self) -> None:
        """There is a row that no report has had yet: report without waiting for the interval."""
        for outlet in self._outlets:
            outlet.soon = not self._is_sparse(outlet)

    async def next(self, outlet: Outlet) -> Report:
        """Wait until a report is due there, and return it."""
        await outlet.due.wait()
        outlet.due = trio.Event()
        now = trio.current_time()
        outlet.pace.sent(now, self._load)
        outlet.sent_s, outlet.soon = now, False
        echo = Echo() if self._is_sparse(outlet) else self.reporter.echo(outlet.parent)
        return Report(self._load, echo, self._detail(outlet, now))

    def _look(self, now: float) -> None:
        self._load = load = self._subtree()
        for outlet in self._outlets:
            if not self._is_held(outlet) and self._wait_s(outlet, now, load) <= 0:
                outlet.due.set()

    def _is_held(self, outlet: Outlet) -> bool:
        return outlet.parent == CONTROLLER_AS_PARENT and self.has_parents is None

    def _is_sparse(self, outlet: Outlet) -> bool:
        """Whether a sign of life is enough."""
        return outlet.parent == CONTROLLER_AS_PARENT and bool(self.has_parents)

    def _subtree(self) -> SubtreeLoad:
        load = self.reporter.subtree()
        return attrs.evolve(load, draining=True) if self.leaving else load

    def _wait_s(self, outlet: Outlet, now: float, load: SubtreeLoad) -> float:
        if self._is_sparse(outlet) and outlet.sent_s is not None:
            return outlet.sent_s + SIGN_OF_LIFE_S - now
        if outlet.soon and outlet.sent_s is not None:
            return outlet.sent_s + LEAST_GAP_S - now
        return outlet.pace.wait_s(now, load)

    def _detail(self, outlet: Outlet, now: float) -> tuple[NodeRow, ...]:
        if self._is_sparse(outlet) or not self.relay.watching.active(now):
            return ()
        below, outlet.mark = self.relay.rows.since(outlet.mark, now, MAX_ROWS - 1)
        return (self.reporter.row(), *below)
