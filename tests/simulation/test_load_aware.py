"""`balance: load-aware` over endpoints that say nothing, in virtual time: the tail latency benchmark without its noise.

Eight endpoints of four slots, six that take 10 ms and two that take 40 ms (exponential), requests in a Poisson stream
of 1800/s, 70 % of what they can do; at 10 s something happens to a fast one. All decisions are the real ones
(`LoadEstimate`, `settle`, `LoadAware`), all clocks are the simulation's. Traefik's `leasttime`, the best peer measured
so far, plays the same scenario: mean of the last hundred response times by requests in flight.
"""

import heapq
import itertools
import random
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

import attrs
import pytest

from tests.balance.begun import begun
from tierlb.balance.cost import ParentShare
from tierlb.balance.counted_host import CountedHost, learn_together
from tierlb.balance.host_costs import refresh_costs
from tierlb.balance.kinds import Kinds
from tierlb.balance.load_aware import LoadAware
from tierlb.balance.load_estimate import LEARN_TICK_S, HostTraits, LoadEstimate
from tierlb.balance.peak import PeakEwma
from tierlb.balance.pool_work import Work
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.ticket import Ticket

RATE_PER_S = 1800.0
WINDOWS = ((3.0, 10.0), (10.0, 13.0), (13.0, 20.0))
FAIL_S = 0.001


@attrs.define(eq=False)
class Endpoint:
    """First come, first served by `slots`. `fails`: answers at once with an error; `hangs`: never answers."""

    mean_s: float
    slots: int = 4
    busy: int = 0
    fails: bool = False
    hangs: bool = False
    waiting: deque["Item"] = attrs.field(factory=deque)


@attrs.define(eq=False)
class Item:
    arrived: float
    node: int
    endpoint: int = -1
    took_s: float = 0.0
    failed: bool = False
    ticket: Ticket[CountedHost] | None = None


class Rule(Protocol):
    """How one node chooses."""

    def pick(self, now: float, item: Item) -> int: ...

    def finished(self, now: float, item: Item) -> None: ...

    def tick(self, now: float) -> None: ...


class Host(CountedHost):
    """A host as the data plane's registry keeps it."""

    def __init__(self, name: str, position: int, estimate: LoadEstimate, kinds: Kinds) -> None:
        super().__init__(estimate, kinds)
        self.name, self.position = name, position
        self.share = self.weight = 1.0
        self.peak = PeakEwma()


def estimate(nodes: int) -> LoadEstimate:
    """Of an endpoint that so many nodes share."""
    return LoadEstimate(HostTraits(reports=False), ReceivedReports(ParentShare(nodes)), -10.0)


class Tierlb:
    """One of `nodes` that share the endpoints."""

    def __init__(self, count: int, rng: random.Random, nodes: int = 1) -> None:
        self.kinds, work = Kinds(), Work()
        self.hosts = [Host(f"e{index}", index, estimate(nodes), self.kinds) for index in range(count)]
        for host in self.hosts:
            host.estimate.speed.work = work
            host.share = host.estimate.received.share.value
        self.chooser: LoadAware[Host] = LoadAware(rng)
        self.refresh_costs(0.0)

    def refresh_costs(self, now: float) -> None:
        refresh_costs(self.hosts, now, [host.weight for host in self.hosts])
        self.chooser.rebuild(self.hosts)

    def tick(self, now: float) -> None:
        for host in self.hosts:
            host.learn_from_items(now)
        self.kinds.learn(now)
        learn_together(self.hosts, LEARN_TICK_S)
        self.refresh_costs(now)

    def pick(self, now: float, item: Item) -> int:
        host = self.chooser.pick(0)
        item.ticket = begun(host, now)
        return host.position

    def finished(self, now: float, item: Item) -> None:
        host = self.hosts[item.endpoint]
        ticket = item.ticket
        assert ticket is not None
        if not item.failed:
            ticket.answered(now, 0)
        ticket.done(now)
        if item.failed:
            host.estimate.penalties.errors.add(now, host.estimate.slots.value)
            self.refresh_costs(now)


