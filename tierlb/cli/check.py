"""Reads a topology file for a command: every problem goes to stderr, then exit code 2. Also `tierlb check` itself."""

import json
import sys
from pathlib import Path

import click

from tierlb.model.topology import Topology
from tierlb.topology.load import Checked, check_file
from tierlb.topology.problems import Problem, TopologyError
from tierlb.topology.tree import draw
from tierlb.topology.uses import Use


def run_check(file: Path, as_json: bool) -> None:
    """Print the tree of the file, with warnings to stderr, or all problems and warnings as JSON; exits with 2 where it
    cannot be run."""
    if not as_json:
        click.echo(draw(warned_or_exit(file).topology))
        return
    try:
        found: tuple[Problem, ...] = check_file(file).warnings
    except TopologyError as error:
        found = error.problems
    click.echo(json.dumps([problem.as_json() for problem in found], indent=2))
    if not all(problem.warning for problem in found):
        sys.exit(2)


def warned_or_exit(file: Path, use: Use | None = None) -> Checked:
    """The checked file for this command, as by `load_or_exit`, after its warnings were printed to stderr."""
    checked = _checked_or_exit(file, "nothing was started", use)
    for warning in checked.warnings:
        click.echo(str(warning), err=True)
    return checked


def load_or_exit(file: Path, then: str = "nothing was started") -> Topology:
    """The topology in the file. If it has problems, prints them all and the consequence, and exits with 2."""
    return _checked_or_exit(file, then, None).topology


def _checked_or_exit(file: Path, then: str, use: Use | None) -> Checked:
    try:
        return check_file(file, use)
    except TopologyError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{file}: {count} {'problem' if count == 1 else 'problems'}, {then}", err=True)
        sys.exit(2)
