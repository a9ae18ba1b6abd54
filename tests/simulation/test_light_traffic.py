"""Light traffic in virtual time through the real registry: one item after the other, beside clients whose items fail.

Nothing queues, so whatever makes one of equal endpoints look worse takes all items from it: an error that no other had
yet, a few answers of a machine that stalls, what was learnt before a machine warmed up.
"""

import heapq
import itertools
import random
from collections import Counter
from collections.abc import Callable, Sequence

import attrs
import pytest

from tests.balance.begun import begun
from tests.dataplane.conftest import snapshot
from tests.dataplane.registries import destination
from tierlb.balance.kind_places import OTHER_KINDS
from tierlb.balance.load_estimate import LEARN_TICK_S
from tierlb.balance.outlier import HostFault
from tierlb.balance.ticket import Ticket
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.snapshot import PoolSettings
from tierlb.model.topology import Kind, OutlierDetection, Policy
from tierlb.net.reactor import Reactor

ITEMS = 200
PAUSE_S = 0.02
USUAL_S = 0.0005
STALLED_S = 0.06
"""How long a machine stalls. What is asked meanwhile takes `STALL_S` longer."""
STALL_S = 0.01
WARM_AFTER_S = 2.0
SEEDS = range(24)
FAILING = (HostFault.ANSWER, HostFault.GATEWAY)
"""Of each further client: all its items are answered with an error, or break the connection (and are tried again)."""


@attrs.frozen
class Case:
    """`faults`: one client each. `errors`: the part of the good client's items that fails everywhere. `stalled`: the
    part of the time in which the machine stalls. `cold`: how many times longer items take at first. `slow`: the same
    for the first endpoint all the time; `fails`: that one answers with errors only."""

    hosts: int = 4
    faults: Sequence[HostFault] = ()
    errors: float = 0.0
    stalled: float = 0.0
    cold: float = 1.0
    slow: float = 1.0
    fails: bool = False
    outlier: OutlierDetection | None = OutlierDetection()


class Play:
    """`good`: the good items of each endpoint, `failed` how many of all failed, `changes` what became of endpoints."""

    def __init__(self, case: Case, seed: int) -> None:
        self.case, self.rng = case, random.Random(seed)
        self.reactor = Reactor(lambda error: None)
        self.reactor.now = self.began = 1000.0
        self.changes: list[str] = []
        self.registry = HostRegistry(self.reactor, random.Random(seed), lambda event, host: self.changes.append(event))
        pools = (PoolSettings("app", outlier=case.outlier),)
        (self.host_set,) = self.registry.rebuild_host_sets(
            [destination(*(f"e{index}" for index in range(case.hosts)))],
            snapshot(Kind.L7, balance=Policy.LOAD_AWARE, pools=pools),
        )
        self.good: Counter[str] = Counter()
        self.failed = 0
        self._left = ITEMS
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._stall = (self.began, self.began)
        self._after(LEARN_TICK_S, self._tick)
        for fault in (None, *case.faults):
            self._after(PAUSE_S * self.rng.random(), lambda fault=fault: self._ask(fault))

    def run(self) -> "Play":
        while self._left:
            self.reactor.now, _, act = heapq.heappop(self._events)
            act()
        return self

    @property
    def least(self) -> float:
        """The smallest part of a fair share that an endpoint got of the good items."""
        return min(self.good[each.name] for each in self.host_set.hosts) * self.case.hosts / self.good.total()

    def _after(self, seconds: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.reactor.now + seconds, next(self._order), act))

    def _tick(self) -> None:
        self._after(LEARN_TICK_S, self._tick)
        self.registry.tick(self.reactor.now)

    def _ask(self, fault: HostFault | None, tried: tuple[Host, ...] = ()) -> None:
        chosen = self.host_set.choose(tried)
        assert chosen is not None
        item = begun(chosen, self.reactor.now)
        took_s = self._time_s(chosen)
        self._after(took_s, lambda: self._end(chosen, item, fault, took_s, tried))

    def _time_s(self, chosen: Host) -> float:
        case, rng, now = self.case, self.rng, self.reactor.now
        took_s = USUAL_S * (1 + 0.3 * rng.expovariate(1)) * (case.slow if chosen.name == "e0" else 1)
        took_s *= 1 + (case.cold - 1) * max(0.0, 1 - (now - self.began) / WARM_AFTER_S)
        return took_s + (STALL_S * rng.expovariate(1) if case.stalled and self._stalls(now) else 0.0)

    def _stalls(self, now: float) -> bool:
        while now >= self._stall[1]:
            begin = self._stall[1] + self.rng.expovariate(case_rate(self.case.stalled))
            self._stall = (begin, begin + self.rng.expovariate(1 / STALLED_S))
        return now >= self._stall[0]

    def _end(
        self, chosen: Host, item: Ticket[Host], fault: HostFault | None, took_s: float, tried: tuple[Host, ...]
    ) -> None:
        found = fault or self._fault_of(chosen)
        if fault is None:
            self._left -= 1
            self.failed += found is not None
            self.good[chosen.name] += found is None
        if found is None:
            item.sent = 0.0
            chosen.times[OTHER_KINDS].append(took_s)
            item.done(self.reactor.now)
        else:
            item.failed(self.reactor.now, HostFault.REPEATED if tried else found)
        if fault is HostFault.GATEWAY and not tried:
            self._ask(fault, (chosen,))
        else:
            self._after(PAUSE_S * self.rng.uniform(1, 1.1), lambda: self._ask(fault))

    def _fault_of(self, chosen: Host) -> HostFault | None:
        fails = self.rng.random() < self.case.errors or (self.case.fails and chosen.name == "e0")
        return HostFault.ANSWER if fails else None


def case_rate(stalled: float) -> float:
    """Stalls per second without one."""
    return stalled / (1 - stalled) / STALLED_S


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        Case(faults=FAILING),
        Case(faults=FAILING, hosts=3),
        Case(faults=FAILING[:1]),
        Case(faults=FAILING[1:]),
        Case(faults=(*FAILING, *FAILING)),
        Case(errors=0.005),
        Case(faults=FAILING, stalled=0.2, cold=3),
        Case(stalled=0.3, cold=3),
    ],
    ids=str,
)
def test_equal_endpoints_get_equal_shares(case: Case) -> None:
    plays = [Play(case, seed).run() for seed in SEEDS]
    assert sum(play.least < 0.5 for play in plays) <= 1
    assert not any(play.changes for play in plays)


@pytest.mark.parametrize(("slow", "most"), [(3, 25), (10, 15)])
def test_a_slow_endpoint_is_left_after_a_few_items(slow: float, most: int) -> None:
    assert max(Play(Case(slow=slow), seed).run().good["e0"] for seed in SEEDS) <= most


@pytest.mark.parametrize("outlier", [None, OutlierDetection()])
def test_an_endpoint_that_fails_is_left_at_once(outlier: OutlierDetection | None) -> None:
    assert max(Play(Case(fails=True, outlier=outlier), seed).run().failed for seed in SEEDS) == 1
