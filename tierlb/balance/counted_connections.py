"""Connections of one host that something else accepts and ends, and of which only sums are known now and then.

The kernel forwards connections by itself. How many began is counted, and known soon. How many are open takes a walk
over all of them, which may last a while. Until the next walk, the part of the new ones that ended before the last walk
is assumed to end (all of them before the first). An error of that is made up for later, so that only the number of open
connections ever falls.

They count at the host and in the tally of their clients as by tickets (`balance.ticket`).
"""

from typing import Final, Protocol

from tierlb.balance.ticket import ItemCounts


class ConnectionTally(Protocol):
    """Where connections from the same clients are counted."""

    def count_connections(self, began: int, more_open: int, done: int) -> None:
        """So many began, so many more (below zero: fewer) are open, and so many are over."""


class CountedConnections:
    """`open`: how many there are. Since the last walk `_began` began, and `_ended` (the part `_ending`) were assumed to
    end. `_early`: so many were counted as over and are not. `_missed`: so many began during the last walk, which may
    have missed them."""

    __slots__ = ("_began", "_early", "_ended", "_ending", "_host", "_missed", "_tally", "open")

    def __init__(self, host: ItemCounts, tally: ConnectionTally) -> None:
        self._host: Final = host
        self._tally: Final = tally
        self.open = 0
        self._began = self._ended = self._early = self._missed = 0
        self._ending = 1.0

    def begin(self, now: float, count: int) -> None:
        """So many began since the last time."""
        self._began += count
        ended = min(self.open + count, max(0, round(self._began * self._ending) - self._ended))
        self._ended += ended
        self._note(now, count, ended)

    def walked(self, now: float, still_open: int) -> None:
        """So many are open now. Where that is more than ever began, others began before anything was counted."""
        ended = self.open - still_open
        began = max(0, -ended - self._ended - self._missed)
        self._note(now, began, ended + began)
        if self._began:
            self._ending = min(1.0, max(0.0, (self._ended + ended) / self._began))
        self._missed = self._began
        self._began = self._ended = 0

    def _note(self, now: float, began: int, ended: int) -> None:
        """`ended` is below zero where fewer had ended than were counted."""
        early = max(0, self._early - ended)
        done = max(0, ended - self._early)
        self._early = early
        host = self._host
        host.in_flight += began - ended
        host.moments += now * (ended - began)
        host.done += done
        self.open += began - ended
        self._tally.count_connections(began, began - ended, done)
