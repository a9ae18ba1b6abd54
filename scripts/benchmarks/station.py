"""One simulated endpoint, without sockets: so many slots, a FIFO queue beyond them, service times that change.

A job's demand has mean 1 and is drawn by whoever sends the job, so that every contender is asked for the same
work whatever it does with it. A service takes demand × mean × the factor of the phase that it begins in.
"""

import collections
import enum
import math
from collections.abc import Callable
from typing import Generic, TypeVar

import attrs

METER_S = 1.0
"""How far back an endpoint's own rate and utilisation look."""

Job = TypeVar("Job")


class Mode(enum.Enum):
    """SERVE: answers when the service is over. FAIL: answers 500 at once. HANG: takes requests, never answers."""

    SERVE = "serve"
    FAIL = "fail"
    HANG = "hang"


@attrs.frozen
class Phase:
    """How an endpoint behaves from second `from_s` on, until its next phase."""

    from_s: float
    factor: float = 1.0
    mode: Mode = Mode.SERVE


@attrs.frozen
class Endpoint:
    """What is to be simulated; phases in order of time, healthy before the first one."""

    mean_s: float
    slots: int = 4
    phases: tuple[Phase, ...] = ()

    def phase(self, now_s: float) -> Phase:
        """The one that holds now."""
        current = Phase(-math.inf)
        for each in self.phases:
            if each.from_s > now_s:
                break
            current = each
        return current

    def capacity(self, now_s: float) -> float:
        """Requests per second that it can complete now."""
        phase = self.phase(now_s)
        return self.slots / (self.mean_s * phase.factor) if phase.mode is Mode.SERVE else 0.0


@attrs.define
class Meter:
    """Rate and utilisation of one endpoint over the last METER_S or so, both decayed alike.

    What is divided by the other must come from one window, else a change of load reads as a change of capacity.
    """

    slots: int
    _done: float = attrs.field(default=0.0, init=False)
    _busy_s: float = attrs.field(default=0.0, init=False)
    _at_s: float = attrs.field(default=0.0, init=False)

    def note(self, now_s: float, busy: int, done: int) -> None:
        """Since the last note `busy` slots were in use; `done` services end now."""
        decay = math.exp(-max(0.0, now_s - self._at_s) / METER_S)
        self._done = self._done * decay + done
        self._busy_s = self._busy_s * decay + busy * METER_S * (1 - decay)
        self._at_s = now_s

    @property
    def rate(self) -> float:
        """Requests per second."""
        return self._done / METER_S

    @property
    def utilisation(self) -> float:
        """0 to 1."""
        return self._busy_s / METER_S / self.slots


@attrs.define
class Station(Generic[Job]):
    """The queue and the slots of one endpoint."""

    endpoint: Endpoint
    meter: Meter
    busy: int = attrs.field(default=0, init=False)
    longest_queue: int = attrs.field(default=0, init=False)
    _queue: collections.deque[tuple[Job, float]] = attrs.field(factory=collections.deque, init=False)

    def arrive(self, job: Job, demand: float, now_s: float) -> float | None:
        """When the job's service ends, or None: it has to queue."""
        if self.busy >= self.endpoint.slots:
            self._queue.append((job, demand))
            self.longest_queue = max(self.longest_queue, len(self._queue))
            return None
        self.meter.note(now_s, self.busy, 0)
        self.busy += 1
        return now_s + self._service_s(demand, now_s)

    def finish(self, now_s: float, wanted: Callable[[Job], bool]) -> tuple[Job, float] | None:
        """A service ended: the job that begins now and when it ends. Jobs nobody waits for any more are dropped."""
        self.meter.note(now_s, self.busy, 1)
        while self._queue:
            job, demand = self._queue.popleft()
            if wanted(job):
                return job, now_s + self._service_s(demand, now_s)
        self.busy -= 1
        return None

    def _service_s(self, demand: float, now_s: float) -> float:
        return demand * self.endpoint.mean_s * self.endpoint.phase(now_s).factor


def station(endpoint: Endpoint) -> "Station[Job]":
    """An idle one."""
    return Station(endpoint, Meter(endpoint.slots))
