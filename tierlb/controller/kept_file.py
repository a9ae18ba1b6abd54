"""The topology file on disk, kept in step with the active revision unless a user edits it meanwhile.

A disk, or a file system of another machine, may stall, and this process serves all nodes. So a thread writes, and is
waited for no longer than `WITHIN_S`. There is one at a time, and before it ends it writes whatever is the newest text
by then. What reaches the disk late is therefore never older than what is there, and the last text wins. The cluster
goes by the store, so a file that is late holds up nothing.

Left out: reading the file (following.py).
"""

import enum
import threading
from collections import deque
from pathlib import Path

import attrs
import trio

from tierlb.channel.durable import StoreError, write_atomically
from tierlb.channel.log import Log

WITHIN_S = 5.0
"""As long as an ordinary disk takes at worst, under the load of others."""
MOST_OWED = 16
"""Texts that the file may still hold after writes that failed or are late."""


class FileHolds(enum.Enum):
    """What the file holds."""

    OURS = enum.auto()
    EDITED = enum.auto()


@attrs.define
class KeptFile:
    """`keep` after each change of the text."""

    file: Path
    log: Log
    _wanted: str = attrs.field(default="", init=False)
    _owed: deque[str] = attrs.field(factory=lambda: deque(maxlen=MOST_OWED), init=False)
    """What the file may hold that was written here, or was there at the start."""
    _turn: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(1), init=False)
    """Held by the thread until it ends, whether it is waited for or not."""
    _state: threading.Lock = attrs.field(factory=threading.Lock, init=False)

    async def keep(self, before: str, after: str) -> None:
        """Write `after` where the file still holds `before`. What goes wrong is logged, and tried again with the next
        text."""
        if before == after:
            return
        with self._state:
            self._owed.append(before)
            self._wanted = after
        with trio.move_on_after(WITHIN_S, shield=True) as late:
            await self._write()
        if late.cancelled_caught:
            self.log.warning("topology_file_late", file=str(self.file), within_s=WITHIN_S)

    async def _write(self) -> None:
        try:
            found = await self._in_thread()
        except (OSError, StoreError) as problem:
            self.log.warning("topology_file_write_failed", file=str(self.file), reason=str(problem))
            return
        if found is FileHolds.EDITED:
            self.log.warning("topology_file_left_alone", file=str(self.file))

    async def _in_thread(self) -> FileHolds:
        return await trio.to_thread.run_sync(self._catch_up, abandon_on_cancel=True, limiter=self._turn)

    def _catch_up(self) -> FileHolds:
        """In a thread, until the newest text is written. Raises OSError and StoreError."""
        while True:
            with self._state:
                owed, wanted = tuple(self._owed), self._wanted
            found = replace(self.file, owed, wanted)
            with self._state:
                if wanted == self._wanted:
                    self._owed.clear()
                    return found
                self._owed.append(wanted)


def replace(path: Path, owed: tuple[str, ...], text: str) -> FileHolds:
    """Write the text where the file holds one of those that are owed, or this one already. Raises OSError and
    StoreError."""
    file = path.resolve()  # a link stays one
    found = file.read_text(encoding="utf-8-sig", errors="replace")
    if found == text:
        return FileHolds.OURS
    if found not in owed:
        return FileHolds.EDITED
    mode = file.stat().st_mode
    write_atomically(file, text.encode())
    file.chmod(mode)
    return FileHolds.OURS
