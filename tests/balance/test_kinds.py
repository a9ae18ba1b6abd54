"""Usual times by kind: what the first answers show, what is learnt on, which places are given back."""

import math
import random
from collections.abc import Hashable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.footprint import references
from tierlb.balance.kind_counts import MOST_COUNTED_KINDS, REST
from tierlb.balance.kind_places import ANSWER_FORMS, MOST_KINDS, OTHER_KINDS
from tierlb.balance.kinds import KEPT_FROM, KIND_SWEEP_S, Answers, Kinds
from tierlb.balance.usual_times import KNOWN_FROM, MOST_CHANGE, SHORTEST_USUAL_S, USUAL_MEMORY

TICK_S = 0.05


def knowing(*usual_s: float) -> tuple[Kinds, list[int]]:
    """One that knows a kind of each of these times, and their numbers."""
    kinds = Kinds()
    numbers = [kinds.number(place) for place in range(len(usual_s))]
    kinds.judge({number: [time_s] * 100 for number, time_s in zip(numbers, usual_s, strict=True)})
    kinds.learn(0.0)
    return kinds, numbers


def seen(kinds: Kinds, ticks: int, times: dict[int, list[float]], expected: float = 1.0) -> None:
    """The same answers at every tick, at one host."""
    for _ in range(ticks):
        kinds.judge(times, expected)
        kinds.learn(0.0)


# What is told of a host.


def test_a_kind_tells_nothing_before_enough_answers() -> None:
    kinds = Kinds()
    number = kinds.number("a")
    for _ in range(KNOWN_FROM - 1):
        assert kinds.judge({number: [0.2]}) == Answers()
        kinds.learn(0.0)
    assert kinds.judge({number: [0.2]}) == Answers(1, pytest.approx(0.2), pytest.approx(1))
    assert kinds.judge({number: [0.4]}) == Answers(1, pytest.approx(0.2), pytest.approx(2))


def test_each_answer_is_compared_with_its_own_kind() -> None:
    kinds, (short, long) = knowing(0.002, 0.2)
    assert kinds.judge({short: [0.004, 0.004], long: [0.4]}) == Answers(
        count=3, work_s=pytest.approx(0.204), ratios=pytest.approx(6)
    )


def test_a_stream_is_another_kind_than_an_answer_of_known_length() -> None:
    kinds = Kinds()
    number = kinds.number("a")
    seen(kinds, 1, {number: [0.01] * 20, number + 1: [3.0] * 20})
    assert kinds.usual_s[number : number + ANSWER_FORMS] == pytest.approx([0.01, 3.0])
    assert kinds.expected_s(number) == pytest.approx(3.0), "before it is answered its form is not known"
    assert kinds.judge({number: [0.01], number + 1: [3.0]}).ratios == pytest.approx(2)


def test_one_answer_counts_for_no_more_than_the_highest_ratio() -> None:
    kinds, (number,) = knowing(0.01)
    assert kinds.judge({number: [500.0, 0.01]}, highest=7.0).ratios == pytest.approx(7 + 1)
    assert kinds.judge({number: [0.02, 0.01]}, highest=7.0).ratios == pytest.approx(2 + 1)


@pytest.mark.parametrize("parts", [(50, 0), (0, 50), (25, 25), (49, 1), (1, 49)])
def test_the_same_ratio_is_seen_whatever_the_mix(parts: tuple[int, int]) -> None:
    kinds, numbers = knowing(0.002, 0.2)
    times = {number: [3 * kinds.usual_s[number]] * count for number, count in zip(numbers, parts, strict=True) if count}
    answers = kinds.judge(times)
    assert (answers.count, answers.ratios / answers.count) == (50, pytest.approx(3))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.floats(0.1, 10)), min_size=1, max_size=40),
    st.floats(0.2, 5),
)
def test_ratios_are_those_of_the_definition(items: list[tuple[int, float]], slow: float) -> None:
    usual_s = [0.001, 0.02, 0.5, 4.0]
    kinds, numbers = knowing(*usual_s)
    times: dict[int, list[float]] = {}
    for place, ratio in items:
        times.setdefault(numbers[place], []).append(slow * ratio * usual_s[place])
    answers = kinds.judge(times)
    assert answers.ratios == pytest.approx(sum(slow * ratio for _, ratio in items))
    assert answers.work_s == pytest.approx(sum(usual_s[place] for place, _ in items))


