"""A contest in rounds: everybody in turn on the same course, void runs repeated, one table line per contender."""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import attrs
import click

from scripts.benchmarks.contenders import Contender, present
from scripts.benchmarks.play import Course, Played, play
from scripts.benchmarks.results import brief, finish
from scripts.benchmarks.table import SUBJECT, Row, Sample, aligned, digits, rows

WIN_RATIO = 0.9
"""tierlb's p99 over the best peer's is to be no more than this."""
ERRORS = "errors %"
"""In the comparison too, with ratio 1: who answers with errors at once has fine percentiles of what is left."""
LONG_ERRORS = "long errors %"
"""The same of long requests, where there are any."""
MORE_ERRORS = 1.0
"""A peer with so many percentage points more errors than tierlb did less work, so its percentiles are no measure."""

Series = dict[str, list[float]]


@attrs.frozen
class Entry:
    """One run of one contender: its figures, its curves by name, and why it had to be repeated before."""

    sample: Sample
    curves: Series
    void: tuple[str, ...] = ()


Judge = Callable[[Played], tuple[dict[str, float], Series]]


def taking_part(contenders: Sequence[Contender], only: str) -> list[Contender]:
    """The chosen ones that are installed; says which are not. Raises click.ClickException if none is."""
    here, absent = present(chosen(contenders, only))
    for line in absent:
        click.echo(line, err=True)
    if not here:
        raise click.ClickException("nobody is left to be measured")
    return here


def chosen(contenders: Sequence[Contender], only: str) -> list[Contender]:
    """Those that `only` (comma-separated) names, or whose product it names; all if it is empty.

    Raises click.BadParameter for a name that nobody has.
    """
    wanted = list(filter(None, only.split(",")))
    known = [each.name for each in contenders]
    for each in wanted:
        if not any(_is(each, name) for name in known):
            raise click.BadParameter(f"no contender is named {each}; there are {', '.join(known)}")
    return [each for each in contenders if not wanted or any(_is(one, each.name) for one in wanted)]


def _is(wanted: str, name: str) -> bool:
    return wanted in (name, name.partition("-")[0])


async def hold(
    title: str,
    course_of: Callable[[int], Course],
    judge: Judge,
    contenders: Sequence[Contender],
    rounds: int,
    tries: int,
) -> list[Entry]:
    """Every contender in every round, another one first each time. `course_of` gives the course of a round."""
    entries = []
    for number in range(rounds):
        course, first = course_of(number), number % len(contenders)
        for contender in [*contenders[first:], *contenders[:first]]:
            entry, remarks = await _enter(title, course, judge, contender, tries)
            entries.append(entry)
            click.echo(f"round {number + 1}/{rounds}  {brief(entry.sample)}  [{remarks}]", err=True)
    return entries


async def _enter(title: str, course: Course, judge: Judge, contender: Contender, tries: int) -> tuple[Entry, str]:
    """A run that the harness or the machine spoilt is repeated; one in which the contender failed stays failed."""
    void: list[str] = []
    played = await play(course, contender)
    while isinstance(played, Played) and played.problem is not None and len(void) < tries - 1:
        void.append(played.problem)
        click.echo(f"again: {title}, {contender.name}: {played.problem}", err=True)
        played = await play(course, contender)
    if isinstance(played, str):
        return Entry(Sample(title, contender.name, {}, played), {}, tuple(void)), "nothing to show"
    values, curves = judge(played)
    return Entry(Sample(title, contender.name, values, played.problem), curves, tuple(void)), played.remarks()


