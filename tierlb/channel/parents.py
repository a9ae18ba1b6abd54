"""A node's or agent's connections to its parents: one to each, for ever, whatever the others do.

The controller names the parents. A connection to one that is no longer named is dropped, and one is opened to a parent
that is new or has another address. Those that stay are not touched. Each reconnects with back-off and jitter, so that
the children of a parent that restarted do not all come back in the same instant.

A parent whose URL has a host name stands for a whole tier, as in compose and Kubernetes. There is one connection to
each address that the name resolves to, and those that vanish from it are dropped. The welcome of each has its name.

Left out: the connection to the controller (controller_link.py), and how names are resolved (net/names.py).
"""

import ipaddress
import random
from collections.abc import Iterable
from functools import partial
from urllib.parse import urlsplit

import attrs
import trio

from tierlb.channel.backoff import Backoff
from tierlb.channel.conversation import Conversation, Follow
from tierlb.channel.log import Log
from tierlb.channel.report_schedule import ReportSchedule
from tierlb.net.keep_going import keep_going
from tierlb.net.names import Resolve, follow, resolve
from tierlb.net.tls import ContextNow
from tierlb.net.websocket import Disconnected, connect
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildSession
from tierlb.wire.frames import MAX_PARENTS, Hello, ParentAddress

INTERNAL = "an internal error here: see internal_error in this log"


@attrs.define
class Parents:
    """Keeps a reporting connection to each parent of `report_to`'s last call; what they send goes to `follow`."""

    hello: Hello
    reports: ReportSchedule
    log: Log
    errors: InternalErrors
    rng: random.Random
    follow: Follow
    tls: ContextNow | None = None
    ask: Resolve = resolve
    _links: dict[ParentAddress, trio.CancelScope] = attrs.field(factory=dict, init=False)
    _wanted: tuple[ParentAddress, ...] = attrs.field(default=(), init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def report_to(self, parents: tuple[ParentAddress, ...]) -> None:
        """These are the parents from now on."""
        self._wanted = parents
        self._changed.set()

    def names(self) -> tuple[str, ...]:
        """The parents that get reports, or would if they could be reached."""
        return tuple(parent.name for parent in self._links)

    async def run(self) -> None:
        """Until cancelled. After an error it can be run again, with the parents of the last call."""
        self._links.clear()
        self._changed.set()
        async with trio.open_nursery() as nursery:
            while True:
                await self._changed.wait()
                self._changed = trio.Event()
                wanted = dict.fromkeys(self._wanted)
                for parent in [parent for parent in self._links if parent not in wanted]:
                    self._links.pop(parent).cancel()
                for parent in [parent for parent in wanted if parent not in self._links]:
                    self._links[parent] = trio.CancelScope()
                    keep = self._keep_named if is_named(parent.url) else self._keep
                    nursery.start_soon(keep, parent, self._links[parent])

    async def _keep_named(self, parent: ParentAddress, scope: trio.CancelScope) -> None:
        with scope:
            await keep_going(self.errors, "parents by name", partial(self._keep_all, parent))

    async def _keep_all(self, parent: ParentAddress) -> None:
        """A connection to each address of a name."""
        links: dict[str, trio.CancelScope] = {}
        host = urlsplit(parent.url).hostname or ""

        def change(found: Iterable[str]) -> None:
            wanted = list(found)[:MAX_PARENTS]
            for address in [address for address in links if address not in wanted]:
                links.pop(address).cancel()
            for address in [address for address in wanted if address not in links]:
                links[address] = trio.CancelScope()
                nursery.start_soon(self._keep, parent, links[address], address)

        def miss() -> None:
            self.log.warning("parent_lookup_empty", name=host, action="keeping_last_known", known=len(links))

        async with trio.open_nursery() as nursery:
            await follow(host, change, miss, self.ask)

    async def _keep(self, parent: ParentAddress, scope: trio.CancelScope, at: str = "") -> None:
        backoff = Backoff()
        with scope:
            while True:
                started_s = trio.current_time()
                reason = INTERNAL
                with self.errors.barrier("parent link"):
                    try:
                        tls = None if self.tls is None else self.tls()
                        async with connect(parent.url, parent.ticket, tls, at) as channel:
                            session = ChildSession(self.hello, to_controller=False)
                            reason = await Conversation(channel, session, parent.name, self.reports, self.follow).run()
                    except Disconnected as problem:
                        reason = str(problem)
                wait_s = backoff.wait_s(trio.current_time() - started_s) * self.rng.uniform(0.5, 1.0)
                name = f"{parent.name} at {at}" if at else parent.name
                self.log.warning("parent_disconnected", parent=name, reason=reason, retry_in_s=round(wait_s, 2))
                await trio.sleep(wait_s)


def is_named(url: str) -> bool:
    """Whether the URL's host is a name and not an IP address."""
    try:
        ipaddress.ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return True
    return False
