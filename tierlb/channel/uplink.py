"""The child's side of everything: a link to the controller, and reports to the parents that the controller names.

Nodes and agents use it alike. The link reconnects for ever with back-off and jitter. Where there are several
controllers, of which one is active, each address of each is tried in turn. A node is sent snapshots, and after a
reconnect answers one that is served already without touching anything (`Servant`); an agent is sent none.
Where there are no parents, the controller is the parent and hears the reports; otherwise it hears a sign of life now
and then, with whoever watches asking for detail through the tree.

Left out: a node's own children (children.py), and when reports are due (report_schedule.py).
"""

import random
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol
from urllib.parse import urlsplit

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.log import Log
from tierlb.channel.parents import Parents, carry_out, is_named
from tierlb.channel.report_schedule import Reporter, ReportSchedule
from tierlb.channel.watching import Rows, Watching
from tierlb.model.load import Guidance
from tierlb.model.snapshot import Snapshot
from tierlb.net.keep_going import keep_going
from tierlb.net.names import Resolve, resolve
from tierlb.net.websocket import Channel, Disconnected, connect, converse
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildSession, Effect
from tierlb.wire.frames import PROTOCOL_VERSION, Ack, Configure, Hello, ParentAddress, Refuse, ReportTo, Watch, Welcome

NOTICE_S = 0.1
"""From saying that it drains to closing its listeners; a snapshot reaches the parents in a fifth of it."""
CONTROLLER = ""
"""The controller's name as a parent: no node bears it, for it sends no items."""
INTERNAL = "an internal error here: see internal_error in this log"
LONGEST_WAIT_S = 2.0
"""Between two attempts to reach a controller: another one may take over within seconds, and should not wait for us."""


class Servant(Protocol):
    """Whoever is configured by snapshots."""

    def place(self) -> str:
        """Where it takes items already; "" while it serves nothing."""

    def control_place(self, bound: str) -> str:
        """Where its children find it, given what its control port is bound to."""

    def serve(self, snapshot: Snapshot) -> Ack | Refuse:
        """Serve it, or say why not."""


@attrs.frozen
class Identity:
    """Who joins, and where the controller is: a URL, or several separated by commas. `token` is the credential that is
    shown there; with the `receptions` the tickets of children are verified. `control` and `data` are as in Hello; `tls`
    goes with wss:// URLs."""

    name: str
    tier: str
    controllers: str
    token: str = attrs.field(repr=False)
    boot_id: str
    pid: int
    control: str = ""
    data: str = ""
    tls: ssl.SSLContext | None = None
    receptions: tuple[bytes, ...] = attrs.field(default=(), repr=False)

    @property
    def hello(self) -> Hello:
        """What is said first on each connection."""
        return Hello(PROTOCOL_VERSION, self.name, self.tier, self.boot_id, self.pid, self.control, self.data)


def _pass_on_to_nobody(watch: Watch) -> None:
    """An agent has no children."""


