"""Slots as they are learnt, against a simulated queue that has them: M/G/c alone, least-connections groups, processor
sharing and no limit at all; loads that rise and fall, speeds and slots that change."""

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Sequence

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.footprint import references
from tierlb.balance.concurrency import (
    BINS,
    CENTRES,
    DECISIVE,
    MOST_IN_FLIGHT,
    MOST_LOSS,
    MOST_SLOTS,
    SLOT_HYPOTHESES,
    WINDOW_LOSS,
    Concurrency,
    binned,
    judged,
    nearest_hypothesis,
)

TICK_S = 0.05
Draw = Callable[[random.Random], float]


def pass_time(learnt: Concurrency, dt_s: float) -> None:
    learnt.wait(dt_s)
    if learnt.is_due:
        learnt.close()


def slowness(learnt: Concurrency) -> float:
    """By the number of slots that fits best."""
    found = learnt.slowness_at(min(SLOT_HYPOTHESES[learnt.losses.index(0.0)], SLOT_HYPOTHESES[-2]))
    assert found is not None
    return found


def constant(rng: random.Random) -> float:
    return 1.0


def exponential(rng: random.Random) -> float:
    return rng.expovariate(1.0)


def skewed(rng: random.Random) -> float:
    """Log-normal, mean 1, standard deviation 2."""
    return rng.lognormvariate(-math.log(5) / 2, math.sqrt(math.log(5)))


DRAWS = [constant, exponential, skewed]


@attrs.define
class Item:
    began: float
    work_s: float
    usual_s: float
    in_flight: int


@attrs.define
class Endpoint:
    """First come, first served on `slots`, or `shared`: `slots` cores that all items there share."""

    slots: float
    usual_s: float = 0.01
    slow: float = 1.0
    shared: bool = False
    learnt: Concurrency = attrs.field(factory=Concurrency)
    in_flight: int = 0
    busy: int = 0
    waiting: deque[Item] = attrs.field(factory=deque)
    sharing: list[tuple[float, int, Item]] = attrs.field(factory=list)
    served_s: float = 0.0
    served_at: float = 0.0
    turn: int = 0
    answers: dict[float, list[tuple[int, float]]] = attrs.field(factory=dict)

    @property
    def pace(self) -> float:
        """What an item that shares gets of a core."""
        return min(1.0, self.slots / max(1, self.in_flight))


class Bench:
    """Poisson arrivals, each at the endpoint with the fewest items. `kinds`: their parts of all items, and how many
    times longer than `usual_s` they take."""

    def __init__(
        self, endpoints: Sequence[Endpoint], draw: Draw, seed: int = 1, kinds: Sequence[tuple[float, float]] = ((1, 1),)
    ) -> None:
        self.endpoints, self.draw, self.rng, self.kinds = endpoints, draw, random.Random(seed), kinds
        self.now, self.events, self.order = 0.0, [], itertools.count()

    def run(self, seconds: float, rate: float) -> Iterator[float]:
        """Yield the time after every tick."""
        until, tick, arrival = self.now + seconds, self.now + TICK_S, self.now + self.rng.expovariate(rate)
        while tick <= until + TICK_S / 2:
            event = self.events[0][0] if self.events else math.inf
            self.now = min(event, arrival, tick)
            if self.now == tick:
                self.tell()
                yield tick
                tick += TICK_S
            elif self.now == arrival:
                self.arrive(min(self.endpoints, key=lambda each: (each.in_flight, self.rng.random())))
                arrival += self.rng.expovariate(rate)
            else:
                _, _, endpoint, item, turn = heapq.heappop(self.events)
                self.leave(endpoint, item, turn)

    def tell(self) -> None:
        for endpoint in self.endpoints:
            for usual_s, answers in endpoint.answers.items():
                endpoint.learnt.add(usual_s, answers)
            pass_time(endpoint.learnt, TICK_S)
            endpoint.answers.clear()

    def arrive(self, at: Endpoint) -> None:
        _, usual = self.rng.choices(self.kinds, [part for part, _ in self.kinds])[0]
        item = Item(self.now, self.draw(self.rng) * usual * at.usual_s, usual * at.usual_s, at.in_flight + 1)
        if at.shared:
            self.serve(at)
            at.in_flight += 1
            heapq.heappush(at.sharing, (at.served_s + item.work_s * at.slow, next(self.order), item))
            self.next_of(at)
            return
        at.in_flight += 1
        at.waiting.append(item)
        self.begin(at)

    def begin(self, at: Endpoint) -> None:
        while at.waiting and at.busy < at.slots:
            item = at.waiting.popleft()
            at.busy += 1
            heapq.heappush(self.events, (self.now + item.work_s * at.slow, next(self.order), at, item, 0))

    def serve(self, at: Endpoint) -> None:
        at.served_s += (self.now - at.served_at) * at.pace
        at.served_at = self.now

    def next_of(self, at: Endpoint) -> None:
        at.turn += 1
        if at.sharing:
            work_s, _, item = at.sharing[0]
            end = self.now + max(0.0, work_s - at.served_s) / at.pace
            heapq.heappush(self.events, (end, next(self.order), at, item, at.turn))

    def leave(self, at: Endpoint, item: Item, turn: int) -> None:
        if turn != (at.turn if at.shared else 0):
            return
        if at.shared:
            self.serve(at)
            heapq.heappop(at.sharing)
        else:
            at.busy -= 1
        at.in_flight -= 1
        at.answers.setdefault(item.usual_s, []).append((item.in_flight, self.now - item.began))
        if at.shared:
            self.next_of(at)
        else:
            self.begin(at)


