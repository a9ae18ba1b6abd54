"""What a simulated node works out of its counts for its reports, as `dataplane.account` does for a real one."""

from tierlb.model.load import KindTimes, SubtreeLoad
from tierlb.telemetry.aggregate import NodeCounters, RecentRates, TargetFigures, WorkRates, aggregate
from tierlb.telemetry.utilisation import LoopUse, OwnCapacity

ONLY_TARGET = "leaves"
"""A simulated node has one target."""


class NodeFigures:
    """`sample` every tick; the rest is worked out when it is asked for."""

    __slots__ = ("_own", "_rates", "_use", "_work")

    def __init__(self) -> None:
        self._rates = RecentRates()
        self._work = WorkRates()
        self._use = LoopUse()
        self._own = OwnCapacity()

    def sample(self, now: float, counters: NodeCounters, work_done_s: float, waited_s: float) -> None:
        """`work_done_s` is the sum of what its items usually take, `waited_s` how long the event loop has waited."""
        self._rates.sample(now, counters)
        self._work.sample(now, {ONLY_TARGET: work_done_s})
        self._use.sample(now, waited_s)
        done = counters.done - counters.waited
        self._own.sample(now, waited_s, done, counters.arrivals, parked=counters.parked > 0)

    @property
    def rising_s(self) -> float:
        """The response time of the last quarter second, if that is longer than lately."""
        return self._rates.value.rising_s

    def items_per_s(self, standard_s: float) -> float | None:
        """The work done lately, in items that take so long; None while either is unknown."""
        rate = self._work.rate(ONLY_TARGET)
        return rate / standard_s if rate is not None and standard_s else None

    def subtree(
        self, now: float, counters: NodeCounters, target: TargetFigures, kinds: tuple[KindTimes, ...]
    ) -> SubtreeLoad:
        """What is reported to all parents."""
        return aggregate(
            counters,
            self._rates.value,
            self._use.busy,
            self._own.capacity,
            [target],
            own_age_s=self._own.age_s(now),
            kinds=kinds,
        )