# What is learnt.


def test_a_usual_time_is_that_of_a_host_of_slowness_1() -> None:
    """One of two equal kinds is seen only at a host that is four times slower."""
    kinds = Kinds()
    one, other = kinds.number("a"), kinds.number("b")
    kinds.judge({one: [0.1] * 20}, expected=1.0)
    kinds.judge({other: [0.4] * 20}, expected=4.0)
    kinds.learn(0.0)
    assert [kinds.usual_s[one], kinds.usual_s[other]] == pytest.approx([0.1, 0.1])


def test_kinds_that_different_hosts_answer_are_compared_by_what_is_expected_of_those() -> None:
    """One kind goes to a host that is four times slower, the other to two that are not; all of it in one tick."""
    kinds, (one, other) = knowing(0.01, 0.01)
    for _ in range(400):
        kinds.judge({one: [0.04] * 10}, expected=4.0)
        kinds.judge({other: [0.015] * 10}, expected=1.0)
        kinds.judge({other: [0.005] * 10}, expected=1.0)
        kinds.learn(0.0)
    assert [kinds.usual_s[one], kinds.usual_s[other]] == pytest.approx([0.01, 0.01])


@pytest.mark.parametrize("factor", [0.1, 0.5, 2.0, 10.0])
def test_when_all_answers_become_slower_alike_the_usual_times_stay(factor: float) -> None:
    kinds, (short, long) = knowing(0.002, 0.2)
    seen(kinds, 200, {short: [0.002 * factor] * 30, long: [0.2 * factor] * 5})
    assert [kinds.usual_s[short], kinds.usual_s[long]] == pytest.approx([0.002, 0.2])


def test_a_kind_that_is_alone_keeps_its_usual_time_whatever_becomes_of_it() -> None:
    kinds, (number,) = knowing(0.01)
    seen(kinds, 200, {number: [0.3] * 10})
    assert kinds.usual_s[number] == pytest.approx(0.01)


def test_how_kinds_compare_is_learnt_on() -> None:
    """One takes half as much again from now on; the one that is answered most stays what it was."""
    kinds, (one, other) = knowing(0.01, 0.01)
    seen(kinds, 400, {one: [0.015] * 10, other: [0.01] * 11})
    assert kinds.usual_s[one] == pytest.approx(0.015, rel=0.01)
    assert kinds.usual_s[other] == pytest.approx(0.01)


def test_a_long_kind_of_which_too_little_was_believed_does_not_change_the_others() -> None:
    """It has most of the time and few of the answers."""
    kinds, (short, long) = knowing(0.01, 0.1)
    seen(kinds, 400, {short: [0.01] * 50, long: [0.3] * 10})
    assert kinds.usual_s[long] == pytest.approx(0.3, rel=0.01)
    assert kinds.usual_s[short] == pytest.approx(0.01)


@pytest.mark.parametrize("counts", [(3, 1), (1, 1), (30, 2), (2, 30)])
def test_how_kinds_compare_is_right_in_the_mean_though_a_tick_has_few_answers(counts: tuple[int, int]) -> None:
    """Exponential times, the long kind was taken for half as long at first."""
    rng, (kinds, (short, long)) = random.Random(1), knowing(0.005, 0.05)
    seen = []
    for tick in range(6000):
        drawn = [
            [rng.expovariate(1) * mean for _ in range(count)] for mean, count in zip((0.005, 0.1), counts, strict=True)
        ]
        kinds.judge({short: drawn[0], long: drawn[1]})
        kinds.learn(0.0)
        if tick > 3000:
            seen.append(math.log(kinds.usual_s[long] / kinds.usual_s[short]))
    assert math.exp(sum(seen) / len(seen)) == pytest.approx(20, rel=0.15)


def test_no_tick_moves_a_usual_time_by_more_than_the_most() -> None:
    kinds, (one, other) = knowing(0.01, 0.01)
    seen(kinds, 1, {one: [0.64] * 500, other: [0.01] * 20_000})
    assert kinds.usual_s[one] == pytest.approx(0.01 * MOST_CHANGE)
    seen(kinds, 1, {one: [0.0] * 20_000, other: [0.01] * 20_000})
    assert kinds.usual_s[one] == pytest.approx(0.01)


