"""What a node says that it can do, beside what it can: an l7 node is driven to saturation with several mixes.

Eight simulated endpoints of four slots are sent 60 % of what they can do, then more than that, then 60 % again. The
knee is how much of the mix is answered per second in the second stage, by its work, whatever queues meanwhile. Beside
it stands what `status` says of the node in each stage.
"""

import contextlib
import random
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import attrs
import click
import httpx
import trio

from scripts.benchmarks import mixes
from scripts.benchmarks.arrivals import Rate, Request, poisson
from scripts.benchmarks.contenders import Fleet, Fronts, Tierlb
from scripts.benchmarks.items import Guest
from scripts.benchmarks.mixes import CONNECTIONS, DRAWN, MIXES, Mix
from scripts.benchmarks.openloop import DEMAND, Lane
from scripts.benchmarks.play import LEAD_S, Course, Played, play
from scripts.benchmarks.results import finish, machine
from scripts.benchmarks.station import Endpoint
from scripts.benchmarks.table import SUBJECT, Sample, aligned, digits
from scripts.benchmarks.windows import OK

HOSTS, SLOTS = 8, 4
SLOWER = 2.0
"""Than in `mixed`, so that the endpoints are saturated long before the node is."""
STAGES = (("60 %", 14.0, 0.6), ("saturated", 26.0, 1.15), ("60 % again", 40.0, 0.6))
"""Title, until when, load."""
LOOKED_AT_S = 6.0
"""The end of each stage."""
MIXED = ("none", "two-routes", "polls-40")
LIMIT = 0.2
DRAIN_S = 5.0


@attrs.frozen
class Said:
    """What `status` said of the node at some second of the run."""

    at_s: float
    capacity: float
    utilisation: float


@attrs.define
class Watched:
    """tierlb, and what its `status` says every quarter of a second."""

    said: list[Said] = attrs.field(factory=list)
    name: str = SUBJECT
    orca: bool = False

    def missing(self) -> str | None:
        return None

    @contextlib.asynccontextmanager
    async def serving(self, fleet: Fleet, directory: Path) -> AsyncIterator[Fronts]:
        async with Tierlb().serving(fleet, directory) as fronts, trio.open_nursery() as nursery:
            nursery.start_soon(self._watch, fronts.admin)
            yield fronts
            nursery.cancel_scope.cancel()

    async def _watch(self, admin: str) -> None:
        begin_s = time.monotonic() + LEAD_S
        async with httpx.AsyncClient(trust_env=False) as client:
            while True:
                status = (await client.get(f"http://{admin}/v1/status")).raise_for_status().json()
                [node] = [node for tier in status["tiers"].values() for node in tier["nodes"]]
                if load := node["subtree"]:
                    self.said.append(Said(time.monotonic() - begin_s, load["capacity"], load["utilisation"]))
                await trio.sleep(0.25)


