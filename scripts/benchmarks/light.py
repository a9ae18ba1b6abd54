"""What light loads and rest cost: tierlb beside nginx and HAProxy, with all of them running from the first round on.

A busy proxy shares a poll among many requests, a quiet one pays a wake-up for each. So requests come one by one at
moments that were drawn beforehand (openloop.py), and peers take turns at each rate within every round. CPU time per
request is that of the processes that carry data. *At rest* is the share of a core over some seconds without any load,
of all peers at the same time; for tierlb also of the process that is controller and supervisor. Wake-ups are voluntary
context switches of all threads.
"""

import json
import random
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from http import HTTPStatus
from pathlib import Path

import click
import trio

from scripts.benchmarks import openloop, table
from scripts.benchmarks.arrivals import Rate, poisson
from scripts.benchmarks.cost import backends, present
from scripts.benchmarks.cpu import Used, memory_kib, used
from scripts.benchmarks.load import WARM_UP_S, wrk
from scripts.benchmarks.openloop import Lane, Plan
from scripts.benchmarks.peers import PEERS, Peer, Proxy, Shape, Tierlb
from scripts.benchmarks.processes import running
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.table import Sample, Target

RATES = (200, 1000, 4000)
CONNECTIONS = 64
SETTLE_S = 20.0
"""After the start, before rest is measured: rates and learnt figures fade for some seconds, and reports stretch."""
LEAD_S = 1.5
"""The generator has to start and to read its plan."""
DRAIN_S = 5.0
GRACE_S = 20.0
LINE = "GET /"
REST = "at rest"
SEED = 1


def _shapes(context: click.Context, parameter: click.Parameter, value: str) -> tuple[Shape, ...]:
    try:
        return tuple(Shape(each) for each in value.split(","))
    except ValueError as error:
        raise click.BadParameter(f"there are {', '.join(each.value for each in Shape)}") from error


def _rates(context: click.Context, parameter: click.Parameter, value: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in filter(None, value.split(",")))
    except ValueError as error:
        raise click.BadParameter("requests per second, separated by commas") from error


@click.command(help="CPU of a request at light loads, and of rest, beside nginx and HAProxy.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Of each measurement.")
@click.option("--rest", "rest_s", type=click.IntRange(0), default=20, show_default=True, help="Seconds of rest.")
@click.option("--rates", callback=_rates, default=",".join(map(str, RATES)), show_default=True, metavar="N,...")
@click.option(
    "--shapes", callback=_shapes, default="l7", show_default=True, help="l7, l4, stacked.", metavar="NAME,..."
)
@click.option(
    "--tierlb",
    "binaries",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    metavar="PATH",
    help="The tierlb command of another environment (a compiled one): takes part beside this one. Repeatable.",
)
def main(
    rounds: int, seconds: int, rest_s: int, rates: tuple[int, ...], shapes: tuple[Shape, ...], binaries: Sequence[Path]
) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    need("nginx", "wrk")
    peers: list[Peer] = [each for each in PEERS if each.name in ("nginx", "haproxy")]
    peers = [*present(peers), Tierlb("tierlb")]
    peers += [
        Tierlb("tierlb-2" if len(binaries) == 1 else f"tierlb-{number}", binary=str(binary.resolve()))
        for number, binary in enumerate(binaries, start=2)
    ]
    subtitle = f"{rounds} rounds of {seconds} s, rest of {rest_s} s, {machine()}"
    samples: list[Sample] = []
    for shape in shapes:
        samples += trio.run(_measure, shape, peers, rounds, seconds, rest_s, rates)
    lines = table.rows(samples)
    titles = [_title(shape, rate) for shape in shapes for rate in rates]
    targets = [Target(title, "CPU µs", "nginx", 1.3) for title in titles]
    sys.exit(finish("light", subtitle, samples, table.markdown(lines), table.target_lines(targets, lines)))


def _title(shape: Shape, rate: int) -> str:
    return f"{shape.value} {rate}/s"