class LeastTime:
    """Traefik 3.7, `leasttime`."""

    def __init__(self, count: int, rng: random.Random, nodes: int = 1) -> None:
        self.times: list[deque[float]] = [deque(maxlen=100) for _ in range(count)]
        self.in_flight = [0] * count
        self.turns = itertools.count(rng.randrange(count))

    def pick(self, now: float, item: Item) -> int:
        count, turn = len(self.times), next(self.turns)
        order = [(turn + step) % count for step in range(count)]
        chosen = min(order, key=lambda index: self.mean_s(index) * (self.in_flight[index] + 1))
        self.in_flight[chosen] += 1
        return chosen

    def mean_s(self, index: int) -> float:
        return sum(self.times[index]) / max(1, len(self.times[index]))

    def finished(self, now: float, item: Item) -> None:
        self.in_flight[item.endpoint] -= 1
        self.times[item.endpoint].append(item.took_s)

    def tick(self, now: float) -> None:
        pass


class Play:
    """One run. `happens` is applied to the first, fast endpoint at the times given."""

    def __init__(self, rules: Sequence[Rule], seed: int, happens: dict[float, Callable[[Endpoint], None]]) -> None:
        self.rng = random.Random(seed)
        self.rules = rules
        self.endpoints = [Endpoint(0.010) for _ in range(6)] + [Endpoint(0.040) for _ in range(2)]
        self.items: list[Item] = []
        self.order = itertools.count()
        self.events: list[tuple[float, int, Callable[[float], None]]] = []
        self.at(0.0, self.arrive)
        self.at(LEARN_TICK_S, self.tick)
        for when, change in happens.items():
            self.at(when, lambda now, change=change: change(self.endpoints[0]))

    rate_per_s = RATE_PER_S

    def at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self.events, (when, next(self.order), act))

    def run(self, end: float = 20.0) -> "Play":
        while self.events[0][0] < end:
            when, _, act = heapq.heappop(self.events)
            act(when)
        return self

    def arrive(self, now: float) -> None:
        self.at(now + self.rng.expovariate(self.rate_per_s), self.arrive)
        node = self.rng.randrange(len(self.rules))
        item = Item(now, node)
        item.endpoint = self.rules[node].pick(now, item)
        endpoint = self.endpoints[item.endpoint]
        if endpoint.fails:
            item.failed = True
            self.at(now + FAIL_S, lambda now: self.finish(now, item))
        elif endpoint.busy < endpoint.slots:
            self.serve(now, item)
        else:
            endpoint.waiting.append(item)

    def serve(self, now: float, item: Item) -> None:
        endpoint = self.endpoints[item.endpoint]
        endpoint.busy += 1
        if not endpoint.hangs:
            self.at(now + self.rng.expovariate(1 / endpoint.mean_s), lambda now: self.served(now, item))

    def served(self, now: float, item: Item) -> None:
        endpoint = self.endpoints[item.endpoint]
        endpoint.busy -= 1
        self.finish(now, item)
        if endpoint.waiting:
            self.serve(now, endpoint.waiting.popleft())

    def finish(self, now: float, item: Item) -> None:
        item.took_s = now - item.arrived
        self.items.append(item)
        self.rules[item.node].finished(now, item)

    def tick(self, now: float) -> None:
        self.at(now + LEARN_TICK_S, self.tick)
        for rule in self.rules:
            rule.tick(now)

    def within(self, begin: float, end: float) -> list[Item]:
        return [item for item in self.items if begin <= item.arrived < end]

    def p99_ms(self, begin: float, end: float) -> float:
        times = sorted(item.took_s for item in self.within(begin, end))
        return 1000 * times[int(0.99 * len(times))]

    def share(self, begin: float, end: float, endpoint: int = 0) -> float:
        items = self.within(begin, end)
        return sum(item.endpoint == endpoint for item in items) / len(items)


