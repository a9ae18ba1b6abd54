"""The states of a request and of its response, and which event leads from one to which other: two literal tables.

The two halves of an exchange are independent, since an endpoint may answer before it has read the whole request. Each
half changes its own state and nothing else does. What no table lists cannot happen: `after` raises for it. The halves
assign the states of the commonest events directly, because a look into a table costs a tenth of a microsecond; the
tests hold these assignments to the tables as well (`tests/dataplane/l7/conftest.py`).

Two rules of retries follow from the tables. A request body is sent once, unless a host reports that it did not process
it. A request is sent again only while its response is AWAITED: a single byte of a response leads away from there.

Left out: the connections themselves (`net.stream`), and the choice of a host (`retry`), which ends before both halves
begin.
"""

import enum
from typing import Final


class IllegalEventError(Exception):
    """An event that cannot happen in this state: a bug of this program, whatever a peer sent."""


class RequestState(enum.Enum):
    """Of a request that has a body. One without has no half of its own: its head is all of it."""

    WAITING = "no host has it yet, and the body is not complete"
    WHOLE = "no host has it yet, and the body is complete"
    PASSING = "a host has its head, and the body goes on"
    PASSED = "a host has all of it"


class RequestEvent(enum.Enum):
    """What happens to a request with a body."""

    END = "the last byte of the body came"
    SEND = "its head, and the part of the body that came, was sent to a host"
    TAKE_BACK = "the host reported that it did not process it, and all that was sent is still here"


class ResponseState(enum.Enum):
    """Of the response on one connection to a host. A connection that is kept begins anew with each request."""

    AWAITED = "not one byte of it came"
    BEGUN = "a part of its head came, or an interim response"
    BODY = "its head came, and the body goes on"
    DONE = "all of it came"
    SWITCHED = "it was a 101: what follows belongs to another protocol"
    BROKEN = "it was malformed, or broke off"


class ResponseEvent(enum.Enum):
    """What happens to a response."""

    PART = "a part of a head came"
    INTERIM = "the head of a 1xx response came, other than 101"
    HEAD = "the head of the final response came"
    END = "the last byte of the body came"
    SWITCH = "the head of a 101 response came"
    FAIL = "it cannot be read, or its connection ended too soon"
    NEXT = "the connection is kept for another request"


WAITING: Final = RequestState.WAITING
WHOLE: Final = RequestState.WHOLE
PASSING: Final = RequestState.PASSING
PASSED: Final = RequestState.PASSED
AWAITED: Final = ResponseState.AWAITED
BEGUN: Final = ResponseState.BEGUN
BODY: Final = ResponseState.BODY
DONE: Final = ResponseState.DONE
SWITCHED: Final = ResponseState.SWITCHED
BROKEN: Final = ResponseState.BROKEN

REQUEST_TABLE: dict[RequestState, dict[RequestEvent, RequestState]] = {
    WAITING: {RequestEvent.END: WHOLE, RequestEvent.SEND: PASSING},
    WHOLE: {RequestEvent.SEND: PASSED},
    PASSING: {RequestEvent.END: PASSED, RequestEvent.TAKE_BACK: WAITING},
    PASSED: {RequestEvent.TAKE_BACK: WHOLE},
}
RESPONSE_TABLE: dict[ResponseState, dict[ResponseEvent, ResponseState]] = {
    AWAITED: {
        ResponseEvent.PART: BEGUN,
        ResponseEvent.INTERIM: BEGUN,
        ResponseEvent.HEAD: BODY,
        ResponseEvent.SWITCH: SWITCHED,
        ResponseEvent.FAIL: BROKEN,
    },
    BEGUN: {
        ResponseEvent.PART: BEGUN,
        ResponseEvent.INTERIM: BEGUN,
        ResponseEvent.HEAD: BODY,
        ResponseEvent.SWITCH: SWITCHED,
        ResponseEvent.FAIL: BROKEN,
    },
    BODY: {ResponseEvent.END: DONE, ResponseEvent.FAIL: BROKEN},
    DONE: {ResponseEvent.NEXT: AWAITED},
    SWITCHED: {},
    BROKEN: {},
}


def after_request_event(state: RequestState, event: RequestEvent) -> RequestState:
    """The state to which the event leads. Raises IllegalEventError."""
    found = REQUEST_TABLE[state].get(event)
    if found is None:
        raise IllegalEventError(f"request {state.name}: {event.name}")
    return found


def after_response_event(state: ResponseState, event: ResponseEvent) -> ResponseState:
    """The state to which the event leads. Raises IllegalEventError."""
    found = RESPONSE_TABLE[state].get(event)
    if found is None:
        raise IllegalEventError(f"response {state.name}: {event.name}")
    return found
