"""The rows of a benchmark as bars, median with min–max whiskers; one panel per figure that is plotted."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # before pyplot is imported: there may be no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from scripts.benchmarks.table import Row

PLOTTED = ("CPU µs", "KiB")
PANEL_INCHES = 4.5


def draw(table: Sequence[Row], title: str, path: Path) -> None:
    """Write a PNG with one panel per plotted figure."""
    panels = [each for each in ([r for r in table if r.metric == metric] for metric in PLOTTED) if each]
    widths = [max(2, len(each)) for each in panels]
    figure, axes = pyplot.subplots(
        1, len(panels), squeeze=False, width_ratios=widths, figsize=(2 * sum(widths), PANEL_INCHES)
    )
    for axis, panel in zip(axes[0], panels, strict=True):
        _bars(axis, panel)
    axes[0][0].legend()
    figure.suptitle(title)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _bars(axis: Axes, panel: Sequence[Row]) -> None:
    peers = list(panel[0].cells)
    width = 0.8 / len(peers)
    for number, peer in enumerate(peers):
        cells = {place: cell for place, row in enumerate(panel) if (cell := row.cells[peer]) is not None}
        axis.bar(
            [place + number * width for place in cells],
            [cell.median for cell in cells.values()],
            width,
            label=peer,
            yerr=(
                [cell.median - cell.low for cell in cells.values()],
                [cell.high - cell.median for cell in cells.values()],
            ),
        )
    axis.set_xticks(
        [place + 0.4 - width / 2 for place in range(len(panel))],
        [row.measure.replace(", ", "\n") for row in panel],
        fontsize=8,
    )
    axis.set_title(f"{panel[0].metric} (lower is better)")
