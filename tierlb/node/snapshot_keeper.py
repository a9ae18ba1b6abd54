"""Keeps on disk what a node serves, and serves it again where no controller is there when the node starts.

The node then opens the ports that it had, if they are free, and reports to the parents that it had. A controller that
comes back configures it as usual. The file itself is snapshot_cache.py's.
"""

from pathlib import Path

import attrs
import trio

from tierlb.channel.durable import StoreError
from tierlb.channel.log import Log
from tierlb.channel.uplink import Uplink
from tierlb.node import snapshot_cache
from tierlb.node.configuration import Configuration
from tierlb.node.snapshot_cache import SnapshotCache
from tierlb.wire.frames import Ack, ParentAddress

ALONE_AFTER_S = 1.0
"""A controller that is there has answered by then."""
SAVE_AFTER_S = 0.2
"""What changes at once, as when a cluster starts, is written once."""


@attrs.define
class SnapshotKeeper:
    """`keep` writes whenever what is served has changed, `resume` reads once."""

    directory: Path
    configuration: Configuration
    uplink: Uplink
    log: Log
    _parents: tuple[ParentAddress, ...] = attrs.field(default=(), init=False)
    _changed: trio.Event = attrs.field(factory=trio.Event, init=False)

    def note_change(self) -> None:
        """Another snapshot is served, or at other addresses."""
        self._changed.set()

    def note_parents(self, parents: tuple[ParentAddress, ...]) -> None:
        """The controller has named the parents."""
        self._parents = parents
        self._changed.set()

    async def keep(self) -> None:
        """Write for ever. A failing disk is logged once; serving goes on."""
        is_logged = False
        while True:
            await self._changed.wait()
            await trio.sleep(SAVE_AFTER_S)
            self._changed = trio.Event()
            served = self.configuration.snapshot
            if served is None:
                continue
            good = SnapshotCache(self.uplink.identity.name, served, self.configuration.bound, self._parents)
            try:
                await trio.to_thread.run_sync(snapshot_cache.save, self.directory, good)
            except StoreError as problem:
                if not is_logged:
                    self.log.warning("snapshot_cache_write_failed", error=str(problem), action="serving_on")
                is_logged = True
            except Exception:
                self._changed.set()
                raise

    async def resume(self) -> None:
        """Serve what was served last, if the controller cannot be reached in time."""
        await trio.sleep(ALONE_AFTER_S)
        if self.configuration.snapshot is not None or self.uplink.link.welcomed:
            return
        name, tier = self.uplink.identity.name, self.uplink.identity.tier
        good, problem = await trio.to_thread.run_sync(snapshot_cache.load, self.directory, name, tier)
        if problem:
            self.log.warning("snapshot_cache_rejected", reason=problem)
        if good is None or self.configuration.snapshot is not None:
            return
        self.log.warning("snapshot_cache_resumed", revision=good.snapshot.accepted, reason="no controller answered")
        if isinstance(self.configuration.apply(good.snapshot, good.addresses), Ack):
            self.note_parents(good.parents)
            self.uplink.report_to(good.parents)
