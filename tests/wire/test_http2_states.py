"""The table of a stream's states: what RFC 9113 §5.1 draws."""

import itertools

import pytest

from tierlb.wire.http2_states import (
    CLOSED,
    HALF_LOCAL,
    HALF_REMOTE,
    IDLE,
    OPEN,
    STREAM_TABLE,
    StreamEvent,
    StreamState,
    after_stream_event,
)


def test_every_state_has_a_row() -> None:
    assert set(STREAM_TABLE) == set(StreamState)


@pytest.mark.parametrize("state", [HALF_REMOTE, CLOSED])
def test_nothing_may_come_behind_the_end_of_the_peer(state: StreamState) -> None:
    assert after_stream_event(state, StreamEvent.RECEIVE_HEADERS) is None
    assert after_stream_event(state, StreamEvent.RECEIVE_END) is None


@pytest.mark.parametrize("state", [HALF_LOCAL, CLOSED])
def test_nothing_goes_behind_the_own_end(state: StreamState) -> None:
    assert after_stream_event(state, StreamEvent.SEND_HEADERS) is None
    assert after_stream_event(state, StreamEvent.SEND_END) is None


@pytest.mark.parametrize("order", list(itertools.permutations([StreamEvent.RECEIVE_END, StreamEvent.SEND_END])))
def test_a_stream_is_over_when_both_ends_are(order: tuple[StreamEvent, ...]) -> None:
    state: StreamState | None = OPEN
    for event in order:
        assert state is not None
        state = after_stream_event(state, event)
    assert state is CLOSED


def test_what_was_not_opened_cannot_be_reset() -> None:
    assert after_stream_event(IDLE, StreamEvent.RESET) is None
