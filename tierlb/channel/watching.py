"""Detail on demand: the watch in force, and the rows that nodes send up for as long as it lasts.

A watch flows down the tree with a time to live. A node has several parents and each of them passes the same watch on.
Only what prolongs it noticeably is passed on again, otherwise a watch would multiply at every tier. Rows flow up. For
each node the newest is kept, with the time it was taken, so that its age is right at every hop without a shared clock.

Pure; the sockets are in conversation.py and parent_end.py.
"""

from collections.abc import Callable, Iterable

import attrs

from tierlb.model.load import NodeRow
from tierlb.wire.frame_fields import MAX_NONCE_CHARACTERS, MAX_ROWS, MAX_WATCH_S
from tierlb.wire.frames import Watch

WORTH_S = 0.5
"""A watch that ends less than this later than the one in force is the same one by another way."""
MAX_NODES = 32768


@attrs.define
class Watching:
    """The watch in force, and the nonce that requests carry to be explained."""

    _until_s: float = attrs.field(default=-MAX_WATCH_S, init=False)
    _nonce: str = attrs.field(default="", init=False)
    _nonce_until_s: float = attrs.field(default=-MAX_WATCH_S, init=False)

    def active(self, now: float) -> bool:
        """Whether rows are wanted."""
        return now < self._until_s

    def take(self, watch: Watch, now: float) -> bool:
        """Note a watch; true when it is news, to be passed on."""
        assert len(watch.explain) <= MAX_NONCE_CHARACTERS
        until_s = now + min(watch.ttl_s, MAX_WATCH_S)
        news = until_s > self._until_s + WORTH_S
        if watch.explain and (watch.explain != self._nonce or until_s > self._nonce_until_s + WORTH_S):
            self._nonce, self._nonce_until_s = watch.explain, until_s
            news = True
        if news:
            self._until_s = max(self._until_s, until_s)
        return news

    def current(self, now: float) -> tuple[Watch, ...]:
        """The watches that hold for a child that joins now."""
        watches = []
        if now < self._until_s:
            watches.append(Watch(self._until_s - now))
        if nonce := self.nonce(now):
            watches.append(Watch(self._nonce_until_s - now, nonce))
        return tuple(watches)

    def nonce(self, now: float) -> str:
        """The one in force, or ""."""
        return self._nonce if now < self._nonce_until_s else ""


@attrs.define
class Rows:
    """The newest row of each node, in the order in which they came."""

    _kept: dict[str, tuple[NodeRow, float, int]] = attrs.field(factory=dict, init=False)
    _count: int = attrs.field(default=0, init=False)

    def note(self, rows: Iterable[NodeRow], now: float) -> bool:
        """Keep those that are newer than what was known of their nodes; true if a node was not known at all."""
        before = len(self._kept)
        for row in rows:
            taken_s = now - row.age_s
            known = self._kept.get(row.node)
            if (known is not None and known[1] >= taken_s) or (known is None and len(self._kept) >= MAX_NODES):
                continue
            self._kept.pop(row.node, None)
            self._count += 1
            self._kept[row.node] = (row, taken_s, self._count)
        return len(self._kept) > before

    def since(self, mark: int, now: float, most: int = MAX_ROWS) -> tuple[tuple[NodeRow, ...], int]:
        """Rows that came after `mark`, the earliest first, with their age now; and the mark for the next time."""
        fresh = [kept for kept in self._kept.values() if kept[2] > mark][:most]
        rows = tuple(attrs.evolve(row, age_s=max(0.0, now - taken_s)) for row, taken_s, _ in fresh)
        return rows, fresh[-1][2] if fresh else mark

    def clear(self) -> None:
        """Forget all, because no watch was in force for a while; marks stay good."""
        self._kept.clear()


def pass_on_to_none(watch: Watch) -> None:
    """For an agent: it has no children."""


@attrs.define
class WatchRelay:
    """What one process does with watches and rows; `pass_on` is called with each watch that is news."""

    pass_on: Callable[[Watch], None] = pass_on_to_none
    watching: Watching = attrs.field(factory=Watching, init=False)
    rows: Rows = attrs.field(factory=Rows, init=False)

    def take(self, watch: Watch, now: float) -> bool:
        """A watch came from a parent; true when it was news."""
        if not self.watching.active(now):
            self.rows.clear()
        if not self.watching.take(watch, now):
            return False
        self.pass_on(watch)
        return True

    def note_rows(self, rows: Iterable[NodeRow], now: float) -> bool:
        """Rows came from a child: keep them while a watch is in force; true if one is the first of its node."""
        return self.watching.active(now) and self.rows.note(rows, now)
