"""An endpoint: a queue with a few slots (M/G/k once many clients send to it)."""

import math
import random
from collections import deque
from collections.abc import Callable
from typing import Any

import attrs

from tierlb.simulate.agenda import Agenda


@attrs.frozen
class Service:
    """How long an item takes once it has a slot. `variation` is the standard deviation over the mean: 0 always the
    same, 1 exponential, anything else log-normal (above 1: many short ones and a long tail)."""

    mean_s: float = 0.01
    variation: float = 1.0

    def drawn_by(self, rng: random.Random) -> Callable[[], float]:
        """A function that draws service times."""
        if self.variation == 0:
            return lambda: self.mean_s
        if self.variation == 1:
            rate = 1 / self.mean_s
            return lambda: rng.expovariate(rate)
        square = math.log(1 + self.variation**2)
        centre, width = math.log(self.mean_s) - square / 2, math.sqrt(square)
        return lambda: rng.lognormvariate(centre, width)


class Leaf:
    """`slow` stretches the service of items that begin from now on."""

    __slots__ = ("_agenda", "_draw", "_waiting", "arrivals", "busy", "name", "slots", "slow")

    def __init__(self, name: str, agenda: Agenda, slots: int, draw: Callable[[], float]) -> None:
        self.name = name
        self.slots = slots
        self.slow = 1.0
        self.arrivals = 0
        self.busy = 0
        self._agenda = agenda
        self._draw = draw
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()

    @property
    def in_flight(self) -> int:
        return self.busy + len(self._waiting)

    def serve(self, done: Callable[[Any], None], item: Any) -> None:
        """Take an item; `done(item)` is called when it has been served."""
        self.arrivals += 1
        if self.busy < self.slots:
            self._begin(done, item)
        else:
            self._waiting.append((done, item))

    def _begin(self, done: Callable[[Any], None], item: Any) -> None:
        self.busy += 1
        agenda = self._agenda
        agenda.at(agenda.now + self._draw() * self.slow, self._end, (done, item))

    def _end(self, served: tuple[Callable[[Any], None], Any]) -> None:
        self.busy -= 1
        if self._waiting:
            self._begin(*self._waiting.popleft())
        done, item = served
        done(item)
