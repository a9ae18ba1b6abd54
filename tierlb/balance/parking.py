"""When an item in flight no longer counts as queue, because it waits for something other than its host.

Long polls, event streams, slow downloads and uploads are in flight for seconds or minutes, and use next to nothing of
their host. An item that is in flight for longer than it takes to measure its effect is therefore *parked*: it is
measured instead of counted. If it does delay the others at its host (because it occupies a slot), these take longer
there, which shows in the host's slowness (balance/slowness.py) within a second.

Age alone is not enough, because at a host that has stopped everything becomes old. An item of a kind that is usually
answered soon is parked only when others have overtaken it: they began later at the same host and are over. Where no
item is overtaken the host is at fault, or it works in order, and its queue counts in full. An item of a long kind is
parked by its age, unless a later one is late and none is over: then it occupies the only worker of its host.

A host where all items are old is avoided, and where no item begins none can overtake. `StuckProbe` therefore sends such
a host one item at a time, as long as those before were answered.
"""

from typing import Final

import attrs

PARKED_AFTER_S: Final = 0.5
"""Shorter items are over before their effect could be measured."""
USUAL_TIMES: Final = 4.0
"""An item is parked after so many times of what items take at its host at the earliest: 2 % of exponential times exceed
that."""
OVERTAKEN_BY: Final = 8
LONGEST_STUCK_REST_S: Final = 60.0


def parks_after_s(usual_s: float) -> float:
    """The age from which an item may be parked at a host whose items usually take `usual_s`, their wait included."""
    return max(PARKED_AFTER_S, USUAL_TIMES * usual_s)


def is_overtaken(over: int, turn: int, parked: int, by: int) -> bool:
    """Whether `by` later items of its host or more are over. `over` items are so far, `turn` were over or in flight
    when it began, and `parked` of these are still there."""
    return over + parked - turn >= by


@attrs.define(slots=True)
class StuckProbe:
    """`due`: the host, all items of which are old, gets the next one."""

    due: bool = False
    _over: int = -1
    _rest_s: float = 0.0
    _rests_until: float = 0.0

    def look(self, now: float, over: int, *, stuck: bool) -> None:
        """`stuck`: no item began lately, and those that are there are old. `over`: items that are over."""
        if not stuck:
            self.due = False
            return
        if self.due:
            return
        if over != self._over:
            self._rest_s = 0.0
            self._rests_until = now
            self._over = over
        if now >= self._rests_until:
            self.due = True
            self._rest_s = min(LONGEST_STUCK_REST_S, max(2 * self._rest_s, PARKED_AFTER_S))
            self._rests_until = now + self._rest_s
