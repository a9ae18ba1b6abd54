import math
from typing import get_args

import attrs
import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierlb.model.address import Address
from tierlb.model.load import REPORT_INTERVAL_S, Echo, Guidance, HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Listener, PoolSettings, Rule, Send, Snapshot
from tierlb.model.topology import HealthCheck, Kind, Match, Policy, Redirect, Respond
from tierlb.wire.frame_fields import MAX_COUNT, MAX_NUMBER, MAX_ROWS
from tierlb.wire.frames import (
    MAX_FRAME_BYTES,
    Ack,
    Configure,
    Frame,
    Hello,
    Leaving,
    ParentAddress,
    ProtocolError,
    Refuse,
    Report,
    ReportTo,
    Watch,
    Welcome,
    decode_frame,
    encode_frame,
)

SNAPSHOT = Snapshot(
    revision=7,
    cluster="shop",
    tier="web",
    kind=Kind.L7,
    listeners=(Listener(Address("127.0.0.1", 0), inner=True, accept_from=("127.0.0.1/32",)),),
    rules=(
        Rule(Match(path="/old"), Redirect("/new", 301)),
        Rule(Match(headers=(("x-env", None), ("x-a", "b"))), Respond(204)),
        Rule(Match(), Send((Destination(2.5, ("app",), (HostSpec("app/x", "app", Address("::1", 9)),)),))),
    ),
    balance=Policy.TWO_CHOICES,
    pools=(PoolSettings("app", HealthCheck("/up"), 9778), PoolSettings("api", dns="api.internal:8000", parents=4)),
)
LOAD = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("app/x", 1, 2, 3, "ejected", 99.5, 0.25, None),))
SUBTREE = SubtreeLoad(812.5, 1999.25, 0.53, 0.81, 17, 1234567, 1234550, 12, 3, 60, 0.0123, 31.25, 0.21, 8, 9, True)
SUBTREE = attrs.evolve(
    SUBTREE,
    parked=11,
    capacity_age_s=4.5,
    slots=24.0,
    overdue=1.5,
    kinds=((0, 3, 0.5), (2**32 - 2, 99, 1.25)),
)
EARLIER = attrs.evolve(SUBTREE, slots=0.0, overdue=0.0, kinds=())
EARLIEST = attrs.evolve(EARLIER, capacity_age_s=0.0)
ECHO = Echo(5, 400000, 20, 4)
ROW = NodeRow("web-1", "web", 0.5, LOAD, SUBTREE, b"\x01\x02")
HELLO = Hello(1, "web-1", "web", "b00t", 42, "127.0.0.1:7001", "[::1]:80", "compiled")
FRAMES = (
    HELLO,
    Welcome(0.25),
    Configure(SNAPSHOT),
    Ack(7, (Address("127.0.0.1", 80), Address("::1", 81))),
    Refuse(7, "port taken"),
    Report(SUBTREE, ECHO, (ROW,)),
    Guidance(0.7, True),
    Watch(5.0, "n0nce"),
    ReportTo((ParentAddress("edge-1", "ws://127.0.0.1:7000"), ParentAddress("edge-2", "wss://[::1]:7000"))),
    Leaving(),
)


def test_the_examples_hold_every_kind_of_frame():
    assert {type(frame) for frame in FRAMES} == set(get_args(Frame))


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_a_frame_survives_the_wire(frame):
    assert decode_frame(encode_frame(frame)) == frame


@pytest.mark.parametrize("frame", FRAMES, ids=lambda frame: type(frame).__name__)
def test_fields_of_a_later_version_are_ignored(frame):
    longer = [*msgpack.unpackb(encode_frame(frame)), "later", {"and": "more"}]
    assert decode_frame(msgpack.packb(longer)) == frame


