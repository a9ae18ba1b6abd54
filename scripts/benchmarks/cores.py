"""Whether throughput grows with cores: 1, 2, 4 and 8 nodes of 0.1 CPU each at one public port, l7 and l4.

Each node has a control group with a processor quota, so eight of them fit on a machine with fewer cores; endpoints and
generator have no quota. wrk opens 16 connections per node at once and keeps them busy. Efficiency is the throughput by
that of one node in the same round and by the number of nodes. How evenly the burst was shared is the number of
connections at the node that has most, by the mean: a node with half of what others have leaves half of its core unused.

Left out: the tail, which the quota decides (see `capacity`), and peers, whose workers share one port in the same way.
"""

import functools
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import httpx
import trio

from scripts.benchmarks import cgroup
from scripts.benchmarks.cgroup import Hierarchy, Limit, Unavailable
from scripts.benchmarks.cpu import cpu_ns
from scripts.benchmarks.load import wrk
from scripts.benchmarks.peers import node_pids
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.stacks import ESTABLISHED, Backends, backends
from scripts.benchmarks.table import SUBJECT, Cell, Row, Sample, aligned, rows

KINDS = "l7", "l4"
NODES = 1, 2, 4, 8
CORES = 0.1
PERIOD_US = 100_000
PER_NODE = 16
BACKENDS = 2
TCP = Path("/proc/net/tcp")
SETTLE_S = 1.0
"""By then all connections of the burst are accepted, also by nodes that their quota stalls."""
PER_SECOND, OF_LINEAR, NODE_CPU, MOST = "per second", "of linear", "node CPU µs", "most/mean connections"
TARGET = 0.9


def topology(kind: str, count: int, listen: str, admin: str, endpoints: Sequence[str]) -> str:
    """One tier. JSON is YAML."""
    tiers = {"front": {"kind": kind, "listen": listen, "replicas": count, "to": "app"}}
    pools = {"app": {"endpoints": list(endpoints)}}
    return json.dumps({"cluster": "bench", "admin": {"listen": admin}, "tiers": tiers, "pools": pools}, indent=1)


def accepted(pids: Sequence[int], port: int) -> list[int]:
    """How many connections to their port each of the processes has open now."""
    place = f":{port:04X} "
    with TCP.open() as table:  # it may have a row for each of 100,000 connections that are over
        rows = [line.split() for line in table if place in line]
    here = {row[9] for row in rows if row[3] == ESTABLISHED and f"{row[1]} ".endswith(place)}
    return [len(here & _inodes(pid)) for pid in pids]


def _inodes(pid: int) -> set[str]:
    """Of the sockets that the process has open."""
    found = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(descriptor).removeprefix("socket:[").removesuffix("]"))
        except OSError:
            continue  # closed meanwhile
    return found


def unevenness(counts: Sequence[int]) -> float:
    """The most by the mean."""
    return max(counts) * len(counts) / max(1, sum(counts))


async def measure(
    kind: str, count: int, endpoints: Backends, hierarchy: Hierarchy, limit: Limit, seconds: int
) -> Sample:
    """So many nodes; what goes wrong becomes the sample's problem."""
    name = f"{kind}, {count} {'node' if count == 1 else 'nodes'}"
    try:
        with tempfile.TemporaryDirectory(prefix="tierlb-bench-cores-") as directory:
            values, problem = await _measured(Path(directory), kind, count, endpoints, hierarchy, limit, seconds)
    except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
        return Sample(name, SUBJECT, {}, f"{type(error).__name__}: {error}")
    return Sample(name, SUBJECT, values, problem)


async def _measured(
    place: Path, kind: str, count: int, endpoints: Backends, hierarchy: Hierarchy, limit: Limit, seconds: int
) -> tuple[dict[str, float], str | None]:
    admin, listen = free_addresses(2)
    file = place / "topology.yaml"
    file.write_text(topology(kind, count, listen, admin, endpoints.listens))
    command = [sys.executable, "-m", "tierlb", "up", str(file), "--state", str(place / "state")]
    async with running(command, place / "log") as cluster:
        await cluster.serves(f"http://{admin}/healthz")
        pids = await node_pids(admin, count)
        with cgroup.limited(hierarchy, {f"{kind}-{pid}": pid for pid in pids}, limit):
            return await _loaded(listen, pids, seconds)


async def _loaded(listen: str, pids: Sequence[int], seconds: int) -> tuple[dict[str, float], str | None]:
    port, counts = int(listen.rpartition(":")[2]), list[int]()

    async def count() -> None:
        await trio.sleep(SETTLE_S)
        counts.extend(await trio.to_thread.run_sync(accepted, pids, port))

    before = cpu_ns(pids)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(count)
        result = await wrk(f"http://{listen}/", seconds, connections=PER_NODE * len(pids))
    used_us = (cpu_ns(pids) - before) / 1000
    values = {PER_SECOND: result.per_second, NODE_CPU: used_us / max(1, result.requests), MOST: unevenness(counts)}
    return values, result.problem


