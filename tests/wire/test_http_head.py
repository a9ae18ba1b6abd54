"""Heads: what is read, and every way of smuggling that must be refused."""

from collections.abc import Callable

import pytest

from tierlb.wire.head_values import RequestHead, ResponseHead
from tierlb.wire.http_fields import HOP_BY_HOP, BadHead, HeaderField
from tierlb.wire.http_head import (
    LENGTH_LIMIT,
    OPTIONS_LIMIT,
    find_head_end,
    parse_request_head,
    parse_response_head,
)


def request(*fields: bytes, line: bytes = b"GET / HTTP/1.1", host: bytes = b"Host: a") -> RequestHead:
    """Parse a request whose lines are joined by CRLF; twice, so that remembered lines are judged alike."""
    head = b"\r\n".join([line, *([host] if host else []), *fields, b"", b""])
    first = _outcome(head)
    second = _outcome(head)
    if isinstance(first, BadHead):
        assert repr(second) == repr(first)
        raise first
    assert isinstance(second, RequestHead)
    assert _said(second) == _said(first)
    return first


def response(*fields: bytes, line: bytes = b"HTTP/1.1 200 OK") -> ResponseHead:
    return parse_response_head(b"\r\n".join([line, *fields, b"", b""]))


def _outcome(head: bytes) -> RequestHead | BadHead:
    try:
        return parse_request_head(head)
    except BadHead as error:
        return error


def _said(head: RequestHead) -> tuple[object, ...]:
    block = head.block
    return (
        *(head.method, head.target, head.minor, head.fields, head.host, head.host_name, head.content_length),
        *(head.chunked, head.keep_alive, head.expect_continue, head.upgrade, block.takes_trailers, head.dropped),
    )


def test_a_plain_request_is_read() -> None:
    head = request(b"User-Agent:  x y\t", b"X-Empty:", line=b"GET /a?b=%20 HTTP/1.1", host=b"Host: shop:8080")
    assert (head.method, head.target, head.minor, head.host) == (b"GET", b"/a?b=%20", 1, b"shop:8080")
    assert head.fields == (
        HeaderField(b"Host", b"shop:8080", b"host", b"Host: shop:8080", special=True),
        HeaderField(b"User-Agent", b"x y", b"user-agent", b"User-Agent: x y", special=False),
        HeaderField(b"X-Empty", b"", b"x-empty", b"X-Empty: ", special=False),
    )
    assert (head.content_length, head.chunked, head.keep_alive) == (None, False, True)
    assert (head.expect_continue, head.upgrade, head.dropped) == (False, None, HOP_BY_HOP)


def test_a_block_seen_before_is_not_read_again_and_its_version_counts() -> None:
    request(b"X-Often: 1")
    second, third = request(b"X-Often: 1"), request(b"X-Often: 1", line=b"GET /other HTTP/1.1")
    older = request(b"X-Often: 1", line=b"GET /other HTTP/1.0")
    assert second.block is third.block
    assert older.block is not third.block
    assert (third.keep_alive, older.keep_alive) == (True, False)


def test_headers_are_the_fields_as_sent_in_order() -> None:
    assert request(b"X-b:1", b"x-A: 2 ").headers == ((b"Host", b"a"), (b"X-b", b"1"), (b"x-A", b"2"))


def test_get_finds_the_first_value_whatever_the_case() -> None:
    head = request(b"X-A: 1", b"x-a: 2")
    assert (head.get(b"x-a"), head.get(b"x-b")) == (b"1", None)
    assert response(b"ETag: 7").get(b"etag") == b"7"


