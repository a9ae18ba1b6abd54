"""Counts of one host, and what siblings learn: in a simulated pool of hosts with slots, kinds and items that wait."""

import heapq
import itertools
import random
from statistics import median

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.balance.begun import begun
from tierlb.balance.capacity import evened, settle
from tierlb.balance.chance import TickMeans
from tierlb.balance.concurrency import FIRST_NOISE, WINDOW_ITEMS
from tierlb.balance.cost import NEXT_ITEM, ParentShare
from tierlb.balance.counted_host import CountedHost, learn_together
from tierlb.balance.host_costs import assign_costs
from tierlb.balance.interference import Interference
from tierlb.balance.kinds import Answers, Kinds
from tierlb.balance.load_estimate import LEARN_TICK_S, HostTraits, LoadEstimate
from tierlb.balance.pool_slots import GUESSED_SLOTS
from tierlb.balance.pool_work import Work
from tierlb.balance.received_reports import ReceivedReports
from tierlb.balance.slowness import BELIEF_MEMORY
from tierlb.balance.ticket import Ticket

START = 1000.0


def fresh(work: Work | None = None, kinds: Kinds | None = None) -> CountedHost:
    estimate = LoadEstimate(HostTraits(reports=False), ReceivedReports(ParentShare(1)), START - 600)
    if work is not None:
        estimate.speed.work = work
    return CountedHost(estimate, kinds or Kinds())


# A tick.


def knowing(usual_s: float = 0.01) -> tuple[CountedHost, Kinds, int]:
    host = fresh()
    number = host.kinds.number("short")
    host.times[number] += [usual_s] * 50
    host.learn_from_items(START)
    return host, host.kinds, number


def test_an_item_that_began_anew_at_another_host_tells_nothing_of_the_slots_of_the_first() -> None:
    first, _, number = knowing()
    second = fresh(kinds=first.kinds)
    for start in range(int(START), int(START + 2 * FIRST_NOISE * WINDOW_ITEMS), 2):
        for at, host in ((start, first), (start + 1, second)):
            host.learn_from_items(at)
            item = begun(host, at, number)
            assert len(host.sampled) == 1
            if host is first:
                item.give_back(at + 0.9)
        item.answered(start + 1.02, 0)
        item.done(start + 1.02)
        for host in (first, second):
            host.learn_from_items(start + 1.02)
            assert not host.sampled
    assert (first.estimate.slots.concurrency.is_due, second.estimate.slots.concurrency.is_due) == (False, True)


def test_times_are_taken_once() -> None:
    host, _, number = knowing()
    host.times[number] += [0.02, 0.02]
    host.learn_from_items(START + LEARN_TICK_S)
    assert (host.answers.count, host.answers.ratios) == (2, pytest.approx(4))
    host.learn_from_items(START + 2 * LEARN_TICK_S)
    assert host.answers.count == 0


def test_what_waits_is_parked_at_a_tick_and_no_longer_counts_as_queue() -> None:
    host, kinds, number = knowing()
    begun(host, START, kinds.number("poll"))
    short = begun(host, START + 0.99, number)
    host.learn_from_items(START + 1)
    assert (host.parked, list(host.under_way)) == (1, [short])
    assign_costs([host], START + 1, [100.0], [1.0])
    assert host.left_out == 1
    assert host.in_flight * host.slope + host.offset == pytest.approx(1 + GUESSED_SLOTS)


def test_items_that_are_late_make_it_slow() -> None:
    host, _, number = knowing()
    for _ in range(4):
        begun(host, START, number)
    host.learn_from_items(START + 0.4)
    assert host.estimate.speed.slowness.value > 2


@pytest.mark.parametrize("tunnels", [False, True])
def test_a_host_that_has_stopped_is_not_well_because_polls_and_tunnels_come_to_it(tunnels: bool) -> None:
    host, kinds, number = knowing()
    for index in range(4):
        begun(host, START + index / 100, number)
    for index in range(1, 100):
        item = begun(host, START + index / 20, kinds.number("poll"), long=True)
        if tunnels:
            item.stay_parked()
        host.learn_from_items(item.began)
    assert len(host.under_way) == 4
    assert host.overdue > 1000


def test_a_host_whose_items_are_all_old_gets_one_more() -> None:
    host, _, number = knowing()
    for _ in range(3):
        begun(host, START, number)
    host.learn_from_items(START + 1)
    assert host.unqueued == 3
    assign_costs([host], START + 1, [100.0], [1.0])
    assert host.in_flight * host.slope + host.offset == NEXT_ITEM[1]
    begun(host, START + 1, number)
    assert host.in_flight * host.slope + host.offset == NEXT_ITEM[0], "and no other"
    host.learn_from_items(START + 1.05)
    assert host.unqueued == 0