@pytest.mark.parametrize(
    ("tag", "fields", "missing"),
    [
        ("hello", [1, "n", "t", "b"], "pid"),
        ("welcome", [], "report_interval_s"),
        ("snapshot", [], "snapshot"),
        ("ack", [1], "addresses"),
        ("refuse", [1], "reason"),
        ("guidance", [], "target"),
        ("watch", [], "ttl_s"),
        ("report-to", [], "parents"),
        ("report", [], "subtree.capacity"),
        ("report", [0] * 5, "subtree.arrivals"),
        ("report", [*[0] * 15, False], "echo.in_flight"),
        ("report", [*[0] * 15, False, 0, 0, 0], "rows"),
    ],
)
def test_a_missing_field_is_named(tag, fields, missing):
    with pytest.raises(ProtocolError, match=f"{tag}: field '{missing}' is missing"):
        decode_frame(msgpack.packb([tag, *fields]))


@pytest.mark.parametrize(
    ("shorter", "whole"),
    [
        (["hello", 1, "web-1", "web", "b", 9], Hello(1, "web-1", "web", "b", 9)),
        (["hello", 1, "web-1", "web", "b", 9, "web:7946"], Hello(1, "web-1", "web", "b", 9, "web:7946")),
        (["hello", 1, "w", "w", "b", 9, "w.shop.svc:1"], Hello(1, "w", "w", "b", 9, "w.shop.svc:1")),
        (["welcome", 0.25], Welcome(0.25)),
        (["welcome", 0.25, "edge-1"], Welcome(0.25, "edge-1")),
        (["hello", 1, "web-1", "web", "b", 9, "127.0.0.1:1"], Hello(1, "web-1", "web", "b", 9, "127.0.0.1:1", "")),
        (["guidance", 0.5], Guidance(0.5, False)),
        (["watch", 2], Watch(2.0, "")),
    ],
)
def test_fields_that_were_appended_later_have_defaults(shorter, whole):
    assert decode_frame(msgpack.packb(shorter)) == whole


def test_unknown_keys_in_a_snapshot_and_a_row_are_ignored():
    tag, payload = msgpack.unpackb(encode_frame(Configure(SNAPSHOT)))
    assert decode_frame(msgpack.packb([tag, payload | {"later": 1}])) == Configure(SNAPSHOT)
    frame = msgpack.unpackb(encode_frame(Report(SUBTREE, ECHO, (ROW,))))
    frame[20][0]["own"]["later"] = 1
    assert decode_frame(msgpack.packb(frame)).rows == (ROW,)


@pytest.mark.parametrize(
    ("left", "expected"),
    [
        (0, Report(SUBTREE, ECHO, next_s=1.5)),
        (1, Report(SUBTREE, ECHO, next_s=REPORT_INTERVAL_S)),
        (2, Report(attrs.evolve(SUBTREE, kinds=()), ECHO)),
        (3, Report(attrs.evolve(SUBTREE, kinds=(), overdue=0.0), ECHO)),
        (4, Report(EARLIER, ECHO)),
        (5, Report(EARLIEST, ECHO)),
        (6, Report(EARLIEST, attrs.evolve(ECHO, parked=0))),
        (7, Report(attrs.evolve(EARLIEST, parked=0), attrs.evolve(ECHO, parked=0))),
        (8, Report(attrs.evolve(EARLIEST, parked=0), attrs.evolve(ECHO, parked=0))),
    ],
)
def test_a_report_of_an_earlier_version_says_nothing_of_what_came_later(left, expected):
    assert decode_frame(msgpack.packb(REPORT[: len(REPORT) - left])) == expected


@pytest.mark.parametrize(("at", "name"), [(-7, "subtree.parked"), (-6, "echo.parked")])
@pytest.mark.parametrize("lie", [float("nan"), -1, 0.5, 2**63, "5", None, True])
def test_a_lie_about_what_is_parked_is_refused(at, name, lie):
    frame = list(REPORT)
    frame[at] = lie
    with pytest.raises(ProtocolError, match=f"report: field '{name}' is not"):
        decode_frame(msgpack.packb(frame))


@pytest.mark.parametrize(
    ("at", "name"), [(-5, "subtree.capacity_age_s"), (-4, "subtree.slots"), (-3, "subtree.overdue"), (-1, "next_s")]
)
@pytest.mark.parametrize("lie", [float("nan"), float("inf"), -1, 1e13, "5", None, True])
def test_a_lie_about_what_came_later_is_refused(at, name, lie):
    frame = list(REPORT)
    frame[at] = lie
    with pytest.raises(ProtocolError, match=f"report: field '{name}' is not"):
        decode_frame(msgpack.packb(frame))


