"""What this reader accepts, h11 and llhttp accept with the same meaning: nobody can be made to disagree."""

import re
from urllib.parse import urlsplit

import h11
import httptools
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tierlb.wire.head_values import RequestHead, ResponseHead
from tierlb.wire.http_fields import BadHead
from tierlb.wire.http_head import parse_request_head, parse_response_head

NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
LLHTTP_METHODS = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS", b"PATCH", b"PURGE"})

METHODS = st.sampled_from([b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"PURGE", b"get", b"X-!"])
TARGETS = st.sampled_from([b"/", b"/a?b=%20", b"//a", b"http://b/c", b"http://b:80", b'/a|b"<>\\^`{}']) | (
    st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=20).map(
        lambda path: b"/" + path.encode()
    )
)
TOKENS = st.text("!$%&'*+.^`|~09azAZ-", min_size=1, max_size=8).map(str.encode)
VALUES = st.binary(max_size=20).map(lambda value: re.sub(rb"[^\t -~\x80-\xff]", b"", value))
ORDINARY = st.tuples(TOKENS, VALUES).map(lambda pair: b"X-%b:%b" % pair)
MEANINGFUL = st.sampled_from(
    [
        b"Connection: close",
        b"Connection: keep-alive, x-a",
        b"Expect: 100-continue",
        b"TE: trailers",
        b"Accept:",
    ]
)
FRAMING = st.sampled_from([(), (b"Content-Length: 5",), (b"content-length:\t0005 ",), (b"Transfer-Encoding: Chunked",)])
HOSTILE = st.sampled_from(
    [
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding : chunked",
        b"Transfer-Encoding: \x0bchunked",
        b"Transfer-Encoding: chunked, identity",
        b"Content-Length: 6",
        b"Content-Length: +5",
        b"Content-Length: 5,5",
        b" folded",
        b"\tfolded: 1",
        b"X: 1\nContent-Length: 7",
        b"X: 1\rY: 2",
        b"Host: c",
        b"Host: a@b",
        b": x",
        b"",
        b"Connection: upgrade",
        b"Upgrade: websocket",
        b"Upgrade: h2c",
        b"Connection: content-length",
    ]
)
PIECES = st.sampled_from([b"\r", b"\n", b"\r\n", b" ", b"\t", b"\x00", b":", b",", b"\x0b", b"\xff", b"#", b"@", b"0"])


@st.composite
def heads(draw: st.DrawFn, first_lines: st.SearchStrategy[bytes], hostile: bool) -> bytes:
    fields = [b"Host: a", *draw(FRAMING), *draw(st.lists(ORDINARY | MEANINGFUL, max_size=4))]
    if hostile:
        fields += draw(st.lists(HOSTILE, max_size=2))
    lines = [draw(first_lines), *draw(st.permutations(fields)), b"", b""]
    head = b"\r\n".join(lines)
    for _ in range(draw(st.integers(0, 2)) if hostile else 0):
        at = draw(st.integers(0, len(head) - 4))
        head = head[:at] + draw(PIECES | st.binary(max_size=2)) + head[at + draw(st.integers(0, 2)) :]
    return head


def request_lines() -> st.SearchStrategy[bytes]:
    return st.tuples(METHODS, TARGETS).map(lambda pair: b"%b %b HTTP/1.1" % pair)


def status_lines() -> st.SearchStrategy[bytes]:
    statuses = st.sampled_from([b"200 OK", b"404", b"500 ", b"999 \xe4"])
    return statuses.map(lambda status: b"HTTP/1.1 " + status)


@settings(deadline=None)
@given(heads(request_lines(), hostile=False))
def test_valid_requests_are_read_as_h11_and_llhttp_read_them(head: bytes) -> None:
    read = parse_request_head(head)
    assert_h11_agrees_on_request(read, head)
    assert_llhttp_agrees_on_request(read, head)


@settings(deadline=None, max_examples=400)
@given(heads(request_lines(), hostile=True))
@example(b"GET / HTTP/1.0\r\n\r\n")
@example(b"GET / HTTP/1.0\r\nContent-Length: 5\r\n\r\n")
def test_hostile_requests_are_refused_or_read_as_others_read_them(head: bytes) -> None:
    try:
        read = parse_request_head(head)
    except BadHead:
        return
    assert_h11_agrees_on_request(read, head)
    assert_llhttp_agrees_on_request(read, head)


@settings(deadline=None)
@given(heads(status_lines(), hostile=False))
def test_valid_responses_are_read_as_h11_and_llhttp_read_them(head: bytes) -> None:
    read = parse_response_head(head)
    assert_h11_agrees_on_response(read, head)
    assert_llhttp_agrees_on_response(read, head)


@settings(deadline=None, max_examples=400)
@given(heads(status_lines(), hostile=True))
def test_hostile_responses_are_refused_or_read_as_others_read_them(head: bytes) -> None:
    try:
        read = parse_response_head(head)
    except BadHead:
        return
    if read.status >= 200 and read.status not in (204, 304):
        assert_h11_agrees_on_response(read, head)
        assert_llhttp_agrees_on_response(read, head)


