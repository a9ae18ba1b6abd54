"""From a sidecar's readings of its app to its reports as a leaf of the tree. Pure: readings in, `SubtreeLoad` out.

Capacity has up to three sources, and the least of those that are known counts:
* slots: completions per second of a busy slot (BALANCING.md §3, with nothing left to guess), right at any load, for
  apps that report how many requests they work on at a time;
* processor time: `0.9 * rate / share used`, both over the same second, at 10 % use or more (BALANCING.md §4). Unlike a
  node's own capacity it is not bounded by what was ever served: among leaves that would send most to the leaf that has
  most already;
* an ORCA report: its rate over its utilisation, likewise.
Where none is known capacity is 0 and the parents learn it from outside, as for an endpoint without reports.

An agent cannot see which parent sent a request. It echoes an equal part of everything to each of its parents. That is
exact with one parent, and otherwise what parents assume without an echo.

Left out: reading (sidecar.py), and requests that reach the app past the tree, which count as the parents' own.
"""

import math

import attrs

from tierlb.agent.cpu import ProcessorTime
from tierlb.agent.figures import AppFigures
from tierlb.model.load import Echo, NodeLoad, NodeRow, SubtreeLoad
from tierlb.telemetry.utilisation import LEAST_LOOP_BUSY, USABLE
from tierlb.telemetry.window import Window
from tierlb.wire.orca_report import OrcaReport

SMOOTHED_S = 1.0
"""Time constant of all estimates of capacity."""
PRIOR_S = 0.2
"""Busy seconds that the last value weighs against what is recent, so that a few requests after idleness do not count
for more than they are."""


@attrs.define
class SlotUse:
    """The share of something that was used in the last second or so, and completions per second in the same time."""

    share: float = 0.0
    rate: float = 0.0
    _window: Window = attrs.field(factory=Window, init=False)

    def sample(self, at: float, used_s: float, done: float, of: float) -> None:
        """`used_s` of `of` parallel units and `done` are cumulative."""
        self._window.sample(at, used_s, done)
        if growth := self._window.growth():
            seconds, (used, completions) = growth
            self.share = max(0.0, used / seconds / of)
            self.rate = max(0.0, completions / seconds)


@attrs.define
class Smoothed:
    """A mean that fades with time constant `SMOOTHED_S`; 0 until there is one."""

    value: float = 0.0
    _at: float = 0.0

    def note(self, at: float, value: float) -> None:
        gain = -math.expm1((self._at - at) / SMOOTHED_S) if self.value else 1.0
        self.value += gain * (value - self.value)
        self._at = at


@attrs.define
class SlotCapacity:
    """Completions per second with all slots busy, over the last second of busy time or so; None until the first."""

    value: float | None = None
    _done: float = 0.0
    _busy_s: float = 0.0

    def advance(self, passed_s: float, done: int, busy_s: float, slots: int) -> None:
        """In `passed_s` so many succeeded, and slots were busy for `busy_s` in sum."""
        kept = math.exp(-passed_s / SMOOTHED_S)
        self._done = self._done * kept + done
        self._busy_s = self._busy_s * kept + min(busy_s, slots * passed_s)
        if self.value is None and self._done and self._busy_s:
            self.value = slots * self._done / self._busy_s
        elif self.value is not None and busy_s > 0:
            self.value = slots * (self._done + PRIOR_S * self.value / slots) / (self._busy_s + PRIOR_S)


@attrs.define
class Totals:
    """An app's counts over all of its starts: they never go back. Fractions, for rates are summed up too."""

    arrivals: float = 0.0
    done: float = 0.0
    errors: float = 0.0

    def add(self, last: AppFigures, reading: AppFigures) -> None:
        """What `reading` counts beyond `last`, of the same start of the app."""
        self.arrivals += max(0, reading.arrivals - last.arrivals)
        self.done += max(0, reading.done - last.done)
        self.errors += max(0, reading.errors - last.errors)


