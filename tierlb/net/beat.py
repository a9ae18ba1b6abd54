"""The regular work of a node beside its events, done in time for whatever comes next.

Work that follows from what happened (to learn from it, to work out costs anew) is due `BEAT_S` after the last time if
something has happened since. While nothing happens the pauses double up to `LONGEST_PAUSE_S`, but no longer than the
work itself allows. Events that end a rest find the work done: the reactor does it before it calls their handlers. So
what the work computes must be the same after one long step as after many short ones.
"""

from collections.abc import Callable
from typing import Final

from tierlb.net.wheel import NEVER

BEAT_S: Final = 0.05
LONGEST_PAUSE_S: Final = 2.0
"""Each time wakes the process, which costs up to a millisecond."""

Regular = Callable[[float], float]
"""Called with the time; returns when it is to be called again at the latest if nothing happens until then."""


class Beat:
    """`soon`: when the work is due if something has happened since the last time (`stirred`); `late`: if nothing
    has. `on_error` is called with errors of the work."""

    __slots__ = ("_on_error", "_rest_s", "_works", "late", "soon", "stirred")

    def __init__(self, now: float, on_error: Callable[[Exception], object]) -> None:
        self._on_error = on_error
        self._works: list[Regular] = []
        self._rest_s = BEAT_S
        self.soon = self.late = now
        self.stirred = False

    def begin(self, work: Regular) -> None:
        """Do this too from now on."""
        self._works.append(work)
        self.soon = self.late = -NEVER

    def stir(self) -> None:
        """Something has happened."""
        self.stirred = True

    @property
    def due(self) -> float:
        """When it is due, if nothing more happens until then."""
        return self.soon if self.stirred else self.late

    def run(self, now: float) -> None:
        """It is due."""
        self._rest_s = BEAT_S if self.stirred else min(LONGEST_PAUSE_S, 2 * self._rest_s)
        self.stirred = False
        self.soon = now + BEAT_S
        latest = now + self._rest_s
        for work in self._works:
            try:
                latest = min(latest, work(now))
            except Exception as error:  # the other work is to be done all the same
                self._on_error(error)
                latest = now
        self.late = max(self.soon, latest)
