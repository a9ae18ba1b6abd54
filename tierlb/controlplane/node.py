"""A node's process: the data plane serves; beside it a link to the parent keeps it configured.

The data plane reads the snapshot applied last and never waits for the link. The link reconnects for ever with
back-off and jitter and, after a reconnect, answers a snapshot that is served already without touching
anything. On SIGTERM the node tells its parent, gives it a moment to send new traffic elsewhere, drains, and
ends at its deadline whatever is left.
"""

import random
import signal
from collections.abc import Callable
from typing import Protocol

import attrs
import trio

from tierlb.controlplane.backoff import Backoff
from tierlb.controlplane.log import Log
from tierlb.model.address import Address
from tierlb.model.load import NodeLoad
from tierlb.model.snapshot import Snapshot
from tierlb.net.websocket import Channel, Disconnected, connect, converse
from tierlb.wire.control import ChildSession, Close, Effect, Transmit
from tierlb.wire.frames import PROTOCOL_VERSION, Configure, Hello, Welcome

DRAIN_DEADLINE_S = 10.0
TOKEN_VARIABLE = "TIERLB_TOKEN"  # noqa: S105 (the name of the environment variable that holds it)
NOTICE_S = 0.1
"""From saying that it drains to closing its listeners; a snapshot reaches the parents in a fifth of it."""


class Plane(Protocol):
    """What a node's process needs of its data plane."""

    def apply(self, snapshot: Snapshot) -> tuple[Address, ...]:
        """Serve the snapshot; the addresses bound, parallel to its listeners. Raises, keeping the old one."""

    def load(self) -> NodeLoad:
        """Counters since the start."""

    def drain(self) -> None:
        """Accept nothing new, finish what runs; `run` returns when nothing is left."""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until drained."""


@attrs.frozen
class Identity:
    """Which node this is and where its parent is."""

    name: str
    tier: str
    parent_url: str
    token: str = attrs.field(repr=False)
    boot_id: str
    pid: int


@attrs.define
class Uplink:
    """The child's side of the control channel. `refused` is the exception by which a plane declines."""

    identity: Identity
    plane: Plane
    refused: type[Exception]
    log: Log
    rng: random.Random
    on_served: Callable[[], None] = lambda: None
    report_interval_s: float = 1.0
    _applied: Snapshot | None = attrs.field(default=None, init=False)
    _bound: tuple[Address, ...] = attrs.field(default=(), init=False)
    _leaving: trio.Event = attrs.field(factory=trio.Event, init=False)
    _told: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Stay connected, for ever."""
        backoff = Backoff()
        while True:
            started_s = trio.current_time()
            try:
                async with connect(self.identity.parent_url, self.identity.token) as channel:
                    reason = await self._converse(channel)
            except Disconnected as problem:
                reason = str(problem)
            wait_s = backoff.wait_s(trio.current_time() - started_s) * self.rng.uniform(0.5, 1.0)
            self.log.warning("parent lost", reason=reason, retry_in_s=round(wait_s, 2))
            await trio.sleep(wait_s)

    async def leave(self) -> None:
        """Say that this node drains, and where others send to it, wait until they can know."""
        self._leaving.set()
        with trio.move_on_after(NOTICE_S):
            await self._told.wait()
        if self._applied is not None and any(listener.inner for listener in self._applied.listeners):
            await trio.sleep(NOTICE_S)

    async def _converse(self, channel: Channel) -> str:
        identity = self.identity
        session = ChildSession(Hello(PROTOCOL_VERSION, identity.name, identity.tier, identity.boot_id, identity.pid))
        welcomed = trio.Event()

        async def receive() -> None:
            await self._carry_out(channel, session.start())
            while True:
                effects = session.receive(await channel.receive())
                await self._carry_out(channel, self._answers(session, effects))
                if session.welcomed:
                    welcomed.set()

        async def report() -> None:
            await welcomed.wait()
            while True:
                await trio.sleep(self.report_interval_s)
                await self._carry_out(channel, session.report(self.plane.load()))

        async def announce_leaving() -> None:
            await welcomed.wait()
            await self._leaving.wait()
            await self._carry_out(channel, session.drain())
            self._told.set()
            await trio.sleep_forever()

        return await converse(receive, report, announce_leaving)

    def _answers(self, session: ChildSession, effects: list[Effect]) -> list[Effect]:
        answers: list[Effect] = []
        for effect in effects:
            match effect:
                case Welcome(interval_s):
                    self.report_interval_s = interval_s
                case Configure(snapshot):
                    answers += self._apply(session, snapshot)
                case _:
                    answers.append(effect)
        return answers

    def _apply(self, session: ChildSession, snapshot: Snapshot) -> list[Effect]:
        if snapshot == self._applied:
            return session.ack(snapshot.revision, self._bound)
        try:
            self._bound = self.plane.apply(snapshot)
        except self.refused as problem:
            self.log.error("snapshot refused", revision=snapshot.revision, reason=str(problem))
            return session.refuse(snapshot.revision, str(problem))
        if self._applied is None:
            self.on_served()
        self._applied = snapshot
        return session.ack(snapshot.revision, self._bound)

    async def _carry_out(self, channel: Channel, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(data):
                    await channel.send(data)
                case Close(reason):
                    await channel.close(reason)
                    raise Disconnected(reason)


async def run_node(uplink: Uplink) -> None:
    """Serve until SIGTERM (or SIGINT), then drain and return."""

    async def serve(*, task_status: trio.TaskStatus[None]) -> None:
        await uplink.plane.run(task_status=task_status)
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve)
            nursery.start_soon(uplink.run)
            await anext(aiter(signals))
            await uplink.leave()
            uplink.plane.drain()
            nursery.cancel_scope.deadline = trio.current_time() + DRAIN_DEADLINE_S
