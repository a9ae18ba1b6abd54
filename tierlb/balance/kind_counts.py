"""How many answers of each kind a node has had and how long they took, as it reports that to its parents.

A parent that sees no requests (l4) compares its children by the growth of these counts, as an l7 parent compares its
hosts by the times of their answers (balance/kinds.py). Counts are cumulative, so that a lost report does no harm, and
bounded: the busiest kinds have a count each, all others share one.

An entry never falls while it exists. A rare kind gives its place to another and begins at zero when it returns. A
parent takes an entry that fell, and all entries after a restart, as a new base.
"""

from collections.abc import Iterable, Sequence

from tierlb.model.load import KindTimes

MOST_COUNTED_KINDS = 8
"""Kinds with counts of their own. A node has few that matter, and each takes some 15 bytes of a report."""
REST = 0
"""The key of all others together."""
SWEEP_S = 10.0
LARGEST_COUNT = 1e12
"""The most that an entry holds. Only a wrong report makes it larger; the entry is then reset to zero."""
RARE = 1 / 64
"""A kind with a smaller part of the answers loses its place while others wait for one."""


class KindCounts:
    """The counts of one node. Keys are the same at all nodes of a cluster (`KindPlaces.keys`)."""

    __slots__ = ("_counts", "_rest", "_seen", "_swept_at")

    def __init__(self) -> None:
        self._counts: dict[int, list[float]] = {}
        self._seen: dict[int, float] = {}
        self._rest = [0.0, 0.0]
        self._swept_at = 0.0

    def add(self, key: int, count: float, seconds: float) -> None:
        """So many answers, which took so long in all. They may be fractions, because a child may be shared."""
        entry = self._counts.get(key)
        if entry is None:
            if key == REST or len(self._counts) >= MOST_COUNTED_KINDS:
                entry = self._rest
            else:
                entry = self._counts[key] = [0.0, 0.0]
        entry[0] += count
        entry[1] += seconds
        if max(entry) > LARGEST_COUNT:
            entry[:] = 0.0, 0.0

    def sweep(self, now: float) -> None:
        """Remove rare kinds now and then, if there are kinds without a count of their own."""
        if now - self._swept_at < SWEEP_S:
            return
        self._swept_at = now
        grown = {key: entry[0] - self._seen.get(key, 0.0) for key, entry in self._counts.items()}
        rest = self._rest[0] - self._seen.get(REST, 0.0)
        few = RARE * (rest + sum(grown.values()))
        if rest > few:
            for key in [key for key, count in grown.items() if count < few]:
                del self._counts[key]
        self._seen = {key: entry[0] for key, entry in self._counts.items()} | {REST: self._rest[0]}

    def value(self) -> tuple[KindTimes, ...]:
        """All of it, as a report holds it."""
        entries = [*self._counts.items(), (REST, self._rest)]
        return tuple((key, int(count), seconds) for key, (count, seconds) in entries if count >= 1)


class KindGrowth:
    """What a child's counts grew since the report before."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, float]] | None = None

    def take(self, kinds: Sequence[KindTimes], *, restarted: bool = False) -> list[KindTimes]:
        """The growth by kind. The first report, and that of a child which has `restarted`, are a base."""
        before = None if restarted else self._known
        self._known = {key: (count, seconds) for key, count, seconds in kinds}
        return [] if before is None else list(_grown(before, kinds))


def _grown(before: dict[int, tuple[int, float]], kinds: Iterable[KindTimes]) -> Iterable[KindTimes]:
    for key, count, seconds in kinds:
        known, known_s = before.get(key, (0, 0.0))
        if count > known and seconds >= known_s:
            yield key, count - known, seconds - known_s
