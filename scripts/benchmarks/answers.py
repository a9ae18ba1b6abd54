"""Just enough of a client's half of HTTP/1.1 to know where an answer ends and whether the connection stays."""

import re

import attrs

HEAD_END = b"\r\n\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
CLOSE = re.compile(rb"\r\nconnection: *close", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)
LAST_CHUNK = b"\r\n0\r\n\r\n"


@attrs.frozen
class Answer:
    """`complete`: nothing of it is missing. `until_close`: it has no length and ends with the connection."""

    status: int
    complete: bool
    stays: bool
    until_close: bool = False


def read_answer(received: bytes) -> Answer | None:
    """What `received` is the beginning of; None before the head's end. Raises ValueError if it is no answer."""
    end = received.find(HEAD_END)
    if end < 0:
        return None
    head, body_bytes = received[:end], len(received) - end - len(HEAD_END)
    status, stays = int(head[9:12]), CLOSE.search(head) is None
    if length := LENGTH.search(head):
        return Answer(status, body_bytes >= int(length[1]), stays)
    if CHUNKED.search(head):
        return Answer(status, received.endswith(LAST_CHUNK), stays)
    return Answer(status, False, False, until_close=True)


def status_at_end(received: bytes) -> int | None:
    """The status of an answer that the connection's end made whole; None where the end cut it off."""
    try:
        answer = read_answer(received)
    except ValueError:
        return None
    return answer.status if answer is not None and answer.until_close else None
