"""Changes of a cluster that compose runs (`--compose DIR`): the controller carries out the change as everywhere, and
the containers are adapted here.

Before anything is sent, the resulting topology is rendered, so that what compose cannot run is refused before anything
happened. When the change has begun, new containers are started and connected. When it is over, with whatever outcome,
containers that the accepted topology does not have end. After Ctrl-C in between, `tierlb progress` continues.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import click

from tierlb.admin.bodies import PlanBody
from tierlb.admin.reading import read_typed_json
from tierlb.admin.refusals import RequestRefused
from tierlb.cli.client import Client, Json
from tierlb.cli.compose import check_for_compose
from tierlb.deploy.compose import ADMIN_TOKEN, Document, compose_document
from tierlb.deploy.containers import conflicts, outdated
from tierlb.deploy.docker import ComposeEngine, EngineError, find_engine
from tierlb.deploy.project import COMPOSE_FILE, SECRETS, NotOurs, Project, lay_out, read_project, rendering
from tierlb.model.topology import Topology
from tierlb.topology.edit import edited
from tierlb.topology.load import load_text
from tierlb.topology.problems import TopologyError
from tierlb.topology.verbs import EditError


@attrs.frozen
class Containers:
    """The containers of a cluster, and the directory of its compose file."""

    client: Client
    project: Project
    engine: ComposeEngine

    def checked(self, path: str, body: Json) -> Json:
        """The request, limited to the revision for which it was found to be possible; exits where it is not."""
        current = self.client.get("/v1/topology")
        try:
            wanted = self._load(self._wanted(path, body, current["text"]))
        except (EditError, RequestRefused, TopologyError):
            return body  # the controller refuses it with a message
        check_for_compose(self.project.topology_file, wanted[0])
        with _engine_errors():
            self._check(self._document(*wanted))
        return {"expected": current["revision"], **body}

    def begin(self, revision: int) -> None:
        """Start what the revision needs in addition."""
        try:
            with _engine_errors():
                self.engine.grow(self._laid_out(self.client.get(f"/v1/history/{revision}")["text"]))
        except click.ClickException as problem:
            click.echo(f"Error: {problem.message}\nWithout it the change is taken back at its deadline.", err=True)

    def end(self) -> None:
        """Adapt the containers to the accepted topology."""
        with _engine_errors():
            counts = self._laid_out(self.client.get("/v1/topology")["text"])
            self.engine.grow(counts)
            self.engine.shrink(counts)

    def _wanted(self, path: str, body: Json, current: str) -> str:
        match path:
            case "/v1/edit" if body["edit"]["verb"] == "node":
                return current
            case "/v1/edit":
                edit = read_typed_json(PlanBody, {"edit": body["edit"]}).edit
                return edited(current, edit, str(self.project.topology_file))
            case "/v1/rollback":
                return str(self.client.get(f"/v1/history/{body['number']}")["text"])
            case _:
                return str(body["text"])

    def _check(self, wanted: Document) -> None:
        scene = self.engine.scene()
        if found := conflicts(wanted, scene):
            raise click.ClickException(
                f"{'; '.join(found)}. Nothing was changed. To do it all the same, with a cut of all connections there: "
                f"tierlb compose FILE --output {self.project.directory}, and there "
                f"{' '.join(self.engine.compose)} up -d --remove-orphans"
            )
        for service in outdated(wanted, scene):
            again = f"`{' '.join(self.engine.compose)} up -d {service}` makes it anew, with a cut of its connections"
            click.echo(f"the container of {service} stays as it was made: {again}", err=True)

    def _load(self, text: str) -> tuple[Topology, str]:
        return load_text(text, str(self.project.topology_file)), text

    def _document(self, topology: Topology, text: str) -> Document:
        return compose_document(rendering(self.project, topology, text))

    def _laid_out(self, text: str) -> Document:
        topology, _ = self._load(text)
        lay_out(self.project, topology, text)
        return self._document(topology, text)


def containers_of(client: Client, directory: Path) -> Containers:
    """The cluster that runs from this directory, with its token if none was named; exits with 1 where it is another
    one."""
    client = attrs.evolve(client, token_file=client.token_file or directory / SECRETS / ADMIN_TOKEN)
    with _engine_errors():
        project = read_project(directory)
        engine = find_engine(directory, lambda line: click.echo(line, err=True))
    cluster = client.get("/v1/topology")["cluster"]
    if cluster != project.cluster:
        raise click.ClickException(
            f"{client.url} is the cluster {cluster}, and {directory / COMPOSE_FILE} has {project.cluster}: name its "
            "own with --admin"
        )
    return Containers(client, project, engine)


@contextmanager
def _engine_errors() -> Iterator[None]:
    try:
        yield
    except (EngineError, NotOurs) as problem:
        raise click.ClickException(str(problem)) from problem
    except TopologyError as problem:
        raise click.ClickException("; ".join(map(str, problem.problems))) from problem
    except OSError as error:
        raise click.ClickException(f"{error.filename} cannot be written: {error.strerror}") from error