REFUSED_FIELDS = {
    "a bare CR in a value": (b"X-A: 1\rX-B: 2",),
    "a bare LF between fields": (b"X-A: 1\nX-B: 2",),
    "a bare LF hiding a framing field": (b"X-A: 1\nTransfer-Encoding: chunked",),
    "a CR before the CRLF": (b"X-A: 1\r",),
    "NUL in a value": (b"X-A: 1\x002",),
    "a control character in a value": (b"X-A: 1\x0b2",),
    "DEL in a value": (b"X-A: \x7f",),
    "a vertical tab that strip() would eat": (b"Transfer-Encoding: \x0bchunked",),
    "an obs-fold with a space": (b"X-A: 1", b" 2"),
    "an obs-fold with a tab": (b"X-A: 1", b"\t2"),
    "an obs-fold of a framing value": (b"Transfer-Encoding:", b" chunked"),
    "an empty line inside the head": (b"", b"GET /evil HTTP/1.1"),
    "a space before the colon": (b"Content-Length : 5",),
    "a tab before the colon": (b"Transfer-Encoding\t: chunked",),
    "an empty field name": (b": x",),
    "a line without a colon": (b"X-A",),
    "a name with a space inside": (b"X A: 1",),
    "a name with a non-ASCII byte": (b"X-\xe4: 1",),
    "a name with a separator": (b"X(A): 1",),
    "a name with NUL": (b"X-A\x00: 1",),
    "a framing name in CGI spelling": (b"Content_Length: 5",),
    "a coding name in CGI spelling": (b"Transfer_Encoding: chunked",),
    "a client's address in CGI spelling": (b"X_Forwarded-For: 10.0.0.1",),
    "a client's port in CGI spelling": (b"x_forwarded_port: 443",),
    "an address of the family in CGI spelling": (b"X_Real-IP: 10.0.0.1",),
    "an address with dots, which some CGI servers make underscores": (b"X.Forwarded.For: 10.0.0.1",),
    "another path in CGI spelling": (b"X_Original_URL: /admin",),
    "two Hosts": (b"Host: b",),
    "two equal Hosts": (b"Host: a",),
    "two Hosts in different case": (b"hOST: a",),
    "both TE and CL": (b"Transfer-Encoding: chunked", b"Content-Length: 5"),
    "both CL and TE": (b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "TE with an empty CL": (b"Transfer-Encoding: chunked", b"Content-Length:"),
    "two Transfer-Encodings": (b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
    "a Transfer-Encoding hidden in a second line": (b"Transfer-Encoding: chunked", b"transfer-encoding: x"),
    "identity": (b"Transfer-Encoding: identity",),
    "gzip alone": (b"Transfer-Encoding: gzip",),
    "chunked twice": (b"Transfer-Encoding: chunked, chunked",),
    "chunked not last": (b"Transfer-Encoding: chunked, gzip",),
    "chunked with a parameter": (b"Transfer-Encoding: chunked;q=1",),
    "chunked in quotes": (b'Transfer-Encoding: "chunked"',),
    "an almost chunked": (b"Transfer-Encoding: xchunked",),
    "chunked after an empty element": (b"Transfer-Encoding: ,chunked",),
    "an empty Transfer-Encoding": (b"Transfer-Encoding:",),
    "an empty Content-Length": (b"Content-Length:",),
    "a Content-Length with plus": (b"Content-Length: +5",),
    "a negative Content-Length": (b"Content-Length: -1",),
    "a Content-Length with a space inside": (b"Content-Length: 5 0",),
    "a hexadecimal Content-Length": (b"Content-Length: 0x5",),
    "a Content-Length with an underscore": (b"Content-Length: 1_0",),
    "a Content-Length with a non-ASCII digit": (b"Content-Length: \xb2",),
    "a Content-Length list that differs": (b"Content-Length: 5, 6",),
    "a Content-Length list that agrees": (b"Content-Length: 5, 5",),
    "two Content-Lengths that differ": (b"Content-Length: 5", b"Content-Length: 6"),
    "two Content-Lengths that agree": (b"Content-Length: 5", b"Content-Length: 5"),
    "a Content-Length of 2^63": (b"Content-Length: %d" % 2**63,),
    "a Content-Length that wraps to 5": (b"Content-Length: %d" % (2**64 + 5),),
    "a Connection option that is no token": (b"Connection: a b",),
    "a Connection that would drop the length": (b"Connection: Content-Length", b"Content-Length: 5"),
    "a Connection that would drop the host": (b"Connection: close, host",),
}


@pytest.mark.parametrize("fields", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS.keys())
def test_ambiguous_fields_are_refused(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(BadHead) as caught:
        request(*fields)
    assert caught.value.status == 400
    assert caught.value.reason


@pytest.mark.parametrize("claim", [claim for claim in REFUSED_FIELDS if "Host" not in claim])
def test_the_same_fields_are_refused_in_responses(claim: str) -> None:
    with pytest.raises(BadHead):
        response(*REFUSED_FIELDS[claim])


@pytest.mark.parametrize("fields", REFUSED_FIELDS.values(), ids=REFUSED_FIELDS.keys())
def test_ambiguous_fields_are_refused_behind_ordinary_ones(fields: tuple[bytes, ...]) -> None:
    with pytest.raises(BadHead):
        request(b"Accept: */*", *fields, b"X-Last: 1")


def test_a_repeated_single_field_is_refused_in_responses_too() -> None:
    with pytest.raises(BadHead, match="more than one host"):
        response(b"Host: a", b"Host: b")


REFUSED_LINES = {
    "bare LF": (b"GET / HTTP/1.1\nX: y", 400),
    "bare CR": (b"GET / HTTP/1.1\r", 400),
    "a leading empty line": (b"\r\nGET / HTTP/1.1", 400),
    "leading whitespace": (b" GET / HTTP/1.1", 400),
    "two spaces": (b"GET  / HTTP/1.1", 400),
    "a tab for a space": (b"GET\t/ HTTP/1.1", 400),
    "a trailing space": (b"GET / HTTP/1.1 ", 400),
    "no version (HTTP/0.9)": (b"GET /", 400),
    "no target": (b"GET HTTP/1.1", 400),
    "an empty target": (b"GET  HTTP/1.1", 400),
    "a method that is no token": (b"G(T / HTTP/1.1", 400),
    "an empty method": (b" / HTTP/1.1", 400),
    "HTTP/1.2": (b"GET / HTTP/1.2", 505),
    "HTTP/2.0": (b"GET / HTTP/2.0", 505),
    "HTTP/0.9": (b"GET / HTTP/0.9", 505),
    "the HTTP/2 preface": (b"PRI * HTTP/2.0", 505),
    "a version in lower case": (b"GET / http/1.1", 400),
    "a version with two digits": (b"GET / HTTP/1.10", 400),
    "a version with a non-ASCII digit": (b"GET / HTTP/1.\xb2", 400),
    "another protocol": (b"GET / ICY/1.1", 400),
    "CONNECT": (b"CONNECT a:443 HTTP/1.1", 501),
    "a control character in the target": (b"GET /\x01 HTTP/1.1", 400),
    "NUL in the target": (b"GET /\x00 HTTP/1.1", 400),
    "non-ASCII in the target": (b"GET /\xc3\xa4 HTTP/1.1", 400),
    "a fragment": (b"GET /a#b HTTP/1.1", 400),
    "* with GET": (b"GET * HTTP/1.1", 400),
    "a relative path": (b"GET a/b HTTP/1.1", 400),
    "authority-form": (b"GET a:80 HTTP/1.1", 400),
    "another scheme": (b"GET ftp://a/ HTTP/1.1", 400),
    "a javascript target": (b"GET javascript:alert(1) HTTP/1.1", 400),
    "an absolute target without a host": (b"GET http:///a HTTP/1.1", 400),
    "an absolute target with userinfo": (b"GET http://u:p@a/ HTTP/1.1", 400),
    "an absolute target with a bad port": (b"GET http://a:99999/ HTTP/1.1", 400),
    "a backslash in the authority": (b"GET http://a\\b/ HTTP/1.1", 400),
}


@pytest.mark.parametrize(("line", "status"), REFUSED_LINES.values(), ids=REFUSED_LINES.keys())
def test_bad_request_lines_are_refused(line: bytes, status: int) -> None:
    with pytest.raises(BadHead) as caught:
        request(line=line)
    assert caught.value.status == status


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (b"GET / HTTP/1.1", b"/"),
        (b"GET //b/c HTTP/1.1", b"//b/c"),
        (b"get /x?y HTTP/1.0", b"/x?y"),
        (b"PURGE /x HTTP/1.1", b"/x"),
        (b"M-SEARCH!# /x HTTP/1.1", b"/x"),
        (b"GET /%s HTTP/1.1" % (b"a" * 500_000), b"/" + b"a" * 500_000),
        (b"OPTIONS * HTTP/1.1", b"*"),
        (b"OPTIONS /x HTTP/1.1", b"/x"),
    ],
    ids=lambda value: value[:24].decode(),
)
def test_tokens_and_targets_pass_as_sent(line: bytes, target: bytes) -> None:
    head = request(line=line)
    assert (head.method, head.target) == (line.split()[0], target)
    assert head.minor == int(line[-1:])


@pytest.mark.parametrize(
    ("line", "target", "host"),
    [
        (b"GET http://b/x?y HTTP/1.1", b"/x?y", b"b"),
        (b"GET http://b:81/x HTTP/1.1", b"/x", b"b:81"),
        (b"GET HTTPS://[::1]:81/x HTTP/1.1", b"/x", b"[::1]:81"),
        (b"GET http://b HTTP/1.1", b"/", b"b"),
        (b"GET http://b?q=http://c/d HTTP/1.1", b"/?q=http://c/d", b"b"),
        (b"OPTIONS http://b HTTP/1.1", b"*", b"b"),
        (b"OPTIONS http://b?q HTTP/1.1", b"/?q", b"b"),
    ],
)
def test_the_authority_of_an_absolute_target_replaces_host(line: bytes, target: bytes, host: bytes) -> None:
    head = request(b"X-A: 1", line=line, host=b"Host: other.example")
    assert (head.target, head.host) == (target, host)
    assert head.headers == ((b"Host", host), (b"X-A", b"1"))


TRAILERS = [
    (b"TE: trailers", True),
    (b"te: gzip;q=0.5 , Trailers", True),
    (b"TE: gzip", False),
    (b"TE: trailersx", False),
    (b"TE:", False),
    (b"X: trailers", False),
]


@pytest.mark.parametrize(("field", "takes"), TRAILERS)
def test_a_client_says_whether_it_takes_trailers(field: bytes, takes: bool) -> None:
    assert request(field).block.takes_trailers is takes
    assert not request(field, line=b"GET / HTTP/1.0").block.takes_trailers


def test_an_absolute_target_does_not_excuse_a_missing_host() -> None:
    with pytest.raises(BadHead):
        request(line=b"GET http://b/ HTTP/1.1", host=b"")
    assert request(line=b"GET http://b/ HTTP/1.0", host=b"").headers == ((b"Host", b"b"),)


def test_host_may_only_be_missing_in_http_1_0() -> None:
    assert request(line=b"GET / HTTP/1.0", host=b"").host == b""
    with pytest.raises(BadHead, match="Host"):
        request(line=b"GET / HTTP/1.1", host=b"")


@pytest.mark.parametrize(
    "host",
    [
        b"u@a",
        b"u:p@a",
        b"a/b",
        b"a?b",
        b"a#b",
        b"a b",
        b"a\\b",
        b"a:x",
        b"a:99999",
        b":80",
        b"a:123456",
        b"[::1",
        b"::1",
        b"[g::]",
        b"[::1]x",
        b"[]",
        b"a:80:80",
        b"\xe4",
        b"a%00",
        b"http://a",
        b"[1.2.3.4]",
        b"[fe80::1%25eth0]",
    ],
)
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_a_host_that_is_no_host_and_port_is_refused(host: bytes, version: bytes) -> None:
    with pytest.raises(BadHead) as caught:
        request(line=b"GET / HTTP/" + version, host=b"Host: " + host)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "host",
    [
        b"",
        b"a",
        b"a:",
        b"a,b",
        b"*",
        b"a%2db",
        b"A.example.",
        b"a-b_c~d:0",
        b"10.0.0.1:65535",
        b"[::1]",
        b"[::ffff:1.2.3.4]:80",
        b"xn--4ca",
    ],
)
def test_a_name_or_address_with_a_port_is_a_host(host: bytes) -> None:
    assert request(host=b"Host: " + host).host == host


