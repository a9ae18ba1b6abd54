"""`tierlb compose FILE`: the cluster as a compose file, printed, or written to a directory from which it can be
started."""

import os
import sys
from pathlib import Path

import click

from tierlb.cli.check import load_or_exit
from tierlb.deploy.compose import compose_warnings, faults, text
from tierlb.deploy.named_files import files_of_tiers
from tierlb.deploy.project import TOPOLOGY_FILE, NotOurs, Project, lay_out, rendering
from tierlb.model.topology import Topology


def run_compose(file: Path, output: Path | None, image: str) -> None:
    """Exits with 2 if the topology cannot be run by compose, and 1 if it cannot be written."""
    topology = load_or_exit(file, "nothing was rendered")
    check_for_compose(file, topology)
    for warning in compose_warnings(topology):
        click.echo(f"{file}: warning: {warning}", err=True)
    topology_text = file.read_text(encoding="utf-8-sig")
    if output is None:
        project = Project(Path(), topology.cluster, image)
        click.echo(text(rendering(project, topology, topology_text)), nl=False)
        return
    of_store = topology.store is not None and topology.store.files
    names_files = topology.tls is not None or of_store or files_of_tiers(topology, topology_text)
    source = os.path.relpath(file, output) if names_files else TOPOLOGY_FILE
    try:
        lay_out(Project(output, topology.cluster, image, source), topology, topology_text)
    except NotOurs as problem:
        raise click.ClickException(str(problem)) from problem
    except OSError as error:
        raise click.ClickException(f"{error.filename or output} cannot be written: {error.strerror}") from error
    click.echo(f"{topology.cluster} is laid out in {output}. To start it, where the image {image} is:")
    click.echo(f"  cd {output} && docker compose up -d")


def check_for_compose(file: Path, topology: Topology) -> None:
    """Print the problems that prevent rendering, and exit with 2 if there are any."""
    problems = faults(topology)
    for problem in problems:
        click.echo(f"{file}: {problem}", err=True)
    if problems:
        sys.exit(2)
