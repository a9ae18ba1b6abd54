"""The parent's side of one control connection: carries out what its session asks for.

Three tasks: one reads, one sends what is wanted of the node whenever that changed (the newest snapshot, its parents, a
watch), one looks whether it is still there. A child that is silent, breaks the protocol, floods or does not read
loses this connection and harms nothing else.
"""

from functools import partial

import attrs
import trio

from tierlb.channel.log import Log
from tierlb.controller.controller import Controller
from tierlb.controller.node_record import Link, NodeRecord
from tierlb.controller.parents import with_tickets
from tierlb.controller.registry import Unwelcome
from tierlb.net.door import Door
from tierlb.net.websocket import Channel, Disconnected, converse
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import Close, Effect, ParentSession, Transmit
from tierlb.wire.frames import Ack, Hello, Leaving, ParentAddress, Refuse, Report

HELLO_TIMEOUT_S = 5.0
SEND_TIMEOUT_S = 10.0
TICK_S = 1.0


def control_door(errors: InternalErrors, log: Log) -> Door:
    """How a controller's process accepts: errors of one connection, and too many strangers, are logged and end no other
    connection."""

    def note_drop(host: str) -> None:
        log.warning("stranger_dropped", address=host, reason="too many connections that show no token")

    return Door(partial(errors.note, "control connection"), note_drop)


async def serve_child(controller: Controller, channel: Channel) -> None:
    """Run one child's connection until it ends."""
    session, link = ParentSession(controller.report_interval_s), Link(caller=channel.caller)
    conversation = _Conversation(controller, channel, session, link)
    with trio.move_on_after(HELLO_TIMEOUT_S):
        await conversation.receive_once()
    if conversation.record is None:
        await channel.close("no hello came in time")
        return
    try:
        reason = await converse(conversation.receive_all, conversation.send_all, conversation.tick)
        if not conversation.record.draining and not conversation.link.replaced:
            controller.log.warning("node disconnected", node=conversation.record.name, reason=reason)
    finally:
        controller.registry.lost(conversation.record, conversation.link)


@attrs.define
class _Conversation:
    controller: Controller
    channel: Channel
    session: ParentSession
    link: Link
    record: NodeRecord | None = None
    configured: int = 0
    placed: tuple[ParentAddress, ...] | None = None

    async def receive_all(self) -> None:
        while True:
            await self.receive_once()

    async def receive_once(self) -> None:
        data = await self.channel.receive()
        await self._carry_out(self.session.receive(data, trio.current_time()))

    async def tick(self) -> None:
        while True:
            await trio.sleep(TICK_S)
            await self._carry_out(self.session.tick(trio.current_time()))

    async def send_all(self) -> None:
        while not self.link.replaced:
            effects = self._news()
            await self._carry_out(effects)
            if not effects:
                self.link.wake = trio.Event()
                await self.link.wake.wait()
        await self.channel.close("another connection or process of this node took over")

    def _news(self) -> list[Effect]:
        """What is wanted of the node and has not been said on this connection."""
        assert self.record is not None
        effects: list[Effect] = []
        if self.record.assignment.wanted is not None and self.record.assignment.wanted.revision != self.configured:
            self.configured = self.record.assignment.wanted.revision
            effects += self.session.configure(self.record.assignment.wanted)
        if self.record.assignment.parents is not None and self.record.assignment.parents != self.placed:
            self.placed = self.record.assignment.parents
            controller = self.controller
            effects += self.session.report_to(with_tickets(controller.registry, controller.admission, self.record))
        while self.link.watches:
            watch = self.link.watches.popleft()
            effects += self.session.watch(watch.ttl_s, watch.explain)
        return effects

    async def _carry_out(self, effects: list[Effect]) -> None:
        for effect in effects:
            match effect:
                case Transmit(data):
                    await self._send(data)
                case Close(reason):
                    await self._leave(reason)
                case Hello():
                    await self._join(effect)
                case Ack() | Refuse() | Report() | Leaving() if self.record and not self.link.replaced:
                    self.controller.receive(self.record, effect)

    async def _join(self, hello: Hello) -> None:
        assert self.channel.caller is not None
        try:
            self.controller.registry.check(hello, self.channel.caller.principal)
            self.record = self.controller.join(hello, self.link)
        except Unwelcome as problem:
            await self._leave(str(problem))
        await self._carry_out(self.session.accept())

    async def _leave(self, reason: str) -> None:
        self.controller.log.warning("node turned away", reason=reason)
        await self.channel.close(reason)
        raise Disconnected(reason)

    async def _send(self, data: bytes) -> None:
        with trio.move_on_after(SEND_TIMEOUT_S) as scope:
            await self.channel.send(data)
        if scope.cancelled_caught:
            raise Disconnected("the node does not read")
