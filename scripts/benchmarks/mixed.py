"""Short requests while others wait: tail latency and shares when requests differ, beside every peer's policies.

Eight equal endpoints (4 slots, 10 ms mean, exponential, a FIFO queue) get a Poisson stream of short requests. From
second 6 on long ones come too, by mix: polls, event streams, slow downloads and uploads, chats, streams, a
second route. Most of them occupy no slot: the short ones should notice nothing. `--slow`: at second 11 one host
becomes 10 times slower for everything. `--stacked`: an L4 edge over three L7 nodes, clients that keep connections.
"""

import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import attrs
import click
import trio

from scripts.benchmarks import contest
from scripts.benchmarks.contenders import MIXED, STACKED, Contender, Tierlb
from scripts.benchmarks.contest import Entry, Series
from scripts.benchmarks.mixes import MIX_S, MIXES, SECONDS, SECONDS_SLOW, SLOW_S, Setting, course
from scripts.benchmarks.play import Course, Played
from scripts.benchmarks.results import machine
from scripts.benchmarks.simulated import BIN_S
from scripts.benchmarks.table import SUBJECT, digits, rows
from scripts.benchmarks.windows import Window, settled_after, shares, summed

RATIO = 1.03
"""Of the best peer's p99, while long requests are there."""
LEAST_SHARE, LARGEST_SHARE = 0.8, 1.25
BEFORE = Window(3, MIX_S)
MIXED_WINDOW = Window(MIX_S + 1, SECONDS)
SLOW_WINDOWS = (Window(MIX_S + 1, SLOW_S), Window(SLOW_S, 13), Window(13, SECONDS_SLOW))
STRETCH_BINS = 2
"""The share of the slow host is counted over half a second."""
FOUND_SHARE = 0.5
"""The slow host is found when it gets no more than this part of its fair share, and stays below most of the time."""
FOUND_S = 1.0
SMALLEST, LARGEST, FOUND = "smallest share", "largest share", "found s"


def judge(setting: Setting, played: Played) -> tuple[dict[str, float], Series]:
    """The figures and curves of one run."""
    seen, windows = played.seen, SLOW_WINDOWS if setting.slow else (MIXED_WINDOW,)
    hosts = by_host(setting, played.tally.arrivals)
    values = {f"p99 ms {each}": seen.percentile_ms(each, 99) for each in (BEFORE, *windows)}
    values[f"p50 ms {windows[0]}"] = seen.percentile_ms(windows[0], 50)
    fair = relative_shares(hosts, windows[0])
    values |= {SMALLEST: min(fair), LARGEST: max(fair)}
    if setting.slow:
        values[FOUND] = found_s(hosts)
    if setting.mix.other_s:
        values[f"p99 ms of the other route {windows[0]}"] = played.aside.percentile_ms(windows[0], 99)
    whole = Window(3, setting.seconds)
    values[contest.ERRORS] = seen.errors_percent(whole)
    if setting.mix.count:
        values["long ones begun"] = float(played.visits.begun)
        values[contest.LONG_ERRORS] = 100 * played.visits.errors / max(1, played.visits.begun)
    if setting.mix.streams:
        values["messages back"] = float(played.visits.messages)
    seconds = [relative_shares(hosts, Window(at_s, at_s + 1)) for at_s in range(setting.seconds)]
    return values, {
        "p99 ms": seen.by_second_ms(setting.seconds, 99),
        SMALLEST: [min(each) for each in seconds],
        LARGEST: [max(each) for each in seconds],
    }


def by_host(setting: Setting, arrivals: Sequence[Sequence[int]]) -> list[list[int]]:
    """Short requests by host and bin."""
    bins = round(setting.seconds / BIN_S)
    return [summed([arrivals[number] for number in host], bins) for host in setting.hosts]


def relative_shares(hosts: Sequence[Sequence[int]], window: Window) -> list[float]:
    """Each host's share of the short requests in the window, 1 if it is that of equals."""
    begin, end = round(window.from_s / BIN_S), round(window.until_s / BIN_S)
    counts = [sum(bins[begin:end]) for bins in hosts]
    return [len(hosts) * count / max(1, sum(counts)) for count in counts]


def found_s(hosts: Sequence[Sequence[int]]) -> float:
    """Seconds from the slowdown until the slow host (the last one) gets little; all there were if it never does."""
    begin = round(SLOW_S / BIN_S)
    whole = summed(hosts, len(hosts[-1]))
    share = shares(hosts[-1][begin:], whole[begin:], STRETCH_BINS)
    place = settled_after(share, 0.0, FOUND_SHARE / len(hosts))
    return (len(whole) - begin if place is None else place + STRETCH_BINS) * BIN_S