@attrs.define
class Leaf:
    """One app.

    `asked`: it has a URL, and is not ready before it answers there. `metered`: its processor time is read from outside,
    so its own figure for that does not count. `slots` overrides its own figure.
    """

    asked: bool = False
    metered: bool = False
    slots: int = 0
    _ready: bool = attrs.field(init=False)
    _last: AppFigures | None = attrs.field(default=None, init=False)
    _answered_s: float | None = attrs.field(default=None, init=False)
    _totals: Totals = attrs.field(factory=Totals, init=False)
    _by_slots: SlotCapacity = attrs.field(factory=SlotCapacity, init=False)
    _by_rate: Smoothed = attrs.field(factory=Smoothed, init=False)
    _slot_use: SlotUse = attrs.field(factory=SlotUse, init=False)
    _processor_use: SlotUse = attrs.field(factory=SlotUse, init=False)
    _orca_busy: float = attrs.field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._ready = not self.asked

    def note_answer(self, now: float, reading: AppFigures | OrcaReport) -> None:
        """Take in an answer of the app."""
        if isinstance(reading, OrcaReport):
            self._note_orca(now, reading)
        else:
            self._note_figures(now, reading)
        self._answered_s = now
        self._ready = True

    def note_processor_time(self, now: float, time: ProcessorTime) -> None:
        """A reading of processor time from outside; after `note_answer` in the same round. It shows that the app is
        there."""
        self._add_processor(now, now, time.used_s, time.cores)
        self._ready = self._ready or not self.asked

    def note_down(self) -> None:
        """Nothing listens at the URL, or the process is gone."""
        self._ready = False

    @property
    def idle(self) -> bool:
        """Whether the app reported that nothing is in flight."""
        return self._last is not None and self._last.in_flight == 0

    def subtree(self, now: float) -> SubtreeLoad:
        """What to report now. While the app does not answer, its last figures, with their age."""
        utilisation = max(self._processor_use.share, self._slot_use.share, self._orca_busy)
        known = [capacity for capacity in (self._by_slots.value, self._by_rate.value) if capacity]
        capacity = min(known, default=0.0)
        return SubtreeLoad(
            capacity=capacity,
            own_capacity=capacity,
            utilisation=utilisation,
            hottest=utilisation,
            in_flight=self._last.in_flight if self._last else 0,
            arrivals=int(self._totals.arrivals),
            done=int(self._totals.done),
            errors=int(self._totals.errors),
            response_s=self._last.response_s if self._last else 0.0,
            age_s=0.0 if self._answered_s is None else now - self._answered_s,
            ready_leaves=1 if self._ready else 0,
            leaves=1,
        )

    def echo(self, parents: int) -> Echo:
        """One of so many parents' part of the counts."""
        share = max(1, parents)
        in_flight = self._last.in_flight if self._last else 0
        return Echo(round(in_flight / share), int(self._totals.arrivals) // share)

    def row(self, now: float, name: str, pool: str) -> NodeRow:
        """The detail, while a client watches."""
        load = self.subtree(now)
        own = NodeLoad(0, load.in_flight, load.done, load.errors, 0, 0, 0, min(1.0, load.utilisation))
        return NodeRow(name, pool, load.age_s, own, load)

    def _note_figures(self, now: float, reading: AppFigures) -> None:
        last = self._last
        if last is None or last.boot != reading.boot or reading.done < last.done:
            last = AppFigures(0)
            self._slot_use = SlotUse()
            if not self.metered:
                self._processor_use = SlotUse()
        self._totals.add(last, reading)
        self._last = reading
        if slots := self.slots or reading.slots:
            self._learn_slots(now, last, reading, slots)
        if reading.cpu_s and not self.metered:
            self._add_processor(now, reading.uptime_s or now, reading.cpu_s, 1.0)

    def _learn_slots(self, now: float, last: AppFigures, reading: AppFigures, slots: int) -> None:
        if not reading.busy_s or not reading.uptime_s:
            self._slot_use.share = min(1.0, reading.in_flight / slots)
            return
        self._slot_use.sample(reading.uptime_s, reading.busy_s, reading.done, slots)
        passed_s = reading.uptime_s - last.uptime_s
        good = reading.done - reading.errors - (last.done - last.errors)
        if passed_s > 0:
            self._by_slots.advance(passed_s, max(0, good), max(0.0, reading.busy_s - last.busy_s), slots)

    def _note_orca(self, now: float, reading: OrcaReport) -> None:
        passed_s = now - self._answered_s if self._answered_s is not None else 0.0
        self._totals.done += reading.rps * passed_s
        self._totals.errors += reading.eps * passed_s
        in_flight = int(min(1e9, max(0.0, reading.named.get("in_flight", 0.0))))
        self._totals.arrivals = self._totals.done + in_flight
        self._last = AppFigures(in_flight)
        self._orca_busy = reading.busy
        if reading.rps and reading.busy >= LEAST_LOOP_BUSY:
            self._by_rate.note(now, USABLE * reading.rps / reading.busy)

    def _add_processor(self, now: float, at: float, used_s: float, cores: float) -> None:
        use = self._processor_use
        use.sample(at, used_s, self._totals.done, cores)
        if use.rate > 0 and use.share >= LEAST_LOOP_BUSY:
            self._by_rate.note(now, USABLE * use.rate / use.share)
