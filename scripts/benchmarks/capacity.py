"""Whether capacity grows by stacking: 1, 2, 4 and 8 L7 nodes of 0.1 CPU each behind one edge, beside HAProxy.

Each L7 node has a control group with a processor quota; edge, endpoints and generator have none. wrk keeps 32
connections per node busy for the throughput; then the open-loop generator asks for 70 % of that over as many
connections, for the tail. Efficiency is the throughput by that of one node in the same round and by the number of
nodes. Contenders take turns, and so do sizes within a round.

The period of the quota is 100 ms, what containers get unless told otherwise. Who has used its 10 ms stalls up to 90 ms,
so a tail of that length is the limit's, not the balancer's. A shorter period cuts the tail, but one node's throughput
then varied by 60 % between runs (20 ms, 4 ms between ticks). At 70 % nodes use nearly all of their quota all the same:
single requests cost half as much again as the batches that a stalled node finds.

On a busy machine a request costs every process more than on an idle one, so one node alone is flattered. `--fill` loads
eight nodes at every size, those that are not measured in a second stack: sizes then differ in nothing but the stack.
"""

import contextlib
import functools
import random
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import attrs
import click
import httpx
import trio

from scripts.benchmarks import cgroup
from scripts.benchmarks.cgroup import Hierarchy, Limit, Unavailable
from scripts.benchmarks.loaded import (
    BUSY,
    EDGE_CPU,
    FEWEST,
    LEAST_QUOTA,
    MOST,
    MOST_QUOTA,
    NODE_CPU,
    P50,
    P99,
    PER_NODE,
    PER_SECOND,
    STALLED,
    Bench,
    Measured,
    pace,
    saturate,
    wrk_command,
)
from scripts.benchmarks.processes import DidNotStartError, running
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.stacks import Backends, Haproxy, Stacked, Tierlb, backends
from scripts.benchmarks.table import SUBJECT, Cell, Row, Sample, aligned, rows

CONTENDERS: tuple[Stacked, ...] = (Haproxy(), Tierlb())
NODES = (1, 2, 4, 8)
CORES = 0.1
BACKENDS = 2
PART = 0.7
TARGET = 0.9
OF_LINEAR = "of linear"
OTHERS_S = 120.0
"""What each try may take, at most, beyond its seconds."""
FULL, PACED, LINEAR = "× L7, all they can do", f"× L7, {100 * PART:.0f} % of that", "× L7 by one"
"""What is measured of each number of nodes, which comes before it."""


@attrs.frozen
class Course:
    """What every contender is put through. With `fill`, as many nodes are loaded at every size."""

    hierarchy: Hierarchy
    limit: Limit
    seconds: int
    tries: int
    fill: bool

    async def run(self, contender: Stacked, count: int, endpoints: Backends, rng: random.Random) -> list[Sample]:
        """Both measurements of so many nodes; what goes wrong becomes the samples' problem."""
        full, paced = f"{count} {FULL}", f"{count} {PACED}"
        try:
            most, tail = await self._measure(contender, count, endpoints, rng)
        except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
            problem = f"{type(error).__name__}: {error}"
            return [Sample(name, contender.name, {}, problem) for name in (full, paced)]
        return [
            Sample(full, contender.name, most.values, most.problem),
            Sample(paced, contender.name, tail.values, tail.problem),
        ]

    async def _measure(
        self, contender: Stacked, count: int, endpoints: Backends, rng: random.Random
    ) -> tuple[Measured, Measured]:
        with tempfile.TemporaryDirectory(prefix=f"tierlb-bench-{contender.name}-") as directory:
            place = Path(directory)
            async with self._bench(contender, count, endpoints, place) as bench:
                async with self._others(contender, NODES[-1] - count):
                    most = await repeat(lambda: saturate(bench, self.seconds, place), self.tries)
                if most.problem:
                    return most, Measured({}, void=f"what it is a part of is not known: {most.problem}")
                rate = PART * most.values[PER_SECOND]
                return most, await repeat(lambda: pace(bench, rate, self.seconds, rng, place), self.tries)

    @contextlib.asynccontextmanager
    async def _bench(self, contender: Stacked, count: int, endpoints: Backends, place: Path) -> AsyncIterator[Bench]:
        async with contender.serving(count, endpoints.listens, place) as stack:
            pids = {f"{stack.edge}-{node.name}": node.pid for node in stack.nodes}
            with cgroup.limited(self.hierarchy, pids, self.limit) as groups:
                yield Bench(stack, tuple(groups.values()), self.limit, endpoints)

    @contextlib.asynccontextmanager
    async def _others(self, contender: Stacked, count: int) -> AsyncIterator[None]:
        """With `fill`, that many nodes in a stack of their own, as busy as those that are measured."""
        if not self.fill or not count:
            yield
            return
        with tempfile.TemporaryDirectory(prefix="tierlb-bench-others-") as directory:
            place = Path(directory)
            async with backends(BACKENDS, place) as endpoints, self._bench(contender, count, endpoints, place) as bench:
                longest_s = self.tries * (self.seconds + OTHERS_S)
                command = wrk_command(bench.stack.listen, longest_s, bench.clients, place)
                async with running(command, place / "wrk.log"):
                    yield