async def _measure(
    shape: Shape, peers: Sequence[Peer], rounds: int, seconds: int, rest_s: int, rates: Sequence[int]
) -> list[Sample]:
    """All figures of one shape."""
    samples: list[Sample] = []

    def note(sample: Sample) -> None:
        samples.append(sample)
        click.echo(brief(sample), err=True)

    with tempfile.TemporaryDirectory(prefix="tierlb-bench-") as directory:
        async with _all_serving(shape, peers, Path(directory)) as proxies:
            if rest_s:
                await trio.sleep(SETTLE_S)
                for sample in await _rest(shape, peers, proxies, rest_s):
                    note(sample)
            for number in range(rounds):
                for rate in rates:
                    for index in _turn(len(peers), number):
                        proxy = proxies[index]
                        values, problem = await _at_rate(proxy, rate, seconds, Path(directory))
                        note(Sample(_title(shape, rate), peers[index].name, values, problem))
    return samples


def _turn(count: int, number: int) -> list[int]:
    """Another one starts each round, so that none always follows the same one."""
    return [(number + place) % count for place in range(count)]


@asynccontextmanager
async def _all_serving(shape: Shape, peers: Sequence[Peer], directory: Path) -> AsyncIterator[list[Proxy]]:
    """All peers before the same backends, each warmed up."""
    async with AsyncExitStack() as stack:
        endpoints = await stack.enter_async_context(backends(directory))
        proxies = []
        for peer in peers:
            place = directory / peer.name
            place.mkdir()
            proxies.append(await stack.enter_async_context(peer.serving(shape, endpoints.http1, place)))
            await wrk(f"http://{proxies[-1].listen}/", WARM_UP_S)
        yield proxies


async def _rest(shape: Shape, peers: Sequence[Peer], proxies: Sequence[Proxy], seconds: int) -> list[Sample]:
    """The share of a core, wake-ups per second and memory: of a data process on average, and of the others."""
    groups = [
        (f"{shape.value} {REST}, {what}", peer.name, pids)
        for peer, proxy in zip(peers, proxies, strict=True)
        for what, pids in (("node", proxy.pids), ("controller", proxy.beside))
        if pids
    ]
    before = [used(pids) for _, _, pids in groups]
    await trio.sleep(seconds)
    return [
        Sample(measure, name, _rest_values(used(pids) - earlier, len(pids), seconds, pids))
        for (measure, name, pids), earlier in zip(groups, before, strict=True)
    ]


def _rest_values(grown: Used, count: int, seconds: int, pids: Iterable[int]) -> dict[str, float]:
    return {
        "% of a core": 100 * grown.cpu_s / seconds / count,
        "wake-ups/s": grown.wakeups / seconds / count,
        "MiB": memory_kib(pids) / 1024 / count,
    }


async def _at_rate(proxy: Proxy, rate: int, seconds: int, place: Path) -> tuple[dict[str, float], str | None]:
    """CPU time and wake-ups per request, and why they must not be used."""
    requests = poisson(random.Random(SEED), [Rate(float(seconds), float(rate))])
    lanes = (Lane(proxy.listen, CONNECTIONS, LINE),)
    plan = Plan(time.monotonic() + LEAD_S, DRAIN_S, DRAIN_S, lanes, tuple(requests))
    try:
        grown, statuses = await _carry_out(plan, proxy, place)
    except (OSError, trio.TooSlowError) as error:
        return {}, f"{type(error).__name__}: {error}"
    count, failed = len(requests), sum(status != HTTPStatus.OK for status in statuses)
    values = {
        "CPU µs": 1e6 * grown.cpu_s / count,
        "user µs": 1e6 * grown.user_s / count,
        "wake-ups": grown.wakeups / count,
    }
    return values, f"{failed} of {count} requests failed" if failed else None


async def _carry_out(plan: Plan, proxy: Proxy, place: Path) -> tuple[Used, list[int]]:
    """What the proxy used meanwhile, and the statuses of all answers. Raises OSError or trio.TooSlowError."""
    source, target = place / "plan.json", place / "result.json"
    source.write_text(openloop.dump(plan))
    command = [sys.executable, "-m", openloop.__name__, str(source), str(target)]
    with trio.fail_after(LEAD_S + plan.requests[-1].at_s + DRAIN_S + GRACE_S):
        async with running(command, place / "generator.log") as generator:
            await trio.sleep(plan.begin_s - time.monotonic())
            before = used(proxy.pids)
            code = await generator.process.wait()
            grown = used(proxy.pids) - before
    if code:
        raise OSError(f"the generator ended with {code}: {generator.log.read_text()[-500:]}")
    return grown, json.loads(target.read_text())["status"]


if __name__ == "__main__":
    main()