def bounds(entries: Sequence[Entry], cells: Sequence[Setting]) -> list[str]:
    """Whether tierlb's figures that are not compared with peers are as they should be.

    Shares are to be equal where hosts are, which they are not while long requests occupy slots at some of them.
    """
    uneven = {str(setting) for setting in cells if setting.mix.held}
    limits: dict[str, Callable[[float], bool]] = {
        SMALLEST: lambda value: value >= LEAST_SHARE,
        LARGEST: lambda value: value <= LARGEST_SHARE,
        FOUND: lambda value: value <= FOUND_S,
    }
    asked = {SMALLEST: f"≥ {LEAST_SHARE}", LARGEST: f"≤ {LARGEST_SHARE}", FOUND: f"≤ {FOUND_S:g}"}
    return [
        f"{'met' if limits[row.metric](cell.median) else 'missed':8}  {row.measure}, {row.metric}: "
        f"{asked[row.metric]}, reached {digits(cell.median)}"
        for row in rows([each.sample for each in entries])
        if row.metric in limits
        and not (row.measure in uneven and row.metric in (SMALLEST, LARGEST))
        and (cell := row.cells.get(SUBJECT)) is not None
    ]


def compared() -> dict[str, float]:
    """By figure, how much of the best peer's tierlb's own may be."""
    after = {f"p99 ms {window}": contest.WIN_RATIO for window in SLOW_WINDOWS[1:]}
    during = {f"p99 ms {window}": RATIO for window in (BEFORE, MIXED_WINDOW, SLOW_WINDOWS[0])}
    return {**during, **after, contest.ERRORS: 1.0, contest.LONG_ERRORS: 1.0}


def settings(
    names: str, loads: str, slow: bool, stacked: bool, one_path: bool = False, fresh: bool = False
) -> list[Setting]:
    """One per mix and load. Raises click.BadParameter for what there is not."""
    chosen = list(MIXES) if names == "all" else names.split(",")
    if unknown := [each for each in chosen if each not in MIXES]:
        raise click.BadParameter(f"no mix is named {', '.join(unknown)}; there are {', '.join(MIXES)}")
    try:
        parts = [int(each) / 100 for each in loads.split(",")]
    except ValueError as error:
        raise click.BadParameter(f"loads are whole percents: {loads}") from error
    return [Setting(name, load, slow, stacked, one_path, fresh) for name in chosen for load in parts]


def contenders(stacked: bool, balance: str | None, before: Path | None) -> list[Contender]:
    """Peers, tierlb, and tierlb of another checkout."""
    peers: tuple[Contender, ...] = STACKED if stacked else MIXED
    ours = Tierlb(balance)
    if before is None:
        return [*peers, ours]
    earlier = attrs.evolve(ours, name=f"{SUBJECT}-before", python=str(before / ".venv" / "bin" / "python"))
    return [*peers, earlier, ours]


@click.command(
    help="Tail latency and shares of short requests while long ones wait, beside nginx, HAProxy, Envoy, Traefik."
)
@click.option("--list", "lists", is_flag=True, help="Say what the mixes are, and do nothing else.")
@click.option(
    "--mix", "names", default="polls-40", show_default=True, metavar="NAME,...", help=f"all, or of {', '.join(MIXES)}."
)
@click.option(
    "--load", "loads", default="60", show_default=True, metavar="PERCENT,...", help="Of the short ones' capacity."
)
@click.option("--slow", is_flag=True, help="One host becomes 10 times slower at second 11.")
@click.option("--stacked", is_flag=True, help="An L4 edge over three L7 nodes; clients keep their connections.")
@click.option("--one-path", is_flag=True, help="All requests have one path and method; else each kind has its own.")
@click.option("--fresh", is_flag=True, help="Short requests have a connection each.")
@click.option("--rounds", type=click.IntRange(1), default=1, show_default=True)
@click.option("--only", default="", metavar="NAME,...", help="Contenders, or products such as nginx.")
@click.option(
    "--before",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="Another checkout of tierlb (with its .venv), measured as tierlb-before.",
)
@click.option("--balance", default=None, metavar="POLICY", help="tierlb's policy, instead of its default.")
@click.option("--seed", default=1, show_default=True)
@click.option("--tries", type=click.IntRange(1), default=3, show_default=True, help="A void run is repeated.")
def main(
    lists: bool,
    names: str,
    loads: str,
    slow: bool,
    stacked: bool,
    one_path: bool,
    fresh: bool,
    rounds: int,
    only: str,
    before: Path | None,
    balance: str | None,
    seed: int,
    tries: int,
) -> None:
    """Measure, print, write JSON and PNG; exit code 1 if a cell is invalid."""
    if lists:
        click.echo("\n".join(f"{name:15} {mix.title}" for name, mix in MIXES.items()))
        return
    cells = settings(names, loads, slow, stacked, one_path, fresh)
    who = contest.taking_part(contenders(stacked, balance, before), only)
    subtitle = f"{rounds} rounds, seed {seed}, tierlb's policy: {balance or 'its default'}, {machine()}"
    entries: list[Entry] = []
    for setting in cells:
        entries += trio.run(contest.hold, str(setting), _courses(setting, seed), _judge(setting), who, rounds, tries)
    sys.exit(contest.publish("mixed", subtitle, entries, compared(), bounds(entries, cells)))


def _judge(setting: Setting) -> contest.Judge:
    return lambda played: judge(setting, played)


def _courses(setting: Setting, seed: int) -> Callable[[int], Course]:
    return lambda number: course(setting, random.Random(f"{setting} {seed} {number}"))


if __name__ == "__main__":
    main()
