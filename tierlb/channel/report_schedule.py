"""When a node or an agent reports to whom, and what it says.

One `Outlet` for each open connection to a parent. A pulse looks at the subtree's load every 50 ms, once for all of
them, and wakes those outlets whose report is due: at its pace where this parent weighs us, and every ten seconds
where a sign of life is enough (to the controller, when there are other parents). A slow parent delays only its own.

Left out: the connections (parents.py, uplink.py), and where the figures come from (`Reporter`).
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import attrs
import trio

from tierlb.channel.watching import Rows, Watching
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, NodeRow, SubtreeLoad
from tierlb.telemetry.pace import LEAST_GAP_S, Pace
from tierlb.wire.frames import MAX_ROWS

SIGN_OF_LIFE_S = 10.0


class Reporter(Protocol):
    """Whoever can say how it fares: a node's data plane, or an agent beside an application."""

    def subtree(self) -> SubtreeLoad:
        """This node and everything below it."""

    def echo(self, parent: str) -> Echo:
        """What of its counts came from this parent."""

    def row(self) -> NodeRow:
        """The detail, for those who watch."""

    def heed(self, parent: str, guidance: Guidance) -> None:
        """What a parent said of the siblings."""


@attrs.define(eq=False)
class Outlet:
    """One parent's connection, as far as reports are concerned. `sparse`: signs of life only."""

    parent: str
    pace: Pace
    sparse: bool = False
    due: trio.Event = attrs.field(factory=trio.Event, init=False)
    sent_s: float | None = attrs.field(default=None, init=False)
    mark: int = attrs.field(default=0, init=False)
    soon: bool = attrs.field(default=False, init=False)


@attrs.define
class ReportSchedule:
    """Says to each outlet when its next report is due, and what is in it."""

    reporter: Reporter
    rng: random.Random
    watching: Watching
    rows: Rows
    interval_s: float = REPORT_INTERVAL_S
    leaving: bool = False
    """Said as draining, before the data plane begins to: nobody is to send anything new by then."""
    _outlets: list[Outlet] = attrs.field(factory=list, init=False)
    _load: SubtreeLoad = attrs.field(factory=SubtreeLoad, init=False)

    async def run(self) -> None:
        """The pulse, for ever."""
        while True:
            if self._outlets:
                self._look(trio.current_time())
            await trio.sleep(min(LEAST_GAP_S, self.interval_s))

    @contextmanager
    def outlet(self, parent: str, sparse: bool = False) -> Iterator[Outlet]:
        """An outlet for as long as the connection is open; its first report is due with the next pulse."""
        outlet = Outlet(parent, Pace(self.rng, self.interval_s), sparse)
        self._outlets.append(outlet)
        try:
            yield outlet
        finally:
            self._outlets.remove(outlet)

    def hurry(self) -> None:
        """Something happened that all parents should know now."""
        self._load = self._subtree()
        for outlet in self._outlets:
            outlet.due.set()

    def soon(self) -> None:
        """There is something that those who watch have not seen yet: report without waiting for the interval."""
        for outlet in self._outlets:
            outlet.soon = not outlet.sparse

    async def next(self, outlet: Outlet) -> tuple[SubtreeLoad, Echo, tuple[NodeRow, ...]]:
        """Wait until a report is due there; what it says."""
        await outlet.due.wait()
        outlet.due = trio.Event()
        now = trio.current_time()
        outlet.pace.sent(now, self._load)
        outlet.sent_s, outlet.soon = now, False
        echo = Echo() if outlet.sparse else self.reporter.echo(outlet.parent)
        return self._load, echo, self._detail(outlet, now)

    def _look(self, now: float) -> None:
        self._load = load = self._subtree()
        for outlet in self._outlets:
            if self._wait_s(outlet, now, load) <= 0:
                outlet.due.set()

    def _subtree(self) -> SubtreeLoad:
        load = self.reporter.subtree()
        return attrs.evolve(load, draining=True) if self.leaving else load

    def _wait_s(self, outlet: Outlet, now: float, load: SubtreeLoad) -> float:
        if outlet.sparse and outlet.sent_s is not None:
            return outlet.sent_s + SIGN_OF_LIFE_S - now
        if outlet.soon and outlet.sent_s is not None:
            return outlet.sent_s + LEAST_GAP_S - now
        return outlet.pace.wait_s(now, load)

    def _detail(self, outlet: Outlet, now: float) -> tuple[NodeRow, ...]:
        if outlet.sparse or not self.watching.active(now):
            return ()
        below, outlet.mark = self.rows.since(outlet.mark, now, MAX_ROWS - 1)
        return (self.reporter.row(), *below)
