"""`tierlb kubernetes FILE`: the cluster as Kubernetes objects, printed or written to a file."""

import sys
from collections.abc import Iterable
from pathlib import Path

import attrs
import click

from tierlb.cli.check import load_or_exit
from tierlb.deploy.kubernetes import kubernetes_warnings, render
from tierlb.deploy.kubernetes_names import ManifestPlan, NetworkEdge, Options, problems
from tierlb.topology.forms import Replicas
from tierlb.topology.verbs import EditError, parse_scale, read_value


@attrs.frozen
class KubernetesOptions:
    """The command's options as they were given."""

    output: Path | None
    image: str
    namespace: str
    prefix: str
    edge: str
    max_replicas: tuple[str, ...]
    metrics_from: str


def run_kubernetes(file: Path, given: KubernetesOptions) -> None:
    """Exits with 2 if Kubernetes cannot run the topology in the requested way, and 1 if nothing can be written."""
    topology = load_or_exit(file, "nothing was rendered")
    plan = ManifestPlan(topology, file.read_text(encoding="utf-8-sig"), _rendering_options(given))
    found = problems(plan)
    for problem in found:
        click.echo(f"{file}: {problem}", err=True)
    if found:
        sys.exit(2)
    for warning in kubernetes_warnings(plan):
        click.echo(f"{file}: warning: {warning}", err=True)
    _write_manifests(render(plan), given.output)


def _rendering_options(given: KubernetesOptions) -> Options:
    try:
        most = {name: read_value(Replicas, str(number), f"{name}: ") for name, number in _most(given)}
    except EditError as error:
        raise click.UsageError(f"--max-replicas: {error}") from error
    return Options(given.image, given.namespace, given.prefix, NetworkEdge(given.edge), most, given.metrics_from)


def _most(given: KubernetesOptions) -> Iterable[tuple[str, int | str]]:
    return parse_scale(*given.max_replicas).replicas.items()


def _write_manifests(text: str, output: Path | None) -> None:
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.ClickException(f"{output} cannot be written: {error.strerror}") from error
