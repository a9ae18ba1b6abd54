"""A table in virtual time: what happens to whom with which rule, number of parents and delay of reports.

Pure computation, no machine is measured: the same seed gives the same figures everywhere. The rules that tierlb does
not have (shortest by report, weights by headroom, perfect knowledge) are there to compare with. `--mix` plays short
items beside long ones (`virtual_mixes`).
"""

import sys
import time
from collections.abc import Iterator, Sequence
from statistics import fmean

import attrs
import click

from scripts.benchmarks import virtual_mixes
from scripts.benchmarks.results import brief, finish
from scripts.benchmarks.table import SUBJECT, Sample, aligned, markdown, rows
from scripts.benchmarks.virtual_mixes import EVERY, Cell, cells, worse
from tierlb.model.topology import Policy
from tierlb.simulate.rules import ComparedRule
from tierlb.simulate.run import run
from tierlb.simulate.standard import clients, even_tier, evenness, settling, slow_subtree

PARENTS = (1, 2, 8)
DELAYS_S = (0.05, 2.0)
RULES: tuple[Policy | ComparedRule, ...] = (
    Policy.LOAD_AWARE,
    ComparedRule.SHORTEST_BY_REPORT,
    ComparedRule.TWO_BY_REPORT,
    ComparedRule.PERFECT,
    ComparedRule.HEADROOM,
)


@attrs.frozen
class Line:
    """One scenario's figures, as text in the table's order."""

    what: str
    cells: tuple[str, ...]
    values: dict[str, float]


@click.command(help="Scenarios in virtual time; with --mix short items beside long ones, for each rule.")
@click.option("--seeds", type=click.IntRange(1, 20), default=2, show_default=True)
@click.option("--mix", metavar="NAMES", help=f"Of mixes, with commas, or all: {', '.join(EVERY)}.")
@click.option("--tiers", multiple=True, type=int, default=(1,), show_default=True, help="Of nodes, 1 to 3; with --mix.")
@click.option("--delay", multiple=True, type=float, default=(0.05,), show_default=True, help="Of reports; with --mix.")
@click.option("--load", multiple=True, type=float, default=(0.6,), show_default=True, help="A part; with --mix.")
@click.option("--one-route", is_flag=True, help="Nodes cannot tell the kinds apart beforehand; with --mix.")
def main(
    seeds: int,
    mix: str | None,
    tiers: tuple[int, ...],
    delay: tuple[float, ...],
    load: tuple[float, ...],
    one_route: bool,
) -> None:
    """Compute, print, write JSON."""
    subtitle = f"{seeds} seeds, computed at {time.strftime('%Y-%m-%d')}"
    if mix is not None:
        sys.exit(_mixes(cells(mix, tiers, delay, load, one_route=one_route), seeds, subtitle))
    blocks = [
        (
            "a subtree of 4 tiers 10x slower, requests",
            ("left s", "found again s", "p99 ms before", "first s", "rest", "after"),
            _slow(seeds),
        ),
        ("an even tier at 80 %", ("spread / chance", "largest swing", "p99 / service time"), _even(seeds)),
        (
            "a node of 8 10x slower, kept connections",
            ("left s", "found again s", "p99 ms before", "first s", "rest", "after"),
            _kept(seeds),
        ),
    ]
    printed, samples = [], []
    for title, head, lines in blocks:
        body = []
        for line in lines:
            body.append([line.what, *line.cells])
            samples.append(Sample(f"{title}: {line.what}", SUBJECT, line.values))
            click.echo(f"{title}: {line.what}: {', '.join(line.cells)}", err=True)
        printed.append(f"**{title}**\n\n{aligned([['rule, parents, delay', *head], *body])}")
    sys.exit(finish("simulate", subtitle, samples, "\n\n".join(printed), picture=lambda title, path: None))


def _mixes(chosen: Sequence[Cell], seeds: int, subtitle: str) -> int:
    measured: list[Sample] = []
    for cell in chosen:
        for sample in virtual_mixes.samples(cell, seeds):
            measured.append(sample)
            click.echo(brief(sample), err=True)
    printed = markdown(rows(measured))
    return finish("simulate", subtitle, measured, printed, worse(measured), picture=lambda title, path: None)


def _slow(seeds: int) -> Iterator[Line]:
    for rule in RULES:
        for parents in PARENTS if rule is Policy.LOAD_AWARE else (1,):
            for delay_s in DELAYS_S if rule is Policy.LOAD_AWARE else DELAYS_S[:1]:
                slowdowns = [slow_subtree(parents, delay_s, rule=rule, seed=seed + 1) for seed in range(seeds)]
                told = [settling(each, run(each.scenario)) for each in slowdowns]
                yield _line(
                    _name(rule, parents, delay_s),
                    [each.slowed_s for each in told],
                    [each.recovered_s for each in told],
                    [each.p99_ms for each in told],
                )


def _kept(seeds: int) -> Iterator[Line]:
    for parents in PARENTS:
        for delay_s in DELAYS_S:
            slowdowns = [clients(parents, delay_s, seed=seed + 1) for seed in range(seeds)]
            told = [settling(each, run(each.scenario)) for each in slowdowns]
            yield _line(
                _name(Policy.LOAD_AWARE, parents, delay_s),
                [each.slowed_s for each in told],
                [each.recovered_s for each in told],
                [each.p99_ms for each in told],
            )


def _even(seeds: int) -> Iterator[Line]:
    for parents in PARENTS:
        for delay_s in DELAYS_S:
            scenarios = [even_tier(parents, delay_s, seed=seed + 1) for seed in range(seeds)]
            told = [evenness(each, run(each)) for each in scenarios]
            values = {
                "spread": fmean(each.spread for each in told),
                "swing": fmean(each.swing for each in told),
                "p99": fmean(each.p99_items for each in told),
            }
            cells = tuple(f"{value:.2f}" for value in values.values())
            yield Line(_name(Policy.LOAD_AWARE, parents, delay_s), cells, values)


def _line(
    what: str, left: Sequence[float | None], found: Sequence[float | None], p99_ms: Sequence[tuple[float, ...]]
) -> Line:
    tails = [fmean(each) for each in zip(*p99_ms, strict=True)]
    values = {f"p99 ms {number}": tail for number, tail in enumerate(tails)}
    return Line(what, (_worst(left), _worst(found), *(f"{tail:.0f}" for tail in tails)), values)


def _worst(times: Sequence[float | None]) -> str:
    known = [each for each in times if each is not None]
    return f"{max(known):.1f}" if len(known) == len(times) else "never"


def _name(rule: Policy | ComparedRule, parents: int, delay_s: float) -> str:
    return f"{rule.value}, {parents}, {delay_s:g} s"


if __name__ == "__main__":
    main()
