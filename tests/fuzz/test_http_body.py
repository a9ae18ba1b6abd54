"""Chunked bodies against h11, and any bytes in any chunking."""

import itertools
import re

import h11
from hypothesis import given, settings
from hypothesis import strategies as st

from tierlb.wire.http_body import (
    FORBIDDEN_TRAILERS,
    BadBody,
    ChunkedDecoder,
    encode_chunk,
    last_chunk,
)

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

PIECES = st.lists(st.binary(min_size=1, max_size=40), max_size=5)
TRAILERS = st.lists(st.tuples(st.sampled_from([b"X-A", b"Grpc-Status", b"Host", b"X_B"]), st.just(b"1")), max_size=3)
FRAGMENTS = st.sampled_from(
    [
        b"0",
        b"5",
        b"a",
        b"F",
        b"\r\n",
        b"\r",
        b"\n",
        b"hello",
        b";x=y",
        b" ",
        b"+",
        b"X: 1\r\n",
        b"0\r\n\r\n",
        b"\x00",
    ]
)
BLANK_BEFORE_EXTENSION = re.compile(rb"[0-9A-Fa-f][ \t]+;")
"""RFC 9112 §7.1.1 allows it, h11 does not know it."""
CUTS = st.lists(st.integers(0, 400), max_size=6)


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Well-formed bodies, some of them damaged in a place or two."""
    extension = draw(st.sampled_from([b"", b" ", b";a", b";a=b;c", b' ;a = "b;" ;c\t']))
    chunks = [encode_chunk(piece).replace(b"\r\n", extension + b"\r\n", 1) for piece in draw(PIECES)]
    data = b"".join(chunks) + last_chunk(tuple(draw(TRAILERS))) + draw(st.binary(max_size=10))
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(FRAGMENTS) + data[at + draw(st.integers(0, 2)) :]
    return data


Outcome = tuple[bytes, bool, tuple[tuple[bytes, bytes], ...], bytes]


def decode(data: bytes, cuts: list[int]) -> Outcome | None:
    """Body, whether it ended, trailers, rest; None if refused."""
    decoder, body, rest = ChunkedDecoder(), b"", b""
    edges = [0, *sorted(cut for cut in cuts if cut < len(data)), len(data)]
    try:
        for start, end in itertools.pairwise(edges):
            pieces, after = decoder.feed(data[start:end])
            body, rest = body + b"".join(pieces), rest + after
    except BadBody:
        return None
    return body, decoder.done, decoder.trailers, rest


def decode_with_h11(data: bytes) -> Outcome:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    connection.receive_data(HEAD + data)
    assert isinstance(connection.next_event(), h11.Request)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += event.data
    if not isinstance(event, h11.EndOfMessage):
        assert event is h11.NEED_DATA
        return body, False, (), b""
    kept = tuple((name, value) for name, value in event.headers if name not in FORBIDDEN_TRAILERS)
    return body, True, kept, connection.trailing_data[0]


@given(PIECES, TRAILERS, st.binary(max_size=10), CUTS)
def test_what_is_encoded_is_decoded_in_any_chunking(
    pieces: list[bytes], trailers: list[tuple[bytes, bytes]], following: bytes, cuts: list[int]
) -> None:
    data = b"".join(map(encode_chunk, pieces)) + last_chunk(tuple(trailers))
    kept = tuple(pair for pair in trailers if pair[0].lower() not in FORBIDDEN_TRAILERS)
    assert decode(data + following, cuts) == (b"".join(pieces), True, kept, following)


@settings(deadline=None, max_examples=500)
@given(bodies())
def test_what_is_accepted_h11_reads_the_same(data: bytes) -> None:
    ours = decode(data, [])
    if ours is None:
        return
    body, done, trailers, rest = ours
    lowered = tuple((name.lower(), value) for name, value in trailers)
    try:
        theirs = decode_with_h11(data)
    except h11.RemoteProtocolError:
        assert BLANK_BEFORE_EXTENSION.search(data)
        return
    assert theirs == (body, done, lowered, rest)


@settings(max_examples=500)
@given(bodies() | st.lists(FRAGMENTS, max_size=12).map(b"".join) | st.binary(max_size=60), CUTS)
def test_the_outcome_does_not_depend_on_the_chunking(data: bytes, cuts: list[int]) -> None:
    whole = decode(data, [])
    assert decode(data, cuts) == whole
    assert decode(data, list(range(len(data)))) == whole
