"""Efficiency, tables and verdicts of stacking, and what is said where nothing can be limited."""

import pytest
from click.testing import CliRunner

from scripts.benchmarks import capacity, cgroup
from scripts.benchmarks.capacity import FULL, LINEAR, OF_LINEAR, PACED, count_of, efficiencies, main, printed, verdicts
from scripts.benchmarks.cgroup import Limit, Unavailable
from scripts.benchmarks.loaded import (
    EDGE_CPU,
    FEWEST,
    LEAST_QUOTA,
    MOST,
    MOST_QUOTA,
    NODE_CPU,
    P50,
    P99,
    PER_SECOND,
    STALLED,
    Measured,
)
from scripts.benchmarks.table import Row, Sample, rows

USED = {
    EDGE_CPU: 20.0,
    NODE_CPU: 60.0,
    LEAST_QUOTA: 99.0,
    MOST_QUOTA: 101.0,
    STALLED: 100.0,
    FEWEST: 31.0,
    MOST: 33.0,
    "edge %": 9.0,
    "endpoints %": 3.0,
    "generator %": 5.0,
    "machine %": 70.0,
}


def full(count: int, per_second: float, peer: str = "tierlb", problem: str | None = None) -> Sample:
    return Sample(f"{count} {FULL}", peer, {PER_SECOND: per_second, **USED}, problem)


def paced(count: int, p99_ms: float, peer: str = "tierlb") -> Sample:
    return Sample(f"{count} {PACED}", peer, {P50: 5.0, P99: p99_ms, PER_SECOND: 1.0, **USED})


def test_efficiency_is_by_one_node_of_the_same_contender_and_by_their_number() -> None:
    of_round = [full(1, 1000), paced(1, 50), full(1, 4000, "haproxy"), full(4, 3600), full(4, 8000, "haproxy")]
    found = {(each.measure, each.peer): each.values[OF_LINEAR] for each in efficiencies(of_round)}
    assert found == {
        (f"1 {LINEAR}", "tierlb"): 1.0,
        (f"1 {LINEAR}", "haproxy"): 1.0,
        (f"4 {LINEAR}", "tierlb"): 0.9,
        (f"4 {LINEAR}", "haproxy"): 0.5,
    }


@pytest.mark.parametrize(
    ("one", "many", "problem"),
    [
        (None, "machine: 95 % busy", "machine: 95 % busy"),
        ("machine: 99 % busy", None, "one node alone: machine: 99 % busy"),
    ],
)
def test_what_must_not_be_used_gives_no_efficiency(one: str | None, many: str | None, problem: str) -> None:
    _, eight = efficiencies([full(1, 1000, problem=one), full(8, 7000, problem=many)])
    assert (eight.values, eight.problem) == ({}, problem)


def test_a_contender_that_did_not_start_gives_no_efficiency_either() -> None:
    failed = Sample(f"1 {FULL}", "tierlb", {}, "DidNotStartError: no such option")
    assert all(each.problem for each in efficiencies([failed, full(2, 2000)]))


def table_of(*of_round: Sample) -> list[Row]:
    return rows([*of_round, *efficiencies(of_round)])


def test_the_verdict_is_on_every_number_beyond_one_and_says_where_the_rest_is() -> None:
    used = {**USED, PER_SECOND: 5600.0, NODE_CPU: 84.0, LEAST_QUOTA: 95.0}
    dear, peer = Sample(f"8 {FULL}", "tierlb", used), full(1, 4000, "haproxy")
    lines = verdicts(table_of(peer, full(1, 1000), full(2, 1800), full(4, 3599), dear))
    assert [line.partition(" ")[0] for line in lines] == ["met", "missed", "missed"]
    assert "a request cost a node 1.40 × as much, of their quotas nodes used 95–101 %" in lines[2]


def test_without_a_valid_figure_there_is_no_verdict() -> None:
    [line] = verdicts(table_of(full(1, 1000), full(2, 1800, problem="machine: 95 % busy")))
    assert line.startswith("not measured")


def test_there_is_a_line_for_each_contender_and_number_in_both_tables() -> None:
    of_round = [full(1, 1000), paced(1, 50), full(2, 1900), paced(2, 60, "tierlb")]
    first, second = printed(table_of(*of_round)).split("\n\n**")
    assert [line.split("|")[2].strip() for line in first.splitlines()[4:]] == ["1", "2"]
    assert all(shown in first for shown in ("31–33", "9 / 3 / 5 / 70", "0.95"))
    assert [line.split("|")[2].strip() for line in second.splitlines()[4:]] == ["1", "2"]
    assert all(shown in second for shown in ("60.0", "50.0"))


def test_the_number_of_nodes_comes_first() -> None:
    assert [count_of(f"16 {what}") for what in (FULL, PACED, LINEAR)] == [16] * 3


def test_what_is_missing_is_said_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(limit: Limit) -> None:
        raise Unavailable("cgroup v1: read-only file system: run as root")

    monkeypatch.setattr(capacity, "need", lambda *programs: None)
    monkeypatch.setattr(cgroup, "prepare", refuse)
    outcome = CliRunner().invoke(main, ["--rounds", "1"])
    assert (outcome.exit_code, outcome.output) == (1, "Error: cgroup v1: read-only file system: run as root\n")


def test_a_quota_that_the_kernel_would_refuse_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capacity, "need", lambda *programs: None)
    outcome = CliRunner().invoke(main, ["--cores", "0.05", "--period", "10"])
    assert outcome.exit_code == 2
    assert "500 µs per period are too few for the kernel" in outcome.output


@pytest.mark.parametrize(("outcomes", "tried"), [([None], 1), (["busy", None], 2), (["busy"] * 3, 3)])
async def test_a_void_measurement_is_repeated_as_often_as_allowed(outcomes: list[str | None], tried: int) -> None:
    left = iter(outcomes)
    calls = 0

    async def measure() -> Measured:
        nonlocal calls
        calls += 1
        return Measured({}, void=next(left))

    measured = await capacity.repeat(measure, tries=3)
    assert (calls, measured.void) == (tried, outcomes[-1])
