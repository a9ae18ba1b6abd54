"""Response heads turned into what the client is told, and the answers a node makes itself. Pure tables."""

import pytest

from tierlb.dataplane.l7.reply import (
    CHUNKED,
    UNTIL_CLOSE,
    ReplyBook,
    frame_for,
    make_reply,
    own_answer,
    with_lines,
)
from tierlb.model.topology import Orca
from tierlb.wire.http_fields import BadHead
from tierlb.wire.orca import OrcaBook, encode_orca
from tierlb.wire.orca_report import OrcaReport

LENGTHS = [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", 7),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", 0),
    (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", CHUNKED),
    (b"HTTP/1.1 200 OK\r\n\r\n", UNTIL_CLOSE),
    (b"HTTP/1.0 200 OK\r\n\r\n", UNTIL_CLOSE),
    (b"HTTP/1.1 204 No Content\r\nContent-Length: 7\r\n\r\n", 0),
    (b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n", 0),
    (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", 0),
    (b"HTTP/1.1 100 Continue\r\n\r\n", 0),
    (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", 0),
]


@pytest.mark.parametrize(("raw", "length"), LENGTHS)
def test_where_a_body_ends(raw: bytes, length: int) -> None:
    assert make_reply(raw, OrcaBook()).length == length


WHOLE = [
    (
        b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: X-Hop\r\nX-Hop: 1\r\nX-End: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-End: 2\r\nContent-Length: 7\r\n\r\n",
    ),
    (
        b"HTTP/1.0 404 Nowhere To Be Found\r\nServer: old\r\n\r\n",
        b"HTTP/1.1 404 Nowhere To Be Found\r\nServer: old\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n",
    ),
    (
        b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
    ),
    (
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n",
    ),
    (
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("raw", "whole"), WHOLE)
def test_the_head_for_a_client_of_http_1_1_that_stays(raw: bytes, whole: bytes) -> None:
    reply = make_reply(raw, OrcaBook())
    assert reply.whole == whole
    assert frame_for(reply, is_head=False, minor=1, keep_alive=True) == whole


FRAMES = [
    (False, 1, False, b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"),
    (False, 0, False, b"Connection: close\r\n\r\n"),
    (True, 1, True, b"\r\n"),
    (True, 0, True, b"Connection: keep-alive\r\n\r\n"),
]


@pytest.mark.parametrize(("is_head", "minor", "keep_alive", "end"), FRAMES)
def test_a_chunked_answer_is_framed_as_its_client_understands(
    is_head: bool, minor: int, keep_alive: bool, end: bytes
) -> None:
    reply = make_reply(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", OrcaBook())
    frame = frame_for(reply, is_head=is_head, minor=minor, keep_alive=keep_alive)
    assert frame == b"HTTP/1.1 200 OK\r\n" + end


BLAMED = [(200, False), (404, False), (428, False), (429, True), (430, False), (499, False), (500, True), (501, False)]
BLAMED += [(502, True), (503, True), (504, True), (505, False), (507, True), (599, True)]


@pytest.mark.parametrize(("status", "blamed"), BLAMED)
def test_for_what_a_member_is_blamed(status: int, blamed: bool) -> None:
    reply = make_reply(b"HTTP/1.1 %d X\r\nContent-Length: 0\r\n\r\n" % status, OrcaBook())
    assert reply.blamed is blamed


REPORT = OrcaReport(application=0.5, rps=50.0, named={"slots": 4.0})
FIELDS = {
    "text": b"Endpoint-Load-Metrics: " + encode_orca(REPORT, Orca.TEXT),
    "json": b"endpoint-load-metrics: " + encode_orca(REPORT, Orca.JSON),
    "bin": b"endpoint-load-metrics: " + encode_orca(REPORT, Orca.BIN),
    "grpc": b"endpoint-load-metrics-bin: " + encode_orca(REPORT, Orca.BIN)[4:],
}


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
def test_what_a_member_says_of_its_load_is_read_and_goes_no_further(field: bytes) -> None:
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n%b\r\nX-End: 1\r\n\r\n" % field
    reply = make_reply(raw, OrcaBook())
    assert reply.orca == REPORT
    assert reply.whole == b"HTTP/1.1 200 OK\r\nX-End: 1\r\nContent-Length: 7\r\n\r\n"


OTHER = OrcaReport(application=0.9, rps=9.0)
TWICE = {
    "text first": ([encode_orca(OTHER, Orca.TEXT), encode_orca(REPORT, Orca.BIN)[4:]], REPORT),
    "text alone is good": ([encode_orca(OTHER, Orca.TEXT), b"%%%"], OTHER),
    "none is good": ([b"lots", b"%%%"], None),
}


@pytest.mark.parametrize("bin_first", [False, True])
@pytest.mark.parametrize(("values", "expected"), TWICE.values(), ids=TWICE)
def test_of_two_reports_the_binary_one_counts(
    values: list[bytes], expected: OrcaReport | None, bin_first: bool
) -> None:
    lines = [b"endpoint-load-metrics: %b\r\n" % values[0], b"endpoint-load-metrics-bin: %b\r\n" % values[1]]
    raw = b"HTTP/1.1 200 OK\r\n%b\r\n" % b"".join(lines[::-1] if bin_first else lines)
    assert make_reply(raw, OrcaBook()).orca == expected


def test_a_load_that_cannot_be_read_is_no_load_and_goes_no_further_either() -> None:
    book = OrcaBook()
    reply = make_reply(b"HTTP/1.1 200 OK\r\nEndpoint-Load-Metrics: lots\r\nContent-Length: 7\r\n\r\n", book)
    assert (reply.orca, book.bad) == (None, 1)
    assert reply.whole == b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"


@pytest.mark.parametrize(
    ("fields", "end"),
    [
        (b"Content-Length: 7\r\n", b"Content-Length: 7\r\n\r\n"),
        (b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: chunked\r\n\r\n"),
        (b"", b"Transfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_lines_of_this_node_come_before_the_members_own(fields: bytes, end: bytes) -> None:
    plain = make_reply(b"HTTP/1.1 404 No Such Thing\r\nX: 1\r\n%b\r\n" % fields, OrcaBook())
    reply = with_lines(plain, b"A: 1\r\nB: 2\r\n")
    assert reply.whole == b"HTTP/1.1 404 No Such Thing\r\nA: 1\r\nB: 2\r\nX: 1\r\n" + end
    assert frame_for(reply, is_head=False, minor=1, keep_alive=True) == reply.whole
    assert (reply.status, reply.length, reply.keep_alive) == (plain.status, plain.length, plain.keep_alive)


UNUSABLE = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"HTTP/2.0 200 OK\r\n\r\n",
    b"HTTP/1.1 99 No\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX : y\r\n\r\n",
    b"\r\n\r\n",
]


@pytest.mark.parametrize("raw", UNUSABLE)
def test_a_head_with_two_meanings_is_refused(raw: bytes) -> None:
    with pytest.raises(BadHead):
        make_reply(raw, OrcaBook())


@pytest.mark.parametrize(
    ("fields", "kept"),
    [(b"", True), (b"Connection: close\r\n", False), (b"Connection: X-Hop, Close\r\n", False)],
)
def test_whether_the_members_connection_stays(fields: bytes, kept: bool) -> None:
    assert make_reply(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n", OrcaBook()).keep_alive is kept


def test_the_book_keeps_the_reply_of_a_head_that_comes_again() -> None:
    book = ReplyBook()
    raw = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n"
    book.reply(raw)
    kept = book.reply(bytes(bytearray(raw)))
    assert book.reply(bytes(bytearray(raw))) is kept
    assert kept.length == 7


OWN = [
    (
        {"keep_alive": True},
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n\r\nno",
    ),
    (
        {"keep_alive": False, "is_head": True},
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 2\r\n"
        b"Connection: close\r\n\r\n",
    ),
    (
        {"keep_alive": True, "minor": 0, "extra": b"Retry-After: 1\r\n", "content_type": "a/b"},
        b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Type: a/b\r\nContent-Length: 2\r\n"
        b"Connection: keep-alive\r\n\r\nno",
    ),
]


@pytest.mark.parametrize(("options", "whole"), OWN)
def test_answers_made_here(options: dict[str, object], whole: bytes) -> None:
    status, date, rest = own_answer(503, b"no", **options).split(b"\r\n", 2)  # type: ignore[arg-type]
    assert date.startswith(b"Date: ")
    assert status + b"\r\n" + rest == whole


UPGRADES = [
    (b"Connection: upgrade\r\nUpgrade: websocket\r\n", b"websocket"),
    (b"Upgrade: TLS/1.0\r\nupgrade: HTTP/2.0\r\n", b"TLS/1.0, HTTP/2.0"),
]


@pytest.mark.parametrize(("fields", "upgrade"), UPGRADES)
def test_426_says_what_to_upgrade_to(fields: bytes, upgrade: bytes) -> None:
    reply = make_reply(b"HTTP/1.1 426 Upgrade Required\r\n" + fields + b"Content-Length: 0\r\n\r\n", OrcaBook())
    assert b"\r\nConnection: upgrade\r\nUpgrade: %b\r\n" % upgrade in reply.lines
    other = make_reply(b"HTTP/1.1 400 Bad Request\r\n" + fields + b"Content-Length: 0\r\n\r\n", OrcaBook())
    assert b"pgrade" not in other.lines


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_made_here(status: int) -> None:
    answer = own_answer(status, b"ignored", keep_alive=True)
    assert answer.endswith(b"\r\n\r\n")
    assert b"Content-Length" not in answer


def test_a_status_without_a_name_is_still_a_status_line() -> None:
    assert own_answer(599, b"", keep_alive=True).startswith(b"HTTP/1.1 599 Unknown\r\n")


def test_what_it_says_of_choices_is_kept_from_the_client_unless_somebody_puts_it_back() -> None:
    reply = make_reply(b"HTTP/1.1 200 OK\r\nX-TIERLB-explain: {}\r\nX: 1\r\nX-Tierlb-Explain: 7\r\n\r\n", OrcaBook())
    assert reply.lines == b"HTTP/1.1 200 OK\r\nX: 1\r\n"
    assert reply.whole.startswith(reply.lines)
    assert b"explain" not in reply.whole.lower()
    assert reply.explained == b"x-tierlb-explain: {}\r\nx-tierlb-explain: 7\r\n"
    assert not reply.blamed
