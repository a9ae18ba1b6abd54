"""How fast one host works, learnt from the times of its answers, and the capacity that follows from that.

By Little's law a host with so many slots, each of which takes so long for an item, completes `slots / time` items per
second. The time is that of a standard item of the pool (balance/kinds.py) by the slowness of this host
(balance/slowness.py). The answers are timed here or, where an l4 node hands out connections, reported by the host.
"""

import attrs

from tierlb.balance.kinds import Answers
from tierlb.balance.pool_slots import HostSlots
from tierlb.balance.pool_work import MeanWork, Work
from tierlb.balance.returning import SLOW_MARGIN
from tierlb.balance.slowness import LOWEST, Slowness

SHORTEST_ITEM_S = 1e-6
"""It is divided by."""


@attrs.define(slots=True)
class LearntSpeed:
    """What is known of one host by its answers. `work` is shared by all hosts of the pool."""

    work: Work = attrs.field(factory=Work)
    own_work: MeanWork = attrs.field(factory=MeanWork)
    """This host's own mix of items, which may differ from that of the pool."""
    slowness: Slowness = attrs.field(factory=Slowness)
    usual_slowness: float = 1.0
    """That of its siblings: the low median, so that of two hosts the slower one is compared with the other."""
    work_done_s: float = 0.0
    """The sum of what its answers usually take."""
    learnt_at: float = 0.0

    @property
    def known(self) -> bool:
        """Whether any answer has been seen."""
        return self.slowness.seen > 0

    def learn_timed(self, dt_s: float, answers: Answers, overdue: float, *, busy: bool) -> None:
        """`dt_s` have passed, with answers that this node timed."""
        self._count(answers)
        self.work_done_s += answers.work_s
        self.slowness.advance(dt_s, answers, usual_s=self.work.usual_s, overdue=overdue, busy=busy)

    def learn_reported(self, dt_s: float, answers: Answers, overdue: float) -> None:
        """`dt_s` have passed, with answers that the host reported: those of all its parents."""
        usual_s = self.work.usual_s
        self._count(answers)
        if not answers.count and not self.is_slow:
            self.slowness.forget(dt_s)
        self.slowness.advance(dt_s, answers, usual_s=usual_s, overdue=overdue, busy=True)

    def _count(self, answers: Answers) -> None:
        self.work.add(answers.count, answers.work_s)
        self.own_work.add(answers.count, answers.work_s)

    @property
    def is_slow(self) -> bool:
        """Whether it is far slower than its siblings."""
        return self.slowness.value > SLOW_MARGIN * self.usual_slowness

    def in_standard_items(self, capacity: float) -> float:
        """Convert a capacity that the host or its agent states in items of its own mix."""
        own_s, standard_s = self.own_work.usual_s, self.work.standard_s
        return capacity * own_s / standard_s if own_s and standard_s else capacity

    def capacity(self, slots: float) -> float | None:
        """Standard items per second, of all parents together; None before the first answer."""
        if not self.known or not self.work.standard_s:
            return None
        return slots / (self.slowness.value * max(SHORTEST_ITEM_S, self.work.standard_s))

    def capacity_without_waits(self, slots: HostSlots) -> float | None:
        """`capacity` is lower at a high load, most where short items wait for long ones. This one leaves waits out."""
        slowness, standard_s = slots.concurrency.slowness_at(slots.value), self.work.standard_s
        if slowness is None or not standard_s:
            return self.capacity(slots.value)
        return slots.value / (max(LOWEST, slowness) * max(SHORTEST_ITEM_S, standard_s))

    def slots_of(self, capacity: float) -> float | None:
        """The slots that would give this capacity; None before the first answer."""
        return capacity * self.slowness.value * self.work.standard_s if self.known else None

    def items_in_item_time(self, capacity: float, *, probing: bool) -> float:
        """How many items a host of this capacity completes in the time of one; 1 at least. One that is not far slower
        than its siblings is taken to be as fast: at rest a mean is of a few items, or of long ago. So is one whose
        speed is unknown or probed, because it would else attract all new connections."""
        slow = self.known and not probing and self.is_slow
        return max(1.0, capacity * self.work.standard_s * (self.slowness.value if slow else self.usual_slowness))
