"""First bytes, as a table, whole and byte by byte."""

import pytest

from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_start import check_request_start, why_no_response


def refused(data: bytes) -> BadHead | None:
    """Why, if the request is refused whole; byte by byte it is refused as well, no later than at its end."""
    whole = _refused_at([data])
    bytewise = _refused_at([data[: size + 1] for size in range(len(data))])
    assert (whole is None) == (bytewise is None)
    return whole


def _refused_at(stages: list[bytes]) -> BadHead | None:
    seen = 0
    for stage in stages:
        try:
            check_request_start(stage, seen)
        except BadHead as error:
            return error
        seen = len(stage)
    return None


HELLO = bytes.fromhex("1603010200010001fc0303") + b"\x11" * 20

NO_REQUESTS = [
    (HELLO, 400, "TLS"),
    (b"\x80\x2e\x01\x00\x02", 400, "TLS"),
    (b"GET / HTTP/1.1\nHost: a\n", 400, "LF alone"),
    (b"GET / HTTP/1.1\r\nHost: a\n", 400, "LF alone"),
    (b"\n", 400, "LF alone"),
    (b"GET /\r\n", 400, "request line"),
    (b"GET / HTTP/1.1\rHost", 400, "bare CR"),
    (b"GET / HTTP/1.1\r\nHost: a\r\r", 400, "bare CR"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", 400, "request line"),
    (b"EHLO example.org\r\n", 400, "request line"),
    (b"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 400, "request line"),
    (b"\r\n\x00\r\nQUIT\n", 400, ""),
    (b"\x00\x01", 400, "control character"),
    (b"GET /\x00", 400, "control character"),
    (b"G\x7f", 400, "control character"),
    (b'{"jsonrpc": "2.0"', 400, "method"),
    (b"<policy", 400, "method"),
    (b"G\xc3\x89T / ", 400, "method"),
    (b"\xff\xff\xff", 400, "method"),
    (b" GET / HTTP/1.1", 400, "method"),
    (b"GET\r", 400, "method"),
    (b"PRI * HTTP/2.0\r\n", 505, "HTTP/1.1"),
    (b"CONNECT a:443 HTTP/1.1\r\n", 501, "CONNECT"),
]


@pytest.mark.parametrize(("data", "status", "reason"), NO_REQUESTS)
def test_what_can_become_no_request_is_refused_at_once(data: bytes, status: int, reason: str) -> None:
    error = refused(data)
    assert error is not None
    assert error.status == status
    assert reason in error.reason


@pytest.mark.parametrize(
    "data",
    [
        b"G",
        b"\r",
        b"M-SEARCH",
        b"GET / HTTP/1.1",
        b"GET / HTTP/1.1\r",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \t\xe4\r\n\r",
        b"POST /a",
    ],
)
def test_what_can_become_a_request_is_waited_for(data: bytes) -> None:
    assert refused(data) is None


def test_bytes_that_were_looked_at_are_not_looked_at_again() -> None:
    check_request_start(b"\x00 GET", 5)
    assert why_no_response(b"HTTP/1.1 \x00 200", 12) is None


NO_RESPONSES = [
    (b"\x15\x03\x03\x00\x02\x02\x46", "TLS"),
    (HELLO, "TLS"),
    (b"SSH-2.0-OpenSSH_9.2\r\n", "SSH"),
    (b"\x00\x00\x12\x04\x00\x00\x00\x00\x00", "HTTP/2"),
    (b"220 mail.example ESMTP\r\n", "mail and FTP"),
    (b"220-welcome", "mail and FTP"),
    (b"-ERR wrong number of arguments\r\n", "Redis"),
    (b"+OK POP3 ready", "Redis and POP3"),
    (b"HTTP/2 200\r\n", "HTTP/2"),
    (b"ICY 200 OK\r\n", "b'ICY 200 OK"),
    (b"J\x00\x00\x00\x0a8.0.36", "no HTTP/1.1 response"),
    (b"<html>", "no HTTP/1.1 response"),
    (b"\r\n", "no HTTP/1.1 response"),
    (b"HTTP/1.1 200 OK\nContent-Length: 3\n\nok\n", "LF alone"),
    (b"HTTP/1.1 200 OK\r\nX: \x00", "control character"),
]


@pytest.mark.parametrize(("data", "reason"), NO_RESPONSES)
def test_what_can_become_no_response_is_named(data: bytes, reason: str) -> None:
    why = why_no_response(data, 0)
    assert why is not None
    assert reason in why
    assert any(why_no_response(data[: size + 1], size) for size in range(len(data)))


@pytest.mark.parametrize("data", [b"", b"H", b"HTTP/1.", b"HTTP/1.1 200 OK\r\nX: a\r", b"HTTP/1.0 200"])
def test_what_can_become_a_response_is_waited_for(data: bytes) -> None:
    assert why_no_response(data, 0) is None
