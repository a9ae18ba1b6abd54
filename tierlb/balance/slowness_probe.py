"""When a slow host that gets no items is sent one, to see whether it has recovered (BALANCING.md §3).

Better siblings starve a slow host of items, so nothing would show its recovery. A host that had none for a while is
therefore probed: it gets the next item, one at a time, until it proves no better than was believed. Probes that change
nothing become rarer.
"""

import math

import attrs

from tierlb.balance.capacity import ALIKE

BETTER = 1.5
PROBE_ITEMS = 10
"""A probe goes on while it shows the host to be `BETTER` times faster than was believed, and to that many items: one
item alone could be chance."""
PROBED_FROM = 1.25
"""A host that is less slow than this beside its siblings is not starved by them and needs no probe."""
FIRST_REST_S = 2.0
LONGEST_REST_S = 8.0
"""Between two probes of a host that was better once: a recovery is to be seen within 10 s."""
LONGEST_REST_OF_SLOW_HOST_S = 60.0
NEAR, SOONER = 3.0, 0.25
"""A host that is less slow than NEAR beside its siblings, by few answers, is probed after a part SOONER of its rest. It
may be their equal: some hosts stall when others do not, and those that stay in use become faster as a machine warms up
or has less to do, while one at rest stays what it was. Without this one of four equal hosts got less than half of its
share of 200 items in 2 of 24 runs (tests/simulation/test_light_traffic.py). Where times vary from tick to tick
(balance/chance.py) it applies to a host with many answers too, which may only have held long items for a while."""
SOON_S = 0.25
"""The rest of a host whose siblings were slow with it and of which one has recovered: most likely it has, too."""


@attrs.frozen
class Siblings:
    """How slow the hosts of a pool are, itself included. When all were slow and one has recovered, `middle` is that of
    hosts that had no items since, so `fastest` counts too."""

    middle: float = 1.0
    fastest: float = math.inf
    alike: float = ALIKE
    """The factor by which equal hosts among them may differ (balance/chance.py)."""


@attrs.define(slots=True)
class SlownessProbe:
    """The probes of one host. `active`: it is to get the next item."""

    active: bool = False
    _idle_s: float = 0.0
    _rest_s: float = FIRST_REST_S
    _items: int = 0
    _fastest_before: float = math.inf
    """The fastest sibling as the rest began."""
    _best: float = math.inf
    """The least slowness that the host has ever shown."""

    def rest(self, dt_s: float, slowness: float, siblings: Siblings, *, few_answers: bool) -> bool:
        """`dt_s` have passed without items. Whether a probe begins now."""
        self._idle_s += dt_s
        if siblings.fastest * BETTER < self._fastest_before < math.inf:
            self._rest_s, self._fastest_before = SOON_S, siblings.fastest
        beside = slowness / min(siblings.fastest, siblings.middle)
        varies = siblings.alike > ALIKE
        may_be_equal = beside < NEAR * siblings.alike / ALIKE and (varies or few_answers)
        rest_s = self._rest_s * (SOONER if may_be_equal else 1)
        begins = not self.active and self._idle_s >= rest_s and beside > PROBED_FROM
        if begins:
            self.active, self._items = True, 0
        return begins

    def end_rest(self, fastest: float) -> None:
        """The host has items. `fastest`: its fastest sibling now."""
        self._idle_s, self._fastest_before = 0.0, fastest

    def observe(self, count: int, slowness: float, believed: float) -> bool:
        """So many items of a probe were answered, and show this slowness. Whether the probe is over."""
        self._items += count
        better = slowness * BETTER < believed
        if better and self._items < PROBE_ITEMS:
            return False
        self.active = False
        longest = LONGEST_REST_S if slowness > BETTER * self._best else LONGEST_REST_OF_SLOW_HOST_S
        self._rest_s = FIRST_REST_S if better else min(longest, 2 * self._rest_s)
        return True

    def note_best(self, slowness: float) -> None:
        """The host has shown this slowness by enough answers."""
        self._best = min(self._best, slowness)
