"""When a host that reports, and that has had no items for a while, is to get one, to show whether it has recovered.

A slow subtree reports a low capacity, and its siblings are better until their queues are longer than its one item
takes. With few clients they never are, and without items it cannot learn that it is fast again. So after a rest it gets
the next item, one at a time; if that changes nothing, the next rest is longer. Hosts whose answers are timed here
also have the trials of `balance.slowness`. A child whose answers an l4 node knows from its reports only is probed
instead (`balance.returning`).
"""

import attrs

from tierlb.balance.slowness import FIRST_REST_S, LONGEST_REST_S


@attrs.define(slots=True)
class RecoveryProbe:
    """`due`: it is to get the next item."""

    due: bool = False
    _idle_s: float = 0.0
    _busy_s: float = 0.0
    _rest_s: float = FIRST_REST_S

    def advance(self, dt_s: float, busy: bool) -> None:
        """`dt_s` have passed, in which it had items or not. Busy for long enough, it needs no trials any more."""
        if not busy:
            self._idle_s, self._busy_s = self._idle_s + dt_s, 0.0
            self.due = self._idle_s >= self._rest_s
            return
        if self.due:
            self._rest_s = min(LONGEST_REST_S, 2 * self._rest_s)
        self.due, self._idle_s = False, 0.0
        self._busy_s += dt_s
        if self._busy_s >= LONGEST_REST_S:
            self._rest_s = FIRST_REST_S
