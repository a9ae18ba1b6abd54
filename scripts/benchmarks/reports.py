"""What reports cost a parent: the CPU of a node to which a hundred children report, four times a second each.

The parent is a process with a real data plane (an l4 node over so many hosts) and a real listener for its
children; the children are real sessions over real sockets in a second process. Measured is the parent's CPU without
children and with all of them; the difference is what their reports cost. Beside the parent's end in use, which reads
all connections from one epoll set, trio-websocket's server is measured, which has tasks for each connection.

Run as `python -m scripts.benchmarks.reports parent COUNT SERVER` or `… children URL COUNT` it is one of the two.
"""

import gc
import random
import statistics
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import click
import trio

from scripts.benchmarks import table
from scripts.benchmarks.cpu import cpu_ns
from scripts.benchmarks.processes import DidNotStartError, running
from scripts.benchmarks.results import brief, finish, machine
from scripts.benchmarks.table import Sample
from scripts.benchmarks.task_per_child import serve_by_tasks
from tierlb.channel.admission import by_ticket
from tierlb.channel.parent_end import ParentEnd
from tierlb.channel.watching import WatchRelay
from tierlb.cli.log import LazyLog
from tierlb.cli.node import COLLECT_AFTER_ALLOCATIONS
from tierlb.dataplane.plane import Plane
from tierlb.model.address import Address
from tierlb.model.load import REPORT_INTERVAL_S, Echo, SubtreeLoad
from tierlb.model.snapshot import Destination, HostSpec, Rule, Send, Snapshot
from tierlb.model.topology import Kind, Match
from tierlb.net.websocket import connect
from tierlb.node.children import Children
from tierlb.telemetry.internal_errors import InternalErrors
from tierlb.wire.control import ChildSession, Transmit
from tierlb.wire.credentials import Principal, Role, issued
from tierlb.wire.frames import Hello, Report

RECEPTION = b"of the parent"
TARGET_PERCENT = 2.0
SETTLE_S = 2.0
JITTER = 0.1
EPOLL, TASKS = "one epoll set", "trio-websocket"


