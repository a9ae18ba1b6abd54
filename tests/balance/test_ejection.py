"""When a host is passed over, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.balance.ejection import FAILURES_TO_EJECT, Ejection, ejection_s


@pytest.mark.parametrize(
    ("times", "seconds"), [(0, 1), (1, 2), (2, 4), (3, 8), (4, 16), (5, 30), (6, 30), (10_000, 30)]
)
def test_each_ejection_is_twice_as_long_up_to_thirty_seconds(times: int, seconds: float) -> None:
    assert ejection_s(times) == seconds


def test_one_refusal_is_enough() -> None:
    record = Ejection()
    assert record.failed(10, refused=True)
    assert (record.ejected, record.until) == (True, 11)


def test_other_failures_must_come_in_a_row() -> None:
    record = Ejection()
    assert not any(record.failed(10, refused=False) for _ in range(FAILURES_TO_EJECT - 1))
    record.succeeded()
    assert not any(record.failed(10, refused=False) for _ in range(FAILURES_TO_EJECT - 1))
    assert record.failed(10, refused=False)
    assert record.ejected


def test_failures_during_an_ejection_do_not_lengthen_it() -> None:
    record = Ejection()
    record.failed(10, refused=True)
    assert not record.failed(10.5, refused=True)
    assert record.until == 11


@pytest.mark.parametrize("refused", [True, False])
def test_a_probe_that_fails_when_the_time_is_up_ejects_for_longer(refused: bool) -> None:
    record = Ejection()
    record.failed(10, refused=True)
    assert record.failed(11, refused=refused)
    assert record.until == 13
    assert record.failed(13, refused=refused)
    assert record.until == 17


def test_a_success_forgets_everything() -> None:
    record = Ejection()
    record.failed(10, refused=True)
    record.failed(11, refused=True)
    record.succeeded()
    assert (record.failures, record.times, record.until) == (0, 0, 0.0)


@given(st.lists(st.tuples(st.sampled_from(["refused", "failed", "succeeded"]), st.floats(0, 40)), max_size=60))
def test_an_ejection_is_never_longer_than_the_cap_and_ends_with_a_success(events: list[tuple[str, float]]) -> None:
    record, now = Ejection(), 0.0
    for event, pause_s in events:
        now += pause_s
        if event == "succeeded":
            record.succeeded()
            assert not record.ejected
        else:
            was_until = record.until
            changed = record.failed(now, refused=event == "refused")
            assert changed == (record.until != was_until)
            assert record.until <= now + 30
            assert record.ejected or event == "failed"
