"""From samples to the printed result: medians, ratios to each peer, and whether the targets were met."""

import statistics
from collections.abc import Iterable, Sequence

import attrs

SUBJECT = "tierlb"
"""What is compared with its peers."""
SMALLER_IS_BETTER = {"CPU µs": True, "per second": False, "p50 ms": True, "p99 ms": True, "KiB": True}


@attrs.frozen
class Sample:
    """One peer in one measure in one round. `problem`: why `values` must not be used."""

    measure: str
    peer: str
    values: dict[str, float]
    problem: str | None = None


@attrs.frozen
class Cell:
    """One figure over all rounds."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{digits(self.median)} ({digits(self.low)}–{digits(self.high)})"


@attrs.frozen
class Row:
    """One figure of one measure for all peers; an invalid or unmeasured cell is None."""

    measure: str
    metric: str
    cells: dict[str, Cell | None]

    def ratio(self, peer: str, subject: str = SUBJECT) -> float | None:
        """The subject's median over the peer's."""
        ours, theirs = self.cells.get(subject), self.cells.get(peer)
        if ours is None or theirs is None or theirs.median <= 0:
            return None
        return ours.median / theirs.median


@attrs.frozen
class Target:
    """A ratio to a peer that is not to be exceeded (not to be undercut where more is better)."""

    measure: str
    metric: str
    peer: str
    ratio: float

    def verdict(self, row: Row) -> str:
        """`met`, `missed`, or `not measured`."""
        reached = row.ratio(self.peer)
        if reached is None:
            return "not measured"
        met = reached <= self.ratio if SMALLER_IS_BETTER[self.metric] else reached >= self.ratio
        return "met" if met else "missed"


def rows(samples: Sequence[Sample]) -> list[Row]:
    """One row per measure and figure, in the order they first appear.

    A cell is invalid as soon as one of its rounds had a problem: a median over the rest would hide it.
    """
    names = {(each.measure, metric): None for each in samples for metric in each.values}
    peers = list(dict.fromkeys(each.peer for each in samples))
    return [
        Row(measure, metric, {peer: _cell(samples, measure, metric, peer) for peer in peers})
        for measure, metric in names
    ]


def _cell(samples: Iterable[Sample], measure: str, metric: str, peer: str) -> Cell | None:
    mine = [each for each in samples if each.measure == measure and each.peer == peer]
    if not mine or any(each.problem is not None for each in mine):
        return None
    values = [each.values[metric] for each in mine]
    return Cell(statistics.median(values), min(values), max(values))


def digits(value: float) -> str:
    """Three significant digits for small figures, whole numbers for large ones."""
    if abs(value) >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def better_than(peer: str, table: Iterable[Row]) -> list[Target]:
    """A target for every figure in the table where the peer takes part: be no worse."""
    return [Target(row.measure, row.metric, peer, 1.0) for row in table if row.cells.get(peer) is not None]


def markdown(table: Sequence[Row], subject: str = SUBJECT) -> str:
    """The rows as a Markdown table, with the subject's ratio to each peer."""
    if not table:
        return "nothing could be measured"
    peers = list(table[0].cells)
    others = [peer for peer in peers if peer != subject] if subject in peers else []
    head = ["measure", "figure", *peers, *(f"{subject}/{peer}" for peer in others)]
    body = [
        [
            row.measure,
            row.metric,
            *(_text(row.cells[peer]) for peer in peers),
            *(_ratio_text(row.ratio(peer, subject)) for peer in others),
        ]
        for row in table
    ]
    return aligned([head, *body])


def target_lines(targets: Iterable[Target], table: Sequence[Row]) -> list[str]:
    """What was asked, what was reached, and the verdict, for each target whose two sides took part."""
    by_name = {(row.measure, row.metric): row for row in table}
    lines = []
    for target in targets:
        row = by_name.get((target.measure, target.metric))
        if row is not None and {SUBJECT, target.peer} <= row.cells.keys():
            sign = "≤" if SMALLER_IS_BETTER[target.metric] else "≥"
            asked = f"{target.measure}, {target.metric}: {sign} {target.ratio:g} × {target.peer}"
            lines.append(f"{target.verdict(row):12}  {asked}, reached {_ratio_text(row.ratio(target.peer))}")
    return lines


def aligned(lines: Sequence[Sequence[str]]) -> str:
    """A Markdown table, padded so that it also reads well in a terminal; the first line is the head."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = ["| " + " | ".join(map(str.ljust, line, widths)) + " |" for line in lines]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([padded[0], rule, *padded[1:]])


def _text(cell: Cell | None) -> str:
    return "–" if cell is None else str(cell)


def _ratio_text(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}"