def publish(
    verb: str, subtitle: str, entries: Sequence[Entry], compared: Mapping[str, float], more_verdicts: Sequence[str] = ()
) -> int:
    """Print and write everything. Returns the exit code.

    `compared`: by figure, how much of the best peer's tierlb's own may be.
    """
    samples, panels = [each.sample for each in entries], curves_by_panel(entries)

    def picture(title: str, path: Path) -> None:
        try:
            from scripts.benchmarks.curves import draw  # needs matplotlib, which tests do without
        except ModuleNotFoundError as missing:
            click.echo(f"no picture: {missing}", err=True)
        else:
            draw(panels, title, path)

    void = [f"{each.sample.measure}, {each.sample.peer}: {reason}" for each in entries for reason in each.void]
    lines = [
        *verdicts(samples, compared),
        *more_verdicts,
        f"{len(void)} void runs were repeated, of {len(entries) + len(void)}",
    ]
    more = {"curves": panels, "void": void}
    return finish(verb, subtitle, samples, standings(samples), lines, picture, more)


def standings(samples: Sequence[Sample]) -> str:
    """For each measure a table with a line per contender and a column per figure."""
    by_measure: dict[str, list[Row]] = {}
    for row in rows(samples):
        by_measure.setdefault(row.measure, []).append(row)
    return "\n\n".join(f"**{measure}**\n\n{_table(lines)}" for measure, lines in by_measure.items())


def _table(lines: Sequence[Row]) -> str:
    head = ["contender", *(row.metric for row in lines)]
    body = [
        [peer, *("–" if (cell := row.cells[peer]) is None else str(cell) for row in lines)] for peer in lines[0].cells
    ]
    return aligned([head, *body])


def verdicts(samples: Sequence[Sample], compared: Mapping[str, float]) -> list[str]:
    """Of each measure and each of those figures: tierlb against the best of the others that did as much."""
    table = rows(samples)
    errors = [row for row in table if row.metric in (ERRORS, LONG_ERRORS)]
    lines = [
        _verdict(row, compared[row.metric], _slackers([each for each in errors if each.measure == row.measure]))
        for row in table
        if row.metric in compared
    ]
    return [each for each in lines if each is not None]


def _slackers(errors: Sequence[Row]) -> set[str]:
    """Those who made far more errors of one kind than tierlb."""
    return {
        peer
        for row in errors
        if (ours := row.cells.get(SUBJECT)) is not None
        for peer, cell in row.cells.items()
        if cell is not None and cell.median > ours.median + MORE_ERRORS
    }


def _verdict(row: Row, most: float, slackers: Collection[str]) -> str | None:
    others = {peer: cell.median for peer, cell in row.cells.items() if _is_peer(peer) and cell is not None}
    ours = row.cells.get(SUBJECT)
    if ours is None or not others:
        return None
    able = {
        peer: value for peer, value in others.items() if peer not in slackers or row.metric in (ERRORS, LONG_ERRORS)
    }
    if not able:
        return f"no peer   {row.measure}, {row.metric}: all made {MORE_ERRORS:g} points more errors than {SUBJECT}"
    best = min(able, key=lambda peer: able[peer])
    met = ours.median <= most * able[best]
    ratio = f" = {ours.median / able[best]:.2f}" if able[best] else ""
    asked = f"{row.measure}, {row.metric}: ≤ {most:g} × the best peer's ({best}, {digits(able[best])})"
    return f"{'met' if met else 'missed':8}  {asked}, reached {digits(ours.median)}{ratio}"


def _is_peer(name: str) -> bool:
    """Not tierlb, in whatever state."""
    return name.partition("-")[0] != SUBJECT


def curves_by_panel(entries: Sequence[Entry]) -> dict[str, dict[str, list[float]]]:
    """By measure and curve, then by contender: the median over the rounds, point by point."""
    gathered: dict[str, dict[str, list[list[float]]]] = {}
    for entry in entries:
        for name, curve in entry.curves.items():
            panel = gathered.setdefault(f"{entry.sample.measure}: {name}", {})
            panel.setdefault(entry.sample.peer, []).append(curve)
    return {panel: _medians(by_peer) for panel, by_peer in gathered.items()}


def _medians(by_peer: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, list[float]]:
    return {
        peer: [statistics.median(points) for points in zip(*curves, strict=True)] for peer, curves in by_peer.items()
    }