def test_the_name_that_routes_compare_is_that_of_the_target() -> None:
    assert request(host=b"Host: Shop.Example.:80").host_name == b"shop.example"
    assert request(line=b"GET http://Other:81/ HTTP/1.1").host_name == b"other"
    assert request(line=b"GET / HTTP/1.0", host=b"").host_name == b""


@pytest.mark.parametrize("target", [b"http:///x", b"http://:80/x", b"http://a%00/", b"http://[::1%25lo]/"])
def test_an_absolute_target_needs_a_host(target: bytes) -> None:
    with pytest.raises(BadHead, match="authority"):
        request(line=b"GET %b HTTP/1.1" % target)


def test_more_fields_than_allowed_get_431() -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X-A: 1\r\n" * 99 + b"\r\n"
    assert len(parse_request_head(head).headers) == 100
    with pytest.raises(BadHead) as caught:
        parse_request_head(head, max_headers=99)
    assert caught.value.status == 431


@pytest.mark.parametrize(
    ("fields", "length", "chunked"),
    [
        ((), None, False),
        ((b"Content-Length: 0",), 0, False),
        ((b"content-length:  007 ",), 7, False),
        ((b"Content-Length: %d" % LENGTH_LIMIT,), LENGTH_LIMIT, False),
        ((b"Transfer-Encoding: chunked",), None, True),
        ((b"tRANSFER-eNCODING: Chunked",), None, True),
    ],
)
def test_one_framing_field_is_read(fields: tuple[bytes, ...], length: int | None, chunked: bool) -> None:
    head, answer = request(*fields), response(*fields)
    assert (head.content_length, head.chunked) == (length, chunked)
    assert (answer.content_length, answer.chunked) == (length, chunked)