def test_a_host_with_as_many_old_items_as_slots_is_busy_and_gets_no_more() -> None:
    host, _, number = knowing()
    for _ in range(int(GUESSED_SLOTS)):
        begun(host, START, number)
    host.learn_from_items(START + 1)
    assert host.unqueued == 0


def test_a_weight_that_keeps_all_others_away_from_hosts_with_parked_items_is_soon_given_up() -> None:
    """Those answer nothing, so that nothing would ever tell against it."""
    hosts = [fresh(Work()) for _ in range(4)]
    for host in hosts:
        host.estimate.speed.work = hosts[0].estimate.speed.work
        host.estimate.speed.slowness.seen = BELIEF_MEMORY
    hosts[0].parked = 40
    hosts[0].estimate.speed.work.interference = Interference(1.0)
    for host in hosts[1:]:
        host.answers = Answers(5, 0.05, 5.0)
    for _ in range(60):
        learn_together(hosts, LEARN_TICK_S)
    assert hosts[0].estimate.speed.work.interference.weight == 0


def test_a_slow_host_where_all_is_parked_comes_on_trial() -> None:
    host, _, number = knowing()
    begun(host, START + 0.1, number).park()
    host.learn_from_items(START + 0.15)
    host.estimate.speed.slowness.typical = 5.0
    for tick in range(100):
        host.learn_from_items(START + 0.2 + tick * 0.0501)
    assert host.estimate.speed.slowness.probe.active


def test_at_a_slow_host_items_are_parked_later() -> None:
    """Items take 10 ms as a rule, here 0.3 s."""
    host, kinds, _ = knowing()
    host.estimate.speed.slowness.typical = 30.0
    begun(host, START, kinds.number("poll"))
    host.learn_from_items(START + 1.1)
    assert not host.parked
    host.estimate.speed.slowness.typical = 30.0
    host.learn_from_items(START + 1.3)
    assert host.parked


def test_a_host_far_slower_than_its_siblings_tells_nothing_of_what_parked_items_do() -> None:
    hosts = [fresh(Work()) for _ in range(4)]
    for host in hosts:
        host.estimate.speed.slowness.seen, host.answers = BELIEF_MEMORY, Answers(5, 0.05, 5.0)
    hosts[0].parked, hosts[0].answers = 3, Answers(5, 0.05, 50.0)
    hosts[0].estimate.speed.slowness.value = 10.0
    for _ in range(100):
        learn_together(hosts, LEARN_TICK_S)
    assert hosts[0].estimate.speed.work.interference.weight == 0
    hosts[0].estimate.speed.slowness.value = 1.0
    learn_together(hosts, LEARN_TICK_S)
    assert hosts[0].estimate.speed.work.interference.weight > 0


@pytest.mark.parametrize(("means", "told"), [([1.0, 1.0], False), ([0.1, 0.1, 0.1, 0.1, 9.6], True)])
def test_parked_items_are_judged_at_hosts_that_count_as_equals(means: list[float], told: bool) -> None:
    """The one with parked items is twice as slow."""
    hosts = [fresh(Work()) for _ in range(4)]
    for host in hosts:
        host.estimate.speed.slowness.seen, host.answers = BELIEF_MEMORY, Answers(5, 0.05, 5.0)
        for mean in means * 20:
            host.estimate.speed.slowness.ticks.observe(LEARN_TICK_S, 5, 5 * mean)
    hosts[0].parked, hosts[0].answers = 3, Answers(5, 0.05, 10.0)
    hosts[0].estimate.speed.slowness.value = 2.0
    for _ in range(100):
        learn_together(hosts, LEARN_TICK_S)
    assert (hosts[0].estimate.speed.work.interference.weight > 0) is told


def test_where_times_vary_from_tick_to_tick_a_host_that_is_twice_as_slow_counts_as_an_equal() -> None:
    for means, expected in (([1.0] * 5, [900.0, 450.0, 900.0]), ([0.1, 0.1, 0.1, 0.1, 9.6], [750.0] * 3)):
        hosts = [fresh(Work()) for _ in range(3)]
        for host in hosts:
            slowness = host.estimate.speed.slowness
            slowness.advance(LEARN_TICK_S, Answers(10**6, 1e4, 1e6), usual_s=0.01, overdue=0.0, busy=True)
            slowness.ticks = TickMeans()
            for mean in means * 20:
                slowness.ticks.observe(LEARN_TICK_S, 5, 5 * mean)
        learn_together(hosts, LEARN_TICK_S)
        likeness = [host.estimate.likeness(START) for host in hosts]
        assert settle([900.0, 450.0, 900.0], likeness) == pytest.approx(expected)


