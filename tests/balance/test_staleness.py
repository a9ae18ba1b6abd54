"""The first three rows of the failure ladder as a table."""

import pytest

from tierlb.balance.staleness import (
    MOST_SPARE_S,
    NOT_OWED,
    OLD_INTERVALS,
    counted_age_s,
    is_old,
    spare_s,
    trusted_capacity,
)

LADDER = [
    # reported, age in intervals, connected, siblings' median -> trusted
    (None, None, True, 100.0, None),  # joined, nothing said yet
    (300.0, 0.0, True, 100.0, 300.0),
    (300.0, 8.0, True, 100.0, 300.0),  # late is normal
    (300.0, 10.0, True, 100.0, 300.0),
    (300.0, 10.1, True, 100.0, 100.0),  # old: no more than the others
    (50.0, 10.1, True, 100.0, 50.0),
    (300.0, 10.1, True, None, 300.0),  # no others to go by
    (300.0, 0.0, False, 100.0, 100.0),  # socket gone
    (50.0, 0.0, False, 100.0, 100.0),
    (300.0, 0.0, False, None, None),
]


@pytest.mark.parametrize(("reported", "intervals", "connected", "median", "expected"), LADDER)
def test_the_older_the_less_it_is_believed(
    reported: float | None, intervals: float | None, connected: bool, median: float | None, expected: float | None
) -> None:
    age_s = None if intervals is None else intervals * 0.25
    assert trusted_capacity(reported, age_s, 0.25, connected, median) == expected


@pytest.mark.parametrize(("age_s", "expected"), [(None, False), (0.0, False), (2.5, False), (2.51, True), (1e9, True)])
def test_a_child_has_fallen_silent_after_ten_intervals(age_s: float | None, expected: bool) -> None:
    assert OLD_INTERVALS == 10
    assert is_old(age_s, 0.25) is expected


@pytest.mark.parametrize(
    ("next_s", "expected"), [(0.225, 0.0), (0.25, 0.0), (0.275, 0.0), (0.5, 0.225), (2.0, 1.725), (1e9, MOST_SPARE_S)]
)
def test_a_regular_report_has_no_time_to_spare_and_none_has_too_much(next_s: float, expected: float) -> None:
    assert spare_s(next_s) == pytest.approx(expected)


AGES = [
    # since it came, time to spare, since another one was due at once -> what counts
    (0.1, 0.0, -NOT_OWED, 0.1),
    (3.0, 0.0, -NOT_OWED, 3.0),  # a regular one: the time that has passed
    (3.0, 0.0, 2.9, 3.0),
    (0.1, 1.725, -NOT_OWED, 0.1),
    (0.25, 1.725, -NOT_OWED, 0.25),
    (1.9, 1.725, -NOT_OWED, 0.25),  # at rest: as if the last regular one had just come
    (2.0, 1.725, -NOT_OWED, 0.275),  # it is late
    (4.0, 1.725, -NOT_OWED, 2.275),
    (1.9, 1.725, 0.1, 0.25),  # it was given something just now
    (1.9, 1.725, 1.0, 1.0),
    (4.0, 1.725, 3.5, 3.5),
]


@pytest.mark.parametrize(("passed_s", "spare", "owed_s", "expected"), AGES)
def test_a_report_ages_as_it_becomes_late(passed_s: float, spare: float, owed_s: float, expected: float) -> None:
    assert counted_age_s(passed_s, spare, owed_s, 0.25) == pytest.approx(expected)
