"""Detail on demand: who looks, for how long, and the rows that nodes send up meanwhile.

A watch flows down the tree with a time to live. A node has several parents and each of them passes the same watch on;
only what prolongs it noticeably is passed on again, otherwise a watch would multiply at every tier. Rows flow up: for
each node the newest is kept, with the time it was taken, so that its age is right at every hop without a shared clock.

Pure; the sockets are in children.py and parents.py.
"""

from collections.abc import Iterable

import attrs

from tierlb.model.load import NodeRow
from tierlb.wire.frames import MAX_NONCE_CHARACTERS, MAX_ROWS, MAX_WATCH_S, Watch

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

    def heed(self, watch: Watch, now: float) -> bool:
        """Take it; true when it is news, to be passed on."""
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
        """What a child that joins now is to be told."""
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
    """The newest row of each node, in the order in which they were heard."""

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
        """Rows heard after `mark`, the earliest first, with their age now; and the mark for the next time."""
        fresh = [kept for kept in self._kept.values() if kept[2] > mark][:most]
        rows = tuple(attrs.evolve(row, age_s=max(0.0, now - taken_s)) for row, taken_s, _ in fresh)
        return rows, fresh[-1][2] if fresh else mark

    def clear(self) -> None:
        """Forget all, when nobody has watched for a while; marks stay good."""
        self._kept.clear()