def test_siblings_are_measured_by_those_that_are_known() -> None:
    hosts = [fresh(Work()) for _ in range(4)]
    for host, value, seen in zip(hosts, (1.0, 2.0, 5.0, 900.0), (9, 9, 9, 0), strict=True):
        host.estimate.speed.slowness.value, host.estimate.speed.slowness.seen = value, seen
    learn_together(hosts, LEARN_TICK_S)
    assert [host.estimate.speed.slowness.siblings.middle for host in hosts] == [2.0] * 4
    learn_together([fresh()], LEARN_TICK_S)


def test_polls_that_began_as_parked_and_are_answered_do_not_make_a_host_look_faster() -> None:
    """40 polls beside 200 short requests a second; each is answered after 5 s and another begins."""
    host, kinds, number = knowing()
    poll = kinds.number("poll")
    now, polls = START, [begun(host, START, poll, long=True) for _ in range(40)]
    for tick in range(1, 800):
        now = START + tick * LEARN_TICK_S
        host.times[number] += [0.01] * 10
        for item in [item for item in polls if now - item.began >= 5]:
            item.answered(now, 0)
            item.done(now)
            polls.remove(item)
            polls.append(begun(host, now, poll, long=True))
        host.learn_from_items(now)
        kinds.learn(now)
    assert host.estimate.speed.slowness.value == pytest.approx(1, rel=0.05)
    assert host.estimate.speed.work.usual_s == pytest.approx(0.01, rel=0.2)


# A pool.


@attrs.define(eq=False)
class Host:
    """First come, first served on `slots`; what waits (`long_s`) takes none."""

    host: CountedHost
    slots: int = 4
    slow: float = 1.0
    busy: int = 0
    queue: list[tuple[Ticket[CountedHost], float]] = attrs.field(factory=list)


@attrs.define
class Pool:
    """`mix`: parts and mean times of kinds. Items go to the lowest line, or (`blind`) where chance puts them."""

    mix: list[tuple[float, float]]
    count: int = 4
    seed: int = 1
    blind: bool = False
    mixes: list[list[float]] | None = None
    now: float = START
    kinds: Kinds = attrs.field(factory=Kinds)
    hosts: list[Host] = attrs.field(init=False)
    rng: random.Random = attrs.field(init=False)
    begun: list[int] = attrs.field(init=False)
    _events: list[tuple[float, int, Host, Ticket[CountedHost]]] = attrs.field(factory=list)
    _order: "itertools.count[int]" = attrs.field(factory=itertools.count)

    def __attrs_post_init__(self) -> None:
        work = Work()
        self.hosts = [Host(fresh(work, self.kinds)) for _ in range(self.count)]
        self.rng = random.Random(self.seed)
        self.begun = [0] * self.count
        for host in self.hosts:
            host.host.estimate.in_flight.at = START
            host.host.estimate.slots.value = host.slots
        self.settle()

    def run(self, seconds: float, rate: float) -> "Pool":
        ticks = round(seconds / LEARN_TICK_S)
        for _ in range(ticks):
            until = self.now + LEARN_TICK_S
            arrivals: list[float] = []
            at = self.now
            while rate and (at := at + self.rng.expovariate(rate)) < until:
                arrivals.append(at)
            for at in arrivals:
                self.serve(at)
                self.arrive(at)
            self.serve(until)
            self.now = until
            self.tick()
        return self

    def serve(self, until: float) -> None:
        while self._events and self._events[0][0] <= until:
            at, _, host, item = heapq.heappop(self._events)
            item.answered(at, 0)
            item.sent = 0.0  # slots are given, and not learnt from times
            item.done(at)
            host.busy -= 1
            self.start(at, host)

    def arrive(self, at: float) -> None:
        index = self.place()
        host = self.hosts[index]
        parts = self.mixes[index] if self.mixes else [part for part, _ in self.mix]
        kind = self.rng.choices(range(len(self.mix)), parts)[0]
        item = begun(host.host, at, self.kinds.number(kind))
        self.begun[index] += 1
        host.queue.append((item, self.rng.expovariate(1) * self.mix[kind][1]))
        self.start(at, host)

    def place(self) -> int:
        if self.blind:
            return self.rng.randrange(self.count)
        order = self.rng.sample(range(self.count), self.count)
        return min(order, key=lambda index: self.score(self.hosts[index].host))

    @staticmethod
    def score(host: CountedHost) -> float:
        return host.in_flight * host.slope + host.offset

    def start(self, at: float, host: Host) -> None:
        while host.queue and host.busy < host.slots:
            item, time_s = host.queue.pop(0)
            host.busy += 1
            heapq.heappush(self._events, (at + time_s * host.slow, next(self._order), host, item))

    def hang(self, index: int) -> None:
        """From now on this host answers nothing."""
        self.hosts[index].slow = 1e9
        self._events = [event for event in self._events if event[2] is not self.hosts[index]]
        heapq.heapify(self._events)

    def park(self, index: int, count: int) -> None:
        """So many polls at one host, that will not be answered."""
        for _ in range(count):
            begun(self.hosts[index].host, self.now, self.kinds.number("poll"))

    def tick(self) -> None:
        for host in self.hosts:
            host.host.learn_from_items(self.now)
        self.kinds.learn(self.now)
        learn_together([host.host for host in self.hosts], LEARN_TICK_S)
        self.settle()

    def settle(self) -> None:
        learnt = [host.host.estimate.learnt_capacity for host in self.hosts]
        known = [each for each in learnt if each is not None]
        mean = sum(known) / len(known) if known else 1.0
        capacities = evened([mean if each is None else each for each in learnt])
        assign_costs([host.host for host in self.hosts], self.now, capacities, [1.0] * self.count)

    @property
    def slowness(self) -> list[float]:
        return [host.host.estimate.speed.slowness.value for host in self.hosts]


