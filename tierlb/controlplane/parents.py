"""A node's or agent's connections to its parents: one to each, for ever, whatever the others do.

The controller says who the parents are. A connection to one that is named no more is dropped, a new one is opened to
one that is new or has another address; those that stay are not touched. Each reconnects with back-off and jitter, so
that the children of a parent that restarted do not all come back in the same instant.

Left out: the connection to the controller (uplink.py).
"""

import random
import ssl
from collections.abc import Callable, Sequence

import attrs
import trio

from tierlb.controlplane.backoff import Backoff
from tierlb.controlplane.log import Log
from tierlb.controlplane.reporting import Reports
from tierlb.model.load import Guidance
from tierlb.net.websocket import Channel, Disconnected, connect, converse
from tierlb.wire.control import ChildSession, Close, Effect, Transmit
from tierlb.wire.frames import Frame, Hello, Parent, Watch

SEND_TIMEOUT_S = 5.0
"""A parent that reads nothing for so long, with a whole socket buffer full of small reports, is stuck."""


@attrs.define
class Parents:
    """Keeps a reporting connection to each parent of `report_to`'s last call."""

    hello: Hello
    token: str = attrs.field(repr=False)
    reports: Reports
    on_watch: Callable[[Watch], None]
    log: Log
    rng: random.Random
    tls: ssl.SSLContext | None = None
    _links: dict[Parent, trio.CancelScope] = attrs.field(factory=dict, init=False)
    _wanted: tuple[Parent, ...] = attrs.field(default=(), init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def report_to(self, parents: tuple[Parent, ...]) -> None:
        """These are the parents from now on."""
        self._wanted = parents
        self._changed.set()

    def names(self) -> tuple[str, ...]:
        """To whom reports go, or would if they could be reached."""
        return tuple(parent.name for parent in self._links)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                wanted = dict.fromkeys(self._wanted)
                for parent in [parent for parent in self._links if parent not in wanted]:
                    self._links.pop(parent).cancel()
                for parent in [parent for parent in wanted if parent not in self._links]:
                    self._links[parent] = trio.CancelScope()
                    nursery.start_soon(self._keep, parent, self._links[parent])

    async def _keep(self, parent: Parent, scope: trio.CancelScope) -> None:
        backoff = Backoff()
        with scope:
            while True:
                started_s = trio.current_time()
                try:
                    async with connect(parent.url, self.token, self.tls) as channel:
                        reason = await self._converse(channel, parent)
                except Disconnected as problem:
                    reason = str(problem)
                wait_s = backoff.wait_s(trio.current_time() - started_s) * self.rng.uniform(0.5, 1.0)
                self.log.warning("parent lost", parent=parent.name, reason=reason, retry_in_s=round(wait_s, 2))
                await trio.sleep(wait_s)

    async def _converse(self, channel: Channel, parent: Parent) -> str:
        session = ChildSession(self.hello, to_controller=False)
        welcomed = trio.Event()

        async def receive() -> None:
            await carry_out(channel, session.start())
            while True:
                for effect in session.receive(await channel.receive()):
                    self._heed(parent, effect)
                    await carry_out(channel, [effect])
                if session.welcomed:
                    welcomed.set()

        async def report() -> None:
            await welcomed.wait()
            with self.reports.outlet(parent.name) as outlet:
                while True:
                    await carry_out(channel, session.report(*await self.reports.next(outlet)))

        return await converse(receive, report)

    def _heed(self, parent: Parent, effect: Effect | Frame) -> None:
        match effect:
            case Guidance():
                self.reports.reporter.heed(parent.name, effect)
            case Watch():
                self.on_watch(effect)


async def carry_out(channel: Channel, effects: Sequence[Effect]) -> None:
    """Do as a child's session says; raises Disconnected after a close and when the parent does not read."""
    for effect in effects:
        match effect:
            case Transmit(data):
                with trio.move_on_after(SEND_TIMEOUT_S) as scope:
                    await channel.send(data)
                if scope.cancelled_caught:
                    raise Disconnected("the parent does not read")
            case Close(reason):
                await channel.close(reason)
                raise Disconnected(reason)
