"""When an item in flight no longer counts as queue: it waits for something else than its host.

Long polls, event streams, slow downloads and uploads are in flight for seconds or minutes, and cost their host next to
nothing. What is in flight longer than it takes to measure its effect is therefore not counted but measured: it is
*parked*, and if it does hold up the others at its host (it keeps a slot), these take longer there, which shows in the
host's slowness (balance/slowness.py) within a second.

Age alone is not enough, for at a host that has stopped everything becomes old. An item of a kind that is answered soon
elsewhere is parked only when others have overtaken it: they were begun later at the same host and are over. Where
nothing is overtaken the host is at fault, or it works in turn, and its queue counts in full. An item of a long kind is
parked by its age, unless a later one is late and none is over: then it keeps the only worker of its host.

A host where all items are old is avoided, and where nothing is begun nothing can overtake. `StuckTrial` therefore asks
for one item at a time at such a host, as long as those that it got before were answered.
"""

import attrs

PARKED_AFTER_S = 0.5
"""Shorter ones are gone before their effect could be measured."""
USUAL_TIMES = 4.0
"""No item is parked before so many times of what items take at its host: of exponential times 2 % exceed that."""
OVERTAKEN_BY = 8
LONGEST_REST_S = 60.0


def parks_after_s(usual_s: float) -> float:
    """The age from which on an item may be parked at a host whose items usually take `usual_s`, their wait included."""
    return max(PARKED_AFTER_S, USUAL_TIMES * usual_s)


def is_overtaken(over: int, turn: int, parked: int, by: int) -> bool:
    """Whether `by` later items of its host or more are over: `over` items are so far, `turn` were over or in flight
    when it began, and `parked` of these are still there."""
    return over + parked - turn >= by


@attrs.define(slots=True)
class StuckTrial:
    """`due`: a host where all items are old is to get the next one."""

    due: bool = False
    _over: int = -1
    _rest_s: float = 0.0
    _rests_until: float = 0.0

    def look(self, now: float, over: int, *, stuck: bool) -> None:
        """`stuck`: nothing was begun lately, and what is there has been for long. `over`: items that are over."""
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
            self._rest_s = min(LONGEST_REST_S, max(2 * self._rest_s, PARKED_AFTER_S))
            self._rests_until = now + self._rest_s
