"""The formulas of outlier detection as tables, and runs as the errors of one endpoint make them."""

import math
import random

import pytest

from tierlb.balance.outlier import (
    CHANCE,
    LEAST_HOSTS,
    LEAST_VOLUME,
    LONGEST_OUTLIER_EJECTION_S,
    AnswerCounts,
    HostFault,
    RecentAnswers,
    Runs,
    excess,
    is_sign,
    is_sign_alone,
    lasting_excess,
    low_success_rates,
    may_eject,
    outlier_ejection_s,
    run_needed,
)

GOOD = AnswerCounts(1000, 0)


@pytest.mark.parametrize(
    ("configured", "error_share", "needed"),
    [
        (5, 0.0, 5),
        (5, 0.01, 5),
        (5, 0.1, 9),
        (5, 0.5, 30),
        (5, 0.9, 197),
        (100, 0.1, 100),
        (5, 1.0, None),
        (1, 0.0, 1),
    ],
)
def test_a_run_is_longer_the_more_the_siblings_fail(configured: int, error_share: float, needed: int | None) -> None:
    assert run_needed(configured, error_share) == needed


@pytest.mark.parametrize(
    ("configured", "error_share", "ended", "needed"),
    [(5, 0.0, 100, 5), (5, 0.1, 2, 9), (5, 0.1, 4, 12), (20, 0.1, 4, 20)],
)
def test_where_siblings_fail_too_a_run_is_longer_than_those_that_good_answers_ended(
    configured: int, error_share: float, ended: int, needed: int
) -> None:
    assert run_needed(configured, error_share, ended) == needed


@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_run_that_is_needed_is_one_that_chance_does_not_explain(share: float) -> None:
    needed = run_needed(1, share)
    assert needed is not None
    assert share**needed <= CHANCE < share ** (needed - 1)


@pytest.mark.parametrize(
    ("length", "share", "ended", "sign"),
    [
        (4, 0.0, 0, False),
        (5, 0.0, 0, True),
        (29, 0.5, 0, False),
        (30, 0.5, 0, True),
        (35, 0.1, 12, False),
        (36, 0.1, 12, True),
        (10**6, 1.0, 0, False),
    ],
)
def test_a_run_is_a_sign_from_the_length_on_that_is_needed(length: int, share: float, ended: int, sign: bool) -> None:
    assert is_sign(length, 5, share, ended) is sign


@pytest.mark.parametrize(
    ("endpoints", "needed"),
    [(2, 17), (3, 12), (4, 11), (10, 7), (100, 5)],
)
def test_beside_good_answers_only_so_many_errors_are_a_sign_where_endpoints_are_asked_in_turn(
    endpoints: int, needed: int
) -> None:
    signs = [is_sign_alone(length, 5, (endpoints - 1) * length) for length in range(100)]
    assert signs == [False] * needed + [True] * (100 - needed)


@pytest.mark.parametrize(("errors", "good"), [(5, 200), (12, 24), (17, 17), (30, 9)])
def test_a_run_beside_good_answers_is_judged_by_the_ways_to_spread_the_errors(errors: int, good: int) -> None:
    assert is_sign_alone(errors, 1, good) is (math.comb(errors + good, errors) >= 1 / CHANCE)


@pytest.mark.parametrize(
    ("length", "configured", "good", "ended", "sign"),
    [
        (1000, 5, 0, 0, False),
        (1000, 1001, 1000, 0, False),
        (29, 5, 1000, 10, False),
        (30, 5, 1000, 10, True),
        (0, 1, 0, 0, False),
    ],
)
def test_a_run_beside_good_answers_is_as_long_as_is_configured_and_as_runs_of_siblings_demand(
    length: int, configured: int, good: int, ended: int, sign: bool
) -> None:
    assert is_sign_alone(length, configured, good, ended) is sign


@pytest.mark.parametrize(
    ("hosts", "outliers"),
    [
        ([GOOD] * 4 + [AnswerCounts(1000, 500)], [4]),
        ([AnswerCounts(1000, 500)] + [GOOD] * 4, [0]),
        ([GOOD] * 8 + [AnswerCounts(1000, 900), AnswerCounts(1000, 950)], [8, 9]),
        ([GOOD] * 3 + [AnswerCounts(1000, 1000)], []),  # too few to tell
        ([GOOD] * 4 + [AnswerCounts(LEAST_VOLUME - 1, 50)], []),  # too little traffic, and then too few
        ([GOOD] * 4 + [AnswerCounts(1000, 1)], []),  # far off by deviations, and nothing by any other measure
        ([GOOD] * 4 + [AnswerCounts(1000, 80)], [4]),
        (
            [AnswerCounts(10**6, 0)] * 4 + [AnswerCounts(10**6, 10**4)],
            [],
        ),  # by deviations and beyond chance, but by 1 % alone
        ([GOOD] * 3 + [AnswerCounts(1000, 500)] * 2, []),  # where so many are low none is far from the others
        ([AnswerCounts(1000, 500)] * 5, []),
        ([AnswerCounts(1000, 500)] * 4 + [AnswerCounts(100, 65)], []),  # chance
        ([], []),
    ],
)
def test_a_success_rate_is_too_low_by_deviations_by_a_gap_and_beyond_chance(
    hosts: list[AnswerCounts], outliers: list[int]
) -> None:
    assert low_success_rates(hosts) == outliers


