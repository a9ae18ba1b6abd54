import attrs
import pytest

from tierlb.controller.node_reports import LIVE_S, NodeReports, loads_by_host
from tierlb.model.load import HostLoad, NodeLoad, NodeRow, SubtreeLoad

HOST = HostLoad("app/x", 1, 2, 3)


def row(node, arrivals, age_s=0.0, capacity=0.0, items=3):
    """`items` is what the node itself counts: at l4 connections, while arrivals are requests as capacity is."""
    own = NodeLoad(1, 2, items, 4, 5, 6, 7, 0.5, (HOST,))
    return NodeRow(node, "web", age_s, own, SubtreeLoad(capacity=capacity, arrivals=arrivals))


@pytest.mark.parametrize(
    ("rows", "rate"),
    [
        ([(10.0, 100, 0.0)], None),
        ([(10.0, 100, 0.0), (10.5, 150, 0.0)], 100.0),
        ([(10.0, 100, 0.0), (10.6, 150, 0.1)], 100.0),  # the rows' own times count
        ([(10.0, 100, 0.0), (10.05, 150, 0.0)], None),  # too close together
        ([(10.0, 100, 0.0), (10.05, 150, 0.0), (10.5, 200, 0.0)], 200.0),
        ([(10.0, 100, 0.0), (10.5, 150, 0.0), (10.55, 155, 0.0)], 100.0),
        ([(10.0, 100, 0.0), (99.0, 150, 0.0)], None),  # nobody watched in between
        ([(10.0, 100, 0.0), (10.5, 5, 0.0)], 0.0),  # it was restarted
        ([(10.0, 100, 0.0), (10.5, 99, 0.9)], None),  # late and older than what is known
    ],
)
def test_the_rate_is_what_came_between_two_rows(rows, rate):
    reports = NodeReports()
    for now, arrivals, age_s in rows:
        reports.note_row(row("web-1", arrivals, age_s), now)
    assert reports.items_per_s() == (rate if rate is None else pytest.approx(rate))


def test_the_rate_is_in_the_unit_of_capacity_where_the_node_itself_counts_connections():
    reports = NodeReports()
    reports.note_row(row("web-1", 1000, items=10), 10.0)
    reports.note_row(row("web-1", 1400, items=11), 11.0)
    assert reports.items_per_s() == pytest.approx(400)
    reports.note_row(row("web-1", 1400, items=99), 12.0)
    assert reports.items_per_s() == 0.0


def test_a_node_is_live_with_two_recent_rows():
    reports = NodeReports()
    reports.note_row(row("web-1", 1), 10.0)
    assert not reports.is_live(10.0)
    reports.note_row(row("web-1", 1), 10.3)
    assert reports.is_live(10.3)
    assert not reports.is_live(10.3 + LIVE_S)


def test_the_subtree_is_the_newer_of_row_and_report():
    reports = NodeReports()
    assert (reports.subtree(), reports.age_s(10.0)) == (None, None)
    reports.note_report(SubtreeLoad(capacity=1.0), 10.0)
    assert (reports.subtree().capacity, reports.age_s(10.5)) == (1.0, 0.5)
    reports.note_row(row("web-1", 1, age_s=0.5, capacity=2.0), 10.2)
    assert (reports.subtree().capacity, reports.age_s(10.5)) == (1.0, 0.5)
    reports.note_row(row("web-1", 1, capacity=3.0), 10.4)
    assert reports.subtree().capacity == 3.0


def test_the_load_of_a_host_is_shown_as_each_node_counts_it_while_rows_are_fresh():
    web_1, web_2 = NodeReports(), NodeReports()
    web_1.note_row(row("web-1", 1), 10.0)
    web_2.note_row(attrs.evolve(row("web-2", 1), own=attrs.evolve(row("web-2", 1).own, hosts=())), 10.0)
    nodes = {"web-1": web_1, "web-2": web_2, "web-3": NodeReports()}
    assert loads_by_host(nodes, 10.0) == {"app/x": {"web-1": HOST}}
    assert loads_by_host(nodes, 10.0 + LIVE_S) == {}


@pytest.mark.parametrize(
    ("report", "finds"),
    [
        (None, False),
        (SubtreeLoad(), True),
        (SubtreeLoad(leaves=2), False),
        (SubtreeLoad(leaves=2, ready_leaves=1), True),
    ],
)
def test_a_node_finds_something_ready_or_needs_nothing_below(report, finds):
    reports = NodeReports()
    if report is not None:
        reports.note_report(report, 10.0)
    assert reports.finds_ready() is finds
