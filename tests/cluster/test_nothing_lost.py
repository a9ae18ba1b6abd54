"""A node is killed under load: only what was in flight on it may fail, and it comes back."""

from pathlib import Path

import attrs
import pytest

from scripts.benchmarks.lost import (
    KEPT,
    REQUESTS_PER_VISIT,
    VISITORS,
    Failure,
    Outcome,
    measure,
    report,
    whole,
)

REQUESTS = 20_000


def test_only_requests_in_flight_on_a_killed_node_fail(tmp_path: Path) -> None:
    outcome = measure(REQUESTS, tmp_path)
    print(report(outcome))
    assert outcome.problems == []
    assert outcome.succeeded + len(outcome.failures) >= REQUESTS
    assert len(outcome.failures) <= outcome.in_flight <= KEPT + VISITORS
    assert all(failure.excused for failure in outcome.failures)
    assert outcome.opened_after_death > REQUESTS / 2 / REQUESTS_PER_VISIT / KEPT
    assert outcome.back


GOOD = Outcome(
    requests=10,
    succeeded=9,
    failures=(Failure("web-2", "closed", True),),
    victim="web-2",
    in_flight=1,
    opened_after_death=3,
    longest_wait_s=0.1,
    seconds=1.0,
    served_by={"web-1": 9},
    away_s=0.5,
    back=True,
)


@pytest.mark.parametrize(
    ("changed", "problem"),
    [
        ({}, None),
        ({"failures": (Failure("web-1", "closed", False),)}, "not in flight on web-2"),
        ({"failures": (Failure("web-2", "closed", True),) * 2}, "2 failed, 1 were in flight"),
        ({"succeeded": 8}, "only 8 + 1 of 10"),
        ({"back": False}, "did not serve again"),
    ],
)
def test_what_must_not_be_is_named(changed: dict[str, object], problem: str | None) -> None:
    found = attrs.evolve(GOOD, **changed).problems
    assert len(found) == (problem is not None)
    assert problem is None or problem in found[0]


@pytest.mark.parametrize(
    ("answer", "complete"),
    [
        (b"", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n", True),
        (b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n", True),
    ],
)
def test_an_answer_is_whole_when_its_length_has_come(answer: bytes, complete: bool) -> None:
    assert whole(answer) is complete