def test_siblings_that_fail_alike_are_no_outliers_however_many_they_are() -> None:
    """By deviations alone some of twenty equal endpoints would be ejected in most intervals."""
    rng, found = random.Random(1), 0
    for _ in range(200):
        hosts = [AnswerCounts(200, sum(rng.random() < 0.4 for _ in range(200))) for _ in range(20)]
        found += len(low_success_rates(hosts))
    assert found <= 2


def test_five_are_enough_to_tell_one() -> None:
    assert low_success_rates([GOOD] * (LEAST_HOSTS - 1) + [AnswerCounts(1000, 1000)]) == [LEAST_HOSTS - 1]


@pytest.mark.parametrize(
    ("hosts", "out", "most", "may"),
    [
        (1, 0, 0.5, False),
        (2, 0, 0.5, True),
        (2, 1, 0.5, False),
        (3, 0, 0.5, True),
        (3, 1, 0.5, False),
        (4, 1, 0.5, True),
        (4, 2, 0.5, False),
        (10, 0, 0.01, True),
        (10, 1, 0.01, False),
        (10, 4, 0.5, True),
        (10, 5, 0.5, False),
        (0, 0, 0.5, False),
    ],
)
def test_so_many_may_be_out_at_once(hosts: int, out: int, most: float, may: bool) -> None:
    assert may_eject(hosts, out, most) is may


@pytest.mark.parametrize(
    ("base_s", "times", "lasts_s"),
    [(5, 0, 5), (5, 1, 10), (5, 4, 80), (5, 50, LONGEST_OUTLIER_EJECTION_S), (600, 0, 600), (600, 3, 600)],
)
def test_each_ejection_lasts_twice_as_long(base_s: float, times: int, lasts_s: float) -> None:
    assert outlier_ejection_s(base_s, times) == lasts_s


def test_a_good_answer_ends_a_run() -> None:
    runs = Runs()
    assert [runs.add(0, HostFault.ANSWER, 0.0) for _ in range(3)] == [True, False, False]
    assert runs.length == 3
    assert runs.add(1, HostFault.ANSWER, 0.0)
    assert (runs.length, runs.faults) == (1, 4)


def test_errors_are_alone_from_the_siblings_latest_error_on() -> None:
    runs = Runs()
    looks = []
    known = [(100, 7), (110, 7), (115, 8), (130, 8), (90, 5), (91, 5), (50, 5), (52, 5)]  # endpoints leave, too
    for others in [AnswerCounts(*each) for each in known]:
        if runs.add(0, HostFault.ANSWER, 0.0):
            runs.begins_beside(AnswerCounts(100, 7))
        looks.append(runs.alone(others))
    assert looks == [(1, 0), (2, 10), (0, 0), (1, 15), (0, 0), (1, 1), (0, 0), (1, 2)]


def test_the_errors_that_probation_presumes_are_not_alone() -> None:
    runs = Runs()
    runs.begins_beside(AnswerCounts(100, 7))
    runs.on_probation(7, 5)
    assert not runs.add(7, HostFault.ANSWER, 0.0)
    assert runs.alone(AnswerCounts(102, 7)) == (1, 2)


def test_good_answers_before_a_run_do_not_end_it() -> None:
    runs = Runs()
    assert [runs.add(7, HostFault.ANSWER, 0.0) for _ in range(3)] == [True, False, False]
    assert runs.length == 3


def test_a_run_knows_when_it_began_and_how_long_there_had_been_no_error() -> None:
    """By both, the endpoint to which errors moved can be distinguished from the one that was ejected for them."""
    runs = Runs()
    runs.add(1, HostFault.ANSWER, 100.0)
    assert (runs.began, runs.quiet_s) == (100.0, math.inf)
    runs.add(1, HostFault.ANSWER, 104.0)
    assert (runs.began, runs.quiet_s) == (100.0, math.inf), "the same run"
    runs.add(2, HostFault.ANSWER, 110.0)
    assert (runs.began, runs.quiet_s) == (110.0, 6.0)


def test_the_longest_run_that_ended_is_known_for_this_interval_and_the_next() -> None:
    runs, good = Runs(), 0
    for length in (4, 2, 1):
        for _ in range(length):
            runs.add(good, HostFault.ANSWER, 0.0)
        good += 1
    assert runs.longest_ended == 4
    runs.turn()
    assert runs.longest_ended == 4
    runs.add(good, HostFault.ANSWER, 0.0)
    runs.add(good + 1, HostFault.ANSWER, 0.0)
    runs.turn()
    assert runs.longest_ended == 1
    runs.turn()
    assert runs.longest_ended == 0


