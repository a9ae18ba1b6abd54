"""The proof for the reactor: one task per connection against one epoll set in one task.

Two responders that do nothing else (responders.py) take turns under wrk at 1, 64 and 512 connections.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click
import httpx
import trio

from scripts.benchmarks import table
from scripts.benchmarks.load import measure_wrk
from scripts.benchmarks.processes import DidNotStartError, free_addresses, running
from scripts.benchmarks.results import brief, finish, machine, need
from scripts.benchmarks.table import Sample

CONNECTIONS = (1, 64, 512)
VARIANTS = ("tasks", "reactor")


@click.command(help="One trio task per connection against one epoll set in one trio task.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--seconds", type=click.IntRange(1), default=4, show_default=True, help="Of each measurement.")
def main(rounds: int, seconds: int) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    need("wrk")
    subtitle = f"{rounds} rounds of {seconds} s, {machine()}"
    samples = trio.run(_measure_all, rounds, seconds)
    printed = table.markdown(table.rows(samples), subject="reactor")
    sys.exit(finish("reactor", subtitle, samples, printed))


async def _measure_all(rounds: int, seconds: int) -> Sequence[Sample]:
    samples = []
    for number in range(rounds):
        for connections in CONNECTIONS:
            for variant in VARIANTS:
                samples.append(await _sample(variant, connections, seconds))
                click.echo(f"round {number + 1}/{rounds}  {brief(samples[-1])}", err=True)
    return samples


async def _sample(variant: str, connections: int, seconds: int) -> Sample:
    measure = f"{connections} connection" + "s" * (connections > 1)
    [listen] = free_addresses(1)
    command = [sys.executable, "-m", "scripts.benchmarks.responders", variant, listen]
    try:
        with tempfile.NamedTemporaryFile(prefix="tierlb-bench-") as log:
            async with running(command, Path(log.name)) as responder:
                await responder.serves(f"http://{listen}/")
                values, problem = await measure_wrk(
                    f"http://{listen}/", (responder.pid,), seconds, connections=connections
                )
    except (DidNotStartError, OSError, httpx.HTTPError, trio.TooSlowError) as error:
        values, problem = {}, f"{type(error).__name__}: {error}"
    return Sample(measure, variant, values, problem)


if __name__ == "__main__":
    main()
