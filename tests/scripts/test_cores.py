"""Efficiency and evenness of nodes at one port, and what is printed of them."""

import contextlib
import os
import socket

import pytest
from click.testing import CliRunner

from scripts.benchmarks import cgroup
from scripts.benchmarks.cgroup import Unavailable
from scripts.benchmarks.cores import (
    MOST,
    NODE_CPU,
    OF_LINEAR,
    PER_SECOND,
    accepted,
    count_of,
    main,
    printed,
    topology,
    unevenness,
    verdicts,
    with_efficiencies,
)
from scripts.benchmarks.table import SUBJECT, Sample, rows
from tierlb.model.places import listed_addresses
from tierlb.topology.load import load_text


def sample(measure: str, per_second: float, problem: str | None = None) -> Sample:
    return Sample(measure, SUBJECT, {PER_SECOND: per_second, NODE_CPU: 40.0, MOST: 1.2}, problem)


def test_efficiency_is_by_one_node_of_the_same_kind_and_by_their_number() -> None:
    of_round = [
        sample("l7, 1 node", 100),
        sample("l7, 4 nodes", 360),
        sample("l4, 1 node", 50),
        sample("l4, 2 nodes", 80),
    ]
    found = {each.measure: each.values[OF_LINEAR] for each in with_efficiencies(of_round)}
    assert found == {"l7, 1 node": 1.0, "l7, 4 nodes": 0.9, "l4, 1 node": 1.0, "l4, 2 nodes": 0.8}


def test_what_must_not_be_used_has_no_efficiency() -> None:
    one, many = with_efficiencies([sample("l7, 1 node", 100, "wrk ended with 1"), sample("l7, 8 nodes", 700)])
    assert one.problem == "one node alone: wrk ended with 1" or one.problem == "wrk ended with 1"
    assert many.problem == "one node alone: wrk ended with 1"
    assert OF_LINEAR not in many.values


def test_each_number_of_nodes_has_a_line_and_beyond_one_a_verdict() -> None:
    of_round = [sample("l7, 1 node", 100), sample("l7, 2 nodes", 190), sample("l7, 8 nodes", 500)]
    table = rows(with_efficiencies(of_round))
    assert [line.split("|")[1].strip() for line in printed(table).splitlines()[2:]] == [
        each.measure for each in of_round
    ]
    assert [line.split()[0] for line in verdicts(table)] == ["met", "missed"]
    assert [count_of(each.measure) for each in of_round] == [1, 2, 8]


@pytest.mark.parametrize("kind", ["l7", "l4"])
def test_a_tier_has_so_many_nodes_at_one_port(kind: str) -> None:
    topology_text = topology(kind, 4, "127.0.0.1:8080", "127.0.0.1:7900", ["127.0.0.1:9001"])
    (tier,) = load_text(topology_text, "f").tiers.values()
    assert (tier.kind.value, tier.replicas, listed_addresses(tier)) == (kind, 4, "127.0.0.1:8080")


def test_connections_are_counted_at_the_process_that_has_them() -> None:
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listening.getsockname()[1]
        for _ in range(3):
            stack.enter_context(socket.create_connection(listening.getsockname()))
        for _ in range(2):
            stack.enter_context(listening.accept()[0])
        assert accepted([os.getpid(), os.getppid()], port) == [2, 0]


def test_evenness_is_the_most_by_the_mean() -> None:
    assert unevenness([8, 8, 8, 8]) == 1.0
    assert unevenness([16, 16, 0, 0]) == 2.0
    assert unevenness([0, 0]) == 0.0


def test_without_control_groups_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def unavailable(limit: object) -> None:
        raise Unavailable("no cgroup hierarchy: run as root")

    monkeypatch.setattr(cgroup, "prepare", unavailable)
    monkeypatch.setattr("scripts.benchmarks.cores.need", lambda *programs: None)
    result = CliRunner().invoke(main, [])
    assert (result.exit_code, "run as root" in result.output) == (1, True)
