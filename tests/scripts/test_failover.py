"""Which requests belong to a kill, and when a target is met."""

import attrs
import pytest

from scripts.benchmarks.failover import WHEN, Kill, _sample, _table, _verdicts
from scripts.benchmarks.openloop import CUT
from scripts.benchmarks.table import Sample
from scripts.benchmarks.windows import OK, Seen

SEEN = Seen([0.5, 1.5, 4.5, 5.5, 9.5], [0.01] * 5, [CUT, OK, 503, OK, CUT])
KILL = Kill(WHEN[0], at_s=2.0, active_s=3.0, changed_s=3.1, whole_s=3.5)


def test_what_fails_from_the_kill_until_every_node_is_there_is_counted() -> None:
    values = _sample(KILL, SEEN).values
    assert (values["requests"], values["failed"], values["active s"]) == (3, 1, 3.0)


def test_a_kill_that_was_not_gone_through_makes_its_sample_invalid() -> None:
    assert _sample(attrs.evolve(KILL, problem="not over"), SEEN).problem == "not over"


def sample(**values: float) -> Sample:
    return Sample(WHEN[1], "tierlb", {"failed": 0.0, "lost revisions": 0.0, "active s": 3.0, **values})


@pytest.mark.parametrize(
    ("samples", "verdicts"),
    [
        ([sample(), sample(**{"active s": 4.9})], ["met", "met", "met"]),
        ([sample(), sample(failed=1.0)], ["missed", "met", "met"]),
        ([sample(), sample(**{"lost revisions": 1.0})], ["met", "missed", "met"]),
        ([sample(), sample(**{"active s": 5.1})], ["met", "met", "missed"]),
        ([attrs.evolve(sample(), problem="no")], ["missed", "missed", "missed"]),
    ],
)
def test_nothing_may_be_lost_in_any_kill_and_the_worst_takeover_counts(
    samples: list[Sample], verdicts: list[str]
) -> None:
    assert [line.split()[0] for line in _verdicts(samples)] == verdicts


def test_the_table_has_a_line_for_each_moment() -> None:
    lines = _table([_sample(KILL, SEEN), _sample(attrs.evolve(KILL, when=WHEN[1]), SEEN)]).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:]] == list(WHEN)
