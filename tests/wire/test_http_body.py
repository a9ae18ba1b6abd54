"""Chunked bodies: each conversation is fed whole, byte by byte, at every split and with trailing data."""

import contextlib
import itertools
from collections.abc import Iterable

import pytest

from tierlb.wire.http_body import (
    CHUNK_LINE_LIMIT_BYTES,
    CHUNKS_A_CALL,
    EXTENSIONS_LIMIT_BYTES,
    FORBIDDEN_TRAILERS,
    LEAST_AVERAGE_BYTES,
    SLOW_CHUNK,
    STRETCH_CHUNKS,
    TRAILERS_LIMIT,
    TRAILERS_LIMIT_BYTES,
    BadBody,
    ChunkedDecoder,
    encode_chunk,
    last_chunk,
)


def decode(parts: Iterable[bytes]) -> tuple[bytes, ChunkedDecoder, bytes]:
    decoder, body, rest = ChunkedDecoder(), b"", b""
    for part in parts:
        pieces, after = decoder.feed(part)
        body += b"".join(pieces)
        rest += after
        assert b"" not in pieces
    return body, decoder, rest


def ways(data: bytes) -> Iterable[list[bytes]]:
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(len(data) + 1):
        yield [data[:i], data[i:]]


BODIES = {
    "an empty body": (b"0\r\n\r\n", b"", ()),
    "one chunk": (b"5\r\nhello\r\n0\r\n\r\n", b"hello", ()),
    "two chunks": (b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", b"hello world", ()),
    "hex in both cases": (b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2, ()),
    "sixteen digits": (b"0000000000000001\r\nx\r\n0000000000000000\r\n\r\n", b"x", ()),
    "data that looks like framing": (b"7\r\n\r\n0\r\n\r\n\r\n0\r\n\r\n", b"\r\n0\r\n\r\n", ()),
    "blanks after the size": (b"5   \r\nhello\r\n0\t \r\n\r\n", b"hello", ()),
    "blanks around an extension": (b'1 ;a\r\nx\r\n1\t; b\t= "c\\"d;\\\\" ; e=f \r\ny\r\n0 \r\n\r\n', b"xy", ()),
    "extensions": (b'1;a;b=c;d="e \xe4"\r\nx\r\n0;last\r\n\r\n', b"x", ()),
    "trailers": (
        b"1\r\nx\r\n0\r\nX-Sum:  1 \r\ngrpc-status: 0\r\n\r\n",
        b"x",
        ((b"X-Sum", b"1"), (b"grpc-status", b"0")),
    ),
    "forbidden trailers": (b"0\r\nContent-Length: 5\r\nX-A: 1\r\nHOST: b\r\n\r\n", b"", ((b"X-A", b"1"),)),
}


@pytest.mark.parametrize(("data", "body", "trailers"), BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize("following", [b"", b"\r\nGET / HTTP/1.1\r\n"])
def test_a_body_is_decoded_however_it_is_cut(
    data: bytes, body: bytes, trailers: tuple[tuple[bytes, bytes], ...], following: bytes
) -> None:
    for parts in ways(data + following):
        decoded, decoder, rest = decode(parts)
        assert (decoded, decoder.done, decoder.trailers, rest) == (body, True, trailers, following)


@pytest.mark.parametrize(("data", "body", "trailers"), BODIES.values(), ids=BODIES.keys())
def test_a_body_is_not_done_before_its_last_byte(
    data: bytes, body: bytes, trailers: tuple[tuple[bytes, bytes], ...]
) -> None:
    for size in range(len(data)):
        decoded, decoder, rest = decode([data[:size]])
        assert body.startswith(decoded)
        assert (decoder.done, decoder.trailers, rest) == (False, (), b"")


REFUSED = {
    "an empty size": b"\r\n",
    "an empty size with an extension": b";a\r\n",
    "a plus": b"+5\r\nhello\r\n",
    "a minus": b"-5\r\nhello\r\n",
    "0x": b"0x5\r\nhello\r\n",
    "an underscore": b"1_0\r\n",
    "a letter beyond f": b"g\r\n",
    "a leading space": b" 5\r\nhello\r\n",
    "a second size after a blank": b"5 5\r\nhello\r\n",
    "a vertical tab after the size": b"5\x0b\r\nhello\r\n",
    "a word after a blank": b"5 a\r\nhello\r\n",
    "a comma after the size": b"5,a\r\nhello\r\n",
    "an extension without a name": b"5;\r\nhello\r\n",
    "two semicolons": b"5;;a\r\nhello\r\n",
    "an extension that ends with a semicolon": b"5;a;\r\nhello\r\n",
    "an extension's value without its name": b"5;=a\r\nhello\r\n",
    "an extension without its value": b"5;a=\r\nhello\r\n",
    "an extension of two words": b"5;a b\r\nhello\r\n",
    "an extension whose value is no token": b"5;a=b c\r\nhello\r\n",
    "an extension whose quotes are not closed": b'5;a="b\r\nhello\r\n',
    "an extension whose last quote is escaped": b'5;a="b\\"\r\nhello\r\n',
    "an extension whose quotes are followed by more": b'5;a="b"c\r\nhello\r\n',
    "a non-ASCII name of an extension": b"5;\xe4\r\nhello\r\n",
    "a non-ASCII digit": b"\xb2\r\n",
    "NUL after the size": b"5\x00\r\nhello\r\n",
    "seventeen digits": b"0" * 16 + b"5\r\nhello\r\n",
    "a size of 2^63": b"8000000000000000\r\n",
    "a size that wraps": b"ffffffffffffffff\r\n",
    "a bare LF after the size": b"5\nhello\r\n0\r\n\r\n",
    "a bare CR after the size": b"5\rhello\r\n0\r\n\r\n",
    "two CRs after the size": b"5\r\r\nhello\r\n",
    "a bare LF in an extension": b"5;a\nb\r\nhello\r\n",
    "a bare CR in an extension": b"5;a\rb\r\nhello\r\n",
    "a control character in an extension": b"5;a\x01\r\nhello\r\n",
    "an LF hidden behind an extension": b"2;\n00\r\n0\r\n\r\n",
    "data longer than its size": b"5\r\nhelloo\r\n0\r\n\r\n",
    "a bare LF after the data": b"5\r\nhello\n0\r\n\r\n",
    "a bare CR after the data": b"5\r\nhello\r0\r\n\r\n",
    "no CRLF after the data": b"5\r\nhello0\r\n\r\n",
    "a trailer name with a space": b"0\r\nX : 1\r\n\r\n",
    "a trailer without a colon": b"0\r\nGET / HTTP/1.1\r\n\r\n",
    "a folded trailer": b"0\r\nX: 1\r\n 2\r\n\r\n",
    "a trailer with NUL": b"0\r\nX: \x00\r\n\r\n",
    "a trailer with a bare LF": b"0\r\nX: 1\nY: 2\r\n\r\n",
    "a trailer with a bare CR": b"0\r\nX: 1\rY: 2\r\n\r\n",
    "an end with a bare LF": b"0\r\n\nX: 1\r\n\r\n",
    "a long size line": b"5;" + b"a" * (CHUNK_LINE_LIMIT_BYTES - 1) + b"\r\nhello\r\n",
    "many trailers": b"0\r\n" + b"X: 1\r\n" * (TRAILERS_LIMIT + 1) + b"\r\n",
}


@pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
def test_ambiguous_chunks_are_refused_however_they_are_cut(data: bytes) -> None:
    for parts in ways(data):
        with pytest.raises(BadBody) as caught:
            decode(parts)
        assert caught.value.reason


@pytest.mark.parametrize("line", [b"5\n", b"5\rx", b"5;\x00", b"0\r\n\n", b"0\r\nX: 1\n", b"0\r\nX\x01"])
def test_an_unfinished_line_that_can_never_be_right_is_refused_at_once(line: bytes) -> None:
    assert not decode([line[:-1]])[1].done
    for parts in ways(line):
        with pytest.raises(BadBody, match="bare CR"):
            decode(parts)


def test_limits_are_reached_before_they_are_passed() -> None:
    line = b"1;" + b"a" * (CHUNK_LINE_LIMIT_BYTES - 2) + b"\r\nx\r\n"
    assert decode([line])[0] == b"x"
    fields = b"X: 1\r\n" * TRAILERS_LIMIT
    assert len(decode([b"0\r\n" + fields + b"\r\n"])[1].trailers) == TRAILERS_LIMIT
    assert decode([b"7fffffffffffffff\r\nx"])[0] == b"x"


def test_extensions_are_bounded_over_the_whole_message() -> None:
    chunk = b"1;" + b"a" * 1000 + b"\r\nx\r\n"
    allowed = EXTENSIONS_LIMIT_BYTES // 1001
    assert decode([chunk] * allowed)[0] == b"x" * allowed
    with pytest.raises(BadBody, match="extensions"):
        decode([chunk] * (allowed + 1))


@pytest.mark.parametrize("line", [b"400     \r\n", b"400;signature=" + b"0" * 64 + b"\r\n"])
def test_a_body_of_any_length_may_have_blanks_and_extensions_in_every_chunk(line: bytes) -> None:
    chunks = 1 + EXTENSIONS_LIMIT_BYTES // 5
    body, decoder, _ = decode([line + b"x" * 1024 + b"\r\n"] * chunks + [b"0     \r\n\r\n"])
    assert len(body) == 1024 * chunks
    assert decoder.done


@pytest.mark.parametrize("newlines", [b"\r\n", b""])
def test_trailers_are_bounded_in_bytes_finished_or_not(newlines: bytes) -> None:
    fitting = b"0\r\nX: " + b"a" * (TRAILERS_LIMIT_BYTES - 3)
    assert decode([fitting + b"\r\n\r\n"])[1].done
    with pytest.raises(BadBody, match="too long"):
        decode([fitting + b"aa" + newlines])


def test_an_unfinished_size_line_is_held_only_up_to_its_limit() -> None:
    decoder = ChunkedDecoder()
    for _ in range(CHUNK_LINE_LIMIT_BYTES + 1):
        assert decoder.feed(b"a") == ([], b"")
    with pytest.raises(BadBody, match="too long"):
        decoder.feed(b"a")


def test_data_within_one_chunk_passes_without_a_copy() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"10000\r\n")
    data = bytes(0x8000)
    assert decoder.feed(data)[0][0] is data
    assert decoder.feed(data)[0][0] is data


def test_a_broken_decoder_stays_broken() -> None:
    decoder = ChunkedDecoder()
    for data in (b"x\r\n", b"0\r\n\r\n"):
        with pytest.raises(BadBody, match="hexadecimal"):
            decoder.feed(data)
    assert not decoder.done


def test_a_decoder_that_is_done_takes_nothing_more() -> None:
    decoder = ChunkedDecoder()
    decoder.feed(b"0\r\n\r\n")
    assert decoder.feed(b"5\r\nhello\r\n") == ([], b"5\r\nhello\r\n")


@pytest.mark.parametrize("name", [*sorted(FORBIDDEN_TRAILERS), b"forwarded", b"x-forwarded-port", b"x-real-ip"])
def test_forbidden_trailers_are_read_but_not_passed_on(name: bytes) -> None:
    decoder = decode([b"0\r\n" + name.title() + b": 1\r\n\r\n"])[1]
    assert decoder.done
    assert decoder.trailers == ()


def test_an_empty_piece_does_not_end_the_body() -> None:
    assert encode_chunk(b"") == b""


def test_what_is_encoded_decodes_to_the_same() -> None:
    trailers = ((b"X-Sum", b"1"), (b"X-Empty", b""))
    data = encode_chunk(b"hello") + encode_chunk(b"") + encode_chunk(b"x" * 300) + last_chunk(trailers)
    body, decoder, rest = decode([data])
    assert (body, decoder.trailers, rest) == (b"hello" + b"x" * 300, trailers, b"")
    assert last_chunk(()) == b"0\r\n\r\n"


ONE = b"1\r\nx\r\n"


def fed(data: bytes, decoder: ChunkedDecoder, seconds_a_call: float = 0.0) -> tuple[list[int], bytes]:
    """Feed it all, as often as it takes; the bytes of body of each call, and all of the body."""
    calls, body, now = [], b"", 0.0
    while data:
        pieces, data = decoder.feed(data, now)
        calls.append(sum(map(len, pieces)))
        body += b"".join(pieces)
        now += seconds_a_call
    return calls, body


def test_one_call_reads_a_bounded_number_of_chunks_and_gives_back_the_rest() -> None:
    decoder = ChunkedDecoder()
    pieces, rest = decoder.feed(ONE * (CHUNKS_A_CALL + 5))
    assert len(pieces) == CHUNKS_A_CALL
    assert rest == ONE * 5
    assert not decoder.done
    pieces, rest = decoder.feed(rest + b"0\r\n\r\nGET")
    assert (len(pieces), rest, decoder.done) == (5, b"GET", True)


@pytest.mark.parametrize("slow", [b"1;a\r\nx\r\n", b"1 \r\nx\r\n"])
def test_chunks_that_take_longer_to_read_are_fewer_a_call(slow: bytes) -> None:
    pieces, rest = ChunkedDecoder().feed(slow * CHUNKS_A_CALL)
    assert 0 < len(pieces) <= CHUNKS_A_CALL // SLOW_CHUNK
    assert rest


def test_what_is_given_back_is_decoded_as_if_it_had_come_later() -> None:
    body = bytes(range(256)) * 3
    data = b"".join(encode_chunk(body[i : i + 1 + i % 3]) for i in range(0, len(body), 1))
    expected = b"".join(body[i : i + 1 + i % 3] for i in range(0, len(body), 1))
    decoder = ChunkedDecoder()
    calls, decoded = fed(data + last_chunk(), decoder)
    assert decoded == expected
    assert decoder.done
    assert len(calls) == len(body) // CHUNKS_A_CALL + 1


@pytest.mark.parametrize(
    ("chunk_bytes", "a_second", "refused"),
    [
        (1, 100_000, True),
        (LEAST_AVERAGE_BYTES - 1, 100_000, True),
        (LEAST_AVERAGE_BYTES, 100_000, False),
        (1000, 100_000, False),
        (1, 1100, True),
        (1, 900, False),
    ],
)
def test_a_body_of_tiny_chunks_is_refused_unless_it_is_slow(chunk_bytes: int, a_second: int, refused: bool) -> None:
    data = encode_chunk(bytes(chunk_bytes)) * (3 * STRETCH_CHUNKS)
    with pytest.raises(BadBody, match="chunks of less than") if refused else contextlib.nullcontext():
        fed(data, ChunkedDecoder(), CHUNKS_A_CALL / a_second)


def test_a_few_thousand_tiny_chunks_at_once_pass() -> None:
    _, body = fed(ONE * (STRETCH_CHUNKS - 1) + last_chunk(), ChunkedDecoder())
    assert body == b"x" * (STRETCH_CHUNKS - 1)


def test_tiny_chunks_are_counted_however_they_come() -> None:
    decoder = ChunkedDecoder()
    parts = itertools.cycle([b"1\r", b"\nx", b"\r\n"])
    for _ in range(3 * STRETCH_CHUNKS):
        decoder.feed(next(parts), 1.0)
    with pytest.raises(BadBody, match="chunks of less than"):
        fed(next(parts) + next(parts), decoder)


def test_each_stretch_is_judged_by_itself() -> None:
    decoder = ChunkedDecoder()
    fed(encode_chunk(bytes(1000)) * (STRETCH_CHUNKS + CHUNKS_A_CALL), decoder)
    with pytest.raises(BadBody, match="chunks of less than"):
        fed(ONE * (STRETCH_CHUNKS + CHUNKS_A_CALL), decoder)
