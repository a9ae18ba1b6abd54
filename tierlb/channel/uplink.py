"""The child's side of the control channel: a link to the controller, and reports to the parents that it names.

Nodes and agents use it alike. Without parents the controller is the parent and gets the reports. With parents it gets a
sign of life now and then; rows for a watch reach it through the tree.

Left out: a node's own children (node/children.py), and when reports are due (report_schedule.py).
"""

import random
from collections.abc import Callable, Sequence

import attrs
import trio

from tierlb.channel.controller_link import ControllerLink, Identity, SnapshotServer
from tierlb.channel.log import Log
from tierlb.channel.parents import Parents
from tierlb.channel.report_schedule import Reporter, ReportSchedule
from tierlb.channel.watching import WatchRelay
from tierlb.model.load import Guidance
from tierlb.net.keep_going import keep_going
from tierlb.net.names import Resolve, resolve
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import Effect
from tierlb.wire.frames import Frame, ParentAddress, ReportTo, Watch


@attrs.define
class Uplink:
    """`run` keeps the link and all reports going. `on_placed` is called with the parents that the controller names."""

    identity: Identity
    reporter: Reporter
    log: Log
    rng: random.Random
    server: SnapshotServer | None = None
    relay: WatchRelay = attrs.field(factory=WatchRelay)
    on_placed: Callable[[tuple[ParentAddress, ...]], None] = lambda parents: None
    ask: Resolve = resolve
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    reports: ReportSchedule = attrs.field(init=False)
    parents: Parents = attrs.field(init=False)
    link: ControllerLink = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        identity, common = self.identity, (self.log, self.errors, self.rng, self._follow)
        self.reports = ReportSchedule(self.reporter, self.rng, self.relay)
        self.parents = Parents(identity.hello, self.reports, *common, identity.tls, self.ask)
        self.link = ControllerLink(identity, self.reports, *common, self.server, self.ask)

    async def run(self) -> None:
        """Stay connected, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, self.errors, "reports", self.reports.run)
            nursery.start_soon(keep_going, self.errors, "parents", self.parents.run)
            await keep_going(self.errors, "controller link", self.link.run)

    async def leave(self) -> None:
        """Send the controller and the parents that this process drains, and wait a moment for that."""
        self.reports.leaving = True
        self.reports.hurry()
        await self.link.leave()

    def report_to(self, parents: tuple[ParentAddress, ...]) -> None:
        """These are the parents from now on; without any it is the controller."""
        self.reports.has_parents = bool(parents)
        self.parents.report_to(parents)
        self.reports.hurry()

    def _follow(self, parent: str, frame: Frame) -> Sequence[Effect]:
        match frame:
            case ReportTo(parents):
                self.report_to(parents)
                self.on_placed(parents)
            case Watch():
                if self.relay.take(frame, trio.current_time()):
                    self.reports.hurry()
            case Guidance():
                self.reporter.note_guidance(parent, frame)
        return ()