def run(bench: Bench, seconds: float, rate: float) -> None:
    for _ in bench.run(seconds, rate):
        pass


def learnt(
    slots: float, load: float, draw: Draw, seconds: float = 30, seed: int = 1, usual_s: float = 0.01
) -> Endpoint:
    endpoint = Endpoint(slots, usual_s)
    run(Bench([endpoint], draw, seed), seconds, load * slots / usual_s)
    return endpoint


def near(expected: float) -> object:
    return pytest.approx(expected, rel=0.2)


@pytest.mark.parametrize("slots", [1, 2, 4, 5, 8, 16])
@pytest.mark.parametrize("draw", DRAWS)
def test_slots_are_found_at_a_load_of_85_per_cent(slots: int, draw: Draw) -> None:
    found = learnt(slots, 0.85, draw).learnt
    assert found.known
    assert found.slots == near(slots)
    assert slowness(found) == near(1)


@pytest.mark.parametrize("draw", DRAWS)
def test_64_slots_are_found_where_they_are_all_busy_now_and_then(draw: Draw) -> None:
    found = learnt(64, 0.95, draw, usual_s=0.04).learnt
    assert found.slots == pytest.approx(64, rel=0.25)


@pytest.mark.parametrize("slots", [1, 2, 4, 8, 16, 64])
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("load", [0.1, 0.3])
def test_a_low_load_does_not_look_like_few_slots(slots: int, draw: Draw, load: float) -> None:
    found = learnt(slots, load, draw, 20, usual_s=0.01 if slots < 64 else 0.04).learnt
    assert found.at_least <= 1.2 * slots
    assert found.slots is None or slots / 2 < found.slots < slots * 1.5


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("slots", [1, 4, 16])
def test_few_slow_items_leave_it_unknown_and_not_wrong(slots: int, draw: Draw) -> None:
    found = learnt(slots, 0.85, draw, 60, usual_s=0.5).learnt
    assert found.at_least <= 1.25 * slots
    assert found.slots is None or found.slots == pytest.approx(slots, rel=0.5)


@pytest.mark.parametrize("draw", DRAWS)
def test_a_change_of_slots_is_followed(draw: Draw) -> None:
    endpoint = Endpoint(8)
    bench = Bench([endpoint], draw)
    run(bench, 20, 0.85 * 800)
    assert endpoint.learnt.slots == near(8)
    endpoint.slots = 2
    run(bench, 20, 0.85 * 200)
    assert endpoint.learnt.known
    assert endpoint.learnt.slots == near(2)
    endpoint.slots = 8
    run(bench, 20, 0.85 * 800)
    assert endpoint.learnt.slots == near(8)


SPEEDS = [
    # load before, while ten times slower and after that, of what it can do at its usual speed
    (0.85, 0.085, 0.85),
    (0.85, 0.03, 0.6),
    (0.6, 0.2, 0.6),  # twice what it can do: hundreds wait
]


