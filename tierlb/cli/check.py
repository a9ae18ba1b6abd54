"""Reading a topology file for a command: every problem to stderr, then exit code 2."""

import sys
from pathlib import Path

import click

from tierlb.model.topology import Topology
from tierlb.topology.load import load_file
from tierlb.topology.problems import TopologyError


def load_or_exit(file: Path, then: str = "nothing was started") -> Topology:
    """The topology in the file; where it has problems, prints them all, says what that means and exits with 2."""
    try:
        return load_file(file)
    except TopologyError as error:
        for problem in error.problems:
            click.echo(str(problem), err=True)
        count = len(error.problems)
        click.echo(f"{file}: {count} {'problem' if count == 1 else 'problems'}, {then}", err=True)
        sys.exit(2)
