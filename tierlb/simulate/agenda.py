"""Virtual time: the queue of events.

A heap of actions by time. Those of the same moment are executed in the order in which they were added, so that a run
depends on its seed and on nothing else.
"""

import heapq
from collections.abc import Callable
from typing import Any

AgendaAction = Callable[[Any], None]


class Agenda:
    """`now` is in seconds from the start of the run."""

    __slots__ = ("_heap", "_number", "now")

    def __init__(self) -> None:
        self.now = 0.0
        self._number = 0
        self._heap: list[tuple[float, int, AgendaAction, Any]] = []

    def at(self, when: float, action: AgendaAction, argument: Any = None) -> None:
        """Call `action(argument)` at the time `when`; at once, after what is due already, if that is past."""
        self._number = number = self._number + 1
        heapq.heappush(self._heap, (when, number, action, argument))

    def run(self, until: float) -> None:
        """Execute everything up to and including `until`, which is then the time."""
        heap, pop = self._heap, heapq.heappop
        while heap and heap[0][0] <= until:
            when, _, action, argument = pop(heap)
            if when > self.now:
                self.now = when
            action(argument)
        self.now = until
