"""A node's or agent's connection to the controller: one, for ever, whatever happens to the controller.

It reconnects with back-off and jitter. Where there are several controllers, of which one is active, each address of
each is tried in turn. A node is sent snapshots, and after a reconnect answers one that it serves already without
touching anything (`SnapshotServer`); an agent is sent none.

Left out: the connections to parents (parents.py), and what follows from parents and watches that the controller names
(uplink.py).
"""

import random
from collections.abc import Sequence
from typing import Protocol
from urllib.parse import urlsplit

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.conversation import Conversation, Follow
from tierlb.channel.log import Log
from tierlb.channel.parents import INTERNAL, is_named
from tierlb.channel.report_schedule import CONTROLLER_AS_PARENT, ReportSchedule
from tierlb.model.build import BUILD
from tierlb.model.snapshot import Snapshot
from tierlb.net.names import Resolve, resolve
from tierlb.net.tls import ContextNow
from tierlb.net.websocket import Channel, Disconnected, connect
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildSession, Effect
from tierlb.wire.frames import PROTOCOL_VERSION, Ack, Configure, Frame, Hello, Leaving, Refuse, Welcome

LEAVE_NOTICE_S = 0.1
"""From the drain frame to the closing of listeners; a snapshot reaches the parents in a fifth of it."""
LONGEST_WAIT_S = 2.0
"""Between two attempts to reach a controller: another one may take over within seconds."""


class SnapshotServer(Protocol):
    """The part of a node that is configured by snapshots."""

    def hello_of(self, hello: Hello, local_host: str) -> Hello:
        """The hello with the addresses at which others reach this node: for traffic, and for its children's reports.
        `local_host`: the IP address from which it is connected to the controller."""

    def serve(self, snapshot: Snapshot) -> Ack | Refuse:
        """Serve it, or refuse it with a reason."""


@attrs.frozen
class Identity:
    """What a process joins as, and where the controller is: a URL, or several separated by commas. `token` is the
    credential that it shows there; with the `receptions` it verifies the tickets of children. `control` and `data` are
    as in Hello; `tls` gives the context for wss:// URLs."""

    name: str
    tier: str
    controllers: str
    token: str = attrs.field(repr=False)
    boot_id: str
    pid: int
    control: str = ""
    data: str = ""
    tls: ContextNow | None = None
    receptions: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    @property
    def hello(self) -> Hello:
        """The first frame on each connection."""
        return Hello(PROTOCOL_VERSION, self.name, self.tier, self.boot_id, self.pid, self.control, self.data, BUILD)


@attrs.define(eq=False)
class ControllerLink:
    """`run` keeps the connection. What the controller sends goes to `follow`, but for snapshots, which go to `server`.
    `welcomed`: a controller has taken this process in, and is connected."""

    identity: Identity
    reports: ReportSchedule
    log: Log
    errors: InternalErrors
    rng: random.Random
    follow: Follow
    server: SnapshotServer | None = None
    ask: Resolve = resolve
    welcomed: bool = attrs.field(default=False, init=False)
    _leaving: trio.Event = attrs.field(factory=trio.Event, init=False)
    _announced: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def run(self) -> None:
        """Stay connected, for ever."""
        backoff = Backoff(longest_s=LONGEST_WAIT_S)
        while True:
            lasted_s, reasons = 0.0, []
            for url in self.identity.controllers.split(","):
                for at in await self._addresses(url):
                    started_s = trio.current_time()
                    reasons.append(await self._attempt(url, at))
                    lasted_s = max(lasted_s, trio.current_time() - started_s if self.welcomed else 0.0)
                    self.welcomed = False
            wait_s = backoff.wait_s(lasted_s) * self.rng.uniform(0.5, 1.0)
            self.log.warning("controller_disconnected", reason="; ".join(reasons), retry_in_s=round(wait_s, 2))
            await trio.sleep(wait_s)

    async def leave(self) -> None:
        """Send the controller that this process drains, now or as soon as it is connected again; wait a moment for
        that."""
        self._leaving.set()
        with trio.move_on_after(LEAVE_NOTICE_S):
            await self._announced.wait()

    async def _addresses(self, url: str) -> tuple[str, ...]:
        """All of the URL's host, for each may be another controller; "" where it is to be dialled as it is."""
        found = await self.ask(urlsplit(url).hostname or "") if is_named(url) else ()
        return found or ("",)

    async def _attempt(self, url: str, at: str) -> str:
        """Be connected for as long as it lasts; returns why it ended."""
        with self.errors.barrier("controller link"):
            try:
                identity = self.identity
                tls = None if identity.tls is None else identity.tls()
                async with connect(url, identity.token, tls, at) as channel:
                    return await self._converse(channel)
            except Disconnected as problem:
                return str(problem)
        return INTERNAL

    async def _converse(self, channel: Channel) -> str:
        hello = self.identity.hello
        if self.server is not None:
            hello = self.server.hello_of(hello, channel.local_host)
        session = ChildSession(hello)

        def follow(parent: str, frame: Frame) -> Sequence[Effect]:
            match frame:
                case Welcome(interval_s):
                    self.welcomed = True
                    self.reports.interval_s = interval_s
                case Configure(snapshot):
                    return session.send(self._serve(snapshot))
            return self.follow(parent, frame)

        async def announce_leaving() -> None:
            await conversation.welcomed.wait()
            await self._leaving.wait()
            await conversation.send(session.send(Leaving()))
            self._announced.set()
            await trio.sleep_forever()

        conversation = Conversation(channel, session, CONTROLLER_AS_PARENT, self.reports, follow)
        return await conversation.run(announce_leaving)

    def _serve(self, snapshot: Snapshot) -> Ack | Refuse:
        if self.server is None:
            return Refuse(snapshot.revision, "an agent serves no configuration")
        return self.server.serve(snapshot)
