"""When a member is passed over, and for how long."""

import pytest

from tierlb.balance.ejection import FAILURES_TO_EJECT, Ejection, available, ejection_s


@pytest.mark.parametrize(
    ("times", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (10_000, 30)]
)
def test_ejections_double_up_to_half_a_minute(times: int, seconds: float) -> None:
    assert ejection_s(times) == seconds


def test_one_refusal_ejects() -> None:
    record = Ejection()
    assert record.failed(10.0, refused=True)
    assert record.ejected
    assert record.until == 11.0


def test_failures_eject_only_in_a_row() -> None:
    record = Ejection()
    for _ in range(FAILURES_TO_EJECT - 1):
        assert not record.failed(1.0, refused=False)
    record.succeeded()
    for _ in range(FAILURES_TO_EJECT - 1):
        assert not record.failed(1.0, refused=False)
    assert record.failed(1.0, refused=False)


def test_further_failures_while_ejected_change_nothing() -> None:
    record = Ejection()
    record.failed(10.0, refused=True)
    assert not record.failed(10.5, refused=True)
    assert record.until == 11.0


def test_a_failed_probe_ejects_again_for_longer_and_a_good_one_forgets() -> None:
    record = Ejection()
    record.failed(10.0, refused=True)
    assert record.failed(11.0, refused=False)
    assert record.until == 13.0
    record.succeeded()
    assert not record.ejected
    record.failed(20.0, refused=True)
    assert record.until == 21.0


@pytest.mark.parametrize(
    ("ejected", "expected"),
    [
        ([], []),
        ([False, False], [0, 1]),
        ([True, False], [1]),
        ([True, True, False], [0, 1, 2]),
        ([True, True, False, False], [2, 3]),
        ([True], [0]),
        ([True, True, True, False, False], [0, 1, 2, 3, 4]),
    ],
)
def test_beyond_half_ejected_nobody_is_passed_over(ejected: list[bool], expected: list[int]) -> None:
    assert available(ejected) == expected
