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
    """The time of an item once it has a slot. `variation` is the standard deviation over the mean: 0 constant, 1
    exponential, anything else log-normal (above 1: many short ones and a long tail)."""

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


class SimulatedLeaf:
    """`slow` stretches the service of items that begin from now on. `arrivals` counts the short items."""

    __slots__ = ("_agenda", "_waiting", "arrivals", "busy", "name", "slots", "slow")

    def __init__(self, name: str, agenda: Agenda, slots: int) -> None:
        self.name = name
        self.slots = slots
        self.slow = 1.0
        self.arrivals = 0
        self.busy = 0
        self._agenda = agenda
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()

    @property
    def in_flight(self) -> int:
        """Items that hold a slot or wait for one."""
        return self.busy + len(self._waiting)

    @property
    def expected(self) -> tuple[float, float]:
        """When the next item would be done, relative to a service time of a leaf that is not slow; then the part of the
        slots that is in use or queued for."""
        used = (self.in_flight + 1) / self.slots
        return self.slow * max(1.0, used), used

    def serve(self, done: Callable[[Any], None], item: Any, demand_s: float) -> None:
        """Take a short item, which needs a slot for `demand_s`; `done(item)` is called when it has been served."""
        self.arrivals += 1
        self.occupy(self._begin, (done, item, demand_s))

    def occupy(self, begin: Callable[[Any], None], argument: Any) -> None:
        """Call `begin(argument)` as soon as there is a free slot, which is held from then on until `release`."""
        if self.busy < self.slots:
            self.busy += 1
            begin(argument)
        else:
            self._waiting.append((begin, argument))

    def release(self) -> None:
        """Free a slot, which the first in the queue gets."""
        if self._waiting:
            begin, argument = self._waiting.popleft()
            begin(argument)
        else:
            self.busy -= 1

    def _begin(self, served: tuple[Callable[[Any], None], Any, float]) -> None:
        self._agenda.at(self._agenda.now + served[2] * self.slow, self._end, served)

    def _end(self, served: tuple[Callable[[Any], None], Any, float]) -> None:
        self.release()
        done, item, _ = served
        done(item)