SHORT = [(1.0, 0.01)]
MIXED = [(0.9, 0.002), (0.1, 0.2)]
MIXES = [SHORT, [(0.5, 0.01), (0.5, 0.03)], MIXED, [(0.98, 0.01), (0.02, 0.2)]]


def rate_of(pool: Pool, load: float) -> float:
    mean_s = sum(part * time_s for part, time_s in pool.mix)
    return load * sum(host.slots / host.slow for host in pool.hosts) / mean_s


EQUAL = [
    # mix, load, at most so far apart in nine of ten looks, each host's least part of its share over 10 s
    (MIXES[0], 0.3, 1.35, 0.9),
    (MIXES[0], 0.85, 1.25, 0.9),
    (MIXES[1], 0.3, 1.45, 0.85),
    (MIXES[1], 0.85, 1.3, 0.85),
    (MIXES[2], 0.3, 2.0, 0.75),
    (MIXES[2], 0.85, 4.0, 0.7),  # the short ones wait behind those that take a hundred times as long
    (MIXES[3], 0.3, 1.5, 0.8),
    (MIXES[3], 0.85, 1.6, 0.85),
]


@pytest.mark.parametrize(("mix", "load", "apart", "least"), EQUAL)
def test_equal_hosts_are_taken_for_equal_whatever_is_asked(
    mix: list[tuple[float, float]], load: float, apart: float, least: float
) -> None:
    pool = Pool(mix)
    pool.run(5, rate_of(pool, load))
    before, seen = pool.begun[:], []
    for _ in range(20):
        pool.run(0.5, rate_of(pool, load))
        seen.append(max(pool.slowness) / min(pool.slowness))
    assert sorted(seen)[17] < apart
    shares = [now - then for now, then in zip(pool.begun, before, strict=True)]
    assert min(shares) > least * sum(shares) / 4


def test_a_host_has_the_same_slowness_whatever_its_mix_where_nothing_waits() -> None:
    """Hosts 0 and 1 get nearly nothing but short items, 2 and 3 as many long ones; 1 and 3 are three times slower."""
    few, many = [0.99, 0.01], [0.5, 0.5]
    pool = Pool([(0.5, 0.005), (0.5, 0.1)], blind=True, mixes=[few, few, many, many])
    for index, host in enumerate(pool.hosts):
        host.slots, host.host.estimate.slots.value, host.slow = 1000, 1000.0, 3.0 if index % 2 else 1.0
    pool.run(30, 200)
    means = in_the_mean(pool, 30, 200)
    assert means[2] / means[0] == pytest.approx(1, rel=0.2)
    assert means[3] / means[1] == pytest.approx(1, rel=0.2)
    assert means[1] / means[0] == pytest.approx(3, rel=0.2)


@pytest.mark.parametrize("polls", [1, 6, 40])
def test_polls_do_not_move_a_host(polls: int) -> None:
    pool = Pool(SHORT)
    pool.run(5, rate_of(pool, 0.6))
    pool.park(0, polls)
    pool.run(1.5, rate_of(pool, 0.6))
    assert pool.hosts[0].host.parked == polls
    before = pool.begun[:]
    pool.run(10, rate_of(pool, 0.6))
    shares = [now - then for now, then in zip(pool.begun, before, strict=True)]
    assert shares[0] == pytest.approx(sum(shares) / 4, rel=0.15)


