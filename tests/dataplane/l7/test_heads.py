"""Where the head of a request ends, and what can be none."""

import pytest

from tierlb.dataplane.l7.heads import request_head_end
from tierlb.wire.http_fields import BadHead

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
LIMIT = 100


@pytest.mark.parametrize(
    ("buffer", "end"),
    [(HEAD, len(HEAD)), (HEAD + HEAD, len(HEAD)), (HEAD[:-1], -1), (HEAD[:3], -1), (b"", -1)],
    ids=["whole", "two", "all but a byte", "three bytes", "nothing"],
)
def test_a_head_ends_with_its_empty_line(buffer: bytes, end: int) -> None:
    assert request_head_end(buffer, 0, LIMIT) == end


@pytest.mark.parametrize(
    ("buffer", "status"),
    [
        (b"GET /" + b"x" * LIMIT, 414),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * LIMIT, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * LIMIT + b"\r\n\r\n", 431),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\r\nX: a\n", 400),
    ],
    ids=["a long line", "long fields", "a long whole head", "TLS", "a bare LF"],
)
def test_what_can_be_no_head_is_refused_at_once(buffer: bytes, status: int) -> None:
    with pytest.raises(BadHead) as refused:
        request_head_end(buffer, 0, LIMIT)
    assert refused.value.status == status


def test_a_head_as_large_as_allowed_is_no_larger() -> None:
    assert request_head_end(HEAD, 0, len(HEAD)) == len(HEAD)
    with pytest.raises(BadHead):
        request_head_end(HEAD, 0, len(HEAD) - 1)


def test_bytes_that_were_looked_at_are_not_looked_at_again() -> None:
    assert request_head_end(b"GET / HTTP/1.1\r\n\x00: aaaa", 20, LIMIT) == -1
