"""What the reports of one host show: its load, silence, its share of this node's traffic and its answers."""

import math

import attrs
import pytest

from tierlb.balance.cost import ParentShare
from tierlb.balance.received_reports import MOST_REPORTED_KINDS, ReceivedReports
from tierlb.balance.staleness import OLD_INTERVALS
from tierlb.model.load import REPORT_INTERVAL_S, Echo, SubtreeLoad

NOW = 1000.0
OLD_S = OLD_INTERVALS * REPORT_INTERVAL_S
LOAD = SubtreeLoad(capacity=300.0, in_flight=40, response_s=0.1)


def received(*loads: SubtreeLoad, by_connection: bool = False) -> ReceivedReports:
    reports = ReceivedReports(ParentShare(1))
    for load in loads:
        reports.receive(NOW, load, Echo(10), by_connection=by_connection)
    return reports


def test_a_report_is_as_old_as_it_was_when_it_came_and_the_time_since() -> None:
    reports = received()
    assert reports.age_s(NOW) is None
    reports = received(attrs.evolve(LOAD, age_s=0.25))
    assert reports.age_s(NOW + 1) == 1.25
    reports.lose()
    assert reports.age_s(NOW + 2) == 2.25


def at_rest() -> ReceivedReports:
    """The host has reported, and will again in two seconds if nothing changes."""
    reports = received()
    reports.receive(NOW, LOAD, Echo(10), by_connection=False, next_s=2.0)
    reports.check_silence(NOW + 0.05, 7)
    return reports


def test_a_host_at_rest_is_not_silent_before_its_report_is_late() -> None:
    reports = at_rest()
    assert reports.age_s(NOW + 1.9) == REPORT_INTERVAL_S
    due = reports.check_silence(NOW + 1.9, 7)
    assert due == pytest.approx(NOW + 2.0 - 1.1 * REPORT_INTERVAL_S + OLD_S)
    reports.check_silence(due - 0.01, 7)
    assert not reports.silent
    assert reports.check_silence(due + 0.01, 7) == math.inf
    assert reports.silent


def test_a_host_at_rest_that_is_given_something_owes_a_report_at_once() -> None:
    reports = at_rest()
    due = reports.check_silence(NOW + 1.0, 8)
    assert due == pytest.approx(NOW + 1.0 + OLD_S)
    assert reports.age_s(NOW + 1.5) == pytest.approx(0.5)
    assert reports.check_silence(NOW + 1.2, 9) == due, "from the first one on"
    reports.receive(NOW + 1.3, LOAD, Echo(10), by_connection=False, next_s=0.25)
    assert reports.age_s(NOW + 1.4) == pytest.approx(0.1)


def test_a_host_that_reports_regularly_is_as_silent_as_ever_whatever_it_is_given() -> None:
    reports = received(LOAD)
    for given in range(5):
        assert reports.check_silence(NOW + 0.1 * given, given) == NOW + OLD_S


def test_a_host_that_is_lost_has_nothing_in_flight() -> None:
    reports = received(LOAD)
    reports.echo = Echo(10, 20, 3, 4)
    assert reports.lose() == Echo(10, 20, 3, 4)
    assert reports.lose() == Echo(0, 20, 3, 0)
    assert reports.latest is LOAD
    assert not reports.has_capacity


SILENCES = [
    # what happened after the last report -> silent
    ("checked in time", [("check", OLD_S)], False),
    ("checked too late", [("check", OLD_S + 0.01)], True),
    ("reports again", [("check", OLD_S + 1), ("receive", OLD_S + 2)], False),
    ("lost at once", [("lose", 0.1), ("check", 600)], False),  # its data path may work without the connection
    ("lost after it was silent", [("check", OLD_S + 1), ("lose", OLD_S + 2), ("check", 600)], True),
    ("silent, lost, and back", [("check", OLD_S + 1), ("lose", OLD_S + 2), ("receive", 20)], False),
]


@pytest.mark.parametrize(("events", "silent"), [row[1:] for row in SILENCES], ids=[row[0] for row in SILENCES])
def test_a_host_is_silent_when_nothing_comes_on_a_connection_that_is_open(
    events: list[tuple[str, float]], silent: bool
) -> None:
    reports = received(LOAD)
    for event, after_s in events:
        match event:
            case "check":
                reports.check_silence(NOW + after_s)
            case "receive":
                reports.receive(NOW + after_s, LOAD, Echo(), by_connection=False)
            case "lose":
                reports.lose()
    assert reports.silent is silent


def test_before_the_first_report_a_host_is_not_silent() -> None:
    reports = received()
    reports.check_silence(NOW + 3600)
    assert not reports.silent


@pytest.mark.parametrize(
    ("load", "expected"),
    [
        (SubtreeLoad(leaves=3, ready_leaves=0), True),
        (SubtreeLoad(leaves=3, ready_leaves=1), False),
        (SubtreeLoad(leaves=0, ready_leaves=0), False),
    ],
)
def test_a_host_without_a_ready_leaf_is_known_as_long_as_it_is_connected(load: SubtreeLoad, expected: bool) -> None:
    reports = received(load)
    assert reports.no_leaf_ready is expected
    reports.lose()
    assert not reports.no_leaf_ready


def test_where_requests_are_counted_answers_and_connections_are_not() -> None:
    busy = attrs.evolve(LOAD, in_flight=30, connections=10, done=5, arrivals=5)
    later = attrs.evolve(busy, done=25, arrivals=25)
    reports, by_connection = received(busy, later), received(busy, later, by_connection=True)
    assert (reports.items_per_connection, reports.answers) == (1.0, [])
    assert by_connection.items_per_connection > 1.0
    assert by_connection.take_answers() == [(0, 20, pytest.approx(2.0))]
    assert by_connection.take_answers() == []


def test_a_flood_of_reports_is_bounded() -> None:
    loads = [
        SubtreeLoad(arrivals=count, done=count, kinds=((2, count, 0.01 * count), (4, count, 0.01 * count)))
        for count in range(1, 2 * MOST_REPORTED_KINDS)
    ]
    assert len(received(*loads, by_connection=True).answers) == MOST_REPORTED_KINDS


@pytest.mark.parametrize(
    ("slots", "ready", "expected"), [(12.0, 3, 4.0), (0.0, 3, None), (12.0, 0, None), (5e-324, 1, 1e-3)]
)
def test_slots_are_reported_for_each_ready_leaf(slots: float, ready: int, expected: float | None) -> None:
    assert received(SubtreeLoad(slots=slots, ready_leaves=ready, leaves=3)).leaf_slots == expected
