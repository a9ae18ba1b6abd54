"""Any frames and any bytes in any chunking, from clients of HTTP/2, leave a node that still answers."""

from hypothesis import given
from hypothesis import strategies as st

from tests.fuzz.test_l7_node import fuzzed, run
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import PREFACE, frame, settings_frame, window_frame

GET = b"".join(
    encode_field(*field)
    for field in ((b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/x"))
)
POST = encode_field(b":method", b"POST") + GET[1:]
ANSWERS = [
    [b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"],
    [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", b"llo\r\n0\r\nx: y\r\n\r\n"],
    [b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello"],
    [b"HTTP/1.1 200 OK\r\n\r\n", b"hello"],
    [b"nonsense\r\n\r\n"],
    [],
]
NUMBERS = st.sampled_from([0, 1, 1, 1, 3, 3, 5, 2, 7])
FRAMES = st.one_of(
    st.builds(lambda n, flags: frame(1, flags, n, GET), NUMBERS, st.sampled_from([0, 1, 4, 5, 5, 0xD, 0x25])),
    st.builds(lambda n, flags: frame(1, flags, n, POST), NUMBERS, st.sampled_from([0, 4, 4, 5])),
    st.builds(lambda n, flags, b: frame(0, flags, n, b), NUMBERS, st.sampled_from([0, 1, 8]), st.binary(max_size=20)),
    st.builds(lambda n, b: frame(9, 4, n, b), NUMBERS, st.binary(max_size=20)),
    st.builds(lambda n, code: frame(3, 0, n, code.to_bytes(4, "big")), NUMBERS, st.integers(0, 20)),
    st.builds(lambda key, value: settings_frame(((key, value),)), st.integers(0, 9), st.integers(0, 2**32 - 1)),
    st.builds(window_frame, NUMBERS, st.integers(0, 2**31 - 1)),
    st.builds(lambda flags, b: frame(6, flags, 0, b), st.sampled_from([0, 1]), st.binary(min_size=8, max_size=8)),
    st.builds(frame, st.integers(0, 17), st.integers(0, 255), NUMBERS, st.binary(max_size=30)),
    st.binary(max_size=30),
)


@st.composite
def conversations(draw: st.DrawFn) -> list[bytes]:
    """What a client sends, in chunks."""
    data = PREFACE + settings_frame(()) + b"".join(draw(st.lists(FRAMES, max_size=12)))
    chunks = []
    while data:
        size = draw(st.integers(1, 200))
        chunks.append(data[:size])
        data = data[size:]
    return chunks


@fuzzed(60)
@given(noise=conversations(), answer=st.sampled_from(ANSWERS))
def test_any_frames_leave_a_node_that_answers(noise: list[bytes], answer: list[bytes]) -> None:
    run(noise, answer)
