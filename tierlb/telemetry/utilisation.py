"""How busy the node's own event loop is, and how much the node could do if it never waited.

Busy is the share of wall time not spent waiting for events. A node that served 300 items in a second at 60 % busy
would do 500 at full use; the last tenth is not counted on, because the tail grows before the loop is full
(BALANCING.md §4). Unlike there, what was never tried may be promised: a bound of 1.5 times the largest rate ever served
made a node that had been 13 % busy once count half of what its idle siblings did.

A loop that is little used pays for each item what many share when it is busy (a poll, a pass through the scheduler),
several times as much per item. So a loop under half use shows what it can do at least, and lowers nothing.
"""

from tierlb.telemetry.window import WINDOW_S, Window

USABLE = 0.9
LEAST_BUSY = 0.1
"""Below it, fixed work (timers, reports) is too large a part of the busy time to divide by."""
TELLING_BUSY = 0.5
"""Below it, what follows is a lower bound."""


class LoopUse:
    """The busy share over the last second or so, from samples of the cumulative time waited."""

    __slots__ = ("_window", "busy")

    def __init__(self, window_s: float = WINDOW_S) -> None:
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

    __slots__ = ("_window", "capacity")

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window = Window(window_s)
        self.capacity = 0.0

    def sample(self, now: float, waited_s: float, done: int) -> float:
        """`waited_s` and `done` are cumulative; the estimate holds while the node is too idle to tell better."""
        self._window.sample(now, waited_s, done)
        if growth := self._window.growth():
            seconds, (waited, completions) = growth
            rate = completions / seconds
            busy = busy_share(seconds, waited)
            if busy >= LEAST_BUSY and rate > 0:
                shown = own_capacity(rate, busy)
                self.capacity = shown if busy >= TELLING_BUSY else max(shown, self.capacity)
        return self.capacity


def busy_share(seconds: float, waited_s: float) -> float:
    return min(1.0, max(0.0, 1 - waited_s / seconds))


def own_capacity(rate: float, busy: float) -> float:
    """From items per second and busy share over the same stretch of time."""
    return USABLE * rate / busy
