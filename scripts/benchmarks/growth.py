"""Figures over the number of nodes: a panel per figure, a line per contender, median with min–max whiskers."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
import matplotlib

matplotlib.use("agg")  # before pyplot is imported: there may be no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from scripts.benchmarks.table import SUBJECT, Cell

PANEL_INCHES = (5.5, 4.0)
PER_ROW = 2


@attrs.frozen
class Panel:
    """One figure, by contender, then by number of nodes.

    `linear`: what one node does times their number is drawn too. `target`: a level to reach.
    """

    heading: str
    lines: Mapping[str, Mapping[int, Cell]]
    linear: bool = False
    target: float | None = None


def draw(panels: Sequence[Panel], title: str, path: Path) -> None:
    """Write a PNG."""
    (width, height), count = PANEL_INCHES, -(-len(panels) // PER_ROW)
    figure, axes = pyplot.subplots(count, PER_ROW, squeeze=False, figsize=(width * PER_ROW, height * count))
    for axis, panel in zip(axes.flat, panels, strict=False):
        _panel(axis, panel)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Axes, panel: Panel) -> None:
    for peer, cells in panel.lines.items():
        color = "black" if peer == SUBJECT else None
        medians = [cell.median for cell in cells.values()]
        spread = (
            [cell.median - cell.low for cell in cells.values()],
            [cell.high - cell.median for cell in cells.values()],
        )
        drawn = axis.errorbar(list(cells), medians, yerr=spread, label=peer, marker="o", capsize=3, color=color)
        if panel.linear and 1 in cells:
            ideal = [cells[1].median * count for count in cells]
            axis.plot(list(cells), ideal, linestyle=":", color=drawn[0].get_color(), label=f"{peer}, linear")
    if panel.target is not None:
        axis.axhline(panel.target, linestyle="--", color="grey", label="target")
    axis.set_title(panel.heading)
    axis.set_xlabel("L7 nodes")
    axis.set_ylim(bottom=0)
    axis.grid(visible=True, alpha=0.3)
    if panel.lines:
        axis.legend(fontsize=7)