LIES = [
    None,
    5,
    [5],
    [[1, 2]],
    [[1, 2, math.nan]],
    [[-1, 2, 3.0]],
    [[1, 0.5, 3.0]],
    [["a", 2, 3.0]],
    [[1, 2, 3.0]] * 65,
]


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_about_kinds_is_refused(lie):
    with pytest.raises(ProtocolError, match=r"report: field 'subtree\.kinds'"):
        decode_frame(msgpack.packb([*REPORT[:-2], lie, 0.25]))


def test_what_a_later_version_says_of_a_kind_is_ignored():
    frame = [*REPORT[:-2], [[4, 2, 3.0, "more"]], 0.25]
    assert decode_frame(msgpack.packb(frame)).subtree.kinds == ((4, 2, 3.0),)


def test_what_stands_behind_the_rows_is_cut_to_its_bounds():
    sent = decode_frame(
        encode_frame(Report(SubtreeLoad(parked=2**80, capacity_age_s=math.inf, slots=-1.0), Echo(parked=-1)))
    )
    assert (sent.subtree.parked, sent.echo.parked, sent.subtree.capacity_age_s) == (2**63 - 1, 0, MAX_NUMBER)
    assert sent.subtree.slots == 0


def test_a_report_has_about_a_hundred_bytes_and_no_names_in_it():
    data = encode_frame(Report(SUBTREE, ECHO))
    assert len(data) < 170
    assert b"capacity" not in data


REPORT = msgpack.unpackb(encode_frame(Report(SUBTREE, ECHO, next_s=1.5)))
PARTS = (("subtree", attrs.fields(SubtreeLoad)[:16]), ("echo", attrs.fields(Echo)[:3]))
NAMES = [f"{part}.{field.name}" for part, fields in PARTS for field in fields]


@pytest.mark.parametrize("lie", [float("nan"), float("inf"), -float("inf"), -1, -0.5, 1e13, 2**63, "5", None, [1]])
@pytest.mark.parametrize("at", range(1, 20), ids=lambda at: NAMES[at - 1])
def test_a_lie_in_a_report_is_refused_with_the_name_of_the_field(at, lie):
    with pytest.raises(ProtocolError, match=f"report: field '{NAMES[at - 1]}' is not"):
        decode_frame(msgpack.packb([*REPORT[:at], lie, *REPORT[at + 1 :]]))


@pytest.mark.parametrize("lie", [float("nan"), float("inf"), -1, 2**63, True, "5"])
@pytest.mark.parametrize("path", [("age_s",), ("own", "busy"), ("own", "items"), ("subtree", "capacity")])
def test_a_lie_in_a_row_is_refused(path, lie):
    frame = msgpack.unpackb(encode_frame(Report(SUBTREE, ECHO, (ROW,))))
    place = frame[20][0]
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = lie
    with pytest.raises(ProtocolError, match="report: field 'rows'"):
        decode_frame(msgpack.packb(frame))


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
        (["welcome", float("inf")], "is not a number"),
        (["hello", 1, "n", "t", "b", 1, "here"], "'control' 'here' is not an address"),
        (["hello", 1, "n", "t", "b", 1, "", 5], "'data' is not text"),
        (["guidance", -0.1], "'target' is not a number from 0"),
        (["guidance", 0.5, 1], "'all_hot' is not true or false"),
        (["watch", 61], "'ttl_s' is more than 60 s"),
        (["watch", 5, "x" * 65], "'explain' is not ASCII text of at most 64"),
        (["watch", 5, "\n\u20ac"], "'explain' is not ASCII text"),
        (["report-to", [["edge-1"]]], "'parents'"),
        (["report-to", [["edge-1", "http://x"]]], "neither ws:// nor wss://"),
        (["report-to", [[]] * 1025], "'parents' is not an array of at most 1024"),
        ([*REPORT[:20], [{}] * (MAX_ROWS + 1)], "'rows' is not an array of at most"),
        ([*REPORT[:20], [{"node": "web-1"}]], "'rows'"),
        (["hello", 1, "", "web", "b", 1], "'node' is not text of 1"),
        (["hello", 1, "n" * 5000, "web", "b", 1], "'node' is not text of 1"),
        (["hello", 1, b"web-1", "web", "b", 1], "'node' is not text"),
        (["hello", True, "web-1", "web", "b", 1], "'version' is not a whole number"),
        (["hello", 1, "web-1", "web", "b", -1], "'pid' is not a whole number"),
        (["ack", 1, "127.0.0.1:80"], "'addresses' is not an array"),
        (["ack", 1, ["somewhere:80"]], "is not an IP address"),
        (["snapshot", {"revision": "7"}], "'snapshot'"),
        (["snapshot", None], "'snapshot'"),
    ],
)
def test_what_is_no_frame_is_refused_with_the_reason(frame, reason):
    with pytest.raises(ProtocolError, match=reason):
        decode_frame(msgpack.packb(frame))


