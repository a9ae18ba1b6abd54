import attrs
import pytest

from tierlb.controller.cluster_view import LIVE_S, ClusterView
from tierlb.model.load import HostLoad, NodeLoad, NodeRow, SubtreeLoad

MEMBER = HostLoad("app/x", 1, 2, 3)


def row(node, arrivals, age_s=0.0, capacity=0.0, items=3):
    """`items` is what the node itself counts: at l4 connections, while arrivals are requests as capacity is."""
    own = NodeLoad(1, 2, items, 4, 5, 6, 7, 0.5, (MEMBER,))
    return NodeRow(node, "web", age_s, own, SubtreeLoad(capacity=capacity, arrivals=arrivals))


@pytest.fixture
def cluster_view():
    cluster_view = ClusterView()
    cluster_view.keep(["web-1", "web-2"])
    return cluster_view


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
def test_the_rate_is_what_came_between_two_rows(cluster_view, rows, rate):
    for now, arrivals, age_s in rows:
        cluster_view.note_rows([row("web-1", arrivals, age_s)], now)
    assert cluster_view.of("web-1").items_per_s() == (rate if rate is None else pytest.approx(rate))


def test_the_rate_is_in_the_unit_of_capacity_where_the_node_itself_counts_connections(cluster_view):
    cluster_view.note_rows([row("web-1", 1000, items=10)], 10.0)
    cluster_view.note_rows([row("web-1", 1400, items=11)], 11.0)
    assert cluster_view.of("web-1").items_per_s() == pytest.approx(400)
    cluster_view.note_rows([row("web-1", 1400, items=99)], 12.0)
    assert cluster_view.of("web-1").items_per_s() == 0.0


def test_a_node_is_live_with_two_recent_rows(cluster_view):
    cluster_view.note_rows([row("web-1", 1)], 10.0)
    assert not cluster_view.of("web-1").is_live(10.0)
    cluster_view.note_rows([row("web-1", 1)], 10.3)
    assert cluster_view.of("web-1").is_live(10.3)
    assert not cluster_view.of("web-1").is_live(10.3 + LIVE_S)


def test_the_subtree_is_the_newer_of_row_and_report(cluster_view):
    sight = lambda: cluster_view.of("web-1")  # noqa: E731
    assert (sight().subtree(), sight().age_s(10.0)) == (None, None)
    cluster_view.note_report("web-1", SubtreeLoad(capacity=1.0), 10.0)
    assert (sight().subtree().capacity, sight().age_s(10.5)) == (1.0, 0.5)
    cluster_view.note_rows([row("web-1", 1, age_s=0.5, capacity=2.0)], 10.2)
    assert (sight().subtree().capacity, sight().age_s(10.5)) == (1.0, 0.5)
    cluster_view.note_rows([row("web-1", 1, capacity=3.0)], 10.4)
    assert sight().subtree().capacity == 3.0


def test_only_nodes_that_there_are_are_remembered(cluster_view):
    cluster_view.note_rows([row("made-up", 1)], 10.0)
    cluster_view.note_report("made-up", SubtreeLoad(), 10.0)
    assert cluster_view.of("made-up").age_s(10.0) is None
    cluster_view.note_rows([row("web-1", 1)], 10.0)
    cluster_view.keep(["web-1"])
    assert cluster_view.of("web-1").row is not None
    cluster_view.keep(["web-2"])
    assert cluster_view.of("web-1").row is None


def test_a_restarted_node_starts_anew(cluster_view):
    cluster_view.note_rows([row("web-1", 1)], 10.0)
    cluster_view.forget("web-1")
    assert cluster_view.of("web-1").row is None
    cluster_view.forget("never-there")


def test_a_member_is_told_as_each_node_sees_it_while_rows_are_live(cluster_view):
    other = attrs.evolve(row("web-2", 1), own=attrs.evolve(row("web-2", 1).own, hosts=()))
    cluster_view.note_rows([row("web-1", 1), other], 10.0)
    assert cluster_view.seen_by(10.0) == {"app/x": {"web-1": MEMBER}}
    assert cluster_view.seen_by(10.0 + LIVE_S) == {}
