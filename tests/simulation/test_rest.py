"""A rest in few long ticks leaves a node with what many short ones would have: what hosts cost, and what it reports.

Two nodes serve the same items with the same ticks. Then nothing happens for a while: one goes on with a tick every
50 ms, the other as its beat has it (net/beat.py), and both tick once more as the next item comes.
"""

import heapq
import itertools
import random
from collections.abc import Callable

import pytest

from tests.balance.begun import begun
from tests.dataplane.conftest import snapshot
from tests.dataplane.registries import destination
from tierlb.balance.load_estimate import LEARN_TICK_S
from tierlb.balance.ticket import Ticket
from tierlb.dataplane.account import Account
from tierlb.dataplane.counters import Counters
from tierlb.dataplane.upstream.host import Host
from tierlb.dataplane.upstream.registry import HostRegistry
from tierlb.model.load import SubtreeLoad
from tierlb.model.topology import Kind, Policy
from tierlb.net.beat import Beat
from tierlb.net.reactor import Reactor
from tierlb.telemetry.sketch import Sketch

BEGAN = 1000.0
PER_S = 300.0
SLOWNESS = (1.0, 1.0, 2.0, 10.0)
ITEM_S = 0.008
SLOTS = 4
BUSY_S = 6.0


def _unexpected(error: Exception) -> None:
    raise error


class Node:
    """One that learns, in time that the test passes. Each host has four slots, and one takes ten times as long."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.reactor = Reactor(lambda error: None)
        self.reactor.now = BEGAN
        self.registry = HostRegistry(self.reactor, random.Random(seed), lambda event, host: None)
        (self.host_set,) = self.registry.rebuild_host_sets(
            [destination(*(f"e{number}" for number in range(len(SLOWNESS))))],
            snapshot(Kind.L7, balance=Policy.LOAD_AWARE),
        )
        for host in self.registry.hosts:
            host.estimate.joined = BEGAN - 60.0
        self.counters = Counters()
        self.account = Account(self.counters, self.registry, Sketch(), BEGAN)
        self.worked_s = 0.0
        self.reports: list[SubtreeLoad] = []
        self.free_at = {host: [BEGAN] * SLOTS for host in self.registry.hosts}
        self.beat = Beat(BEGAN, _unexpected)
        self.beat.begin(self.tick)

    def close(self) -> None:
        self.reactor.dispose()

    def tick(self, now: float) -> float:
        self.reactor.now = now
        latest = self.registry.tick(now)
        self.account.sample(now, now - BEGAN - self.worked_s)
        self.reports.append(self.account.subtree(now, draining=False))
        return latest

    def busy(self, until: float, ends_s: float = 0.4) -> None:
        """Items come, and ticks every 50 ms. The last items come so long before the end that all are over then."""
        events: list[tuple[float, int, Callable[[], None]]] = []
        order = itertools.count()
        tally = self.counters.tallies.outside

        def at(when: float, act: Callable[[], None]) -> None:
            heapq.heappush(events, (when, next(order), act))

        def arrive() -> None:
            now = self.reactor.now
            if now + ends_s < until:
                at(now + self.rng.expovariate(PER_S), arrive)
            host = self.host_set.choose()
            assert host is not None
            item = begun(host, now)
            tally.arrivals += 1
            tally.in_flight += 1
            self.worked_s += 0.0003
            slots = self.free_at[host]
            begins = max(now, heapq.heappop(slots))
            ends = begins + ITEM_S * SLOWNESS[int(host.name[1:])] * self.rng.expovariate(1)
            heapq.heappush(slots, ends)
            at(ends, lambda: done(item))

        def done(item: Ticket[Host]) -> None:
            tally.in_flight -= 1
            tally.done += 1
            item.answered_whole(self.reactor.now, 0)

        def tick() -> None:
            at(self.reactor.now + LEARN_TICK_S, tick)
            self.tick(self.reactor.now)

        at(self.reactor.now + LEARN_TICK_S, tick)
        at(self.reactor.now, arrive)
        while events[0][0] <= until + 1e-9:
            self.reactor.now, _, act = heapq.heappop(events)
            act()

    def rest_in_short_ticks(self, until: float) -> None:
        for _ in range(round((until - self.reactor.now) / LEARN_TICK_S)):
            self.tick(self.reactor.now + LEARN_TICK_S)

    def rest(self, until: float) -> None:
        """As the beat has it. The last tick is the one before the next event."""
        self.beat.late = self.beat.soon = self.reactor.now
        while self.beat.due < until:
            self.beat.run(self.beat.due)
        self.beat.run(until)

    def state(self) -> dict[str, float]:
        """What choices follow from, by host."""
        found: dict[str, float] = {}
        for host in self.host_set.hosts:
            estimate = host.estimate
            figures = {
                "slope": host.slope,
                "offset": host.offset,
                "capacity": host.capacity,
                "in flight": estimate.in_flight.value,
                "slowness": estimate.speed.slowness.value,
                "answers": estimate.speed.slowness.recent,
                "variation": estimate.speed.slowness.ticks.variation or 0.0,
                "slots": estimate.slots.value,
                "probed": float(estimate.speed.slowness.probe.active),
            }
            found |= {f"{host.name} {name}": figure for name, figure in figures.items()}
        return found


@pytest.mark.parametrize("rest_s", [0.15, 0.4, 1.0, 2.5, 6.0, 15.0, 60.0])
@pytest.mark.parametrize("seed", range(3))
def test_costs_after_a_rest_are_those_of_short_ticks(rest_s: float, seed: int) -> None:
    short, rested = Node(seed), Node(seed)
    for node in (short, rested):
        node.busy(BEGAN + BUSY_S)
    assert short.state() == rested.state()
    before = len(rested.reports)
    short.rest_in_short_ticks(BEGAN + BUSY_S + rest_s)
    rested.rest(BEGAN + BUSY_S + rest_s)
    assert len(rested.reports) - before <= 7 + rest_s / 2
    assert rested.state() == pytest.approx(short.state(), rel=1e-3, abs=1e-6)
    for node in (short, rested):
        node.close()


@pytest.mark.parametrize("rest_s", [0.4, 2.5, 15.0])
def test_reports_after_a_rest_are_those_of_short_ticks(rest_s: float) -> None:
    """When load comes back rates rise as fast as they would have: the rest is not averaged in."""
    short, rested = Node(1), Node(1)
    for node in (short, rested):
        node.busy(BEGAN + BUSY_S)
    short.rest_in_short_ticks(BEGAN + BUSY_S + rest_s)
    rested.rest(BEGAN + BUSY_S + rest_s)
    for node in (short, rested):
        node.reports.clear()
        node.busy(BEGAN + BUSY_S + rest_s + 1.5, ends_s=0.0)
    assert rested.reports[-1].utilisation > 0.1
    for known, found in zip(short.reports, rested.reports, strict=True):
        assert found.utilisation == pytest.approx(known.utilisation, rel=0.12, abs=0.02)
        assert found.own_capacity == pytest.approx(known.own_capacity, rel=0.12)
        assert found.capacity == pytest.approx(known.capacity, rel=0.1)
    for node in (short, rested):
        node.close()