@pytest.mark.parametrize("mix", MIXES)
def test_a_slow_host_is_found_within_a_second_or_two(mix: list[tuple[float, float]]) -> None:
    pool = Pool(mix)
    before = rate_of(pool, 0.6)
    pool.run(8, before)
    pool.hosts[0].slow = 10.0
    pool.run(1, 0.9 * before)
    assert pool.slowness[0] > 1.4 * median(pool.slowness[1:])
    pool.run(1, 0.9 * before)
    assert pool.slowness[0] > 1.5 * median(pool.slowness[1:])


def test_a_host_that_hangs_is_found_within_a_second_and_gets_one_item_now_and_then() -> None:
    pool = Pool(SHORT)
    rate = rate_of(pool, 0.5)
    pool.run(8, rate)
    pool.hang(0)
    pool.run(1, rate)
    assert pool.slowness[0] > 3 * max(pool.slowness[1:])
    before = pool.begun[0]
    pool.run(10, rate)
    assert pool.begun[0] - before < 20


def test_a_host_that_has_recovered_is_used_again_within_ten_seconds() -> None:
    pool = Pool(SHORT)
    pool.run(8, rate_of(pool, 0.3))
    pool.hosts[0].slow = 30.0
    pool.run(20, rate_of(pool, 0.3))
    assert pool.slowness[0] > 5
    pool.hosts[0].slow = 1.0
    pool.run(12, rate_of(pool, 0.3))
    before = pool.begun[:]
    pool.run(5, rate_of(pool, 0.3))
    shares = [now - then for now, then in zip(pool.begun, before, strict=True)]
    assert shares[0] > 0.7 * sum(shares) / 4


def in_the_mean(pool: Pool, seconds: float, rate: float) -> list[float]:
    """Of many looks."""
    seen = [pool.run(0.5, rate).slowness for _ in range(round(2 * seconds))]
    return [sum(each) / len(each) for each in zip(*seen, strict=True)]


@pytest.mark.parametrize("slow", [0.2, 8.0])
def test_when_all_hosts_become_slower_alike_they_stay_as_they_were_beside_each_other(slow: float) -> None:
    """And one that was sent nothing meanwhile, too, once they are as before."""
    pool = Pool(SHORT, blind=True)
    pool.hosts[1].slow = 2.0
    pool.run(10, 100)
    before = in_the_mean(pool, 20, 100)
    quiet = pool.hosts.pop()
    pool.count -= 1
    usual = {number: each for number, each in enumerate(pool.kinds.usual_s) if each}
    for host in pool.hosts:
        host.slow *= slow
    pool.run(20, 100 / max(1, slow))
    after = in_the_mean(pool, 60, 100 / max(1, slow))
    assert [now / then for now, then in zip(after, before, strict=False)] == pytest.approx([slow] * 3, rel=0.35)
    assert {number: pool.kinds.usual_s[number] for number in usual} == pytest.approx(usual)
    for host in pool.hosts:
        host.slow /= slow
    pool.run(10, 100)
    assert quiet.host.estimate.speed.slowness.value / in_the_mean(pool, 20, 100)[0] == pytest.approx(1, rel=0.3)


@settings(max_examples=10)
@given(st.floats(0.02, 5), st.integers(0, 1000))
def test_in_a_world_where_all_takes_longer_the_hosts_compare_alike(factor: float, seed: int) -> None:
    """Times are passed to hosts directly, so that only their assessment is scaled."""
    values = []
    for unit in (1.0, factor):
        rng, kinds, work = random.Random(seed), Kinds(), Work()
        hosts = [fresh(work, kinds) for _ in range(3)]
        numbers = [kinds.number(place) for place in range(2)]
        for host in hosts:
            host.estimate.in_flight.at, host.estimate.slots.value = START, 1e6
        for tick in range(1, 60):
            for index, host in enumerate(hosts):
                for number, time_s in zip(numbers, (0.001, 0.004), strict=True):
                    host.times[number] += [unit * (1 + index) * time_s * rng.expovariate(1) for _ in range(3)]
                host.learn_from_items(START + tick * LEARN_TICK_S)
            kinds.learn(START)
            learn_together(hosts, LEARN_TICK_S)
        values.append([host.estimate.speed.slowness.value for host in hosts])
    assert values[1] == pytest.approx(values[0], rel=0.1)
    assert values[0][2] > 1.5 * values[0][0]