def ten_times_slower(endpoint: Endpoint) -> None:
    endpoint.mean_s *= 10


def healthy(endpoint: Endpoint) -> None:
    endpoint.mean_s, endpoint.fails = 0.010, False


def failing(endpoint: Endpoint) -> None:
    endpoint.fails = True


def hanging(endpoint: Endpoint) -> None:
    endpoint.hangs = True


def rules(kind: type[Tierlb] | type[LeastTime], seed: int, nodes: int = 1) -> list[Rule]:
    return [kind(8, random.Random(seed * 100 + node), nodes) for node in range(nodes)]


def mean_p99_ms(kind: type[Tierlb] | type[LeastTime], nodes: int = 1) -> list[float]:
    """In each window, over six seeds."""
    plays = [Play(rules(kind, seed, nodes), seed, {10.0: ten_times_slower}).run() for seed in range(6)]
    return [sum(play.p99_ms(*window) for play in plays) / len(plays) for window in WINDOWS]


def test_the_tail_is_near_that_of_the_fast_endpoints_alone() -> None:
    """46 ms is the p99 of an exponential service of 10 ms without any wait, so no rule gets below it."""
    steady, just_after, later = mean_p99_ms(Tierlb)
    assert steady < 48
    assert just_after < 60
    assert later < 54


def test_the_tail_beats_the_best_peer_by_a_tenth_after_a_change() -> None:
    ours, theirs = mean_p99_ms(Tierlb), mean_p99_ms(LeastTime)
    assert ours[0] < 0.96 * theirs[0]
    assert ours[1] < 0.9 * theirs[1]
    assert ours[2] < 0.9 * theirs[2]


def test_four_nodes_that_share_the_endpoints_do_nearly_as_well_as_one() -> None:
    steady, just_after, later = mean_p99_ms(Tierlb, nodes=4)
    assert steady < 52
    assert just_after < 72
    assert later < 62


def test_the_tail_is_back_a_second_after_the_change() -> None:
    before = [Play(rules(Tierlb, seed), seed, {10.0: ten_times_slower}).run() for seed in (1, 2)]
    assert all(play.p99_ms(11, 14) < 1.5 * play.p99_ms(3, 10) for play in before)


def test_equal_endpoints_are_used_evenly() -> None:
    play = Play(rules(Tierlb, 1), 1, {}).run(15.0)
    shares = [play.share(3, 15, index) for index in range(6)]
    assert max(shares) < 1.1 * min(shares)


@pytest.mark.parametrize("rate_per_s", [300.0, 1800.0])
def test_a_recovered_endpoint_is_found_within_ten_seconds(rate_per_s: float) -> None:
    play = Play(rules(Tierlb, 1), 1, {5.0: ten_times_slower, 15.0: healthy})
    play.rate_per_s = rate_per_s
    play.run(35.0)
    assert play.share(8, 15) < 0.01
    assert play.share(25, 35) > 0.08


def test_an_endpoint_that_fails_fast_gets_next_to_nothing() -> None:
    play = Play(rules(Tierlb, 1), 1, {10.0: failing}).run(20.0)
    failed = sum(item.failed for item in play.within(10, 20)) / len(play.within(10, 20))
    assert 0 < failed < 0.002


def test_an_endpoint_that_hangs_holds_few_requests() -> None:
    play = Play(rules(Tierlb, 1), 1, {10.0: hanging}).run(20.0)
    held = play.endpoints[0].busy + len(play.endpoints[0].waiting)
    assert held < 40
    assert play.p99_ms(11, 20) < 70


def test_overload_that_passes_leaves_nothing_behind() -> None:
    play = Play(rules(Tierlb, 1), 1, {})
    play.at(8.0, lambda now: setattr(play, "rate_per_s", 1.2 * 2600))
    play.at(10.0, lambda now: setattr(play, "rate_per_s", RATE_PER_S))
    play.run(20.0)
    assert play.p99_ms(14, 20) < 55
