import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.address import Address
from tierlb.model.load import MemberLoad, NodeLoad
from tierlb.model.snapshot import Destination, Listener, Member, Rule, Send, Snapshot
from tierlb.model.topology import Kind, Match, Policy, Redirect, Respond
from tierlb.wire.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Configure,
    Drain,
    Hello,
    ProtocolError,
    Refuse,
    Report,
    Welcome,
    decode,
    encode,
)

SNAPSHOT = Snapshot(
    revision=7,
    cluster="shop",
    tier="web",
    kind=Kind.L7,
    listeners=(Listener(Address("127.0.0.1", 0), proxy_protocol=True, accept_from=("127.0.0.1/32",)),),
    rules=(
        Rule(Match(path="/old"), Redirect("/new", 301)),
        Rule(Match(headers=(("x-env", None), ("x-a", "b"))), Respond(204)),
        Rule(Match(), Send((Destination(2.5, ("app",), (Member("app/x", "app", Address("::1", 9)),)),))),
    ),
    balance=Policy.TWO_CHOICES,
)
LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (MemberLoad("app/x", 1, 2, 3, True),))
HELLO = Hello(1, "web-1", "web", "b00t", 42)
FRAMES = (
    HELLO,
    Welcome(0.25),
    Configure(SNAPSHOT),
    Ack(7, (Address("127.0.0.1", 80), Address("::1", 81))),
    Refuse(7, "port taken"),
    Report(LOAD),
    Drain(),
)


def test_the_examples_hold_every_kind_of_frame():
    from tierlb.wire import frames

    assert {type(frame) for frame in FRAMES} == set(frames._SHAPES)


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_the_wire(frame):
    assert decode(encode(frame)) == frame


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_fields_of_a_later_version_are_ignored(frame):
    longer = [*msgpack.unpackb(encode(frame)), "later", {"and": "more"}]
    assert decode(msgpack.packb(longer)) == frame


@pytest.mark.parametrize("frame", FRAMES[:-1], ids=lambda frame: type(frame).__name__)
def test_a_missing_field_is_named(frame):
    shorter = msgpack.unpackb(encode(frame))[:-1]
    with pytest.raises(ProtocolError, match=r"field '.+' is missing"):
        decode(msgpack.packb(shorter))


def test_unknown_keys_in_a_snapshot_and_a_load_are_ignored():
    tag, payload = msgpack.unpackb(encode(Configure(SNAPSHOT)))
    assert decode(msgpack.packb([tag, payload | {"later": 1}])) == Configure(SNAPSHOT)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ([], "begins with its tag"),
        ({"hello": 1}, "begins with its tag"),
        (["hullo"], "unknown frame 'hullo'"),
        ([["hello"]], "unknown frame"),
        (["welcome", "0.5"], "'report_interval_s' is not a number"),
        (["welcome", 0], "above 0"),
        (["welcome", float("nan")], "is not a number"),
        (["hello", 1, "", "web", "b", 1], "'node' is not text of 1"),
        (["hello", 1, "n" * 5000, "web", "b", 1], "'node' is not text of 1"),
        (["hello", 1, b"web-1", "web", "b", 1], "'node' is not text"),
        (["hello", True, "web-1", "web", "b", 1], "'version' is not a whole number"),
        (["hello", 1, "web-1", "web", "b", -1], "'pid' is not a whole number"),
        (["ack", 1, "127.0.0.1:80"], "'addresses' is not an array"),
        (["ack", 1, ["somewhere:80"]], "is not an IP address"),
        (["report", {"connections": 1}], "'load'"),
        (["snapshot", {"revision": "7"}], "'snapshot'"),
        (["snapshot", None], "'snapshot'"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_reason(frame, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode(msgpack.packb(frame))


def test_a_frame_over_the_cap_is_not_even_parsed():
    with pytest.raises(ProtocolError, match="bytes, more than"):
        decode(b"\x90" + bytes(MAX_FRAME_BYTES))


def test_keys_that_are_not_text_are_refused():
    with pytest.raises(ProtocolError, match="not msgpack"):
        decode(msgpack.packb(["report", {1: 2}]))


def decoded_or_reason(data):
    try:
        return decode(data)
    except ProtocolError as error:
        return str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_protocol_error(data):
    frame = decoded_or_reason(data)
    assert frame
    if not isinstance(frame, str):
        assert decode(encode(frame)) == frame


@given(st.sampled_from(FRAMES), st.data())
def test_a_damaged_frame_is_a_frame_or_a_protocol_error(frame, data):
    packed = bytearray(encode(frame))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    assert decoded_or_reason(bytes(packed))