def test_other_transfer_codings_before_chunked_are_not_implemented() -> None:
    with pytest.raises(BadHead) as caught:
        request(b"Transfer-Encoding: gzip, chunked")
    assert caught.value.status == 501


def test_transfer_encoding_in_http_1_0_is_refused() -> None:
    with pytest.raises(BadHead) as caught:
        request(b"Transfer-Encoding: chunked", line=b"POST / HTTP/1.0")
    assert caught.value.status == 400
    with pytest.raises(BadHead):
        response(b"Transfer-Encoding: chunked", line=b"HTTP/1.0 200 OK")


@pytest.mark.parametrize(
    ("version", "fields", "keep"),
    [
        (b"1.1", (), True),
        (b"1.1", (b"Connection: Close",), False),
        (b"1.1", (b"Connection: keep-alive",), True),
        (b"1.1", (b"Connection: keep-alive, close",), False),
        (b"1.1", (b"Connection: x", b"connection: close"), False),
        (b"1.1", (b"Connection: ,,",), True),
        (b"1.0", (), False),
        (b"1.0", (b"Connection: Keep-Alive",), True),
        (b"1.0", (b"Connection: keep-alive", b"Connection: close"), False),
    ],
)
def test_version_and_connection_decide_about_keep_alive(version: bytes, fields: tuple[bytes, ...], keep: bool) -> None:
    assert request(*fields, line=b"GET / HTTP/" + version).keep_alive is keep
    assert response(*fields, line=b"HTTP/" + version + b" 200 OK").keep_alive is keep


