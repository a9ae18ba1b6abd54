"""How busy the node's own event loop is, and how much the node could do if it never waited.

Busy is the share of wall time not spent waiting for events. A node that served 300 items in a second at 60 % busy would
do 500 at full use. The last tenth does not count, because the tail grows before the loop is full (BALANCING.md §4). The
result may exceed anything ever served: with a bound of 1.5 times the largest rate ever served, a node that had been 13
% busy once counted half of its idle siblings.

A loop with low use spends several times as much per item, because each item pays for what many share when it is busy (a
poll, a pass through the scheduler). So a loop under half use only shows a lower bound.

Items are not the only work of a loop. Tunnels, streams and large bodies keep it busy while few items end, and 300
items/s beside downloads that take half of its time do not mean that it could do no more than 600. So the capacity is
learnt in *effort* (events, and bytes beyond those of small messages) and divided by the effort per item. The effort per
item is learnt while nothing is parked. While something is, all effort over all items is only an upper bound: it may
lower the known effort per item, and where nothing is known yet it is used only if it is as low as that of plain
requests. Otherwise the capacity is unknown.
"""

import math

from tierlb.telemetry.window import RATE_WINDOW_S, Window

USABLE = 0.9
LEAST_LOOP_BUSY = 0.1
"""Below it, fixed work (timers, reports) is too large a part of the busy time to divide by."""
SURE_BUSY = 0.5
"""Below it, the result is a lower bound."""
BYTES_PER_EFFORT = 128 * 1024
"""Reading and writing so many bytes in large pieces takes about as long as one event of a small message."""
PLAIN_EFFORT = 6.0
"""The events of a plain request: two on kept connections, four or five with connections of its own."""
ITEM_MIX_S = 10.0
MIX_ITEMS = 200
"""The memory of the effort per item: the longer of the two, so that neither a second of large bodies nor a few items
decide."""


class LoopUse:
    """The busy share over the last second or so, from samples of the cumulative time waited."""

    __slots__ = ("_window", "busy")

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window = Window(window_s)
        self.busy = 0.0

    def sample(self, now: float, waited_s: float) -> float:
        """The busy share 0..1; 0 until there is a whole window."""
        self._window.sample(now, waited_s)
        if growth := self._window.growth():
            seconds, (waited,) = growth
            self.busy = busy_share(seconds, waited)
        return self.busy


class OwnCapacity:
    """Items per second that this node itself could serve; 0 until that is known."""

    __slots__ = ("_alone_from", "_at", "_effort_per_s", "_learnt_at", "_per_item", "_window")

    def __init__(self, window_s: float = RATE_WINDOW_S) -> None:
        self._window = Window(window_s)
        self._effort_per_s = 0.0
        self._per_item = 0.0
        self._at = self._alone_from = self._learnt_at = -math.inf

    @property
    def capacity(self) -> float:
        return self._effort_per_s / self._per_item if self._per_item else 0.0

    def age_s(self, now: float) -> float | None:
        """The age of what it was learnt from."""
        return now - self._learnt_at if self.capacity else None

    def sample(self, now: float, waited_s: float, done: int, effort: float, *, parked: bool = False) -> float:
        """`waited_s`, `done` (without items that were parked) and `effort` are cumulative; `parked`: whether items are
        parked now. The estimate holds while the node is too idle for a better one."""
        self._window.sample(now, waited_s, done, effort)
        if parked:
            self._alone_from = now
        if growth := self._window.growth():
            seconds, (waited, completions, spent) = growth
            if completions > 0 and spent > 0:
                alone = now - self._alone_from > seconds
                self._learn_item(spent / completions, min(now - self._at, seconds), completions / seconds, alone=alone)
            busy = busy_share(seconds, waited)
            if busy >= LEAST_LOOP_BUSY and spent > 0:
                shown = own_capacity(spent / seconds, busy)
                self._learnt_at = now
                self._effort_per_s = shown if busy >= SURE_BUSY else max(shown, self._effort_per_s)
        self._at = now
        return self.capacity

    def _learn_item(self, effort: float, passed_s: float, per_s: float, *, alone: bool) -> None:
        """The mean effort of an item in the last window, of which `passed_s` are new; an upper bound unless no item was
        parked (`alone`)."""
        known = self._per_item
        if not alone:
            if effort <= (known or PLAIN_EFFORT):
                self._per_item = effort
            return
        part = min(1.0, passed_s / ITEM_MIX_S, passed_s * per_s / MIX_ITEMS)
        self._per_item = known * (effort / known) ** part if known else effort


def effort(events: int, moved_bytes: int) -> float:
    """The effort in events of small messages."""
    return events + moved_bytes / BYTES_PER_EFFORT


def busy_share(seconds: float, waited_s: float) -> float:
    return min(1.0, max(0.0, 1 - waited_s / seconds))


def own_capacity(rate: float, busy: float) -> float:
    """From items per second and busy share of the same window."""
    return USABLE * rate / busy