async def repeat(measure: Callable[[], Awaitable[Measured]], tries: int) -> Measured:
    """Again as long as it is void, and no more often than allowed."""
    for _ in range(tries - 1):
        measured = await measure()
        if not measured.void:
            return measured
        click.echo(f"again: {measured.void}", err=True)
    return await measure()


@click.command(help="Throughput and tail of 1, 2, 4 and 8 L7 nodes of 0.1 CPU behind one edge, beside HAProxy.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=8, show_default=True, help="Of each measurement.")
@click.option("--period", type=click.IntRange(10, 1000), default=100, show_default=True, help="Of the quota, in ms.")
@click.option("--cores", default=CORES, show_default=True, type=click.FloatRange(0.01, 1.0), help="Of each L7 node.")
@click.option("--fill", is_flag=True, help="Load eight nodes at every size: those not measured in a second stack.")
@click.option("--only", type=click.Choice([each.name for each in CONTENDERS]), help="One of the two alone.")
@click.option("--seed", default=1, show_default=True)
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="A void measurement is repeated.")
def main(
    rounds: int, seconds: int, period: int, cores: float, fill: bool, only: str | None, seed: int, tries: int
) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    need("nginx", "wrk")
    limit = Limit(round(cores * 1000 * period), 1000 * period)
    if limit.quota_us < cgroup.LEAST_QUOTA_US:
        raise click.UsageError(
            f"{limit.quota_us} µs per period are too few for the kernel: a longer --period, or more --cores"
        )
    try:
        hierarchy = cgroup.prepare(limit)
    except Unavailable as error:
        raise click.ClickException(str(error)) from error
    contenders = _present([each for each in CONTENDERS if only in (None, each.name)])
    quota = f"{cores * period:g} ms in {period} ms for each node ({hierarchy})"
    beside = f", {NODES[-1]} nodes loaded at every size" if fill else ""
    subtitle = (
        f"{rounds} rounds of {seconds} s, {PER_NODE} connections per node, {quota}{beside}, seed {seed}, {machine()}"
    )
    signal.signal(signal.SIGTERM, _as_ctrl_c)
    samples = trio.run(_measure_all, Course(hierarchy, limit, seconds, tries, fill), contenders, rounds, seed)
    table = rows(samples)
    picture = functools.partial(_picture, table)
    sys.exit(finish("capacity", subtitle, samples, printed(table), verdicts(table), picture))


def _as_ctrl_c(number: int, frame: object) -> None:
    """Control groups outlive who made them, so a run that is ended must unwind."""
    signal.raise_signal(signal.SIGINT)


def _present(contenders: Sequence[Stacked]) -> list[Stacked]:
    for each in contenders:
        if how := each.missing():
            click.echo(f"{each.name} is not installed and is left out; to have it: {how}", err=True)
    return [each for each in contenders if each.missing() is None]


async def _measure_all(course: Course, contenders: Sequence[Stacked], rounds: int, seed: int) -> list[Sample]:
    samples: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-capacity-") as directory:
        async with backends(BACKENDS, Path(directory)) as endpoints:
            for number in range(rounds):
                fresh: list[Sample] = []
                for count in NODES:
                    for contender in _turn(contenders, number):
                        rng = random.Random(f"capacity {seed} {number} {count}")
                        fresh += await course.run(contender, count, endpoints, rng)
                        for each in fresh[-2:]:
                            click.echo(f"round {number + 1}/{rounds}  {brief(each)}", err=True)
                samples += [*fresh, *efficiencies(fresh)]
    return samples


def _turn(contenders: Sequence[Stacked], number: int) -> list[Stacked]:
    """Another one starts each round."""
    first = number % len(contenders) if contenders else 0
    return [*contenders[first:], *contenders[:first]]


def efficiencies(of_round: Sequence[Sample]) -> list[Sample]:
    """Of one round: each throughput by that of one node of the same contender and the number of nodes."""
    ones = {each.peer: each for each in of_round if each.measure == f"1 {FULL}"}
    return [_efficiency(each, ones[each.peer]) for each in of_round if each.measure.endswith(FULL)]


