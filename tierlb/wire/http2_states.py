"""The states of a stream of HTTP/2 (RFC 9113 §5.1), and which event leads from one to which other: a literal table.

Both ends of a connection see the same table, each with its own frames as `SEND` and those of the other as `RECEIVE`.
`RESET` is RST_STREAM in either direction. What the table does not list must not happen: where the peer does it, it is
an error of protocol. Left out: the states `reserved`, since no stream is ever pushed.
"""

import enum
from typing import Final


class StreamState(enum.Enum):
    """Of one stream, as this end sees it."""

    IDLE = "no frame came or went"
    OPEN = "both ends may send"
    HALF_REMOTE = "the peer has ended its side"
    HALF_LOCAL = "this end has ended its side"
    CLOSED = "it is over"


class StreamEvent(enum.Enum):
    """What happens to a stream."""

    RECEIVE_HEADERS = "HEADERS came, without END_STREAM"
    SEND_HEADERS = "HEADERS was sent, without END_STREAM"
    RECEIVE_END = "a frame with END_STREAM came"
    SEND_END = "a frame with END_STREAM was sent"
    RESET = "RST_STREAM came or was sent"


IDLE: Final = StreamState.IDLE
OPEN: Final = StreamState.OPEN
HALF_REMOTE: Final = StreamState.HALF_REMOTE
HALF_LOCAL: Final = StreamState.HALF_LOCAL
CLOSED: Final = StreamState.CLOSED

STREAM_TABLE: Final[dict[StreamState, dict[StreamEvent, StreamState]]] = {
    IDLE: {
        StreamEvent.RECEIVE_HEADERS: OPEN,
        StreamEvent.SEND_HEADERS: OPEN,
        StreamEvent.RECEIVE_END: HALF_REMOTE,
        StreamEvent.SEND_END: HALF_LOCAL,
    },
    OPEN: {
        StreamEvent.RECEIVE_HEADERS: OPEN,
        StreamEvent.SEND_HEADERS: OPEN,
        StreamEvent.RECEIVE_END: HALF_REMOTE,
        StreamEvent.SEND_END: HALF_LOCAL,
        StreamEvent.RESET: CLOSED,
    },
    HALF_REMOTE: {
        StreamEvent.SEND_HEADERS: HALF_REMOTE,
        StreamEvent.SEND_END: CLOSED,
        StreamEvent.RESET: CLOSED,
    },
    HALF_LOCAL: {
        StreamEvent.RECEIVE_HEADERS: HALF_LOCAL,
        StreamEvent.RECEIVE_END: CLOSED,
        StreamEvent.RESET: CLOSED,
    },
    CLOSED: {},
}


def after_stream_event(state: StreamState, event: StreamEvent) -> StreamState | None:
    """The state to which the event leads; None if it must not happen in this one."""
    return STREAM_TABLE[state].get(event)
