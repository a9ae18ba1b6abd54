"""The tables of the two halves: every state with every event, and what may never be."""

import itertools

import pytest

from tierlb.dataplane.l7.states import (
    AWAITED,
    BEGUN,
    BODY,
    BROKEN,
    DONE,
    PASSED,
    PASSING,
    REQUEST_TABLE,
    RESPONSE_TABLE,
    SWITCHED,
    WAITING,
    WHOLE,
    IllegalEventError,
    RequestEvent,
    RequestState,
    ResponseEvent,
    ResponseState,
    after_request_event,
    after_response_event,
)

REQUEST = {
    (WAITING, RequestEvent.END): WHOLE,
    (WAITING, RequestEvent.SEND): PASSING,
    (WHOLE, RequestEvent.SEND): PASSED,
    (PASSING, RequestEvent.END): PASSED,
    (PASSING, RequestEvent.TAKE_BACK): WAITING,
    (PASSED, RequestEvent.TAKE_BACK): WHOLE,
}
RESPONSE = {
    (AWAITED, ResponseEvent.PART): BEGUN,
    (AWAITED, ResponseEvent.INTERIM): BEGUN,
    (AWAITED, ResponseEvent.HEAD): BODY,
    (AWAITED, ResponseEvent.SWITCH): SWITCHED,
    (AWAITED, ResponseEvent.FAIL): BROKEN,
    (BEGUN, ResponseEvent.PART): BEGUN,
    (BEGUN, ResponseEvent.INTERIM): BEGUN,
    (BEGUN, ResponseEvent.HEAD): BODY,
    (BEGUN, ResponseEvent.SWITCH): SWITCHED,
    (BEGUN, ResponseEvent.FAIL): BROKEN,
    (BODY, ResponseEvent.END): DONE,
    (BODY, ResponseEvent.FAIL): BROKEN,
    (DONE, ResponseEvent.NEXT): AWAITED,
}


@pytest.mark.parametrize(("state", "event"), list(itertools.product(RequestState, RequestEvent)))
def test_a_request_goes_from_state_to_state_as_listed(state: RequestState, event: RequestEvent) -> None:
    if (state, event) in REQUEST:
        assert after_request_event(state, event) is REQUEST[state, event]
    else:
        with pytest.raises(IllegalEventError, match=f"request {state.name}: {event.name}"):
            after_request_event(state, event)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(ResponseState, ResponseEvent)))
def test_a_response_goes_from_state_to_state_as_listed(state: ResponseState, event: ResponseEvent) -> None:
    if (state, event) in RESPONSE:
        assert after_response_event(state, event) is RESPONSE[state, event]
    else:
        with pytest.raises(IllegalEventError, match=f"response {state.name}: {event.name}"):
            after_response_event(state, event)


def reached_from(table: dict, start: object) -> set[object]:
    """All states to which events lead from this one."""
    reached: set[object] = set()
    left = [start]
    while left:
        for state in table[left.pop()].values():
            if state not in reached:
                reached.add(state)
                left.append(state)
    return reached


def test_a_body_that_is_on_its_way_is_sent_again_only_if_a_host_says_that_it_did_nothing_with_it() -> None:
    without = {
        state: {event: then for event, then in row.items() if event is not RequestEvent.TAKE_BACK}
        for state, row in REQUEST_TABLE.items()
    }
    for state in (PASSING, PASSED):
        assert not reached_from(without, state) & {WAITING, WHOLE}


def test_a_response_that_began_is_awaited_again_only_once_it_is_done() -> None:
    without_next = {
        state: {event: then for event, then in row.items() if event is not ResponseEvent.NEXT}
        for state, row in RESPONSE_TABLE.items()
    }
    for state in set(ResponseState) - {AWAITED}:
        assert AWAITED not in reached_from(without_next, state)


def test_every_state_is_in_its_table() -> None:
    assert set(REQUEST_TABLE) == set(RequestState)
    assert set(RESPONSE_TABLE) == set(ResponseState)
