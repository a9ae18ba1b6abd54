"""What frames a benchmark: what it needs, then the printed table, JSON, a plot and an exit code."""

import json
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
import click

from scripts.benchmarks.table import Sample, digits, rows

DIRECTORY = Path("bench-results")


def need(*programs: str) -> None:
    """Raises click.ClickException that says how to install those that are not on the PATH."""
    if missing := [program for program in programs if shutil.which(program) is None]:
        raise click.ClickException(f"not installed: {', '.join(missing)}; apt-get install {' '.join(missing)}")


def finish(
    verb: str,
    subtitle: str,
    samples: Sequence[Sample],
    printed: str,
    verdicts: Sequence[str] = (),
    picture: Callable[[str, Path], None] | None = None,
    more: Mapping[str, object] | None = None,
) -> int:
    """Print and write everything. Returns the exit code: 1 if a sample is invalid or there is none.

    `picture` draws under a title into a file instead of bars of all rows; `more` goes into the JSON document too.
    """
    click.echo("\n".join(["", f"Median (min–max); {subtitle}", "", printed, "", *verdicts]))
    DIRECTORY.mkdir(exist_ok=True)
    path = DIRECTORY / time.strftime(f"{verb}-%Y%m%d-%H%M%S")
    document = {
        "run": subtitle,
        "samples": [attrs.asdict(each) for each in samples],
        "targets": list(verdicts),
        **(more or {}),
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    if picture is not None:
        picture(f"{verb}: {subtitle}", path.with_suffix(".png"))
    elif lines := rows(samples):
        from scripts.benchmarks.plot import draw  # matplotlib takes a second, and tests do without it

        draw(lines, f"{verb}: {subtitle}", path.with_suffix(".png"))
    click.echo(f"\nwritten: {path}.*")
    return _complain(samples)


def _complain(samples: Sequence[Sample]) -> int:
    invalid = [each for each in samples if each.problem is not None]
    for each in invalid:
        click.echo(f"invalid: {each.measure}, {each.peer}: {each.problem}", err=True)
    return 1 if invalid or not samples else 0


def brief(sample: Sample) -> str:
    """One line of progress."""
    figures = "  ".join(f"{metric} {digits(value)}" for metric, value in sample.values.items())
    return f"{sample.measure:22} {sample.peer:10} {sample.problem or figures}"


def machine() -> str:
    """What a reader needs to judge the figures. Ask before the run, for the load that others make."""
    load = os.getloadavg()[0]
    release, python = platform.release(), platform.python_version()
    return f"{os.cpu_count()} cores, load average {load:.1f} before the run, Linux {release}, Python {python}"