def test_a_single_tick_moves_a_usual_time_little() -> None:
    kinds, (one, other) = knowing(0.01, 0.01)
    seen(kinds, 1, {one: [0.1] * 5, other: [0.01] * 5})
    assert kinds.usual_s[one] == pytest.approx(0.01, rel=5 / USUAL_MEMORY)


def test_a_kind_that_gives_no_answers_keeps_its_usual_time() -> None:
    kinds, (one, other) = knowing(0.01, 0.2)
    seen(kinds, 100, {one: [0.05] * 10})
    assert kinds.usual_s[other] == pytest.approx(0.2)


def test_a_kind_that_comes_late_is_measured_in_the_unit_of_the_others() -> None:
    """All hosts are three times slower by then, which their slowness says."""
    kinds, (first,) = knowing(0.01)
    seen(kinds, 50, {first: [0.03] * 10}, expected=3.0)
    late = kinds.number("late")
    seen(kinds, 50, {first: [0.03] * 10, late: [0.3] * 10}, expected=3.0)
    assert kinds.usual_s[late] == pytest.approx(0.1, rel=0.01)


def test_answers_that_take_no_time_leave_something_to_divide_by() -> None:
    kinds, (one, other) = knowing(0.01, 0.01)
    seen(kinds, 2000, {one: [0.0] * 400, other: [0.01] * 401})
    assert kinds.usual_s[one] == SHORTEST_USUAL_S
    assert math.isfinite(kinds.judge({one: [0.01]}).ratios)


TIMES = st.lists(st.floats(-1, 1e9), min_size=1, max_size=5)
LOOKS = st.lists(
    st.tuples(st.dictionaries(st.integers(0, 9), TIMES, max_size=4), st.floats(1e-3, 1e9), st.floats(0, 20)),
    max_size=60,
)


@given(LOOKS)
def test_whatever_comes_the_figures_are_finite_and_usual_times_can_be_divided_by(
    looks: list[tuple[dict[int, list[float]], float, float]],
) -> None:
    kinds, now = Kinds(), 0.0
    for times, expected, dt_s in looks:
        answers = kinds.judge(times, expected)
        assert all(0 <= each < math.inf for each in (answers.work_s, answers.ratios))
        now += dt_s
        kinds.learn(now)
        assert all(usual_s == 0 or SHORTEST_USUAL_S <= usual_s < math.inf for usual_s in kinds.usual_s)


@given(st.floats(1e-3, 1e3), st.integers(0, 100))
def test_in_another_unit_of_time_the_ratios_are_the_same(unit: float, seed: int) -> None:
    rng, ratios = random.Random(seed), []
    rows = [[(place, 10**-place * rng.uniform(0.2, 5)) for place in range(3) for _ in range(4)] for _ in range(12)]
    for factor in (1.0, unit):
        kinds = Kinds()
        numbers, found = [kinds.number(place) for place in range(3)], []
        for row in rows:
            times: dict[int, list[float]] = {}
            for place, time_s in row:
                times.setdefault(numbers[place], []).append(time_s * factor)
            found.append(kinds.judge(times).ratios)
            kinds.learn(0.0)
        ratios.append(found)
    assert ratios[1] == pytest.approx(ratios[0], rel=1e-6)


# Places.


def test_numbers_are_even_and_stay() -> None:
    kinds = Kinds()
    numbers = [kinds.number(key) for key in range(MOST_KINDS - 1)]
    assert len({*numbers, OTHER_KINDS}) == MOST_KINDS
    assert {number % ANSWER_FORMS for number in numbers} == {0}
    assert [kinds.number(key) for key in range(MOST_KINDS - 1)] == numbers
    assert kinds.number("one more") == OTHER_KINDS


def answered(kinds: Kinds, key: Hashable, count: int = KEPT_FROM) -> int:
    number = kinds.number(key)
    kinds.judge({number: [0.01] * count})
    return number


def full() -> Kinds:
    kinds = Kinds()
    for key in range(MOST_KINDS - 1):
        answered(kinds, key)
    return kinds


def test_a_kind_with_hardly_any_traffic_gives_its_place_to_another() -> None:
    kinds = full()
    kinds.number("waits")
    kinds.learn(KIND_SWEEP_S)
    assert kinds.number("waits") == OTHER_KINDS, "all were busy"
    for key in range(1, MOST_KINDS - 1):
        answered(kinds, key)
    kinds.learn(2 * KIND_SWEEP_S)
    assert kinds.number("waits") == kinds.number("waits") != OTHER_KINDS
    assert kinds.number(0) == OTHER_KINDS
    assert kinds.number(1) != OTHER_KINDS


