"""When a host that reports, and has had no items for a while, is sent one, to see whether it has recovered.

A slow subtree reports a low capacity, and its siblings are better until their queues are longer than the time of its
one item. With few clients they never are, and without items the subtree cannot show that it is fast again. So after a
rest it gets the next item, one at a time; if that changes nothing, the next rest is longer. Hosts whose answers are
timed here also have the probes of `balance.slowness_probe`. A child below an l4 node, which learns of answers only from
reports, is probed differently (`balance.returning`).
"""

import attrs

from tierlb.balance.slowness_probe import FIRST_REST_S, LONGEST_REST_S


@attrs.define(slots=True)
class RecoveryProbe:
    """`due`: it is to get the next item."""

    due: bool = False
    _idle_s: float = 0.0
    _busy_s: float = 0.0
    _rest_s: float = FIRST_REST_S

    def advance(self, dt_s: float, busy: bool) -> None:
        """`dt_s` have passed, with items or without. After a long busy time the rests start short again."""
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
