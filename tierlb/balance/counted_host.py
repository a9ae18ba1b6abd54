"""What is learnt at every tick from the items of one host, and the cost that the host is chosen by.

The data plane's hosts and those of the simulator are both `CountedHost`s, so that both learn by the same code from what
their tickets count (balance/ticket.py).
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from mypy_extensions import mypyc_attr

from tierlb.balance.chance import alike_within
from tierlb.balance.interference import Seen
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_estimate import NO_ANSWERS, LoadEstimate, usual_leaf_slots
from tierlb.balance.medians import median, median_low
from tierlb.balance.parking import StuckProbe
from tierlb.balance.slowness_probe import Siblings
from tierlb.balance.ticket import ItemCounts
from tierlb.balance.under_way import look

SAMPLES_PER_TICK: Final = 4
"""Items of a host per tick from whose times its slots are learnt. A window needs some 50 of a second."""
MOST_SAMPLED: Final = 32
"""Of them, those that wait for their answers."""


@mypyc_attr(allow_interpreted_subclasses=True)
class CountedHost(ItemCounts):
    """`slope`, `offset` and `capacity` (items per second) are what it is chosen by. `left_out` is how much of what is
    in flight its cost takes for no queue. `answers` is what the last tick made of the times of answers, `overdue` how
    late items are that wait, as a sum of ratios. `unqueued` items were stuck at the last tick and are to be overtaken
    by one. `served`: when the latest answered request on its watched connections was sent (balance/activity.py).
    """

    __slots__ = (
        "answers",
        "capacity",
        "estimate",
        "left_out",
        "offset",
        "overdue",
        "served",
        "slope",
        "stuck",
        "unqueued",
    )

    def __init__(self, estimate: LoadEstimate, kinds: Kinds) -> None:
        super().__init__(kinds)
        self.estimate = estimate
        self.unqueued = 0
        self.left_out = self.overdue = self.served = 0.0
        self.answers = NO_ANSWERS
        self.capacity = self.slope = self.offset = 1.0
        self.stuck = StuckProbe()

    def learn_from_items(self, now: float) -> None:
        """Look at what happened since the last tick."""
        estimate, kinds, slowness = self.estimate, self.kinds, self.estimate.speed.slowness
        item_s = estimate.speed.work.usual_s * slowness.typical
        found = look(self.under_way, now, kinds, over=self.done, parked=self.parked_items, item_s=item_s)
        for ticket in found.parked:
            ticket.park()
        self.stuck.look(now, self.done, stuck=0 < found.stuck < estimate.slots.value)
        self.unqueued = found.stuck if self.stuck.due else 0
        self._learn_slots()
        self.overdue = found.overdue
        if estimate.traits.by_connection:
            received = estimate.received
            parents, answers = received.share.parents, received.take_answers()
            self.answers = kinds.judge_reported(answers, slowness.typical, slowness.highest, 1 / parents)
            if received.latest is not None and received.connected:
                self.overdue = received.latest.overdue
        else:
            self.answers = kinds.judge(self.times, slowness.typical, slowness.highest)
            self.times = defaultdict(list)
        area_s = self.moments + self.in_flight * now
        estimate.advance(now, area_s, self.answers, overdue=self.overdue, parked=self.parked)

    def _learn_slots(self) -> None:
        """Take the times of sampled items that were answered. Failed and parked items are not used."""
        waiting = []
        for ticket, here in self.sampled:
            if ticket.sent < 0:
                self.estimate.learn_slots(self.kinds.expected_s(ticket.kind.number), here, -ticket.sent)
            elif ticket.is_queued:
                waiting.append((ticket, here))
        self.sampled = waiting
        self.samples = min(SAMPLES_PER_TICK, MOST_SAMPLED - len(waiting)) if self.estimate.learns_slots else 0


def learn_together(siblings: Sequence[CountedHost], dt_s: float) -> None:
    """Learn from all hosts that do the same work together, after each has learnt alone: their median slowness, how much
    parked items hold up the others, and how many items they work on at once."""
    estimates = [host.estimate for host in siblings]
    known = [estimate.speed.slowness.value for estimate in estimates if estimate.speed.known]
    middle, usual_slowness = (median(known), median_low(known)) if known else (1.0, 1.0)
    alike = alike_within(estimate.speed.slowness.ticks for estimate in estimates)
    compared = Siblings(middle, min(known, default=math.inf), alike)
    leaf_slots = usual_leaf_slots(estimates)
    seen: list[Seen] = []
    for host in siblings:
        slowness, answers = host.estimate.speed.slowness, host.answers
        slowness.siblings = compared
        host.estimate.compare(dt_s, answers, usual_slowness, leaf_slots)
        if answers.count and slowness.value < alike * middle:
            seen.append(Seen(host.parked, answers.count, answers.ratios / answers.count))
    work = siblings[0].estimate.speed.work
    work.follow(dt_s)
    parked = sum(host.parked for host in siblings)
    unheard = sum(host.parked for host in siblings if not host.answers.count)
    work.interference.observe(dt_s, seen, unheard / parked if parked else 0.0)
    work.slots.advance(dt_s, [estimate.slots for estimate in estimates])