@attrs.define
class Uplink:
    """`run` keeps the link and all reports going; `pass_on` is called with each watch that is news, `on_placed` with
    the parents that the controller names. `welcomed`: there is a controller that took us in. `here`: the IP address
    from which we speak to it, or spoke last."""

    identity: Identity
    reporter: Reporter
    log: Log
    rng: random.Random
    servant: Servant | None = None
    pass_on: Callable[[Watch], None] = _pass_on_to_nobody
    watching: Watching = attrs.field(factory=Watching)
    rows: Rows = attrs.field(factory=Rows)
    on_placed: Callable[[tuple[ParentAddress, ...]], None] = lambda parents: None
    ask: Resolve = resolve
    errors: InternalErrors = attrs.field(default=attrs.Factory(lambda self: InternalErrors(self.log), takes_self=True))
    here: str = attrs.field(default="", init=False)
    welcomed: bool = attrs.field(default=False, init=False)
    reports: ReportSchedule = attrs.field(init=False)
    parents: Parents = attrs.field(init=False)
    _leaving: trio.Event = attrs.field(factory=trio.Event, init=False)
    _told: trio.Event = attrs.field(factory=trio.Event, init=False)
    _has_parents: bool = attrs.field(default=False, init=False)
    _placed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        identity = self.identity
        self.reports = ReportSchedule(self.reporter, self.rng, self.watching, self.rows)
        self.parents = Parents(
            identity.hello, self.reports, self.heed_watch, self.log, self.rng, identity.tls, self.ask
        )
        self.parents.errors = self.errors

    async def run(self) -> None:
        """Stay connected, for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(keep_going, self.errors, "reports", self.reports.run)
            nursery.start_soon(keep_going, self.errors, "parents", self.parents.run)
            await keep_going(self.errors, "controller link", self._keep_link)

    async def leave(self) -> None:
        """Say to the controller and the parents that this one drains, as far as they can be told in a moment."""
        self._leaving.set()
        self.reports.leaving = True
        self.reports.hurry()
        with trio.move_on_after(NOTICE_S):
            await self._told.wait()

    def report_to(self, parents: tuple[ParentAddress, ...]) -> None:
        """These are the parents from now on; without any it is the controller."""
        self._has_parents = bool(parents)
        self._placed.set()
        self.parents.report_to(parents)
        self.reports.hurry()

    def heed_watch(self, watch: Watch) -> None:
        """Somebody watches; pass it on if it is news, and let the parents see at once."""
        now = trio.current_time()
        if not self.watching.active(now):
            self.rows.clear()
        if self.watching.heed(watch, now):
            self.pass_on(watch)
            self.reports.hurry()

    async def _keep_link(self) -> None:
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
            self.log.warning("controller lost", reason="; ".join(reasons), retry_in_s=round(wait_s, 2))
            await trio.sleep(wait_s)

    async def _addresses(self, url: str) -> tuple[str, ...]:
        """All of the URL's host, for each may be another controller; "" where it is to be dialled as it is."""
        found = await self.ask(urlsplit(url).hostname or "") if is_named(url) else ()
        return found or ("",)

    async def _attempt(self, url: str, at: str) -> str:
        """Be connected for as long as it lasts; why it does not any more."""
        with self.errors.barrier("controller link"):
            try:
                async with connect(url, self.identity.token, self.identity.tls, at) as channel:
                    return await self._converse(channel)
            except Disconnected as problem:
                return str(problem)
        return INTERNAL

    async def _converse(self, channel: Channel) -> str:
        self.here = channel.local_host
        session = ChildSession(self._hello())
        welcomed = trio.Event()

        async def receive() -> None:
            await carry_out(channel, session.start())
            while True:
                for effect in session.receive(await channel.receive()):
                    await carry_out(channel, self._follow(session, effect))
                if session.welcomed:
                    welcomed.set()

        async def report() -> None:
            await welcomed.wait()
            await self._placed.wait()
            while True:
                await self._report(channel, session)

        async def announce_leaving() -> None:
            await welcomed.wait()
            await self._leaving.wait()
            await carry_out(channel, session.drain())
            self._told.set()
            await trio.sleep_forever()

        return await converse(receive, report, announce_leaving)

    def _hello(self) -> Hello:
        """A controller that has restarted learns from it where this node serves."""
        hello = self.identity.hello
        if self.servant is None:
            return hello
        return attrs.evolve(hello, data=self.servant.place(), control=self.servant.control_place(hello.control))

    async def _report(self, channel: Channel, session: ChildSession) -> None:
        """For as long as it stays decided whether the controller is the only parent."""
        sparse = self._has_parents
        with self.reports.outlet(CONTROLLER, sparse) as outlet:
            while sparse is self._has_parents:
                await carry_out(channel, session.report(*await self.reports.next(outlet)))

    def _follow(self, session: ChildSession, effect: Effect) -> Sequence[Effect]:
        match effect:
            case Welcome(interval_s):
                self.welcomed = True
                self.reports.interval_s = interval_s
            case ReportTo(parents):
                self.report_to(parents)
                self.on_placed(parents)
            case Watch():
                self.heed_watch(effect)
            case Guidance():
                self.reporter.heed(CONTROLLER, effect)
            case Configure(snapshot):
                return self._serve(session, snapshot)
            case _:
                return [effect]
        return []

    def _serve(self, session: ChildSession, snapshot: Snapshot) -> Sequence[Effect]:
        if self.servant is None:
            return session.refuse(snapshot.revision, "an agent serves no configuration")
        match self.servant.serve(snapshot):
            case Ack(revision, addresses):
                return session.ack(revision, addresses)
            case Refuse(revision, reason):
                return session.refuse(revision, reason)