def test_a_new_run_is_looked_at_from_its_own_threshold_on() -> None:
    runs = Runs()
    runs.add(0, HostFault.ANSWER, 0.0)
    runs.look_again_at(100)
    for _ in range(5):
        runs.add(1, HostFault.ANSWER, 0.0)
    assert runs.is_long(5, 5)


def test_gateway_errors_in_a_row_end_with_an_answer_of_any_kind() -> None:
    runs = Runs()
    for fault in (HostFault.GATEWAY, HostFault.GATEWAY, HostFault.ANSWER, HostFault.GATEWAY):
        runs.add(0, fault, 0.0)
    assert (runs.length, runs.gateway) == (4, 1)


def test_a_run_is_looked_at_from_its_threshold_on_and_not_with_each_error() -> None:
    runs = Runs()
    looked_at = []
    for _ in range(40):
        runs.add(0, HostFault.ANSWER, 0.0)
        if runs.is_long(5, 5):
            looked_at.append(runs.length)
            runs.look_again_at(runs.length + 10)
    assert looked_at == [5, 15, 25, 35]


def test_the_lower_threshold_of_gateway_errors_counts_too() -> None:
    runs = Runs()
    for _ in range(2):
        runs.add(0, HostFault.GATEWAY, 0.0)
    assert runs.is_long(5, 2)
    assert not runs.is_long(5, 3)


@pytest.mark.parametrize(("good", "length"), [(7, 5), (8, 1)])
def test_on_probation_one_error_is_enough_but_not_after_a_good_answer(good: int, length: int) -> None:
    runs = Runs()
    runs.on_probation(7, 5)
    runs.add(good, HostFault.ANSWER, 0.0)
    assert runs.length == length


def test_probation_begins_without_what_was_before() -> None:
    runs = Runs()
    for _ in range(9):
        runs.add(0, HostFault.GATEWAY, 0.0)
    runs.look_again_at(100)
    runs.on_probation(0, 5)
    runs.add(0, HostFault.GATEWAY, 0.0)
    assert runs.is_long(5, 2)
    assert runs.gateway == 1


@pytest.mark.parametrize(
    ("counts", "share"),
    [(AnswerCounts(), 0.0), (AnswerCounts(4, 1), 0.25), (AnswerCounts(1, 2), 1.0), (AnswerCounts(0, 3), 0.0)],
)
def test_an_error_share_is_one_whatever_the_counts(counts: AnswerCounts, share: float) -> None:
    assert counts.error_share == share


@pytest.mark.parametrize(
    ("own", "others", "part"),
    [
        (RecentAnswers(1, 1), RecentAnswers(), 1.0),
        (RecentAnswers(100, 1), RecentAnswers(300, 0), 1.0),
        (RecentAnswers(100, 100), RecentAnswers(300, 300), 0.0),
        (RecentAnswers(100, 40), RecentAnswers(300, 150), 0.0),
        (RecentAnswers(100, 55), RecentAnswers(300, 150), 0.0),  # chance
        (RecentAnswers(100, 69), RecentAnswers(300, 150), 0.0),
        (RecentAnswers(100, 100), RecentAnswers(300, 150), 0.3),
        (RecentAnswers(0.1, 0.1), RecentAnswers(), 1.0),  # faded
        (RecentAnswers(), RecentAnswers(100, 10), 0.0),
    ],
)
def test_errors_count_as_load_as_far_as_siblings_do_not_have_them_too(
    own: RecentAnswers, others: RecentAnswers, part: float
) -> None:
    assert excess(own, others) == pytest.approx(part)


@pytest.mark.parametrize(
    ("own", "others", "part"),
    [
        (RecentAnswers(25, 1), RecentAnswers(75, 0), 0.0),  # one error in a hundred
        (RecentAnswers(25, 10), RecentAnswers(75, 0), 0.74),
        (RecentAnswers(1, 1), RecentAnswers(), 1.0),
        (RecentAnswers(0.1, 0.1), RecentAnswers(3, 0), 1.0),  # not a good answer
        (RecentAnswers(1, 1), RecentAnswers(3, 2), 0.0),
        (RecentAnswers(20, 12), RecentAnswers(60, 40), 0.0),
        (RecentAnswers(), RecentAnswers(100, 10), 0.0),
    ],
)
def test_a_penalty_lasts_only_if_chance_does_not_explain_the_errors(
    own: RecentAnswers, others: RecentAnswers, part: float
) -> None:
    assert lasting_excess(own, others) == pytest.approx(part, abs=0.01)


def test_recent_counts_fade() -> None:
    recent = RecentAnswers()
    recent.add(AnswerCounts(10, 4), 0.0)
    recent.add(AnswerCounts(2, 2), 0.5)
    assert (recent.done, recent.faults, recent.error_share) == (7, 4, 4 / 7)
    assert RecentAnswers().error_share == 0.0
    assert RecentAnswers(1.0, 2.0).error_share == 1.0
