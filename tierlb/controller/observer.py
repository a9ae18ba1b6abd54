"""Figures on demand: asks the top tiers for rows, which they gather from the whole tree, while a client watches.

A watch travels down the tree with a time to live (channel/watching.py). With a nonce, requests that carry it are
explained meanwhile.
"""

import secrets
from collections.abc import Callable, Iterable

import attrs
import trio

from tierlb.channel.watching import Watching
from tierlb.controller.node_record import NodeRecord
from tierlb.controller.registry import NodeRegistry
from tierlb.controller.status import ClusterStatus, State
from tierlb.model.load import NodeRow
from tierlb.wire.frame_fields import MAX_WATCH_S
from tierlb.wire.frames import Watch

NONCE_BYTES = 12
OBSERVE_S = 5.0
"""How long a single look keeps the rows coming, so that the next one need not wait for them."""
OBSERVE_WITHIN_S = 1.5


@attrs.define
class Observer:
    """What the admin API shows. `status` gives what is known already."""

    _registry: NodeRegistry
    status: Callable[[], ClusterStatus]
    _watching: Watching = attrs.field(factory=Watching, init=False)
    _rows_came: trio.Event = attrs.field(factory=trio.Event, init=False)

    async def observe(self, within_s: float = OBSERVE_WITHIN_S) -> ClusterStatus:
        """The status with figures of the present: asks for them and waits a moment for nodes that are connected."""
        self.watch(OBSERVE_S)
        with trio.move_on_after(within_s):
            while not self._all_live():
                await self._rows_came.wait()
        return self.status()

    def explain(self, ttl_s: float) -> str:
        """A nonce: requests with it are explained for so long. All that ask meanwhile share it, as nodes keep one."""
        nonce = self._watching.nonce(trio.current_time()) or secrets.token_hex(NONCE_BYTES)
        self.watch(ttl_s, nonce)
        return nonce

    def watch(self, ttl_s: float, explain: str = "") -> None:
        """Have rows sent up the tree for so long; with a nonce, have requests that carry it explained."""
        watch = Watch(min(ttl_s, MAX_WATCH_S), explain)
        if self._watching.take(watch, trio.current_time()):
            for record in self._registry.records.values():
                _send_watches(record, watch)

    def greet(self, record: NodeRecord) -> None:
        """A node or agent joined: pass on what is watched now."""
        _send_watches(record, *self._watching.current(trio.current_time()))

    def note_rows(self, rows: Iterable[NodeRow]) -> None:
        """Rows of nodes anywhere in the tree came."""
        now = trio.current_time()
        for row in rows:
            if (record := self._registry.records.get(row.node)) is not None:
                record.reports.note_row(row, now)
        self._rows_came.set()
        self._rows_came = trio.Event()

    def _all_live(self) -> bool:
        now = trio.current_time()
        return all(
            record.reports.is_live(now)
            for record in self._registry.records.values()
            if record.link is not None and record.state is State.SERVING
        )


def _send_watches(record: NodeRecord, *watches: Watch) -> None:
    """To a node that reports here. Agents do not learn how requests are explained."""
    if record.link is not None and record.is_top:
        record.link.watch(*(attrs.evolve(watch, explain="") if record.agent else watch for watch in watches))
