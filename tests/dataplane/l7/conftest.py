"""Every conversation of these tests is held to the tables of states: halves assign the commonest states directly."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.dataplane.l7.conversations import looks as looks
from tierlb.dataplane.l7.request_half import RequestHalf
from tierlb.dataplane.l7.response_half import ResponseHalf
from tierlb.dataplane.l7.states import REQUEST_TABLE, RESPONSE_TABLE, WAITING, ResponseState

Step = tuple[Any, Any]


class Watched:
    """Stands in for the slot `state` of one class, and notes how it changes."""

    def __init__(self, slot: Any, steps: set[Step]) -> None:
        self.slot = slot
        self.steps = steps

    def __get__(self, half: Any, owner: type) -> Any:
        return self.slot.__get__(half, owner)

    def __set__(self, half: Any, state: Any) -> None:
        try:
            before = self.slot.__get__(half, type(half))
        except AttributeError:
            before = None
        if before is not state:
            self.steps.add((before, state))
        self.slot.__set__(half, state)


@pytest.fixture(autouse=True)
def steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Step]]:
    """The steps that halves took during the test, each of which is in its table."""
    steps: set[Step] = set()
    for half in (RequestHalf, ResponseHalf):
        monkeypatch.setattr(half, "state", Watched(half.__dict__["state"], steps))
    yield steps
    first = {(None, WAITING), (None, ResponseState.AWAITED)}
    listed = {
        (before, then)
        for table in (REQUEST_TABLE, RESPONSE_TABLE)
        for before, row in table.items()
        for then in row.values()
    }
    assert steps <= first | listed
