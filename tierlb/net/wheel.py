"""A coarse timer wheel: every deadline of the data plane, with no timer object per operation.

An owner carries its own `deadline` (seconds, `inf` for none) and the tick it is `filed` under. Moving a deadline
*later*, what nearly every request does, is one attribute write: when the old tick comes up, the wheel looks at the
owner's deadline and files it again. Only a deadline that became *earlier* than the filed tick costs a set insertion.
Deadlines fire up to `WHEEL_TICK_S` late and never early. After Varghese and Lauck, "Hashed and Hierarchical Timing
Wheels" (1987), with the buckets in a dict because deadlines here span minutes, not a fixed circle.
"""

import math
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr

WHEEL_TICK_S = 0.25
"""Coarse on purpose: the shortest configurable phase is far longer, and deadlines of one tick share a wake-up."""

NEVER: Final = math.inf


@mypyc_attr(allow_interpreted_subclasses=True)
class Timed:
    """What the wheel keeps. Whoever makes one sets both times to `NEVER`."""

    __slots__ = ("deadline", "filed")

    deadline: float
    filed: float

    def on_deadline(self) -> None:
        """The deadline has passed; it is `NEVER` again."""
        raise NotImplementedError


class Wheel:
    """All deadlines of one reactor. `due`: when it is to `advance`, NEVER if there is no deadline."""

    __slots__ = ("_buckets", "_on_crash", "_tick", "due")

    def __init__(self, now: float, on_crash: Callable[[Timed, Exception], None]) -> None:
        """`on_crash` gets exceptions from `on_deadline`; the other owners of that tick still fire."""
        self._on_crash = on_crash
        self._tick = int(now / WHEEL_TICK_S)
        self._buckets: dict[int, set[Timed]] = {}
        self.due: float = NEVER

    def file(self, owner: Timed) -> None:
        """Note the owner under its deadline; call it when the deadline moved before `filed`."""
        self._take_out(owner)
        tick = max(_tick_after(owner.deadline), self._tick + 1)
        owner.filed = at = tick * WHEEL_TICK_S
        if at < self.due:
            self.due = at
        self._buckets.setdefault(tick, set()).add(owner)

    def forget(self, owner: Timed) -> None:
        """Drop an owner that is going away, with its deadline: it may be due in the tick that is firing."""
        owner.deadline = NEVER
        self._take_out(owner)

    def _take_out(self, owner: Timed) -> None:
        if owner.filed == NEVER:
            return
        tick = int(owner.filed / WHEEL_TICK_S + 0.5)
        bucket = self._buckets.get(tick)
        if bucket is not None:
            bucket.discard(owner)
            if not bucket:
                del self._buckets[tick]
        owner.filed = NEVER

    def advance(self, now: float) -> bool:
        """Call `on_deadline` of every owner whose deadline is at or before `now`; whether there was any."""
        last = int(now / WHEEL_TICK_S)
        if last - self._tick > len(self._buckets):
            due = sorted(tick for tick in self._buckets if tick <= last)
        else:
            due = [tick for tick in range(self._tick + 1, last + 1) if tick in self._buckets]
        self._tick = max(self._tick, last)
        fired = False
        for tick in due:  # all of one may have gone with owners of an earlier one
            fired = self._fire(self._buckets.pop(tick, set()), now) or fired
        self.due = min(self._buckets) * WHEEL_TICK_S if self._buckets else NEVER
        return fired

    def _fire(self, owners: set[Timed], now: float) -> bool:
        fired = False
        for owner in owners:
            owner.filed = NEVER
        for owner in owners:
            if owner.deadline > now:
                if owner.deadline != NEVER and owner.filed == NEVER:
                    self.file(owner)
            else:
                fired = True
                owner.deadline = NEVER
                try:
                    owner.on_deadline()
                except Exception as error:  # one broken connection must not end the others
                    self._on_crash(owner, error)
        return fired

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))


def _tick_after(deadline: float) -> int:
    """The first tick at or after it."""
    ticks = deadline / WHEEL_TICK_S
    whole = int(ticks)
    return whole + 1 if ticks > whole else whole