@pytest.mark.parametrize(("before", "slowed", "after"), SPEEDS)
@pytest.mark.parametrize("draw", [constant, exponential])
def test_ten_times_slower_is_not_fewer_slots(before: float, slowed: float, after: float, draw: Draw) -> None:
    endpoint, seen = Endpoint(4), []
    bench = Bench([endpoint], draw)
    run(bench, 20, before * 400)
    for slow, load in ((10, slowed), (1, after)):
        endpoint.slow = slow
        seen += [endpoint.learnt.slots for _ in bench.run(20, load * 400)]
        assert slowness(endpoint.learnt) == near(slow)
    assert min(seen) >= 4 / 1.2
    assert max(seen) <= 4 * 1.2


@pytest.mark.parametrize("load", [0.6, 0.85])
@pytest.mark.parametrize("draw", DRAWS)
def test_among_hosts_of_equal_queues_slots_are_found_and_outlast_a_change_of_speed(load: float, draw: Draw) -> None:
    """At 60 % there is rarely more than a slot's worth: not known, or right."""
    endpoints = [Endpoint(4) for _ in range(8)]
    bench = Bench(endpoints, draw, seed=2)
    for slow in (1, 10, 1):
        endpoints[0].slow = slow
        run(bench, 15, load * 3200)
        for endpoint in endpoints:
            assert endpoint.learnt.at_least <= 4
            assert load < 0.8 or endpoint.learnt.slots is not None
            assert endpoint.learnt.slots is None or endpoint.learnt.slots == pytest.approx(4, rel=0.25)


def test_what_the_one_with_fewer_slots_completes_is_found_among_hosts_of_equal_queues() -> None:
    """It never has less to do than it can, so that its slots cannot be told from its slowness, but for a limit."""
    few, *others = endpoints = [Endpoint(2), *(Endpoint(8) for _ in range(3))]
    run(Bench(endpoints, exponential), 20, 0.85 * 2600)
    assert [endpoint.learnt.slots for endpoint in others] == [near(8)] * 3
    assert few.learnt.slots is None
    assert 2 <= few.learnt.at_most <= 6
    assert few.learnt.within(8) == few.learnt.at_most


@pytest.mark.parametrize("draw", DRAWS)
def test_overload_that_comes_and_goes_tells_slots_too(draw: Draw) -> None:
    """As a long queue grows, far more are there when an item ends than when it began; as it shrinks, far fewer."""
    endpoint = Endpoint(4)
    bench = Bench([endpoint], draw)
    for seconds, load in ((10, 0.3), (5, 1.5), (15, 0.3), (5, 1.5), (15, 0.3)):
        for _ in bench.run(seconds, load * 400):
            assert endpoint.learnt.at_least <= 4
            assert endpoint.learnt.slots is None or 3 <= endpoint.learnt.slots <= 6
    assert endpoint.learnt.slots == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("cores", [1, 2, 4, 8])
@pytest.mark.parametrize("draw", [constant, exponential])
def test_cores_that_items_share_count_as_slots(cores: int, draw: Draw) -> None:
    """An item is slowed down by those that come after it as well, so that its own beginning says less of its time."""
    endpoint = Endpoint(cores, shared=True)
    run(Bench([endpoint], draw), 30, 0.85 * cores * 100)
    found = endpoint.learnt
    assert found.slots is not None
    assert 0.8 * cores <= found.slots <= max(2, 1.6 * cores)
    assert found.slots / slowness(found) == near(cores)


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(("hosts", "in_flight"), [(1, 2), (1, 8), (1, 30), (8, 3)])
def test_without_a_limit_nothing_is_known_and_never_few(draw: Draw, hosts: int, in_flight: int) -> None:
    endpoints = [Endpoint(math.inf) for _ in range(hosts)]
    run(Bench(endpoints, draw), 15, hosts * in_flight / 0.01)
    for endpoint in endpoints:
        assert endpoint.learnt.slots is None
        assert not endpoint.learnt.known
        assert hosts > 1 or endpoint.learnt.at_least >= in_flight


def test_hundreds_at_a_time_that_never_wait_leave_a_number_to_count_with() -> None:
    rng, endpoint = random.Random(1), Concurrency()
    for _ in range(40):
        endpoint.add(0.1, ((rng.choice([10, 100, *range(600, 1000)]), rng.expovariate(10)) for _ in range(200)))
        endpoint.wait(1.0)
        endpoint.close()
    assert endpoint.losses[-2] == MOST_LOSS, "all numbers are out"
    assert (endpoint.slots, endpoint.known, endpoint.at_least) == (None, False, SLOT_HYPOTHESES[-2])
    assert endpoint.within(8.0) == SLOT_HYPOTHESES[-2]
    assert endpoint.slowness_at(endpoint.within(8.0)) == pytest.approx(0.8, abs=0.3)


