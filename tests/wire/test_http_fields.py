"""One line at a time: what is read, what is refused and why, and which lines are kept."""

from collections.abc import Mapping

import pytest

from tierlb.wire import http_fields
from tierlb.wire.http_fields import (
    HOP_BY_HOP,
    LINES_BUDGET_BYTES,
    MEMO_LINE_BYTES,
    BadHead,
    HeaderField,
    is_token,
    read_field,
    read_fields,
)
from tierlb.wire.memo import Memo


@pytest.mark.parametrize(
    ("line", "field"),
    [
        (b"X-A:  1\t", HeaderField(b"X-A", b"1", b"x-a", b"X-A: 1", special=False)),
        (b"X-Empty:", HeaderField(b"X-Empty", b"", b"x-empty", b"X-Empty: ", special=False)),
        (b"ETag: a: \xe4", HeaderField(b"ETag", b"a: \xe4", b"etag", b"ETag: a: \xe4", special=False)),
        (b"under_score: 1", HeaderField(b"under_score", b"1", b"under_score", b"under_score: 1", special=False)),
        (b"HOST:a", HeaderField(b"HOST", b"a", b"host", b"HOST: a", special=True)),
    ],
)
def test_a_line_is_a_name_and_a_value(line: bytes, field: HeaderField) -> None:
    assert read_field(line) == field


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"", "not a token and a colon"),
        (b"X-A", "not a token and a colon"),
        (b": x", "not a token and a colon"),
        (b"X-A : 1", "not a token and a colon"),
        (b"X\xe4: 1", "not a token and a colon"),
        (b" folded: 1", "starts with whitespace"),
        (b"\tfolded", "starts with whitespace"),
        (b"X-A: 1\r", "control character"),
        (b"X-A: \x7f", "control character"),
        (b"Content_Length: 5", "becomes another one"),
        (b"X.Forwarded.For: 10.0.0.1", "becomes another one"),
    ],
)
def test_a_line_that_can_be_read_in_two_ways_is_refused_with_the_reason(line: bytes, reason: str) -> None:
    with pytest.raises(BadHead, match=reason) as caught:
        read_field(line)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "name",
    sorted(
        HOP_BY_HOP
        | {b"host", b"content-length", b"expect", b"forwarded", b"x-request-id"}
        | {b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}
    ),
)
def test_fields_that_a_proxy_reads_or_writes_are_special(name: bytes) -> None:
    assert read_field(name.title() + b": 1").special
    assert not read_field(b"X-Not-" + name + b": 1").special


def test_a_token_is_of_visible_characters_that_separate_nothing() -> None:
    visible = set(range(33, 127)) - set(b'"(),/:;<=>?@[\\]{}')
    assert {byte for byte in range(256) if is_token(bytes([byte]))} == visible
    assert not is_token(b"")


def test_values_that_decide_something_are_found_by_name_and_lists_are_joined() -> None:
    lines = [b"Host: a", b"X-A: 1", b"Connection: x", b"connection: close", b"Keep-Alive: 5"]
    fields, meaning = read_fields(lines)
    assert [field.line for field in fields] == [
        b"Host: a",
        b"X-A: 1",
        b"Connection: x",
        b"connection: close",
        b"Keep-Alive: 5",
    ]
    assert meaning == {b"host": b"a", b"connection": b"x, close"}


@pytest.mark.parametrize("name", [b"Host", b"Content-Length", b"Transfer-Encoding"])
def test_a_field_that_must_be_unique_is_refused_where_it_comes_again(name: bytes) -> None:
    with pytest.raises(BadHead, match=f"more than one {name.decode().lower()} field"):
        read_fields([name + b": 1", name.lower() + b": 1"])


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Mapping[bytes, object]:
    """The lines that are known, at first none."""
    kept = http_fields.FieldLines()
    monkeypatch.setattr(http_fields, "known_lines", Memo(LINES_BUDGET_BYTES, kept))
    monkeypatch.setattr(http_fields, "_make_field", kept.__getitem__)
    return kept


def test_lines_are_remembered_from_their_second_sight_on(lines: Mapping[bytes, object]) -> None:
    for number in range(3):
        read_fields([b"X-Same: 1", b"X-Number: %d" % number])
    assert [*lines] == [b"X-Same: 1"]


def test_credentials_are_not_remembered(lines: Mapping[bytes, object]) -> None:
    secret = b"c2VjcmV0"
    names = [b"Authorization", b"Proxy-Authorization", b"Cookie", b"Set-Cookie", b"X-Ordinary"]
    for _ in range(3):
        read_fields([name + b": " + secret for name in names])
    assert [*lines] == [b"X-Ordinary: " + secret]


def test_long_lines_are_not_remembered(lines: Mapping[bytes, object]) -> None:
    longest = b"X-Long: ".ljust(MEMO_LINE_BYTES, b"x")
    for _ in range(3):
        read_fields([longest, longest + b"x"])
    assert [*lines] == [longest]
