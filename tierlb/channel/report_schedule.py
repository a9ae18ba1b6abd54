"""When a node or an agent reports to each parent, and what is in the report.

There is one `Outlet` for each open connection to a parent. `look` compares the subtree's load with what was reported,
once for all of them, and wakes those outlets whose report is due. A node does that with its regular work, which
follows whatever happens (dataplane/plane.py); an agent by `run`. A parent that weighs this child gets reports at their
pace (telemetry/pace.py). The controller gets them too while it is the only parent, and otherwise a sign of life every
ten seconds. A slow parent delays only its own reports.

Nothing is stretched while detail is watched.

Left out: the connections (conversation.py), and where the figures come from (`Reporter`).
"""

import math
import random
from collections.abc import Callable, Iterator
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


def stir_nothing() -> None:
    """Before it is known how to have `look` called."""


@attrs.define
class ReportSchedule:
    """Wakes each outlet when its next report is due. `stir` has `look` called soon."""

    reporter: Reporter
    rng: random.Random
    relay: WatchRelay
    interval_s: float = REPORT_INTERVAL_S
    leaving: bool = False
    """Reported as draining before the data plane begins to, so that by then no parent sends anything new."""
    has_parents: bool | None = None
    """Whether there are parents besides the controller. None: it has not named them yet, and gets no reports."""
    stir: Callable[[], None] = stir_nothing
    _outlets: list[Outlet] = attrs.field(factory=list, init=False)
    _load: SubtreeLoad = attrs.field(factory=SubtreeLoad, init=False)
    _follows: bool = attrs.field(default=False, init=False)

    async def run(self) -> None:
        """Look whenever a report is due or something is stirred, for ever; unless it follows other work."""
        if self._follows:
            return
        stirred = trio.Event()
        self.stir = lambda: stirred.set()
        while True:
            wait_s = self.look()
            with trio.move_on_after(wait_s):
                await stirred.wait()
                stirred = trio.Event()

    def follow(self, regularly: Callable[[Callable[[], float]], Callable[[], None]]) -> None:
        """`look` is called with other regular work. `regularly` returns how to have that done soon."""
        self._follows = True
        self.stir = regularly(self.look)

    def look(self) -> float:
        """Wake the outlets whose report is due. Returns in how many seconds the next one is, if nothing changes."""
        if not self._outlets:
            return math.inf
        now = trio.current_time()
        self._load = load = self._subtree()
        return min(self._look_at(outlet, now, load) for outlet in self._outlets)

    @contextmanager
    def outlet(self, parent: str) -> Iterator[Outlet]:
        """An outlet for as long as the connection is open; its first report is due at once."""
        outlet = Outlet(parent, Pace(self.rng, self.interval_s))
        self._outlets.append(outlet)
        self.stir()
        try:
            yield outlet
        finally:
            self._outlets.remove(outlet)

    def hurry(self) -> None:
        """Report to all parents at once."""
        now = trio.current_time()
        self._load = load = self._subtree()
        for outlet in self._outlets:
            if not self._is_held(outlet):
                self._release(outlet, now, load)
        self.stir()

    def soon(self) -> None:
        """There is a row that no report has had yet: report without waiting for the interval."""
        for outlet in self._outlets:
            outlet.soon = not self._is_sparse(outlet)
        self.stir()

    async def next(self, outlet: Outlet) -> Report:
        """Wait until a report is due there, and return it."""
        await outlet.due.wait()
        outlet.due = trio.Event()
        sparse = self._is_sparse(outlet)
        echo = Echo() if sparse else self.reporter.echo(outlet.parent)
        next_s = SIGN_OF_LIFE_S if sparse else outlet.pace.next_s
        return Report(self._load, echo, self._detail(outlet, trio.current_time()), next_s)

    def _look_at(self, outlet: Outlet, now: float, load: SubtreeLoad) -> float:
        """Release its report if that is due and the last one was taken; returns when to look again."""
        if self._is_held(outlet):
            return math.inf
        if self._wait_s(outlet, now, load) <= 0 and not outlet.due.is_set():
            self._release(outlet, now, load)
        return max(LEAST_GAP_S, self._wait_s(outlet, now, load))

    def _release(self, outlet: Outlet, now: float, load: SubtreeLoad) -> None:
        outlet.pace.sent(now, load, may_stretch=not self.relay.watching.active(now))
        outlet.sent_s, outlet.soon = now, False
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