MIXES = [
    [(0.98, 1), (0.02, 20)],
    [(0.5, 1), (0.5, 3)],
    [(0.8, 1), (0.2, 10)],
]


@pytest.mark.parametrize("kinds", MIXES)
@pytest.mark.parametrize("draw", [constant, exponential])
def test_kinds_of_different_length_do_not_look_like_few_slots(kinds: list[tuple[float, float]], draw: Draw) -> None:
    endpoint = Endpoint(4)
    mean = sum(part * usual for part, usual in kinds)
    run(Bench([endpoint], draw, kinds=kinds), 40, 0.85 * 400 / mean)
    assert endpoint.learnt.slots == pytest.approx(4, rel=0.25)


def test_a_short_item_behind_long_ones_is_not_a_sign_of_few_slots() -> None:
    """Its time is fifty times the usual, that of the long ones before and behind it is nearly the usual."""
    endpoint = Endpoint(4, usual_s=0.002)
    for _ in Bench([endpoint], constant, kinds=[(0.5, 1), (0.5, 100)]).run(60, 0.85 * 4 / 0.101):
        assert endpoint.learnt.slots is None or endpoint.learnt.slots >= 2.5


def test_nothing_is_known_at_first() -> None:
    fresh = Concurrency()
    assert (fresh.slots, fresh.known, fresh.at_least, fresh.at_most) == (None, False, 1, math.inf)


def fed(endpoint: Concurrency, windows: int, in_flight: Sequence[int], time_s: Callable[[int], float]) -> Concurrency:
    for _ in range(windows):
        endpoint.add(0.01, [(number, time_s(number)) for number in in_flight] * 20)
        pass_time(endpoint, 1.0)
    return endpoint


def four(in_flight: int) -> float:
    return 0.01 * max(1.0, in_flight / 4)


def test_one_window_or_two_decide_nothing() -> None:
    endpoint = Concurrency()
    for windows in (1, 2):
        assert fed(endpoint, 1, range(1, 13), four).slots is None, windows
    assert fed(endpoint, 2, range(1, 13), four).slots == near(4)
    assert 2 * WINDOW_LOSS < DECISIVE < MOST_LOSS


@pytest.mark.parametrize("slow", [0.1, 10])
def test_another_speed_is_the_level_after_one_window(slow: float) -> None:
    endpoint = fed(fed(Concurrency(), 10, range(1, 13), four), 1, range(1, 13), lambda number: slow * four(number))
    assert slowness(endpoint) == near(slow)
    assert endpoint.slots == near(4)


@pytest.mark.parametrize("rest", [[1, 2], [9], []])
def test_what_was_learnt_holds_while_nothing_speaks_against_it(rest: list[int]) -> None:
    endpoint = fed(Concurrency(), 10, range(1, 13), four)
    fed(endpoint, 1000, rest, four)
    assert endpoint.known
    assert endpoint.slots == near(4)


def test_a_value_that_is_no_longer_certain_stays_within_what_is_possible() -> None:
    endpoint, seen = fed(Concurrency(), 20, range(1, 13), four), []
    for _ in range(20):
        fed(endpoint, 1, range(1, 13), lambda number: 0.01 * max(1.0, number / 10))
        assert endpoint.slots is not None
        assert endpoint.slots >= endpoint.at_least
        seen.append(endpoint.known)
    assert not all(seen)
    assert seen[-1]
    assert endpoint.slots == near(10)


def test_the_usual_time_may_be_any_unit() -> None:
    """Where kinds are not known, 1.0 for all does as well."""
    one, other = Concurrency(), Concurrency()
    for _ in range(10):
        answers = [(number, four(number)) for number in range(1, 13)] * 10
        one.add(0.01, answers)
        other.add(1.0, answers)
        pass_time(one, 1.0)
        pass_time(other, 1.0)
    assert one.slots == other.slots == near(4)
    assert slowness(one) == pytest.approx(100 * slowness(other))


def test_it_takes_time_and_items_to_close_a_window() -> None:
    endpoint = Concurrency()
    for _ in range(100):
        endpoint.add(0.01, [(9, 0.01)] * 3)
    assert endpoint.at_least == 1.0
    endpoint.wait(0.5)
    assert not endpoint.is_due, "no second has passed"
    endpoint.wait(0.5)
    assert endpoint.is_due
    endpoint.close()
    endpoint.wait(1000)
    assert not endpoint.is_due, "the next window has no items"
    endpoint.add(0.01, [(9, 0.01)] * 10)
    assert not endpoint.is_due
    endpoint.add(0.01, [(9, 0.01)] * 300)
    assert endpoint.is_due