def test_what_connection_names_is_dropped_besides_the_standard_list() -> None:
    assert request(b"Connection: X-Hop,keep-alive ,\tX-Two").dropped == HOP_BY_HOP | {b"x-hop", b"x-two"}


@pytest.mark.parametrize(
    ("version", "fields", "upgrade"),
    [
        (b"1.1", (b"Connection: upgrade", b"Upgrade: websocket"), b"websocket"),
        (b"1.1", (b"Connection: keep-alive, Upgrade", b"Upgrade: websocket"), b"websocket"),
        (b"1.1", (b"Connection: upgrade", b"Upgrade: a", b"Upgrade: b"), b"a, b"),
        (b"1.1", (b"Upgrade: websocket",), None),
        (b"1.1", (b"Connection: upgrade",), None),
        (b"1.0", (b"Connection: upgrade", b"Upgrade: websocket"), None),
        (b"1.1", (b"Connection: upgrade, http2-settings", b"Upgrade: h2c", b"HTTP2-Settings: x"), None),
        (b"1.1", (b"Connection: upgrade", b"Upgrade: websocket, H2C"), None),
    ],
)
def test_upgrade_counts_where_connection_names_it(
    version: bytes, fields: tuple[bytes, ...], upgrade: bytes | None
) -> None:
    assert request(*fields, line=b"GET / HTTP/" + version).upgrade == upgrade


@pytest.mark.parametrize(
    ("version", "value", "expected"),
    [
        (b"1.1", b"100-continue", True),
        (b"1.1", b"100-Continue", True),
        (b"1.1", b"other", False),
        (b"1.0", b"100-continue", False),
    ],
)
def test_expect_counts_in_http_1_1(version: bytes, value: bytes, expected: bool) -> None:
    assert request(b"Expect: " + value, line=b"PUT / HTTP/" + version).expect_continue is expected


