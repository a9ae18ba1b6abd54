"""What the reports of top tiers say of the whole: a table."""

import pytest

from tierlb.controller.cluster_view import ClusterView, Sight
from tierlb.controller.top_health import BARREN_S, SILENT_S, stalled
from tierlb.model.load import SubtreeLoad

NOW = 100.0
FULL, NONE_READY, EMPTY = SubtreeLoad(leaves=2, ready_leaves=1), SubtreeLoad(leaves=2), SubtreeLoad()


def sight(*reports: tuple[float, SubtreeLoad]) -> Sight:
    """Of a node that reported so many seconds ago."""
    cluster_view = ClusterView()
    cluster_view.keep(["edge-1"])
    for ago_s, report in reports:
        cluster_view.note_report("edge-1", report, NOW - ago_s)
    return cluster_view.of("edge-1")


GOOD, SILENT = sight((0.1, FULL)), sight((SILENT_S, FULL))
BARREN = sight((BARREN_S, NONE_READY), (0.1, NONE_READY))


@pytest.mark.parametrize(
    ("sights", "said"),
    [
        ([], ""),
        ([GOOD], ""),
        ([sight()], ""),
        ([sight(), SILENT], ""),
        ([SILENT], "no node has reported for 5 s"),
        ([SILENT, GOOD], ""),
        ([BARREN], "no node finds anything ready below"),
        ([BARREN, GOOD], ""),
        ([BARREN, SILENT], "no node finds anything ready below"),
        ([sight((BARREN_S, FULL), (0.1, NONE_READY))], ""),
        ([sight((9.0, NONE_READY), (1.0, FULL), (0.1, NONE_READY))], ""),
        ([sight((9.0, EMPTY), (0.1, EMPTY))], ""),
    ],
)
def test_a_tier_stalls_when_no_node_answers_or_finds_anything_ready(sights: list[Sight], said: str) -> None:
    assert stalled({"edge": sights, "other": [GOOD]}, NOW) == ((f"edge: {said}",) if said else ())