GUESSES = [
    # how many are there as items begin, the slots, a guess -> what is left of it
    (range(1, 8), math.inf, 2, 7),
    (range(1, 8), math.inf, 50, 50),
    (range(20, 40), 1, 50, 20),
    (range(20, 40), 1, 2, 2),
    (range(1, 13), 4, 50, 4),
]


@pytest.mark.parametrize(("in_flight", "slots", "guess", "expected"), GUESSES)
def test_a_guess_is_kept_within_what_is_possible(
    in_flight: Sequence[int], slots: float, guess: float, expected: float
) -> None:
    endpoint = fed(Concurrency(), 20, in_flight, lambda number: 0.01 * max(1.0, number / slots))
    assert endpoint.within(guess) == near(expected)


@pytest.mark.parametrize("time_s", [0.0, 5e-324, 1e-200, 1e-12])
def test_times_too_short_to_be_told_from_none_do_no_harm(time_s: float) -> None:
    endpoint = fed(Concurrency(), 3, range(1, 13), lambda number: time_s)
    assert endpoint.slots is None
    assert fed(endpoint, 10, range(1, 13), four).slots == near(4)


ROWS = st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.01, 100), st.integers(0, len(CENTRES) - 1)), min_size=1)


@given(ROWS)
def test_misfits_are_those_of_the_definition(rows: list[tuple[float, float, int]]) -> None:
    weight, levels, misfits = judged(rows)
    assert weight == pytest.approx(sum(row[0] for row in rows))
    for slots, level, misfit in zip(SLOT_HYPOTHESES, levels, misfits, strict=True):
        alone = [ratio * min(1.0, slots / CENTRES[place]) for _, ratio, place in rows]
        mean = sum(row[0] * each for row, each in zip(rows, alone, strict=True)) / weight
        parts = [each / mean for each in alone]
        deviance = sum(2 * row[0] * (u - 1 - math.log(u)) for row, u in zip(rows, parts, strict=True))
        assert math.exp(level) == pytest.approx(mean)
        assert misfit == pytest.approx(deviance, abs=1e-6 * weight)


def test_bins_are_single_numbers_at_first_and_then_grow() -> None:
    bins, centres = binned(40)
    assert len(bins) == 41
    assert bins[1:11] == list(range(10))
    assert centres[:10] == list(range(1, 11))
    assert bins == sorted(bins)
    for place, centre in enumerate(centres[:-1]):
        hosts = [number for number, each in enumerate(bins) if each == place and number]
        assert sum(hosts) / len(hosts) == centre
        assert hosts[-1] <= hosts[0] * 1.2


ANSWERS = st.lists(st.tuples(st.integers(0, 5000), st.floats(0, 1e6)), max_size=60)


MOST_HELD = references(Concurrency()) + 6 * len(CENTRES)
"""A bin, its place and the four sums of it."""


@given(st.lists(st.tuples(st.floats(1e-6, 1e3), ANSWERS, st.floats(0, 5)), max_size=30))
def test_whatever_comes_the_figures_can_be_used(ticks: list[tuple[float, list[tuple[int, float]], float]]) -> None:
    endpoint = Concurrency()
    for usual_s, answers, dt_s in ticks:
        endpoint.add(usual_s, answers)
        pass_time(endpoint, dt_s)
        assert endpoint.at_least >= 1
        assert endpoint.at_least <= endpoint.at_most
        assert 0 < (endpoint.slowness_at(8.0) or 1.0) < math.inf
        assert references(endpoint) <= MOST_HELD
        if endpoint.slots is not None:
            assert endpoint.at_least <= endpoint.slots * 1.000001 < math.inf
        assert not endpoint.known or endpoint.slots is not None
    assert len(BINS) == MOST_IN_FLIGHT + 1


@given(st.floats(0.25, MOST_SLOTS))
def test_the_nearest_hypothesis_differs_by_the_smallest_factor(slots: float) -> None:
    distances = [abs(math.log(each / slots)) for each in SLOT_HYPOTHESES]
    assert distances[nearest_hypothesis(slots)] == pytest.approx(min(distances), abs=1e-12)