def test_while_none_waits_for_a_place_all_keep_theirs() -> None:
    kinds = full()
    places = [kinds.place(key) for key in range(MOST_KINDS - 1)]
    for sweep in range(1, 10):
        kinds.learn(sweep * KIND_SWEEP_S)
    assert OTHER_KINDS not in {place.number for place in places}
    kinds.number("waits")
    kinds.learn(10 * KIND_SWEEP_S)
    answered(kinds, 0)
    kinds.learn(11 * KIND_SWEEP_S)
    kinds.learn(12 * KIND_SWEEP_S)
    assert kinds.expected_s(kinds.number(0)) > 0, "it came when none waited any more"


def test_between_two_sweeps_no_place_is_given_back() -> None:
    kinds = Kinds()
    for key in range(MOST_KINDS):
        kinds.number(key)
    kinds.learn(KIND_SWEEP_S - 0.01)
    assert kinds.number("waits") == OTHER_KINDS
    kinds.learn(KIND_SWEEP_S)
    for key in range(MOST_KINDS):
        kinds.number(key)
    kinds.learn(2 * KIND_SWEEP_S - 0.01)
    assert kinds.number("waits") == OTHER_KINDS
    kinds.learn(2 * KIND_SWEEP_S)
    assert kinds.number("waits") != OTHER_KINDS


def test_polls_that_are_hardly_ever_answered_keep_their_place() -> None:
    kinds = full()
    answered_once, poll = kinds.place(0), kinds.place(1)
    for _ in range(2 * KEPT_FROM):
        kinds.note_parked(poll.number)
    kinds.learn(KIND_SWEEP_S)
    kinds.number("waits")
    kinds.learn(2 * KIND_SWEEP_S)
    assert answered_once.number == OTHER_KINDS
    assert poll.number != OTHER_KINDS
    assert kinds.long[poll.number]


def test_of_a_kind_that_lost_its_place_nothing_is_left_to_the_next() -> None:
    kinds = Kinds()
    places = [kinds.place(key) for key in range(MOST_KINDS - 1)]
    numbers = [place.number for place in places]

    def is_answered_and_parked() -> None:
        for number in numbers:
            seen(kinds, 1, {number: [0.5] * KNOWN_FROM, number + 1: [9.0] * KNOWN_FROM})
            for _ in range(3 * KNOWN_FROM):
                kinds.note_parked(number)

    is_answered_and_parked()
    sweeps = 0
    while OTHER_KINDS not in {place.number for place in places}:
        kinds.number("waits")
        sweeps += 1
        kinds.learn(sweeps * KIND_SWEEP_S)
    is_answered_and_parked()  # by items that began before
    number = kinds.number("waits")
    assert number in numbers
    assert (kinds.expected_s(number), kinds.long[number]) == (0.0, False)
    assert kinds.judge({number: [1.0, 1.0]}) == Answers()
    kinds.note_parked(number)
    assert not kinds.long[number], "one was parked and two answered"


def test_items_of_a_kind_that_lost_its_place_count_as_of_the_rest() -> None:
    kinds = full()
    told: list[str] = []
    kinds.places.on_freed = lambda: told.append("anew")
    kept, lost = kinds.place(1), kinds.place(0)
    kinds.number("waits")
    kinds.learn(KIND_SWEEP_S)
    assert not told, "all were busy"
    before = lost.number
    answered(kinds, 1)
    kinds.number("waits")
    kinds.learn(2 * KIND_SWEEP_S)
    assert (lost.number, kept.number, told) == (OTHER_KINDS, kinds.number(1), ["anew"])
    taken = {kinds.number(key) for key in range(MOST_KINDS, 2 * MOST_KINDS - 2)}
    assert before in taken
    assert OTHER_KINDS not in taken
    assert kinds.place(0).number == OTHER_KINDS


def test_a_kind_without_a_place_holds_none_when_one_is_free_again() -> None:
    kinds = full()
    rest = kinds.place("waits")
    kinds.learn(KIND_SWEEP_S)
    kinds.place("waits")
    kinds.learn(2 * KIND_SWEEP_S)
    assert kinds.place("waits").number != rest.number == OTHER_KINDS


