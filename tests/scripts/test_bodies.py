import pytest

from scripts.benchmarks.bodies import Chunked, Sized, body_of, chunk

NEXT = b"GET / HTTP/1.1\r\n"
IN_CHUNKS = chunk(b"hello ") + chunk(b"world") + chunk(b"")


@pytest.mark.parametrize("step", [1, 2, 3, 5, 1000])
@pytest.mark.parametrize(
    ("head", "sent", "payload"),
    [
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked", IN_CHUNKS, b"hello world"),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked", b"5;x=1\r\nhello\r\n0\r\nt: 1\r\n\r\n", b"hello"),
        (b"POST / HTTP/1.1\r\ncontent-length: 5", b"hello", b"hello"),
        (b"GET / HTTP/1.1\r\nhost: a", b"", b""),
    ],
)
def test_a_body_in_any_steps_ends_where_it_ends(head: bytes, sent: bytes, payload: bytes, step: int) -> None:
    body, got = body_of(head), b""
    assert body.ended is not bool(sent)
    for place in range(0, len(sent), step):
        assert not body.ended
        got += body.feed(sent[place : place + step])
    assert (got, body.ended, body.rest) == (payload, True, b"")


@pytest.mark.parametrize(("body", "sent"), [(Chunked(), IN_CHUNKS), (Sized(3), b"abc")])
def test_what_comes_after_the_end_is_kept(body: Chunked | Sized, sent: bytes) -> None:
    body.feed(sent + NEXT)
    assert (body.ended, body.rest) == (True, NEXT)


def test_a_size_that_is_no_number_is_an_error() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        Chunked().feed(b"x\r\n")