def with_efficiencies(of_round: Sequence[Sample]) -> list[Sample]:
    """The samples of one round, each with its throughput by that of one node of the same kind and the number of
    nodes."""
    ones = {each.measure.partition(",")[0]: each for each in of_round if count_of(each.measure) == 1}
    return [_efficient(each, ones[each.measure.partition(",")[0]]) for each in of_round]


def _efficient(many: Sample, one: Sample) -> Sample:
    if many.problem or one.problem:
        return Sample(many.measure, many.peer, many.values, many.problem or f"one node alone: {one.problem}")
    linear = one.values[PER_SECOND] * count_of(many.measure)
    return Sample(many.measure, many.peer, {**many.values, OF_LINEAR: many.values[PER_SECOND] / linear})


def count_of(measure: str) -> int:
    """The number of nodes in a measure's name."""
    return int(measure.partition(", ")[2].partition(" ")[0])


def printed(table: Sequence[Row]) -> str:
    """A line for each kind and number of nodes."""
    metrics = (PER_SECOND, OF_LINEAR, NODE_CPU, MOST)
    cells = {(row.measure, row.metric): row.cells[SUBJECT] for row in table}
    measures = dict.fromkeys(row.measure for row in table)
    body = [[name, *(str(cells.get((name, metric)) or "–") for metric in metrics)] for name in measures]
    return aligned([["nodes", *metrics], *body])


def verdicts(table: Sequence[Row]) -> list[str]:
    """Of each number of nodes beyond one, whether it reaches the target."""
    found = []
    for row in table:
        cell = row.cells[SUBJECT]
        if row.metric == OF_LINEAR and count_of(row.measure) > 1:
            reached = "not measured" if cell is None else "met" if cell.median >= TARGET else "missed"
            found.append(f"{reached:12}  {row.measure}: throughput ≥ {TARGET:g} of linear, reached {cell}")
    return found


@click.command(help="Throughput of 1, 2, 4 and 8 nodes of 0.1 CPU at one public port against linear, l7 and l4.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(2), default=5, show_default=True, help="Of each measurement.")
@click.option("--cores", default=CORES, show_default=True, type=click.FloatRange(0.02, 1.0), help="Of each node.")
@click.option("--most", type=click.IntRange(1, 64), default=NODES[-1], show_default=True, help="Of nodes.")
def main(rounds: int, seconds: int, cores: float, most: int) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    need("nginx", "wrk")
    limit = Limit(round(cores * PERIOD_US), PERIOD_US)
    try:
        hierarchy = cgroup.prepare(limit)
    except Unavailable as error:
        raise click.ClickException(str(error)) from error
    subtitle = f"{rounds} rounds of {seconds} s, {PER_NODE} connections per node, {cores:g} CPU each, {machine()}"
    counts = [count for count in NODES if count <= most]
    samples = trio.run(functools.partial(_measure_all, rounds, seconds, counts, hierarchy, limit))
    table = rows(samples)
    picture = functools.partial(_picture, table)
    sys.exit(finish("cores", subtitle, samples, printed(table), verdicts(table), picture))


async def _measure_all(
    rounds: int, seconds: int, counts: Sequence[int], hierarchy: Hierarchy, limit: Limit
) -> list[Sample]:
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-cores-") as directory:
        async with backends(BACKENDS, Path(directory)) as endpoints:
            for number in range(rounds):
                fresh: list[Sample] = []
                for kind in KINDS:
                    for count in counts:
                        fresh.append(await measure(kind, count, endpoints, hierarchy, limit, seconds))
                        click.echo(f"round {number + 1}/{rounds}  {brief(fresh[-1])}", err=True)
                samples += with_efficiencies(fresh)
    return samples


def _picture(table: Sequence[Row], title: str, path: Path) -> None:
    from scripts.benchmarks.growth import Panel, draw  # needs matplotlib, which tests do without

    def lines(metric: str) -> dict[str, dict[int, Cell]]:
        found: dict[str, dict[int, Cell]] = {kind: {} for kind in KINDS}
        for row in table:
            if row.metric == metric and (cell := row.cells[SUBJECT]) is not None:
                found[row.measure.partition(",")[0]][count_of(row.measure)] = cell
        return found

    panels = [
        Panel("requests per second", lines(PER_SECOND), linear=True),
        Panel("throughput of linear", lines(OF_LINEAR), target=TARGET),
        Panel("CPU µs of the nodes per request", lines(NODE_CPU)),
        Panel("most connections by the mean", lines(MOST)),
    ]
    draw(panels, title, path)


if __name__ == "__main__":
    main()
