"""Work that was cut off after a turn's worth, in the order in which it goes on.

A peer can send in one packet what takes long to work through: ten thousand chunks, a thousand pipelined requests.
Each handler therefore does a bounded amount of work per turn and puts its stream in this queue with the rest. The
reactor serves the queue between two polls, each stream one turn and then to the back, for at most `READY_S`. Fresh
events come first after that, so a stream with little to do waits for the other fresh ones and for READY_S, however
many streams have much to do. What is left of a closed stream is dropped.

Left out: weights, and an order by what was used so far. Every turn is about as long as any other.
"""

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

READY_S: Final = 0.001
"""The longest time that one pass takes, plus one turn: the price of one batch of fresh events on a busy node."""


class Turned(Protocol):
    """What waits for its turn. `queued` is False at first, and set to False by its owner to drop what is left."""

    queued: bool

    def on_turn(self) -> None:
        """Do a bounded amount of work, and `add` again if some is left."""


class ReadyQueue:
    """First in, first out, each owner once."""

    __slots__ = ("_clock", "_on_crash", "waiting")

    def __init__(self, on_crash: Callable[[object, Exception], None], clock: Callable[[], float]) -> None:
        """`on_crash` gets what `on_turn` lets out, with its owner; the others still have their turns."""
        self.waiting: deque[Turned] = deque()
        self._on_crash = on_crash
        self._clock = clock

    def add(self, owner: Turned) -> None:
        """Give the owner a turn in a later pass, unless it waits for one already."""
        if not owner.queued:
            owner.queued = True
            self.waiting.append(owner)

    def serve(self) -> None:
        """One pass: a turn for each that waits now, as far as READY_S goes, but for one at least."""
        waiting, clock = self.waiting, self._clock
        end = clock() + READY_S
        for _ in range(len(waiting)):
            owner = waiting.popleft()
            if not owner.queued:
                continue
            owner.queued = False
            try:
                owner.on_turn()
            except Exception as error:  # one broken connection must not end the others
                self._on_crash(owner, error)
            if clock() > end:
                return
