"""The first three rows of the failure ladder as a table."""

import pytest

from tierlb.balance.staleness import OLD_INTERVALS, is_old, trusted_capacity

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