@given(st.binary(max_size=60).map(lambda head: head + b"\r\n\r\n"))
def test_any_bytes_raise_only_the_declared_error(head: bytes) -> None:
    for parse, kind in ((parse_request_head, RequestHead), (parse_response_head, ResponseHead)):
        try:
            read = parse(head)
        except BadHead:
            continue
        assert isinstance(read, kind)


def body_for(read: RequestHead | ResponseHead) -> bytes:
    return b"5\r\nhello\r\n0\r\n\r\n" if read.chunked else b"hello"[: read.content_length or 0]


def lowered(read: RequestHead | ResponseHead) -> list[tuple[bytes, bytes]]:
    return [(name.lower(), value) for name, value in read.headers]


def assert_h11_agrees_on_request(read: RequestHead, head: bytes) -> None:
    connection = h11.Connection(h11.SERVER)
    body = body_for(read)
    if read.content_length and read.content_length > len(body):
        body += bytes(min(read.content_length, 10_000) - len(body))
    connection.receive_data(head + body + NEXT)
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    assert (event.method, event.http_version) == (read.method, b"1.%d" % read.minor)
    if event.target.startswith((b"/", b"*")):
        assert event.target == read.target
        assert [(name, h11_value(name, value)) for name, value in lowered(read)] == list(event.headers)
    else:
        parts = urlsplit(event.target)
        path = parts.path or (b"*" if read.method == b"OPTIONS" and not parts.query else b"/")
        assert read.target == path + (b"?" + parts.query if parts.query else b"")
        assert read.host == parts.netloc
    if not read.content_length or read.content_length < 10_000:
        assert_h11_body(connection, body, read.chunked)


def h11_value(name: bytes, value: bytes) -> bytes:
    return value.lower() if name == b"transfer-encoding" else value


def assert_h11_agrees_on_response(read: ResponseHead, head: bytes) -> None:
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "a")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(head)
    event = connection.next_event()
    assert isinstance(event, h11.Response)
    assert (event.status_code, event.reason) == (read.status, read.reason)
    assert event.http_version == b"1.%d" % read.minor
    assert [(name, h11_value(name, value)) for name, value in lowered(read)] == list(event.headers)
    framed = read.chunked or read.content_length is not None
    if framed and (read.content_length or 0) <= 5:
        connection.receive_data(body_for(read) + NEXT)
        assert_h11_body(connection, body_for(read), read.chunked)
    elif not framed:
        connection.receive_data(NEXT)
        data = connection.next_event()
        assert isinstance(data, h11.Data)
        assert connection.next_event() is h11.NEED_DATA


def assert_h11_body(connection: h11.Connection, body: bytes, chunked: bool) -> None:
    data = b""
    while isinstance(event := connection.next_event(), h11.Data):
        data += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert data == (b"hello" if chunked else body)
    assert connection.trailing_data[0] == NEXT


class Recorder:
    """What llhttp reports; whether it would keep the connection it only knows while a message lasts."""

    parser: httptools.HttpRequestParser | httptools.HttpResponseParser

    def __init__(self) -> None:
        self.keep_alive = False
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.heads = 0
        self.complete = 0

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.keep_alive = self.parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.complete += 1


def assert_llhttp_agrees_on_request(read: RequestHead, head: bytes) -> None:
    if read.method not in LLHTTP_METHODS or (b"upgrade" in read.dropped and read.get(b"upgrade")):
        return  # llhttp knows no other methods, and stops at an upgrade
    seen = Recorder()
    parser = httptools.HttpRequestParser(seen)
    assert_llhttp_body(parser, seen, read, head)
    assert parser.get_method() == read.method
    assert parser.get_http_version() == f"1.{read.minor}"
    if seen.url.startswith((b"/", b"*")):
        assert seen.url == read.target
        assert [(name, value.rstrip(b" \t")) for name, value in seen.headers] == list(read.headers)


def assert_llhttp_agrees_on_response(read: ResponseHead, head: bytes) -> None:
    if read.get(b"upgrade"):
        return
    seen = Recorder()
    parser = httptools.HttpResponseParser(seen)
    if read.chunked or read.content_length is not None:
        assert_llhttp_body(parser, seen, read, head)
    else:
        seen.parser = parser
        parser.feed_data(head + NEXT)
        assert (seen.heads, seen.body, seen.complete) == (1, NEXT, 0)
    assert parser.get_status_code() == read.status
    assert [(name, value.rstrip(b" \t")) for name, value in seen.headers] == list(read.headers)


def assert_llhttp_body(
    parser: httptools.HttpRequestParser | httptools.HttpResponseParser,
    seen: Recorder,
    read: RequestHead | ResponseHead,
    head: bytes,
) -> None:
    message = head + body_for(read)
    seen.parser = parser
    parser.feed_data(message[:-1])
    assert seen.complete == 0
    parser.feed_data(message[-1:])
    assert seen.heads == 1
    if (read.content_length or 0) <= 5:
        assert seen.complete == 1
        assert seen.body == (b"hello" if read.chunked else body_for(read))
    assert seen.keep_alive == read.keep_alive
