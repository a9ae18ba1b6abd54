"""Header lists of HTTP/2 as heads of HTTP/1.1, and back: nothing is smuggled on the way."""

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.wire.http2_head import (
    DEFAULT_URGENCY,
    MalformedError,
    passing_trailers,
    request_block,
    request_head,
    response_block,
    response_head,
    trailers_block,
    urgency_of,
)
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head, parse_response_head

GET = ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/"))
FIRST = b"GET / HTTP/1.1\r\nhost: a\r\n"


def changed(name: bytes, value: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """GET with one field replaced, or left out."""
    others = [field for field in GET if field[0] != name]
    return (*([(name, value)] if value is not None else []), *others)


@pytest.mark.parametrize(
    ("fields", "ended", "head"),
    [
        (GET, True, FIRST + b"\r\n"),
        (GET, False, FIRST + b"transfer-encoding: chunked\r\n\r\n"),
        ((*GET, (b"content-length", b"5")), False, FIRST + b"content-length: 5\r\n\r\n"),
        ((*GET, (b"content-length", b"0")), True, FIRST + b"content-length: 0\r\n\r\n"),
        ((*GET, (b"te", b"trailers"), (b"x", b"1")), True, FIRST + b"te: trailers\r\nx: 1\r\n\r\n"),
        (
            (*GET, (b"cookie", b"a=1"), (b"x", b""), (b"cookie", b"b=2")),
            True,
            FIRST + b"x: \r\ncookie: a=1; b=2\r\n\r\n",
        ),
        ((*GET, (b"host", b"a")), True, FIRST + b"\r\n"),
        ((*changed(b":authority", None), (b"host", b"b")), True, b"GET / HTTP/1.1\r\nhost: b\r\n\r\n"),
        (((b":method", b"CONNECT"), (b":authority", b"a:1")), True, b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"),
    ],
)
def test_a_list_becomes_the_head_that_means_the_same(
    fields: tuple[tuple[bytes, bytes], ...], ended: bool, head: bytes
) -> None:
    assert request_head(fields, ended=ended) == head


MALFORMED = {
    "no method": changed(b":method", None),
    "an empty method": changed(b":method", b""),
    "a method of two words": changed(b":method", b"GET /x"),
    "no scheme": changed(b":scheme", None),
    "no path": changed(b":path", None),
    "an empty path": changed(b":path", b""),
    "a path without a slash": changed(b":path", b"x"),
    "a whole URL as path": changed(b":path", b"http://b/"),
    "an asterisk for GET": changed(b":path", b"*"),
    "a path with a blank": changed(b":path", b"/ HTTP/1.1"),
    "a path with a line": changed(b":path", b"/ HTTP/1.1\r\nx: y"),
    "a path with NUL": changed(b":path", b"/\0"),
    "an authority with a line": changed(b":authority", b"a\r\nx: y"),
    "a pseudo-field of responses": (*GET, (b":status", b"200")),
    "an unknown pseudo-field": (*GET, (b":protocol", b"websocket")),
    "a pseudo-field twice": (*GET, (b":path", b"/")),
    "a pseudo-field behind others": (GET[0], GET[1], (b"x", b"y"), GET[2], GET[3]),
    "another host": (*GET, (b"host", b"b")),
    "two hosts": (*changed(b":authority", None), (b"host", b"b"), (b"host", b"b")),
    "upper case": (*GET, (b"X", b"y")),
    "an empty name": (*GET, (b"", b"y")),
    "a name with a colon": (*GET, (b"x:y", b"z")),
    "a name with a blank": (*GET, (b"x ", b"z")),
    "a name with a line": (*GET, (b"x\r\ny", b"z")),
    "a value with CR": (*GET, (b"x", b"a\rb")),
    "a value with LF": (*GET, (b"x", b"a\nb")),
    "a value with NUL": (*GET, (b"x", b"a\0b")),
    "a value that begins with a blank": (*GET, (b"x", b" a")),
    "a value that ends with a tab": (*GET, (b"x", b"a\t")),
    "connection": (*GET, (b"connection", b"x")),
    "keep-alive": (*GET, (b"keep-alive", b"x")),
    "proxy-connection": (*GET, (b"proxy-connection", b"x")),
    "transfer-encoding": (*GET, (b"transfer-encoding", b"chunked")),
    "upgrade": (*GET, (b"upgrade", b"websocket")),
    "te with gzip": (*GET, (b"te", b"trailers, gzip")),
    "a length without a body": (*GET, (b"content-length", b"5")),
    "CONNECT with a path": ((b":method", b"CONNECT"), (b":authority", b"a"), (b":path", b"/")),
    "CONNECT without an authority": ((b":method", b"CONNECT"),),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_could_smuggle_or_is_no_request_is_malformed(name: str) -> None:
    with pytest.raises(MalformedError):
        request_head(MALFORMED[name], ended=True)


NAMES = [b":method", b":path", b":authority", b"host", b"x", b"content-length", b"te", b"cookie", b"a\r\nb", b"X", b""]
VALUES = [b"GET", b"/", b"a", b"b", b"0", b"7", b"trailers", b"x y", b"a\r\n\r\nGET / HTTP/1.1", b"\0", b" ", b"\xff"]
ANY_FIELD = st.tuples(st.sampled_from(NAMES), st.one_of(st.sampled_from(VALUES), st.binary(max_size=5)))


@given(st.lists(ANY_FIELD, max_size=6), st.booleans())
def test_whatever_is_accepted_is_one_head_with_the_same_meaning(fields: list[tuple[bytes, bytes]], ended: bool) -> None:
    try:
        head = request_head((*GET, *fields), ended=ended)
        parsed = parse_request_head(head)
    except (MalformedError, BadHead):
        return
    assert head.index(b"\r\n\r\n") == len(head) - 4
    assert (parsed.method, parsed.target, parsed.host) == (b"GET", b"/", b"a")
    given_length = [value for name, value in fields if name == b"content-length"]
    assert parsed.chunked == (not ended and not given_length)
    assert parsed.content_length == (int(given_length[0]) if given_length else None)
    assert not ended or not parsed.content_length
    assert parsed.keep_alive
    assert parsed.upgrade is None


def test_trailers_pass_but_for_those_that_decide_something() -> None:
    fields = ((b"x-sum", b"1"), (b"content-length", b"5"), (b"x-forwarded-for", b"::1"))
    assert passing_trailers(fields) == ((b"x-sum", b"1"),)


@pytest.mark.parametrize("field", [(b":path", b"/"), (b"X", b"y"), (b"connection", b"x"), (b"x", b"a\nb")])
def test_malformed_trailers_are_refused(field: tuple[bytes, bytes]) -> None:
    with pytest.raises(MalformedError):
        passing_trailers((field,))


def test_a_response_becomes_a_block_without_what_is_about_the_connection() -> None:
    lines = b"HTTP/1.1 404 Not Found\r\nServer: x\r\nConnection: close\r\nUpgrade: h2c\r\nSet-Cookie: a\r\nX-Y: z\r\n"
    fields = [tuple(field) for field in hpack.Decoder().decode(response_block(lines), raw=True)]
    assert fields == [(b":status", b"404"), (b"server", b"x"), (b"set-cookie", b"a"), (b"x-y", b"z")]


def test_trailers_are_in_lower_case() -> None:
    fields = hpack.Decoder().decode(trailers_block(((b"Grpc-Status", b"0"),)), raw=True)
    assert [tuple(field) for field in fields] == [(b"grpc-status", b"0")]


@pytest.mark.parametrize(
    ("value", "urgency"),
    [(b"u=0", 0), (b"u=7, i", 7), (b"i, u=2", 2), (b"i", 3), (b"", 3), (b"u=9", 3), (b"u=1;x=2", 1), (b"xu=1", 3)],
)
def test_the_urgency_is_read(value: bytes, urgency: int) -> None:
    assert urgency_of(value) == urgency
    assert DEFAULT_URGENCY == 3


def test_a_head_that_goes_over_tls_has_the_scheme_https() -> None:
    block = request_block(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", secured=True)
    assert (b":scheme", b"https") in [tuple(field) for field in hpack.Decoder().decode(block, raw=True)]


def test_a_head_for_a_host_becomes_a_block() -> None:
    head = (
        b"POST /x?y HTTP/1.1\r\nHost: a:1\r\nX-Y: z\r\nTransfer-Encoding: chunked\r\nConnection: TE\r\nTE: trailers\r\n"
        b"Via: 1.1 tierlb\r\nX-Forwarded-For: ::1"
    )
    for _ in range(3):  # lines are remembered
        fields = [tuple(field) for field in hpack.Decoder().decode(request_block(head, secured=False), raw=True)]
        assert fields == [
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":authority", b"a:1"),
            (b":path", b"/x?y"),
            (b"x-y", b"z"),
            (b"te", b"trailers"),
            (b"via", b"1.1 tierlb"),
            (b"x-forwarded-for", b"::1"),
        ]


@pytest.mark.parametrize(
    ("fields", "ended", "head"),
    [
        (((b":status", b"200"), (b"x", b"y")), False, b"HTTP/1.1 200 \r\nx: y\r\n\r\n"),
        (((b":status", b"200"),), True, b"HTTP/1.1 200 \r\ncontent-length: 0\r\n\r\n"),
        (((b":status", b"200"), (b"content-length", b"5")), True, b"HTTP/1.1 200 \r\ncontent-length: 5\r\n\r\n"),
        (((b":status", b"304"),), True, b"HTTP/1.1 304 \r\n\r\n"),
        (((b":status", b"103"), (b"link", b"x")), False, b"HTTP/1.1 103 \r\nlink: x\r\n\r\n"),
    ],
)
def test_a_response_of_a_host_becomes_a_head(fields: tuple[tuple[bytes, bytes], ...], ended: bool, head: bytes) -> None:
    assert response_head(fields, ended) == head
    parse_response_head(head)


@pytest.mark.parametrize(
    "fields",
    [
        ((b"x", b"y"),),
        ((b":status", b"20"),),
        ((b":status", b"101"),),
        ((b":status", b"2x0"),),
        ((b"x", b"y"), (b":status", b"200")),
        ((b":status", b"200"), (b":status", b"200")),
        ((b":status", b"200"), (b"connection", b"close")),
        ((b":status", b"200"), (b"x", b"a\r\nb")),
        ((b":status", b"200"), (b"X", b"a")),
    ],
)
def test_malformed_responses_are_refused(fields: tuple[tuple[bytes, bytes], ...]) -> None:
    with pytest.raises(MalformedError):
        response_head(fields, False)
