"""Each reader as a table of what it takes and what it refuses."""

import math

import cattrs
import pytest

from tierlb.model.address import Address
from tierlb.model.load import HostLoad, NodeLoad, NodeRow, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Listener, Rule, Send, Snapshot
from tierlb.model.topology import Kind, Match, Policy, Redirect, Respond
from tierlb.wire.frame_fields import (
    MAX_COUNT,
    MAX_DOWN,
    MAX_KINDS,
    MAX_NAME_CHARACTERS,
    MAX_NONCE_CHARACTERS,
    MAX_NUMBER,
    MAX_ROWS,
    MAX_TEXT_CHARACTERS,
    MAX_WATCH_S,
    frame_converter,
    is_calling_place,
    read_addresses,
    read_any_text,
    read_calling_place,
    read_count,
    read_items,
    read_kinds,
    read_label,
    read_names,
    read_nonce,
    read_number,
    read_place,
    read_positive,
    read_rows,
    read_short_text,
    read_snapshot,
    read_truth,
    read_watch_duration,
    within,
)

OWN = NodeLoad(1, 2, 3, 4, 5, 6, 7, 0.5, (HostLoad("app/x", 1, 2, 3),))
ROW = NodeRow("web-1", "web", 0.5, OWN, SubtreeLoad(capacity=2.5), b"\x01\x02")
SNAPSHOT = Snapshot(
    revision=7,
    cluster="shop",
    tier="web",
    kind=Kind.L7,
    listeners=(Listener(Address("::1", 0), inner=True),),
    rules=(
        Rule(Match(path="/old"), Redirect("/new", 301)),
        Rule(Match(path="/gone"), Respond(410)),
        Rule(Match(), Send((Destination(2.5, ("app",), (HostSpec("app/x", "app", Address("::1", 9)),)),))),
    ),
    balance=Policy.TWO_CHOICES,
)

TAKEN = [
    (read_count, 0, 0),
    (read_count, MAX_COUNT, MAX_COUNT),
    (read_number, 5, 5.0),
    (read_number, MAX_NUMBER, MAX_NUMBER),
    (read_positive, 0.25, 0.25),
    (read_truth, False, False),
    (read_any_text, "", ""),
    (read_label, "n" * MAX_TEXT_CHARACTERS, "n" * MAX_TEXT_CHARACTERS),
    (read_short_text, "", ""),
    (read_nonce, "x" * MAX_NONCE_CHARACTERS, "x" * MAX_NONCE_CHARACTERS),
    (read_place, "", ""),
    (read_place, "127.0.0.1:80", "127.0.0.1:80"),
    (read_calling_place, "web.shop.svc:7946", "web.shop.svc:7946"),
    (read_calling_place, "[::1]:80", "[::1]:80"),
    (read_watch_duration, 60, MAX_WATCH_S),
    (read_addresses, ["127.0.0.1:80", "[::1]:81"], (Address("127.0.0.1", 80), Address("::1", 81))),
    (read_names, ["app", "api"], ("app", "api")),
    (read_kinds, [[4, 2, 3, "later"]], ((4, 2, 3.0),)),
]


@pytest.mark.parametrize(("read", "value", "result"), TAKEN)
def test_a_value_within_its_limits_is_taken(read, value, result):
    assert read(value) == result
    assert type(read(value)) is type(result)


REFUSED = [
    *((read_count, value, "is not a whole number from 0") for value in (-1, MAX_COUNT + 1, 1.0, True, "5", None)),
    *((read_number, value, "is not a number from 0") for value in (-0.5, 1e13, math.nan, math.inf, True, "5", None)),
    (read_positive, 0, "is not a number above 0"),
    (read_truth, 1, "is not true or false"),
    (read_any_text, b"web-1", "is not text"),
    (read_label, "", "is not text of 1 to"),
    (read_label, "n" * (MAX_TEXT_CHARACTERS + 1), "is not text of 1 to"),
    (read_short_text, "n" * (MAX_TEXT_CHARACTERS + 1), "is longer than"),
    (read_nonce, "x" * (MAX_NONCE_CHARACTERS + 1), "is not ASCII text of at most"),
    (read_nonce, "\u20ac", "is not ASCII text"),
    (read_place, "web:80", "is not an"),
    (read_calling_place, "here", "is not an address"),
    (read_watch_duration, 61, "is more than 60 s"),
    (read_addresses, "127.0.0.1:80", "is not an array"),
    (read_names, ["x" * (MAX_NAME_CHARACTERS + 1)], "holds a name of more than"),
    (read_names, ["x"] * (MAX_DOWN + 1), "is not an array of at most"),
    (read_kinds, [[1, 2]], "holds a kind that is not"),
    (read_kinds, [[1, 2, 3.0]] * (MAX_KINDS + 1), "is not an array of at most"),
    (read_rows, [{}] * (MAX_ROWS + 1), "is not an array of at most"),
]


@pytest.mark.parametrize(("read", "value", "reason"), REFUSED)
def test_a_value_beyond_its_limits_is_refused_with_the_reason(read, value, reason):
    with pytest.raises(ValueError, match=reason):
        read(value)


def test_an_array_has_at_most_so_many_items():
    assert read_items([1, 2], 2) == [1, 2]
    for value in ([1, 2, 3], (1, 2), "12", {}):
        with pytest.raises(ValueError, match="is not an array of at most 2"):
            read_items(value, 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("web:7946", True),
        ("web.shop.svc:1", True),
        ("a_b-1:65535", True),
        ("10.0.0.1:80", False),
        ("[::1]:80", False),
        ("web", False),
        ("web:0", False),
        ("web:65536", False),
        ("web:+80", False),
        ("-web:80", False),
        (":80", False),
    ],
)
def test_a_calling_place_is_a_host_name_and_a_port(text, expected):
    assert is_calling_place(text) is expected


@pytest.mark.parametrize(
    ("value", "most", "expected"),
    [(5, 9, 5), (10, 9, 9), (-1, 9, 0), (2.5, 9.0, 2.5), (math.inf, 9.0, 9.0), (-math.inf, 9.0, 0), (math.nan, 9.0, 0)],
)
def test_numbers_are_limited_to_their_bounds(value, most, expected):
    assert within(value, most) == expected


def test_snapshots_and_rows_survive_and_unknown_keys_are_ignored():
    snapshot, row = frame_converter.unstructure(SNAPSHOT), frame_converter.unstructure(ROW)
    assert read_snapshot(snapshot | {"later": 1}) == SNAPSHOT
    assert read_rows([row | {"later": 1}]) == (ROW,)


def test_what_is_no_snapshot_or_row_is_refused():
    for read, value in ((read_snapshot, {"revision": "7"}), (read_snapshot, None), (read_rows, [{"node": "web-1"}])):
        with pytest.raises((cattrs.BaseValidationError, TypeError)):
            read(value)


def test_the_numbers_of_a_row_are_limited_to_their_bounds():
    row = NodeRow("web-1", "web", 0.0, NodeLoad(2**70, 0, 0, 0, 0, 0, 0, math.nan), SubtreeLoad(capacity=math.inf))
    (read,) = read_rows([frame_converter.unstructure(row)])
    assert (read.own.connections, read.own.busy, read.subtree.capacity) == (MAX_COUNT, 0.0, MAX_NUMBER)