def course(name: str, seed: int) -> Course:
    """All stages of one mix."""
    mix, rng = MIXES[name], random.Random(f"{name} {seed}")
    mean_s = SLOWER * mix.mean_s
    return Course(
        endpoints=(Endpoint(mean_s, SLOTS),) * HOSTS,
        groups=(tuple(range(HOSTS)),),
        requests=tuple(sorted(_requests(mix, mean_s, rng), key=lambda request: request.at_s)),
        lanes=lambda listens: (
            Lane(listens[0], CONNECTIONS // 4, "GET /", f"work: d={DEMAND}\r\n"),
            Lane(listens[0], CONNECTIONS // 4, "GET /slow", f"work: other d={DEMAND}\r\n"),
        ),
        drain_s=DRAIN_S,
        guests=tuple(
            Guest(rng.uniform(0, 1), tuple(mix.item(rng) for _ in range(DRAWN)), mix.path, mix.method)
            for _ in range(mix.count)
        ),
    )


def _requests(mix: Mix, mean_s: float, rng: random.Random) -> list[Request]:
    """Of both routes, if there are two; the demand of the other is in terms of the short ones' mean."""
    part = mixes.SHORT_PART if mix.other_s else 1.0
    most = part * HOSTS * SLOTS / mean_s
    short = poisson(rng, [Rate(until_s, load * most) for _, until_s, load in STAGES])
    if not mix.other_s:
        return short
    longer = mix.other_s / mix.mean_s
    rare = most * (1 / part - 1) / longer
    others = poisson(rng, [Rate(until_s, load * rare) for _, until_s, load in STAGES])
    return short + [Request(each.at_s, 1, longer * each.demand) for each in others]


def looked_at(stage: int) -> tuple[float, float]:
    """From when to when."""
    until_s = STAGES[stage][1]
    return until_s - LOOKED_AT_S, until_s


def answered_per_s(planned: Course, played: Played, window: tuple[float, float]) -> float:
    """The work that was answered, whatever it waited, in items of the mix that was sent: with a queue before the
    endpoints one route may be answered more than the other."""
    seen, demands = played.seen, [request.demand for request in planned.requests]
    answers = zip(seen.at_s, seen.latency_s, seen.status, demands, strict=True)
    work = sum(
        demand for at_s, took_s, status, demand in answers if status == OK and window[0] <= at_s + took_s < window[1]
    )
    return work / statistics.fmean(demands) / (window[1] - window[0])


def figures(planned: Course, played: Played, said: Sequence[Said]) -> dict[str, float]:
    """The knee, and by stage the median of what was said, as a part of the knee, and the utilisation."""
    knee = answered_per_s(planned, played, looked_at(1))
    values = {"knee per second": knee}
    for number, (title, _, _) in enumerate(STAGES):
        begin_s, end_s = looked_at(number)
        of_stage = [each for each in said if begin_s <= each.at_s < end_s]
        values[f"capacity at {title}"] = statistics.median(each.capacity for each in of_stage)
        values[f"by the knee at {title}"] = values[f"capacity at {title}"] / knee
        values[f"utilisation at {title}"] = statistics.median(each.utilisation for each in of_stage)
    return values


def verdicts(samples: Sequence[Sample]) -> list[str]:
    """Whether what was said is within a fifth of the knee."""
    words = {True: "met", False: "missed"}
    return [
        f"{words[abs(value - 1) <= LIMIT]:8}  {sample.measure}, {metric}: 1 ± {LIMIT}, reached {digits(value)}"
        for sample in samples
        for metric, value in sample.values.items()
        if metric.startswith("by the knee")
    ]


async def _measure(names: Sequence[str], seed: int) -> list[Sample]:
    samples = []
    for name in names:
        watched, planned = Watched(), course(name, seed)
        played = await play(planned, watched)
        if isinstance(played, str):
            samples.append(Sample(MIXES[name].title, SUBJECT, {}, played))
            continue
        samples.append(Sample(MIXES[name].title, SUBJECT, figures(planned, played, watched.said)))
        click.echo(f"{MIXES[name].title}: {played.remarks()}", err=True)
    return samples


@click.command(help="What a node says of its capacity, beside what it does when it is driven to saturation.")
@click.option("--mix", "names", default=",".join(MIXED), show_default=True, metavar="NAME,...", help="Of bench mixed.")
@click.option("--seed", default=1, show_default=True)
def main(names: str, seed: int) -> None:
    """Measure, print, write JSON; exit code 1 if a mix could not be measured."""
    if unknown := [each for each in names.split(",") if each not in MIXES]:
        raise click.BadParameter(f"no mix is named {', '.join(unknown)}; there are {', '.join(MIXES)}")
    subtitle = f"seed {seed}, {machine()}"
    samples = trio.run(_measure, names.split(","), seed)
    lines = [("", "figure", SUBJECT)]
    lines += [(sample.measure, metric, digits(value)) for sample in samples for metric, value in sample.values.items()]
    sys.exit(finish("knee", subtitle, samples, aligned(lines), verdicts(samples), lambda title, path: None))


if __name__ == "__main__":
    main()
