"""What a child does on one connection to a parent: it sends hello, reports once it is welcomed, and follows.

The same for parents among the nodes and for the controller, the root parent. What they send is followed by the caller:
guidance, watches, and from the controller snapshots and the names of parents.

Left out: which connections there are (parents.py, controller_link.py), and when reports are due (report_schedule.py).
"""

from collections.abc import Awaitable, Callable, Sequence

import attrs
import trio

from tierlb.channel.report_schedule import ReportSchedule
from tierlb.net.websocket import Channel, Disconnected
from tierlb.wire.control import ChildSession, Close, Effect, Transmit
from tierlb.wire.frames import Frame, Welcome

REPORT_SEND_TIMEOUT_S = 5.0
"""A parent that reads nothing for so long, with a whole socket buffer full of small reports, is stuck."""

Follow = Callable[[str, Frame], Sequence[Effect]]
"""Called with the name of the parent and a frame that it sent; returns what the session sends in answer."""


@attrs.define(eq=False)
class Conversation:
    """One connection to a parent. `parent` is its name as far as it is known; the welcome may name it."""

    channel: Channel
    session: ChildSession
    parent: str
    reports: ReportSchedule
    follow: Follow
    welcomed: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self, *more: Callable[[], Awaitable[None]]) -> str:
        """Until the parent is gone or one end has closed; returns the reason. `more` runs beside it."""
        reasons: list[str] = []

        async def run(part: Callable[[], Awaitable[None]]) -> None:
            try:
                await part()
            except Disconnected as gone:
                reasons.append(str(gone))
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for part in (self._receive, self._report, *more):
                nursery.start_soon(run, part)
        return reasons[0] if reasons else "the conversation is over"

    async def send(self, effects: Sequence[Effect]) -> None:
        """Carry out what the session asks for; raises Disconnected after a close, and when the parent does not read."""
        for effect in effects:
            match effect:
                case Transmit(data):
                    with trio.move_on_after(REPORT_SEND_TIMEOUT_S) as scope:
                        await self.channel.send(data)
                    if scope.cancelled_caught:
                        raise Disconnected("the parent does not read")
                case Close(reason):
                    await self.channel.close(reason)
                    raise Disconnected(reason)

    async def _receive(self) -> None:
        await self.send(self.session.start())
        while True:
            for effect in self.session.receive(await self.channel.receive()):
                if isinstance(effect, Transmit | Close):
                    await self.send([effect])
                    continue
                if isinstance(effect, Welcome):
                    self.parent = effect.parent or self.parent
                await self.send(self.follow(self.parent, effect))
                if isinstance(effect, Welcome):
                    self.welcomed.set()

    async def _report(self) -> None:
        await self.welcomed.wait()
        with self.reports.outlet(self.parent) as outlet:
            while True:
                await self.send(self.session.send(await self.reports.next(outlet)))
