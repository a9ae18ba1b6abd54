"""The client of HTTP/2 against a server of which the test says every byte, whole and one by one, and against `h2`."""

import h2.config
import h2.connection
import h2.events
import pytest
import trio
import trio.testing

from tierlb.net.http2_client import MOST_FRAMES, Http2Answer, ask_http2
from tierlb.net.http_client import BadAnswer, CutAnswer
from tierlb.wire.hpack import encode_field
from tierlb.wire.http2_frames import DATA, END_STREAM, PING, frame, goaway_frame, headers_frames, settings_frame
from tierlb.wire.http_fields import Header

DEADLINE_S = 10.0
GET = [(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"a"), (b":path", b"/x")]
SETTINGS = settings_frame(())


def head(*fields: Header, ended: bool = False) -> bytes:
    return headers_frames(1, b"".join(encode_field(name, value) for name, value in fields), ended=ended)


OK = head((b":status", b"200"), (b"x", b"y"))


async def talk(said: bytes, *, body: bytes = b"", slowly: bool = False) -> tuple[Http2Answer, bytes]:
    """The answer to a request whose server says this and closes, and what the server heard at first."""
    ours, theirs = trio.testing.memory_stream_pair()
    heard = b""

    async def serve() -> None:
        nonlocal heard
        heard = bytes(await theirs.receive_some())
        for piece in [said[at : at + 1] for at in range(len(said))] if slowly else [said]:
            await theirs.send_all(piece)
        await theirs.send_eof()

    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            try:
                answer = await ask_http2(ours, GET, body, max_bytes=100_000)
            except BadAnswer as error:
                nursery.cancel_scope.cancel()
                raised: BadAnswer | None = error
            else:
                raised = None
    if raised is not None:
        raise raised
    return answer, heard


@pytest.mark.parametrize("slowly", [False, True])
async def test_an_answer_has_status_fields_body_and_trailers(slowly: bool) -> None:
    interim, ping = head((b":status", b"103")), frame(PING, 0, 0, bytes(8))
    trailers = head((b"grpc-status", b"0"), ended=True)
    said = SETTINGS + interim + OK + frame(DATA, 0, 1, b"o") + ping + frame(DATA, 0, 1, b"k") + trailers
    answer, _ = await talk(said, slowly=slowly)
    assert (answer.status, answer.body, answer.trailers) == (200, b"ok", ((b"grpc-status", b"0"),))
    assert answer.fields == ((b":status", b"200"), (b"x", b"y"))


async def test_a_request_is_one_that_h2_understands() -> None:
    _, heard = await talk(SETTINGS + head((b":status", b"204"), ended=True), body=b"hello")
    engine = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=False))
    engine.initiate_connection()
    events = engine.receive_data(heard)
    (request,) = [event for event in events if isinstance(event, h2.events.RequestReceived)]
    assert request.headers == GET
    assert [event.data for event in events if isinstance(event, h2.events.DataReceived)] == [b"hello"]
    assert any(isinstance(event, h2.events.StreamEnded) for event in events)


async def test_a_body_is_read_up_to_the_bound() -> None:
    pieces = [frame(DATA, 0, 1, bytes(10_000)) for _ in range(20)]
    answer, _ = await talk(SETTINGS + OK + b"".join(pieces))
    assert 100_000 < len(answer.body) <= 110_000


@pytest.mark.parametrize(
    ("said", "why"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "speaks HTTP/1.1: write protocol: http/1.1"),
        (OK, "before SETTINGS"),
        (SETTINGS + headers_frames(3, encode_field(b":status", b"200"), ended=True), "not opened"),
        (SETTINGS + frame(3, 0, 3, bytes(4)), "not opened"),
        (SETTINGS + OK, "ended before the answer"),
        (SETTINGS + frame(DATA, END_STREAM, 1, b"x"), "before the head"),
        (SETTINGS + goaway_frame(0, 11), "GOAWAY, code 11"),
        (SETTINGS + frame(3, 0, 1, (7).to_bytes(4, "big")), "reset the stream (code 7)"),
        (SETTINGS + head((b"x", b"y"), ended=True), "no status"),
        (SETTINGS + head((b":status", b"200"), (b"x", bytes(20_000))), "large"),
        (SETTINGS + headers_frames(1, b"\xff\xff\xff\xff\xff", ended=True), ""),
        (SETTINGS * (MOST_FRAMES + 2), "very many frames"),
    ],
)
async def test_what_is_no_answer_says_why(said: bytes, why: str) -> None:
    with pytest.raises(BadAnswer) as caught:
        await talk(said)
    assert why in str(caught.value)
    assert isinstance(caught.value, CutAnswer) is (why == "ended before the answer")