def _efficiency(many: Sample, one: Sample) -> Sample:
    count = count_of(many.measure)
    problem = many.problem or (one.problem and f"one node alone: {one.problem}")
    values = {} if problem else {OF_LINEAR: many.values[PER_SECOND] / count / one.values[PER_SECOND]}
    return Sample(f"{count} {LINEAR}", many.peer, values, problem)


def count_of(measure: str) -> int:
    """The number of nodes that a measure's name begins with."""
    return int(measure.partition(" ")[0])


def printed(table: Sequence[Row]) -> str:
    """A table per measurement, a line for each contender and number of nodes; what explains is given as medians."""
    return "\n\n".join(
        f"**n {what}**\n\n{_lines(table, what, figures)}"
        for what, figures in ((FULL, (PER_SECOND, OF_LINEAR)), (PACED, (P50, P99)))
    )


def _lines(table: Sequence[Row], what: str, figures: Sequence[str]) -> str:
    metrics = (*figures, EDGE_CPU, NODE_CPU)
    head = ["contender", "nodes", *metrics, "connections", "quota %", STALLED, f"{', '.join(BUSY)} %"]
    body = []
    for peer, count in _cases(table):
        cells = {**_cells(table, peer, f"{count} {LINEAR}"), **_cells(table, peer, f"{count} {what}")}
        explained = [
            _joined(cells, (FEWEST, MOST), "–"),
            _joined(cells, (LEAST_QUOTA, MOST_QUOTA), "–"),
            _joined(cells, (STALLED,), ""),
            _joined(cells, [f"{name} %" for name in BUSY], " / "),
        ]
        body.append([peer, str(count), *(str(cells.get(each) or "–") for each in metrics), *explained])
    return aligned([head, *body])


def _cases(table: Sequence[Row]) -> list[tuple[str, int]]:
    """Each contender's numbers of nodes."""
    counts = dict.fromkeys(count_of(row.measure) for row in table)
    return [(peer, count) for peer in (table[0].cells if table else ()) for count in counts]


def _cells(table: Sequence[Row], peer: str, measure: str) -> dict[str, Cell]:
    """By figure, those that are valid."""
    return {row.metric: cell for row in table if row.measure == measure and (cell := row.cells[peer]) is not None}


def _joined(cells: Mapping[str, Cell], metrics: Sequence[str], between: str) -> str:
    """Medians beside each other, without what they vary."""
    return between.join(f"{cells[each].median:.0f}" if each in cells else "?" for each in metrics)


def verdicts(table: Sequence[Row]) -> list[str]:
    """Of each number of nodes beyond one: the target for tierlb, and where the rest is if it is missed."""
    return [_verdict(table, count) for peer, count in _cases(table) if peer == SUBJECT and count > 1]


def _verdict(table: Sequence[Row], count: int) -> str:
    asked = f"{count} nodes: throughput ≥ {TARGET:g} of linear"
    reached = _cells(table, SUBJECT, f"{count} {LINEAR}").get(OF_LINEAR)
    if reached is None:
        return f"not measured  {asked}"
    said = f"{asked}, reached {reached.median:.2f}"
    if reached.median >= TARGET:
        return f"met           {said}"
    one, many = (_cells(table, SUBJECT, f"{each} {FULL}") for each in (1, count))
    dearer, quota = many[NODE_CPU].median / one[NODE_CPU].median, _joined(many, (LEAST_QUOTA, MOST_QUOTA), "–")
    return f"missed        {said}: a request cost a node {dearer:.2f} × as much, of their quotas nodes used {quota} %"


def _picture(table: Sequence[Row], title: str, path: Path) -> None:
    from scripts.benchmarks.growth import Panel, draw  # needs matplotlib, which tests do without

    def lines(what: str, metric: str) -> dict[str, dict[int, Cell]]:
        found: dict[str, dict[int, Cell]] = {}
        for peer, count in _cases(table):
            if cell := _cells(table, peer, f"{count} {what}").get(metric):
                found.setdefault(peer, {})[count] = cell
        return found

    panels = [
        Panel("requests per second", lines(FULL, PER_SECOND), linear=True),
        Panel("throughput of linear", lines(LINEAR, OF_LINEAR), target=TARGET),
        Panel(f"p99 ms at {100 * PART:.0f} % of the throughput", lines(PACED, P99)),
        Panel("CPU µs of the edge per request", lines(FULL, EDGE_CPU)),
    ]
    draw(panels, title, path)


if __name__ == "__main__":
    main()