@click.command(help="The CPU that a parent spends on the reports of its children.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=8, show_default=True, help="Of each measurement.")
@click.option("--children", "count", type=click.IntRange(1), default=100, show_default=True)
def main(rounds: int, seconds: int, count: int) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    samples = trio.run(_measure_all, rounds, seconds, count)
    lines = [_verdict(samples)] if all(each.problem is None for each in samples) else []
    subtitle = f"{count} children at {1 / REPORT_INTERVAL_S:g} Hz, {rounds} rounds of {seconds} s, {machine()}"
    sys.exit(finish("reports", subtitle, samples, _table(samples), lines, picture=_none))


def _table(samples: Sequence[Sample]) -> str:
    cells = [[row.measure, row.metric, str(row.cells[table.SUBJECT])] for row in table.rows(samples)]
    return table.aligned([["measure", "figure", "tierlb"], *cells])


def _none(title: str, path: Path) -> None:
    """Three figures need no picture."""


def _verdict(samples: Sequence[Sample]) -> str:
    ours, theirs = (
        statistics.median(each.values["% of a core"] for each in samples if each.measure == f"their reports, {server}")
        for server in (EPOLL, TASKS)
    )
    word = "met" if ours <= TARGET_PERCENT else "missed"
    return (
        f"{word:8}  reports cost ≤ {TARGET_PERCENT:g} % of a core, reached {ours:.2f} %; "
        f"by trio-websocket's server {theirs:.2f} %, {theirs / ours:.1f} times as much"
    )


async def _measure_all(rounds: int, seconds: int, count: int) -> Sequence[Sample]:
    samples: list[Sample] = []
    for number in range(rounds):
        for server in (EPOLL, TASKS):
            for sample in await _round(seconds, count, server):
                samples.append(sample)
                click.echo(f"round {number + 1}/{rounds}  {brief(sample)}", err=True)
    return samples


async def _round(seconds: int, count: int, server: str) -> Sequence[Sample]:
    here = [sys.executable, "-m", "scripts.benchmarks.reports"]
    with tempfile.TemporaryDirectory(prefix="tierlb-bench-reports-") as directory:
        place = Path(directory)
        try:
            async with running([*here, "parent", str(count), server], place / "parent") as parent:
                url = await _first_line(parent.log)
                alone = await _percent(parent.pid, seconds)
                async with running([*here, "children", url, str(count)], place / "children") as children:
                    await _first_line(children.log)
                    heard = await _percent(parent.pid, seconds)
                    if children.process.poll() is not None:
                        raise DidNotStartError(f"the children ended: {children.log.read_text()[-300:]}")
        except (DidNotStartError, OSError, trio.TooSlowError) as error:
            return [Sample(f"their reports, {server}", table.SUBJECT, {}, f"{type(error).__name__}: {error}")]
    figures = {"a node without children": alone, "with them": heard, "their reports": heard - alone}
    figures = {f"{what}, {server}": value for what, value in figures.items()}
    return [Sample(measure, table.SUBJECT, {"% of a core": value}) for measure, value in figures.items()]


async def _first_line(log: Path) -> str:
    """The first whole line that is no log event."""
    lines: list[str] = []
    with trio.fail_after(SETTLE_S * 5):
        while not lines:
            await trio.sleep(0.05)
            *whole, _ = (await trio.Path(log).read_text()).split("\n")
            lines = [line for line in whole if not line.startswith("{")]
    return lines[0]


async def _percent(pid: int, seconds: int) -> float:
    await trio.sleep(SETTLE_S)
    before = cpu_ns((pid,))
    await trio.sleep(seconds)
    return 100 * (cpu_ns((pid,)) - before) / 1e9 / seconds


async def run_parent(count: int, server: str) -> None:
    """A node's data plane and its children's listener, until killed."""
    gc.set_threshold(COLLECT_AFTER_ALLOCATIONS, 20, 100)  # as `tierlb node` does
    gc.freeze()
    log = LazyLog()
    plane = Plane("parent", log, seed=1)
    plane.apply(_snapshot(count))
    errors = InternalErrors(log)
    children = Children(plane, log, errors, WatchRelay())
    end = ParentEnd(children.take_in, log, errors)
    async with trio.open_nursery() as nursery:
        await nursery.start(plane.run)
        serve = end.serve if server == EPOLL else partial(serve_by_tasks, end)
        address = await nursery.start(serve, Address("127.0.0.1", 0), by_ticket([RECEPTION]))
        print(f"ws://{address}", flush=True)


def _snapshot(count: int) -> Snapshot:
    hosts = tuple(
        HostSpec(f"child-{number}", "children", Address("127.0.0.1", 1 + number), child=True, reports=True)
        for number in range(count)
    )
    rule = Rule(Match(), Send((Destination(1.0, ("children",), hosts),)))
    return Snapshot(1, "bench", "parent", Kind.L4, (), (rule,))


async def run_children(url: str, count: int) -> None:
    """So many children that report, until killed."""
    rng = random.Random(1)
    async with trio.open_nursery() as nursery:
        for number in range(count):
            await nursery.start(_report, url, f"child-{number}", rng)
        print("all are here", flush=True)


async def _report(
    url: str, name: str, rng: random.Random, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    session = ChildSession(Hello(1, name, "children", name, 1), to_controller=False)
    arrivals = 0
    ticket = issued(RECEPTION, Principal(Role.NODE, "children", name)).text
    async with connect(url, ticket) as channel, trio.open_nursery() as nursery:

        async def listen() -> None:
            while True:
                session.receive(await channel.receive())

        for effect in session.start():
            if isinstance(effect, Transmit):
                await channel.send(effect.data)
        nursery.start_soon(listen)
        while not session.welcomed:  # noqa: ASYNC110 (the session has no event for it)
            await trio.sleep(0.01)
        task_status.started()
        while True:
            await trio.sleep(REPORT_INTERVAL_S * rng.uniform(1 - JITTER, 1 + JITTER))
            arrivals += rng.randrange(200)
            done = max(0, arrivals - 7)
            load = SubtreeLoad(rng.uniform(960, 1040), 2000.0, 0.5, 0.6, 7, arrivals, done, response_s=0.01)
            for effect in session.send(Report(load, Echo(7, arrivals))):
                if isinstance(effect, Transmit):
                    await channel.send(effect.data)


if __name__ == "__main__":
    if sys.argv[1:2] == ["parent"]:
        trio.run(run_parent, int(sys.argv[2]), sys.argv[3])
    elif sys.argv[1:2] == ["children"]:
        trio.run(run_children, sys.argv[2], int(sys.argv[3]))
    else:
        main()
