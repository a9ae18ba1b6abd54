"""A failing item is counted and logged; the rest goes on."""

import pytest

from tierlb.telemetry.internal_errors import MAX_SITES, InternalErrors


class Lines:
    def __init__(self):
        self.lines = []

    def error(self, event, **fields):
        self.lines.append((event, fields))


@pytest.fixture
def log():
    return Lines()


@pytest.fixture
def errors(log):
    return InternalErrors(log)


def test_a_barrier_counts_and_logs_the_error_and_goes_on(errors, log):
    with errors.barrier("page", path="/x"):
        raise ValueError("broken")
    assert errors.counts == {"page": 1}
    [(event, fields)] = log.lines
    assert event == "internal_error"
    assert fields["where"] == "page"
    assert fields["path"] == "/x"
    assert fields["exc_info"].args == ("broken",)


def test_a_failure_that_repeats_is_logged_at_powers_of_ten(errors, log):
    for _ in range(250):
        with errors.barrier("tick"):
            raise ValueError
    assert errors.counts["tick"] == 250
    assert [fields["times"] for _, fields in log.lines] == [1, 10, 100]


def test_failures_of_different_lines_are_logged_each(errors, log):
    with errors.barrier("tick"):
        raise ValueError
    with errors.barrier("tick"):
        raise ValueError
    assert len(log.lines) == 2


def test_the_places_that_are_told_apart_are_bounded(errors, log):
    for number in range(MAX_SITES + 50):
        errors.note(f"place {number}", ValueError())
    assert len(log.lines) == MAX_SITES
    assert sum(errors.counts.values()) == MAX_SITES + 50


def test_what_is_no_error_passes(errors):
    with pytest.raises(KeyboardInterrupt), errors.barrier("tick"):
        raise KeyboardInterrupt
    with pytest.raises(BaseExceptionGroup) as caught, errors.barrier("tick"):
        raise BaseExceptionGroup("", [KeyboardInterrupt(), ValueError()])
    assert [type(each) for each in caught.value.exceptions] == [KeyboardInterrupt]
    assert errors.counts == {"tick": 1}
