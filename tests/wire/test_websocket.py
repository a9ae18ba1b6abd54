"""The parent's end of a websocket without its socket: frames whole, byte by byte and with others behind; breaches."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection, BytesMessage, CloseConnection, Request
from wsproto.frame_protocol import CloseReason

from tierlb.wire.allowance import EXCEEDED, MAX_UNITS
from tierlb.wire.frames import MAX_CHILD_FRAME_BYTES
from tierlb.wire.websocket import CLOSE_CODE, MAX_REASON_BYTES, Framing

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
LAST = 0x80


def opened() -> tuple[WSConnection, WSConnection]:
    """A child's and a parent's end after the upgrade."""
    child, parent = WSConnection(ConnectionType.CLIENT), WSConnection(ConnectionType.SERVER)
    parent.receive_data(child.send(Request(host="parent", target="/")))
    assert isinstance(next(parent.events()), Request)
    child.receive_data(parent.send(AcceptConnection()))
    assert isinstance(next(child.events()), AcceptConnection)
    return child, parent


@pytest.fixture
def parent() -> Framing:
    return Framing(opened()[1])


def frame(opcode: int, payload: bytes = b"", mask: bytes = b"mask", *, last: bool = True) -> bytes:
    """As a child writes it."""
    size = len(payload)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 2**16 else b"\x7f" + size.to_bytes(8)
    body = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
    return bytes([opcode | LAST * last, length[0] | 0x80]) + length[1:] + mask + body


def bye(code: int, reason: bytes = b"") -> bytes:
    return frame(CLOSE, code.to_bytes(2) + reason, bytes(4))


def feed(end: Framing, data: bytes, chunk: int) -> tuple[list[bytes], bytes]:
    """All messages and answers that follow from the bytes, fed in chunks."""
    messages, answers = [], b""
    for at in range(0, len(data), chunk):
        messages += end.feed(data[at : at + chunk])
        answers += end.answer
    return messages, answers


def heard(data: bytes) -> list[tuple[int, bytes]]:
    """The frames that the parent sent, small ones: opcode and payload."""
    frames = []
    while data:
        size = data[1]
        assert size < 126, "a parent does not mask"
        frames.append((data[0] & 0xF, data[2 : 2 + size]))
        data = data[2 + size :]
    return frames


MESSAGES = [
    ("one", frame(BINARY, b"one"), [b"one"]),
    ("none in it", frame(BINARY), [b""]),
    ("some at once", frame(BINARY, b"one") + frame(BINARY, b"two"), [b"one", b"two"]),
    ("of a longer length", frame(BINARY, b"x" * 300), [b"x" * 300]),
    ("of the longest length", frame(BINARY, b"x" * 70_000), [b"x" * 70_000]),
    ("text", frame(TEXT, "naïve".encode()), ["naïve".encode()]),
    (
        "in fragments",
        frame(BINARY, b"o", last=False) + frame(CONTINUATION, b"n", last=False) + frame(CONTINUATION, b"e"),
        [b"one"],
    ),
    (
        "in fragments, each with the next message behind it",
        (frame(BINARY, b"on", last=False) + frame(CONTINUATION, b"e")) * 2 + frame(BINARY, b"two"),
        [b"one", b"one", b"two"],
    ),
    (
        "text torn within a character",
        frame(TEXT, b"na\xc3", last=False) + frame(CONTINUATION, b"\xafve"),
        ["naïve".encode()],
    ),
    ("a pong that nobody asked for", frame(PONG, b"x") + frame(BINARY, b"one"), [b"one"]),
]


@pytest.mark.parametrize("chunk", [1, 7, 1_000_000])
@pytest.mark.parametrize(("data", "expected"), [row[1:] for row in MESSAGES], ids=[row[0] for row in MESSAGES])
def test_messages_come_out_whole_however_they_arrive(
    parent: Framing, data: bytes, expected: list[bytes], chunk: int
) -> None:
    assert feed(parent, data, chunk) == (expected, b"")
    assert parent.ended is None


def test_what_one_end_packs_the_other_reads() -> None:
    child, ws = opened()
    parent = Framing(ws)
    for message in (b"", b"\x00\xff", b"x" * 100_000):
        assert parent.feed(child.send(BytesMessage(message))) == [message]
        child.receive_data(parent.pack(message))
        assert b"".join(bytes(event.data) for event in child.events() if isinstance(event, BytesMessage)) == message


@pytest.mark.parametrize("chunk", [1, 1000])
def test_a_ping_is_answered_even_between_fragments(parent: Framing, chunk: int) -> None:
    data = frame(BINARY, b"o", last=False) + frame(PING, b"?") + frame(CONTINUATION, b"ne") + frame(PING)
    messages, answers = feed(parent, data, chunk)
    assert messages == [b"one"]
    assert heard(answers) == [(PONG, b"?"), (PONG, b"")]
    parent.feed(frame(BINARY))
    assert parent.answer == b"", "each answer is given once"


CLOSES = [
    (bye(4000, b"enough"), "enough"),
    (bye(4000, "genug für heute".encode()), "genug für heute"),
    (bye(1001), "closed with code 1001"),
    (frame(CLOSE), "closed with code 1005"),
]


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize(("close", "reason"), CLOSES)
def test_a_close_of_the_peer_is_answered_and_ends_it_with_the_reason(
    parent: Framing, close: bytes, reason: str, chunk: int
) -> None:
    messages, answers = feed(parent, frame(BINARY, b"one") + close + frame(BINARY, b"too late"), chunk)
    assert (messages, parent.ended) == ([b"one"], reason)
    assert heard(answers) == [(CLOSE, close[6:])]
    assert parent.feed(frame(BINARY, b"too late")) == []
    assert (parent.answer, parent.pack(b"x"), parent.close("me too")) == (b"", b"", b"")


BREACHES = {
    "a reserved bit": (b"\xc2\x80mask", CloseReason.PROTOCOL_ERROR),
    "an unknown opcode": (frame(0x3), CloseReason.PROTOCOL_ERROR),
    "an unmasked frame of a child": (b"\x82\x00", CloseReason.PROTOCOL_ERROR),
    "a control frame in fragments": (frame(PING, last=False), CloseReason.PROTOCOL_ERROR),
    "a control frame that is too long": (frame(PING, b"x" * 126), CloseReason.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, b"x"), CloseReason.PROTOCOL_ERROR),
    "a message within another": (frame(BINARY, last=False) + frame(BINARY), CloseReason.PROTOCOL_ERROR),
    "a close of half a code": (frame(CLOSE, b"\x03"), CloseReason.PROTOCOL_ERROR),
    "a close with a code that is never sent": (bye(1006), CloseReason.PROTOCOL_ERROR),
    "text that is not UTF-8": (frame(TEXT, b"\xff"), CloseReason.INVALID_FRAME_PAYLOAD_DATA),
}


@pytest.mark.parametrize("chunk", [1, 1000])
@pytest.mark.parametrize(("breach", "code"), BREACHES.values(), ids=BREACHES.keys())
def test_a_breach_of_the_rules_ends_it_with_a_reason_and_the_peer_is_told(
    parent: Framing, breach: bytes, code: CloseReason, chunk: int
) -> None:
    messages, answers = feed(parent, frame(BINARY, b"one") + breach, chunk)
    assert messages == [b"one"]
    assert parent.ended
    ((opcode, said),) = heard(answers)
    assert (opcode, int.from_bytes(said[:2]), said[2:].decode()) == (CLOSE, code, parent.ended)
    assert parent.feed(frame(BINARY, b"too late")) == []


def in_fragments(message: bytes) -> bytes:
    half = len(message) // 2
    return frame(BINARY, message[:half], bytes(4), last=False) + frame(CONTINUATION, message[half:], bytes(4))


@pytest.mark.parametrize("chunk", [1000, 65536])
@pytest.mark.parametrize("make", [lambda message: frame(BINARY, message, bytes(4)), in_fragments])
def test_a_message_over_the_cap_ends_it_as_soon_as_it_is_over(
    parent: Framing, make: Callable[[bytes], bytes], chunk: int
) -> None:
    longest, most = bytes(MAX_CHILD_FRAME_BYTES), f"a message of more than {MAX_CHILD_FRAME_BYTES} bytes"
    assert feed(parent, make(longest) * 2, chunk) == ([longest] * 2, b""), "the cap is for each"
    messages, answers = feed(parent, make(longest + bytes(2))[:-1] + b"x" * 1000, chunk)
    assert (messages, parent.ended) == ([], most)
    assert heard(answers) == [(CLOSE, CLOSE_CODE.to_bytes(2) + most.encode())]


def test_the_end_of_the_bytes_is_the_end(parent: Framing) -> None:
    assert parent.feed(frame(BINARY, b"half")[:-1]) == []
    assert parent.feed(b"") == []
    assert parent.ended == "the connection was lost"


def test_who_closes_still_reads_and_sends_no_more(parent: Framing) -> None:
    assert heard(parent.close("enough")) == [(CLOSE, CLOSE_CODE.to_bytes(2) + b"enough")]
    assert parent.ended is None
    assert (parent.close("again"), parent.pack(b"x")) == (b"", b"")
    assert parent.feed(frame(BINARY, b"crossed")) == [b"crossed"]
    parent.feed(bye(CLOSE_CODE, b"enough"))
    assert (parent.ended, parent.answer) == ("enough", b"")


def test_a_ping_that_crosses_the_close_is_no_end(parent: Framing) -> None:
    parent.close("enough")
    assert parent.feed(frame(PING, b"?") + frame(BINARY, b"crossed")) == [b"crossed"]
    assert (parent.ended, parent.answer) == (None, b"")
    parent.feed(bye(CLOSE_CODE, b"enough"))
    assert parent.ended == "enough"


@pytest.mark.parametrize(
    ("reason", "told"),
    [("", ""), ("x" * 500, "x" * MAX_REASON_BYTES), ("é" * 100, "é" * 60), ("x" + "é" * 100, "x" + "é" * 59)],
)
def test_a_reason_is_cut_between_characters_to_what_a_close_holds(reason: str, told: str) -> None:
    child, parent = opened()
    child.receive_data(Framing(parent).close(reason))
    (event,) = child.events()
    assert isinstance(event, CloseConnection)
    assert (event.code, event.reason or "") == (CLOSE_CODE, told)


@given(st.lists(st.binary(max_size=200), max_size=20), st.booleans())
def test_any_bytes_in_any_chunks_are_messages_or_an_end(chunks: list[bytes], closing: bool) -> None:
    end = Framing(opened()[1])
    if closing:
        end.close("enough")
    for chunk in chunks:
        ended = end.ended is not None
        messages = end.feed(chunk)
        assert not ended or (messages, end.answer) == ([], b"")
        assert all(isinstance(message, bytes) for message in messages)
    assert end.ended is not None or b"" not in chunks


PAYLOADS = st.one_of(
    st.binary(max_size=10), st.integers(100, 400).map(lambda size: bytes(range(256)) * 2 + b"x" * size)
)
FRAMES = st.lists(
    st.one_of(
        st.tuples(st.just("message"), PAYLOADS),
        st.tuples(st.just("fragments"), PAYLOADS),
        st.tuples(st.just("ping"), st.binary(max_size=20)),
        st.tuples(st.just("long"), st.just(b"")),
    ),
    max_size=8,
)


def left_to_wsproto() -> Framing:
    """From its first long frame on, an end has wsproto read all of them."""
    framing = Framing(opened()[1])
    assert len(framing.feed(frame(BINARY, bytes(70_000)))) == 1
    return framing


@settings(deadline=None, max_examples=25)
@given(FRAMES, st.binary(min_size=4, max_size=4), st.lists(st.integers(1, 3000), min_size=1, max_size=10))
def test_a_parent_hears_what_wsproto_alone_would_hear(
    said: list[tuple[str, bytes]], mask: bytes, chunks: list[int]
) -> None:
    data = b""
    said = [(kind, b"l" * 70_000 if kind == "long" else payload) for kind, payload in said]
    for kind, payload in said:
        if kind == "fragments":
            data += frame(BINARY, payload[:5], mask, last=False) + frame(CONTINUATION, payload[5:], mask)
        else:
            data += frame(PING if kind == "ping" else BINARY, payload, mask)
    quick, slow = Framing(opened()[1]), left_to_wsproto()
    heard_by: dict[str, tuple[list[bytes], bytes]] = {}
    for name, end in (("quick", quick), ("slow", slow)):
        messages, answers, at, turn = [], b"", 0, 0
        while at < len(data):
            size = chunks[turn % len(chunks)]
            messages += end.feed(data[at : at + size])
            answers += end.answer
            at, turn = at + size, turn + 1
        heard_by[name] = messages, answers
    assert heard_by["quick"] == heard_by["slow"]
    assert heard_by["quick"][0] == [payload for kind, payload in said if kind != "ping"]
    assert quick.ended is slow.ended is None


@given(st.binary(min_size=1, max_size=60), st.integers(1, 7))
def test_whatever_bytes_come_a_parent_hears_no_more_than_wsproto_does(data: bytes, chunk: int) -> None:
    """It may judge a frame later, as it waits for all of it, but never otherwise."""
    quick, slow = Framing(opened()[1]), left_to_wsproto()
    messages = [feed(end, data + frame(CLOSE, b"\x03\xe8") * 3, chunk)[0] for end in (quick, slow)]
    assert messages[0] == messages[1]
    assert quick.ended is None or slow.ended is not None


FLOODS = {
    "pings": frame(PING, b""),
    "pongs": frame(PONG, b"x" * 125),
    "empty fragments": frame(CONTINUATION, b"", last=False),
    "tiny fragments": frame(CONTINUATION, b"x", last=False),
}


@pytest.mark.parametrize("chunk", [1, 65536])
@pytest.mark.parametrize("flood", FLOODS)
def test_a_flood_of_frames_that_are_no_messages_ends_it_and_is_not_worked_off(
    parent: Framing, flood: str, chunk: int
) -> None:
    begin = frame(BINARY, b"", last=False) if "fragment" in flood else b""
    messages, answers = feed(parent, begin + FLOODS[flood] * 20_000, chunk)
    assert (messages, parent.ended) == ([], EXCEEDED)
    assert answers.count(b"\x8a\x00") == (MAX_UNITS if flood == "pings" else 0)
    assert EXCEEDED.encode() in answers


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_of_messages_that_come_at_once_a_parent_takes_apart_no_more_than_are_allowed(
    parent: Framing, opcode: int
) -> None:
    message = frame(opcode, b"x")
    assert parent.feed(message * int(MAX_UNITS)) == [b"x"] * int(MAX_UNITS)
    assert parent.ended is None
    assert parent.feed(message * 9_000) == [b"x"] * int(MAX_UNITS)
    assert (parent.ended, parent.gave_up) == (EXCEEDED, True)
    assert EXCEEDED.encode() in parent.answer
    assert parent.feed(message) == []


def test_frames_that_are_no_messages_may_come_now_and_then(parent: Framing) -> None:
    ping, fragments = frame(PING, b"?"), frame(BINARY, b"on", last=False)
    fragments += frame(CONTINUATION, b"e")
    for second in range(20):
        assert parent.feed((ping + fragments) * 40, float(second)) == [b"one"] * 40
    assert parent.ended is None


def test_the_pieces_of_a_large_frame_are_no_frames(parent: Framing) -> None:
    data = frame(BINARY, b"x" * 200_000)
    assert feed(parent, data, 50) == ([b"x" * 200_000], b"")


def test_a_parent_takes_no_larger_messages_than_children_send(parent: Framing) -> None:
    messages, _ = feed(parent, frame(BINARY, b"", last=False), 1000)
    messages, _ = feed(parent, frame(CONTINUATION, bytes(MAX_CHILD_FRAME_BYTES + 1)), 65536)
    assert (messages, parent.ended) == ([], f"a message of more than {MAX_CHILD_FRAME_BYTES} bytes")
