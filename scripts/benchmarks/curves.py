"""Curves over the seconds of a run, a panel per measure, a line per contender; milliseconds on a logarithmic axis."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib

matplotlib.use("agg")  # before pyplot is imported: there may be no display

from matplotlib import pyplot
from matplotlib.axes import Axes

from scripts.benchmarks.table import SUBJECT

PANEL_INCHES = (11.0, 4.5)


def draw(panels: Mapping[str, Mapping[str, Sequence[float]]], title: str, path: Path) -> None:
    """Write a PNG. `panels`: by heading, then by contender, one value per second."""
    width, height = PANEL_INCHES
    count = max(1, len(panels))
    figure, axes = pyplot.subplots(count, 1, squeeze=False, figsize=(width, height * count))
    for (heading, lines), (axis,) in zip(panels.items(), axes, strict=False):
        _panel(axis, heading, lines)
    figure.suptitle(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _panel(axis: Axes, heading: str, lines: Mapping[str, Sequence[float]]) -> None:
    for peer, values in lines.items():
        ours = {"linewidth": 3.0, "color": "black"} if peer == SUBJECT else {"linewidth": 1.3}
        axis.plot(range(len(values)), values, label=peer, **ours)
    if " ms" in heading:
        axis.set_yscale("log")
    axis.set_title(heading)
    axis.set_xlabel("second")
    axis.grid(visible=True, alpha=0.3)
    axis.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.0, 1.0))