def test_a_frame_over_the_cap_is_not_even_parsed():
    with pytest.raises(ProtocolError, match="bytes, more than"):
        decode_frame(b"\x90" + bytes(MAX_FRAME_BYTES))


def test_keys_that_are_not_text_are_refused():
    with pytest.raises(ProtocolError, match="not msgpack"):
        decode_frame(msgpack.packb(["report", {1: 2}]))


def test_a_reader_may_allow_less():
    data = encode_frame(Report(SUBTREE, ECHO))
    with pytest.raises(ProtocolError, match=f"{len(data)} bytes, more than 90"):
        decode_frame(data, 90)


def decoded_or_reason(data):
    try:
        return decode_frame(data)
    except ProtocolError as error:
        return str(error)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_frame_or_a_protocol_error(data):
    frame = decoded_or_reason(data)
    assert frame
    if not isinstance(frame, str):
        assert decode_frame(encode_frame(frame)) == frame


@given(st.sampled_from(FRAMES), st.data())
def test_a_damaged_frame_is_a_frame_or_a_protocol_error(frame, data):
    packed = bytearray(encode_frame(frame))
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    assert decoded_or_reason(bytes(packed))


ODD = [(math.inf, MAX_NUMBER), (-1.0, 0.0), (math.nan, 0.0), (1e13, MAX_NUMBER)]


@pytest.mark.parametrize(("odd", "even"), ODD)
def test_figures_that_are_none_are_cut_to_what_a_parent_accepts(odd, even):
    load, counts = SubtreeLoad(capacity=odd, age_s=odd, in_flight=2**70), Echo(arrivals=-3)
    own = NodeLoad(1, 2, 3, 4, 5, 6, 7, odd, (HostLoad("a", 2**64, 0, 0, capacity=odd),))
    told = decode_frame(encode_frame(Report(load, counts, (NodeRow("web-1", "web", 0.0, own, load),))))
    assert told.subtree == SubtreeLoad(capacity=even, age_s=even, in_flight=MAX_COUNT)
    assert told.echo == Echo()
    (row,) = told.rows
    assert (row.subtree, row.own.busy) == (told.subtree, even)
    assert (row.own.hosts[0].capacity, row.own.hosts[0].in_flight) == (even, MAX_COUNT)


def test_pools_that_are_down_stand_behind_the_rows() -> None:
    report = Report(attrs.evolve(SUBTREE, down=("api", "app")), ECHO, (ROW,))
    assert decode_frame(encode_frame(report)) == report


@pytest.mark.parametrize("down", ["app", [1], [""], ["x" * 41], ["a"] * 65])
def test_what_is_no_list_of_pools_is_refused(down: object) -> None:
    with pytest.raises(ProtocolError, match="'down'"):
        decode_frame(msgpack.packb([*REPORT[:21], down]))


def test_hosts_keep_the_keys_that_earlier_versions_read() -> None:
    """Nodes and controllers of two versions run side by side during an upgrade."""
    own = NodeLoad(0, 0, 0, 0, 0, 0, 0, 0.0, (HostLoad("app/1", 1, 2, 3),))
    report = Report(SubtreeLoad(), Echo(), (NodeRow("web-1", "web", 0.0, own, SubtreeLoad()),))
    for frame in (report, Configure(SNAPSHOT)):
        data = encode_frame(frame)
        assert b"members" in data
        assert decode_frame(data) == frame
