"""What the reports of top tiers say of the whole: a table."""

import pytest

from tierlb.controller.node_reports import NodeReports
from tierlb.controller.top_health import NONE_READY_S, UNREPORTED_S, stalled
from tierlb.model.load import SubtreeLoad

NOW = 100.0
FULL, NONE_READY, EMPTY = SubtreeLoad(leaves=2, ready_leaves=1), SubtreeLoad(leaves=2), SubtreeLoad()


def node(*reports: tuple[float, SubtreeLoad]) -> NodeReports:
    """A node that reported so many seconds ago."""
    node = NodeReports()
    for ago_s, report in reports:
        node.note_report(report, NOW - ago_s)
    return node


GOOD, SILENT = node((0.1, FULL)), node((UNREPORTED_S, FULL))
NOTHING_READY = node((NONE_READY_S, NONE_READY), (0.1, NONE_READY))


@pytest.mark.parametrize(
    ("nodes", "said"),
    [
        ([], ""),
        ([GOOD], ""),
        ([node()], ""),
        ([node(), SILENT], ""),
        ([SILENT], "no node has reported for 5 s"),
        ([SILENT, GOOD], ""),
        ([NOTHING_READY], "no node finds anything ready below"),
        ([NOTHING_READY, GOOD], ""),
        ([NOTHING_READY, SILENT], "no node finds anything ready below"),
        ([node((NONE_READY_S, FULL), (0.1, NONE_READY))], ""),
        ([node((9.0, NONE_READY), (1.0, FULL), (0.1, NONE_READY))], ""),
        ([node((9.0, EMPTY), (0.1, EMPTY))], ""),
    ],
)
def test_a_tier_stalls_when_no_node_answers_or_finds_anything_ready(nodes: list[NodeReports], said: str) -> None:
    assert stalled({"edge": nodes, "other": [GOOD]}, NOW) == ((f"edge: {said}",) if said else ())
