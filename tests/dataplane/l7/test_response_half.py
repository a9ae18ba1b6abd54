"""What comes of a response, however its bytes are cut: whole, byte by byte, and with bytes behind its end."""

from collections.abc import Iterable

import pytest

from tierlb.dataplane.l7.reply import ReplyBook
from tierlb.dataplane.l7.response_half import MOST_INTERIMS, BadResponseError, ResponseHalf
from tierlb.dataplane.l7.states import AWAITED, BEGUN, BODY, BROKEN, DONE, SWITCHED

LIMIT = 1000
SIZED = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
UNTIL_CLOSE = b"HTTP/1.1 200 OK\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\n\r\n"
NONE = b"HTTP/1.1 204 No Content\r\n\r\n"


class Reading:
    """Reads pieces as an exchange does; what came of them."""

    def __init__(self, *, is_head: bool = False) -> None:
        self.half = ResponseHalf()
        self.replies = ReplyBook()
        self.is_head = is_head
        self.statuses: list[int] = []
        self.body = b""

    def take(self, pieces: Iterable[bytes]) -> "Reading":
        for piece in pieces:
            self.take_one(piece)
        return self

    def take_one(self, data: bytes) -> None:
        half = self.half
        while data and half.state in (AWAITED, BEGUN):
            reply = half.read_head(data, self.replies, LIMIT, self.is_head)
            if reply is None:
                return
            self.statuses.append(reply.status)
            data = half.rest
            if half.state is DONE:
                self.body += data
        while data and half.state is BODY:
            self.body += half.read_body(data, 0.0)
            data = half.rest


def cut(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


CASES = {
    "sized": (SIZED + b"ok", [200], b"ok"),
    "chunked": (CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\nX-Sum: 1\r\n\r\n", [200], b"ok"),
    "no body": (NONE, [204], b""),
    "behind interim responses": (HINTS + HINTS + SIZED + b"ok", [103, 103, 200], b"ok"),
}


@pytest.mark.parametrize("in_pieces", [False, True], ids=["whole", "byte by byte"])
@pytest.mark.parametrize(("data", "statuses", "body"), CASES.values(), ids=CASES)
def test_a_response_is_read_however_it_is_cut(data: bytes, statuses: list[int], body: bytes, in_pieces: bool) -> None:
    reading = Reading().take(cut(data) if in_pieces else [data])
    assert (reading.statuses, reading.body) == (statuses, body)
    assert reading.half.state is DONE
    assert reading.half.is_clean


@pytest.mark.parametrize(("data", "statuses", "body"), CASES.values(), ids=CASES)
def test_bytes_behind_its_end_make_a_connection_unfit_for_another_request(
    data: bytes, statuses: list[int], body: bytes
) -> None:
    reading = Reading().take([data + b"x"])
    assert (reading.statuses, reading.body) == (statuses, body)
    assert reading.half.state is DONE
    assert not reading.half.is_clean


def test_a_body_may_end_with_the_connection() -> None:
    reading = Reading().take([UNTIL_CLOSE, b"o", b"k"])
    assert (reading.half.state, reading.body) == (BODY, b"ok")
    assert reading.half.end_by_close()
    assert reading.half.state is DONE
    assert not reading.half.is_clean


@pytest.mark.parametrize("data", [SIZED + b"o", CHUNKED + b"1\r\no\r\n"], ids=["sized", "chunked"])
def test_the_end_of_the_connection_is_no_end_of_a_body_that_has_one(data: bytes) -> None:
    half = Reading().take([data]).half
    assert not half.end_by_close()
    assert half.state is BROKEN


@pytest.mark.parametrize(("head", "is_clean"), [(SIZED, False), (CHUNKED, False), (NONE, True)])
def test_a_response_to_head_has_no_body(head: bytes, is_clean: bool) -> None:
    """If it announced one, that may come a moment later."""
    half = Reading(is_head=True).take([head]).half
    assert (half.state, half.is_clean) == (DONE, is_clean)


def test_trailers_come_with_the_end_of_a_chunked_body_only() -> None:
    reading = Reading().take([CASES["chunked"][0]])
    assert reading.half.trailers == ((b"X-Sum", b"1"),)
    reading.half.state = AWAITED
    reading.take([SIZED, b"o", b"k"])
    assert reading.half.trailers == ()
    reading.half.state = AWAITED
    reading.take([CASES["chunked"][0]])
    reading.half.state = AWAITED
    reading.take([SIZED + b"ok"])
    assert reading.half.trailers == ()


@pytest.mark.parametrize("pieces", [[SIZED + b"ok"], [SIZED, b"ok"], [SIZED, b"o", b"k"]])
def test_where_a_known_length_is_no_end_it_is_one_with_the_stream_alone(pieces: list[bytes]) -> None:
    reading = Reading()
    reading.half.ends_by_length = False
    reading.take(pieces)
    assert (reading.half.state, reading.body) == (BODY, b"ok")
    assert reading.half.end_by_close()
    assert reading.half.state is DONE


def test_where_a_known_length_is_no_end_less_than_that_is_none_either() -> None:
    reading = Reading()
    reading.half.ends_by_length = False
    assert not reading.take([SIZED, b"o"]).half.end_by_close()


def test_a_kept_connection_begins_anew() -> None:
    reading = Reading().take([HINTS + SIZED + b"ok"])
    reading.half.state = AWAITED
    assert reading.half.interims == 0
    reading.take([SIZED + b"ok"])
    assert (reading.half.state, reading.body) == (DONE, b"okok")


def test_a_101_leaves_what_follows() -> None:
    reading = Reading()
    reading.half.read_head(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\nhello", reading.replies, LIMIT, False
    )
    assert (reading.half.state, reading.half.rest) == (SWITCHED, b"hello")


BAD = {
    "no HTTP": [b"SSH-2.0-OpenSSH"],
    "a head that is too large": [SIZED[:-2] + b"X: " + b"x" * LIMIT + b"\r\n\r\n"],
    "a head that is too large and not complete": [SIZED[:-2] + b"X: " + b"x" * LIMIT],
    "a bad length": [b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"],
    "a bare LF in the second piece": [SIZED[:20], b"\n"],
    "too many interim responses": [HINTS * (MOST_INTERIMS + 1)],
    "a bad chunk size": [CHUNKED + b"x\r\n"],
}


@pytest.mark.parametrize("pieces", BAD.values(), ids=BAD)
def test_what_cannot_be_read_breaks_it(pieces: list[bytes]) -> None:
    reading = Reading()
    with pytest.raises(BadResponseError):
        reading.take(pieces)
    assert reading.half.state is BROKEN


def test_as_many_interim_responses_as_are_allowed_are_read() -> None:
    assert Reading().take([HINTS * MOST_INTERIMS + NONE]).half.state is DONE
