import pytest

from scripts.benchmarks.answers import Answer, read_answer, status_at_end

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"


@pytest.mark.parametrize(
    ("received", "answer"),
    [
        (OK, Answer(200, True, True)),
        (OK[:-1], Answer(200, False, True)),
        (OK.replace(b"\r\n\r\n", b"\r\nconnection: Close\r\n\r\n"), Answer(200, True, False)),
        (b"HTTP/1.1 502 Bad Gateway\r\ncontent-length:0\r\n\r\n", Answer(502, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n0\r\n\r\n", Answer(200, True, True)),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nok\n\r\n", Answer(200, False, True)),
        (b"HTTP/1.0 503 No\r\n\r\nno", Answer(503, False, False, until_close=True)),
    ],
)
def test_an_answer_is_known_by_its_status_its_end_and_whether_the_connection_stays(
    received: bytes, answer: Answer
) -> None:
    assert read_answer(received) == answer


@pytest.mark.parametrize("cut", range(OK.index(b"\r\n\r\n") + 4))
def test_nothing_is_known_before_the_heads_end(cut: int) -> None:
    assert read_answer(OK[:cut]) is None


def test_what_is_no_answer_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        read_answer(b"220 mail.test ESMTP\r\n\r\n")


@pytest.mark.parametrize(
    ("received", "status"),
    [(b"HTTP/1.0 503 No\r\n\r\nno", 503), (OK[:-1], None), (b"", None), (b"220 mail.test ESMTP\r\n\r\n", None)],
)
def test_the_end_of_a_connection_completes_only_an_answer_without_length(received: bytes, status: int | None) -> None:
    assert status_at_end(received) == status