def test_a_plain_response_is_read() -> None:
    head = response(b"Content-Length: 5", b"Set-Cookie: a", b"Set-Cookie: b")
    assert (head.status, head.reason, head.minor) == (200, b"OK", 1)
    assert head.fields == (
        HeaderField(b"Content-Length", b"5", b"content-length", b"Content-Length: 5", special=True),
        HeaderField(b"Set-Cookie", b"a", b"set-cookie", b"Set-Cookie: a", special=False),
        HeaderField(b"Set-Cookie", b"b", b"set-cookie", b"Set-Cookie: b", special=False),
    )
    assert (head.content_length, head.chunked, head.keep_alive) == (5, False, True)
    assert (head.upgrade, head.dropped) == (None, HOP_BY_HOP)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"HTTP/1.1 404 Not Found", (1, 404, b"Not Found")),
        (b"HTTP/1.1 204 ", (1, 204, b"")),
        (b"HTTP/1.0 200", (0, 200, b"")),
        (b"HTTP/1.1 101 Switching Protocols", (1, 101, b"Switching Protocols")),
        (b"HTTP/1.1 999 \xe4\t", (1, 999, b"\xe4\t")),
    ],
)
def test_status_lines_are_read(line: bytes, expected: tuple[int, int, bytes]) -> None:
    head = response(line=line)
    assert (head.minor, head.status, head.reason) == expected


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 99 x",
        b"HTTP/1.1 099 x",
        b"HTTP/1.1 1000 x",
        b"HTTP/1.1 2x0 x",
        b"HTTP/1.1 +20 x",
        b"HTTP/1.1",
        b"HTTP/1.1  200 x",
        b"HTTP/1.1\t200 x",
        b"HTTP/2.0 200 x",
        b"HTTP/1.1 200 a\rb",
        b"HTTP/1.1 200 a\nb: c",
        b"HTTP/1.1 200 \x00",
        b" HTTP/1.1 200 x",
        b"\r\nHTTP/1.1 200 x",
        b"ICY 200 OK",
        b"",
        b"GET / HTTP/1.1",
    ],
)
def test_bad_status_lines_are_refused(line: bytes) -> None:
    with pytest.raises(BadHead):
        response(line=line)


@pytest.mark.parametrize("head", [b"", b"\r\n\r\n", b"GET / HTTP/1.0\r\n", b"GET / HTTP/1.0\n\n"])
def test_a_head_without_its_parts_is_refused(head: bytes) -> None:
    with pytest.raises(BadHead):
        parse_request_head(head)
    with pytest.raises(BadHead):
        parse_response_head(head)


def test_the_end_of_a_head_is_found_from_any_start_before_it() -> None:
    buffer = b"GET / HTTP/1.0\r\n\r\nrest\r\n\r\n"
    assert [find_head_end(buffer, start) for start in (0, 14, 15)] == [18, 18, len(buffer)]
    assert all(find_head_end(buffer[:size]) == -1 for size in range(18))


@pytest.mark.parametrize("read", [request, response])
def test_as_many_connection_options_as_are_allowed_pass_and_one_more_does_not(read: Callable[..., object]) -> None:
    names = [b"x%d" % number for number in range(OPTIONS_LIMIT)]
    read(b"Connection: " + b",".join(names))
    for fields in ([b"Connection: " + b",".join([*names, b"y"])], [b"Connection: " + n for n in [*names, b"y"]]):
        with pytest.raises(BadHead, match="more than 32 options") as caught:
            read(*fields)
        assert caught.value.status == 400


@pytest.mark.parametrize("read", [parse_request_head, parse_response_head])
def test_as_many_fields_as_are_allowed_pass_and_one_more_does_not(read: Callable[[bytes, int], object]) -> None:
    first = b"GET / HTTP/1.1\r\nHost: a\r\n" if read is parse_request_head else b"HTTP/1.1 200 OK\r\nX: a\r\n"
    read(first + b"A: b\r\n" * 9 + b"\r\n", 10)
    with pytest.raises(BadHead, match="more than 10 header fields") as caught:
        read(first + b"A: b\r\n" * 10 + b"\r\n", 10)
    assert caught.value.status == 431