MOST_HELD = references(Kinds()) + 3 * MOST_KINDS + 8 * (MOST_COUNTED_KINDS + 1)
"""A place is a key, an object and its number; a kind with a count of its own has two figures, now and at a sweep."""


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 20), st.floats(0, 8), st.booleans()), max_size=300))
def test_however_many_keys_come_memory_is_bounded(steps: list[tuple[int, int, float, bool]]) -> None:
    kinds, now = full(), 0.0
    places = {key: kinds.place(key) for key in range(MOST_KINDS - 1)}
    numbers = [place.number for place in places.values()]
    for key, count, dt_s, parked in steps:
        now += dt_s
        places[key] = kinds.place(key)
        number = places[key].number
        if count:
            kinds.judge({number + (key % 2): [0.01] * count})
        if parked:
            kinds.note_parked(number)
        kinds.learn(now)
        numbers = [place.number for place in places.values() if place.number != OTHER_KINDS]
        assert len(set(numbers)) == len(numbers) < MOST_KINDS
        assert len(kinds.usual_s) == len(kinds.long) == MOST_KINDS * ANSWER_FORMS
    assert references(kinds) <= MOST_HELD
    others = [kinds.number(("another", key)) for key in range(MOST_KINDS)]
    assert sorted({OTHER_KINDS, *numbers, *others}) == list(range(0, MOST_KINDS * ANSWER_FORMS, ANSWER_FORMS))


# Long ones.


@pytest.mark.parametrize(
    ("parked", "known", "streams", "long"),
    [(1, 0, 0, True), (1, 1, 0, True), (1, 2, 0, False), (1, 1, 1, False), (5, 4, 5, True), (5, 5, 5, False)],
)
def test_a_kind_is_long_when_most_of_it_is_parked(parked: int, known: int, streams: int, long: bool) -> None:
    kinds = Kinds()
    number = kinds.number("a")
    if known:
        kinds.judge({number: [0.01] * known})
    if streams:
        kinds.judge({number + 1: [0.01] * streams})
    for _ in range(parked):
        kinds.note_parked(number)
    assert kinds.long[number] is long
    assert not any(each for place, each in enumerate(kinds.long) if place != number)


def test_a_kind_that_is_long_no_longer_is_found_out_at_the_next_sweep() -> None:
    kinds = Kinds()
    number = kinds.number("a")
    for _ in range(4):
        kinds.note_parked(number)
    kinds.judge({number: [0.01] * 20})
    assert kinds.long[number]
    kinds.learn(KIND_SWEEP_S)
    assert not kinds.long[number]


# The mean work of a pool.


def test_all_nodes_call_a_kind_the_same_and_none_as_the_rest() -> None:
    first, second = Kinds(), Kinds()
    second.number("another")
    number, other = first.number(("GET", b"/x")), second.number(("GET", b"/x"))
    assert number != other
    assert first.places.keys[number] == second.places.keys[other]
    assert (
        len(
            {
                first.places.keys[number],
                first.places.keys[number + 1],
                second.places.keys[second.number("another")],
                REST,
            }
        )
        == 4
    )
    assert first.places.keys[OTHER_KINDS] == REST
    assert 0 < first.places.keys[number] < 2**32


def test_what_a_child_said_is_judged_as_answers_are_and_said_on() -> None:
    heard, seen = Kinds(), Kinds()
    for ratio in (1.0, 1.0, 3.0):
        said = heard.judge_reported([(2, 20, 20 * ratio * 0.01)])
        own = seen.judge({seen.number("x"): [ratio * 0.01] * 20})
        assert (said.count, said.ratios, said.work_s) == pytest.approx((own.count, own.ratios, own.work_s))
    assert heard.counts.value() == ((2, 60, pytest.approx(1.0)),)
    assert [entry[1:] for entry in seen.counts.value()] == [(60, pytest.approx(1.0))]


def test_of_a_child_that_is_shared_only_a_part_is_said_on() -> None:
    kinds = Kinds()
    assert kinds.judge_reported([(2, 20, 1.0), (REST, 10, 1.0)], part=0.5).count == 30
    assert kinds.counts.value() == ((2, 10, 0.5), (REST, 5, 0.5))
